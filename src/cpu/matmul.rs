//! C = A·B (+ C), row-major with strides, by the `gemm` crate on all cores.

/// A matrix inside a slice: element (i, j) at `offset + i·row + j·col`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub col: usize,
}

impl<'a> View<'a> {
    /// A row-major matrix with `cols` columns.
    pub fn rows(data: &'a [f32], cols: usize) -> Self {
        Self {
            data,
            row: cols,
            col: 1,
        }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            row: self.col,
            col: self.row,
        }
    }

    fn fits(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

/// `out[m,n]` = `a[m,k]`·`b[k,n]`, added to `out` where `add`. `out` is row-major and contiguous.
pub fn matmul([m, n, k]: [usize; 3], a: View, b: View, out: &mut [f32], add: bool) {
    assert!(
        a.fits(m, k) && b.fits(k, n) && out.len() >= m * n,
        "matmul {m}×{n}×{k} does not fit"
    );
    let one = 1.0;
    let kept = if add { 1.0 } else { 0.0 };
    let parallelism = gemm::Parallelism::Rayon(0);
    // SAFETY: the views were just checked to hold every element that is read or written.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.col as isize,
            b.row as isize,
            kept,
            one,
            false,
            false,
            false,
            parallelism,
        );
    }
}

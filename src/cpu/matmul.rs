//! C = A·B (+ C) with an epilogue: B packed into panels, register tiles over rows of A.
//!
//! Every element is summed over k in order by the same instructions wherever its tile lies, so the
//! bits depend neither on the number of threads nor on how the rows are cut.

use super::activation::Activation;
use super::lanes::{Kernel, Lanes, load_row, opaque, prefetch, run, store_row};
use super::pool::{give, take};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a panel.
pub const PANEL: usize = 32;
/// Steps of k worked on at once: a panel's part and a tile's rows stay in the innermost cache.
const DEPTH: usize = 160;
/// Elements of a line of the cache.
const LINE: usize = 16;
/// Steps of k without a jump between them: pointers move once for all. Where another thread shares the core, it is the
/// number of instructions that counts.
const TOGETHER: usize = 4;
/// Rows of A that one pointer reaches: an address is a pointer and a distance, once or twice.
const REACH: usize = 3;
/// Steps of k in which a line arrives.
const LATER: usize = 24;
/// Rows of A and panels of B that one task takes.
const ROWS: usize = 192;
const PANELS: usize = 8;
/// Between the rows of a copy of A: not a power of two.
const GATHERED: usize = DEPTH + 16;

/// A matrix inside a slice: element (i, j) at `i·row + j·col`.
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

/// What happens to a sum before it is stored: y = f(sum + bias) + residual.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// One for each column.
    pub bias: &'a [f32],
    pub f: Activation,
    /// Laid out as y.
    pub residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// Applies it to what was stored, a vector of each row at a time.
    ///
    /// # Safety
    /// These rows and columns of `out` are the caller's.
    #[inline(always)]
    unsafe fn apply<V: Lanes>(
        &self,
        out: *mut f32,
        rows: usize,
        columns: Range<usize>,
        stride: usize,
    ) {
        self.f.known(
            #[inline(always)]
            |f| {
                for column in columns.clone().step_by(V::N) {
                    let width = V::N.min(columns.end - column);
                    // SAFETY: a slice is as long as it says, `out` the caller's.
                    unsafe {
                        let [bias] = load_row(width, self.bias[column..][..width].as_ptr());
                        match self.residual {
                            // A loop without jumps.
                            None if width == V::N => {
                                for row in 0..rows {
                                    let at = out.add(row * stride + column);
                                    f.of(V::load(at).add(bias)).store(at);
                                }
                            }
                            None => {
                                for row in 0..rows {
                                    let at = out.add(row * stride + column);
                                    let [sum] = load_row::<V, 1>(width, at);
                                    store_row([f.of(sum.add(bias))], width, at);
                                }
                            }
                            Some(residual) => {
                                for at in (0..rows).map(|row| row * stride + column) {
                                    let residual = residual[at..][..width].as_ptr();
                                    let [residual] = load_row::<V, 1>(width, residual);
                                    let [sum] = load_row::<V, 1>(width, out.add(at));
                                    let y = f.of(sum.add(bias)).add(residual);
                                    store_row([y], width, out.add(at));
                                }
                            }
                        }
                    }
                }
            },
        );
    }
}

/// B `[k,n]` as panels `[n/32][k][32]`, the last one filled up with zeros.
pub struct Panels {
    data: Vec<f32>,
    k: usize,
    n: usize,
}

impl Panels {
    /// Packs B; row i is multiplied by `scale[i]` where there is one.
    pub fn pack([k, n]: [usize; 2], b: View, scale: Option<&[f32]>) -> Self {
        assert!(b.fits(k, n), "a matrix [{k}, {n}] does not fit");
        let mut data = take(n.div_ceil(PANEL) * k * PANEL);
        data.par_chunks_exact_mut((k * PANEL).max(1))
            .enumerate()
            .for_each(|(panel, to)| {
                let first = panel * PANEL;
                let width = PANEL.min(n - first);
                if width < PANEL {
                    to.fill(0.0);
                }
                if b.col == 1 {
                    for (i, to) in to.chunks_exact_mut(PANEL).enumerate() {
                        let from = &b.data[i * b.row + first..];
                        for line in (0..PANEL).step_by(LINE) {
                            prefetch(from.as_ptr().wrapping_add(LATER * b.row + line));
                        }
                        to[..width].copy_from_slice(&from[..width]);
                    }
                } else {
                    for j in 0..width {
                        let column = b.data[(first + j) * b.col..].iter().step_by(b.row);
                        to[j..]
                            .iter_mut()
                            .step_by(PANEL)
                            .zip(column)
                            .for_each(|(to, from)| *to = *from);
                    }
                }
                if let Some(scale) = scale {
                    for (to, s) in to.chunks_exact_mut(PANEL).zip(scale) {
                        to.iter_mut().for_each(|to| *to *= s);
                    }
                }
            });
        Self { data, k, n }
    }

    /// Rows of B.
    pub fn depth(&self) -> usize {
        self.k
    }

    /// `[k,32]`
    pub fn panel(&self, panel: usize) -> &[f32] {
        &self.data[panel * self.k * PANEL..][..self.k * PANEL]
    }

    fn count(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// out = A·B (+ out), then the epilogue, on all cores. `out` `[m,n]` is row-major and contiguous.
    pub fn multiply(
        &self,
        m: usize,
        a: View,
        out: &mut [f32],
        add: bool,
        epilogue: Option<Epilogue>,
    ) {
        assert!(
            a.fits(m, self.k) && out.len() >= m * self.n,
            "a product with {m} rows does not fit"
        );
        assert!(self.k > 0, "a product of nothing");
        let chunks = m.div_ceil(ROWS);
        let groups = self.count().div_ceil(PANELS);
        let out = Shared::new(out);
        (0..chunks * groups).into_par_iter().for_each(|task| {
            let rows = task / groups * ROWS..(task / groups * ROWS + ROWS).min(m);
            let group = task % groups;
            let panels = group * self.count() / groups..(group + 1) * self.count() / groups;
            // SAFETY: tasks write to rectangles of `out` that do not overlap.
            unsafe { self.block(rows, panels, a, out.get(), add, epilogue) };
        });
    }

    /// The same for some rows and panels, on this thread.
    ///
    /// # Safety
    /// `out` `[m,n]` can be written where these rows and panels meet, and nobody else does.
    unsafe fn block(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        a: View,
        out: *mut f32,
        add: bool,
        epilogue: Option<Epilogue>,
    ) {
        let columns = panels.start * PANEL..self.n.min(panels.end * PANEL);
        let at = |row: usize| row * self.n + columns.start;
        // Rows that lie a power of two apart would fall on a few lines of the cache.
        let scattered = a.col != 1 || a.row.is_multiple_of(512);
        let mut gathered = if scattered {
            take(ROWS * GATHERED)
        } else {
            Vec::new()
        };
        for from in (0..self.k).step_by(DEPTH) {
            let k = DEPTH.min(self.k - from);
            let source = View {
                data: &a.data[rows.start * a.row + from * a.col..],
                ..a
            };
            let part = match scattered {
                true => gather(source, [rows.len(), k], &mut gathered),
                false => source,
            };
            run(Tiles {
                a: part.data.as_ptr(),
                row: part.row,
                step: part.col,
                rows: rows.len(),
                k,
                b: self.data[(panels.start * self.k + from) * PANEL..].as_ptr(),
                panel: self.k * PANEL,
                out: unsafe { out.add(at(rows.start)) },
                stride: self.n,
                columns: columns.len(),
                add: add || from > 0,
                epilogue: epilogue.filter(|_| from + k == self.k).map(|e| Epilogue {
                    bias: &e.bias[columns.clone()],
                    residual: e.residual.map(|r| &r[at(rows.start)..]),
                    ..e
                }),
            });
        }
        give(gathered);
    }
}

impl Drop for Panels {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.data));
    }
}

/// Copies some rows and columns of A, keeping what was contiguous.
fn gather<'a>(a: View, [rows, k]: [usize; 2], to: &'a mut [f32]) -> View<'a> {
    if a.col == 1 {
        for (i, to) in to.chunks_exact_mut(GATHERED).take(rows).enumerate() {
            to[..k].copy_from_slice(&a.data[i * a.row..][..k]);
        }
        return View::rows(to, GATHERED);
    }
    for (i, to) in to.chunks_exact_mut(rows).take(k).enumerate() {
        let from = a.data[i * a.col..].iter().step_by(a.row);
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
    View::rows(to, rows).t()
}

/// out (+)= A·B by register tiles.
pub struct Tiles<'a> {
    /// Element (i, k) at `i·row + k·step`; one of the two is 1.
    pub a: *const f32,
    pub row: usize,
    pub step: usize,
    pub rows: usize,
    pub k: usize,
    /// Panels `panel` apart.
    pub b: *const f32,
    pub panel: usize,
    pub out: *mut f32,
    pub stride: usize,
    pub columns: usize,
    pub add: bool,
    /// Its bias and residual begin where `out` does.
    pub epilogue: Option<Epilogue<'a>>,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        // Two vectors wide, or one at the end; as tall as there are registers for.
        let tallest = match V::N {
            16 => 12,
            8 => 6,
            _ => 4,
        };
        for column in (0..self.columns).step_by(2 * V::N) {
            let narrow = self.columns - column <= V::N;
            let first = column == 0;
            for row in (0..self.rows).step_by(tallest) {
                let rows = tallest.min(self.rows - row);
                macro_rules! by_height {
                    ($($n:literal)*) => {
                        match rows {
                            $($n if $n <= tallest => match (self.step, narrow) {
                                (1, false) if first => self.tile::<V, $n, 2, false, true>(row, column),
                                (1, false) => self.tile::<V, $n, 2, false, false>(row, column),
                                (1, true) => self.tile::<V, $n, 1, false, false>(row, column),
                                _ if row == 0 => self.tile::<V, $n, 2, true, true>(row, column),
                                _ => self.tile::<V, $n, 2, true, false>(row, column),
                            },)*
                            _ => unreachable!("a tile of {rows} rows"),
                        }
                    };
                }
                by_height!(1 2 3 4 5 6 7 8 9 10 11 12);
            }
            if let Some(epilogue) = &self.epilogue {
                let columns = column..self.columns.min(column + 2 * V::N);
                // SAFETY: as in the tiles. Of what was stored: were it done to their sums, the compiler would keep those
                // in memory.
                unsafe { epilogue.apply::<V>(self.out, self.rows, columns, self.stride) };
            }
        }
    }
}

impl Tiles<'_> {
    /// `R` rows of `W` vectors. With `AHEAD` what may lie in no cache of this core is asked for in time, as the machine
    /// foresees no rows that are read a line each: the next `R` rows of A or, where A is turned, later steps of A and B.
    #[inline(always)]
    fn tile<V: Lanes, const R: usize, const W: usize, const TURNED: bool, const AHEAD: bool>(
        &self,
        row: usize,
        column: usize,
    ) {
        // SAFETY: whoever made this promises A, B and the rectangle of `out`; panels are filled up.
        unsafe {
            let width = (self.columns - column).min(W * V::N);
            let out = self.out.add(row * self.stride + column);
            let mut sums = [[V::splat(0.0); W]; R];
            if self.add {
                for (r, sums) in sums.iter_mut().enumerate() {
                    *sums = load_row(width, out.add(r * self.stride));
                }
            }
            let mut lines = [self.a.add(row * self.row); 4];
            for (i, line) in lines.iter_mut().enumerate() {
                *line = line.wrapping_add(i * REACH * self.row);
            }
            let mut b = self.b.add(column / PANEL * self.panel + column % PANEL);
            let steps = if AHEAD && !TURNED { LINE } else { self.k };
            for from in (0..self.k).step_by(steps.max(1)) {
                if AHEAD && !TURNED {
                    for r in R..2 * R {
                        prefetch(
                            lines[(r - R) / REACH].wrapping_add((R + (r - R) % REACH) * self.row),
                        );
                    }
                }
                let end = self.k.min(from + steps);
                for k in 0..(end - from) / TOGETHER {
                    let k = from + k * TOGETHER;
                    b = self.steps::<V, R, W, TOGETHER, TURNED, AHEAD>(
                        &mut sums, &mut lines, b, k, column,
                    );
                }
                for k in end - (end - from) % TOGETHER..end {
                    b = self
                        .steps::<V, R, W, 1, TURNED, AHEAD>(&mut sums, &mut lines, b, k, column);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                store_row(*sums, width, out.add(r * self.stride));
            }
        }
    }

    /// Adds the products of `S` columns of A from `k` on, where `lines` points, and the rows of B at `b`; gives the next row.
    ///
    /// # Safety
    /// As in [`Self::tile`].
    #[inline(always)]
    unsafe fn steps<
        V: Lanes,
        const R: usize,
        const W: usize,
        const S: usize,
        const TURNED: bool,
        const AHEAD: bool,
    >(
        &self,
        sums: &mut [[V; W]; R],
        lines: &mut [*const f32; 4],
        b: *const f32,
        k: usize,
        column: usize,
    ) -> *const f32 {
        // SAFETY: the caller's.
        unsafe {
            for s in 0..S {
                if AHEAD && TURNED {
                    self.later(k + s, column, b.add(s * PANEL));
                }
                let right: [V; W] = load_row(W * V::N, b.add(s * PANEL));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let left = V::splat(*match TURNED {
                        false => lines[r / REACH].add(r % REACH * self.row + s),
                        true => lines[0].add(s * self.step + r),
                    });
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = left.mul_add(right, *sum);
                    }
                }
            }
            for line in lines {
                *line = opaque(line.wrapping_add(S * self.step));
            }
            b.add(S * PANEL)
        }
    }

    /// Asks for the lines of A, where a column of tiles is the first to read it, and of B some steps later.
    #[inline(always)]
    fn later(&self, k: usize, column: usize, b: *const f32) {
        if column == 0 {
            let a = self.a.wrapping_add((k + LATER) * self.step);
            for row in (0..self.rows).step_by(LINE) {
                prefetch(a.wrapping_add(row));
            }
        }
        for column in (0..PANEL).step_by(LINE) {
            prefetch(b.wrapping_add(LATER * PANEL + column));
        }
    }
}

/// A pointer that several threads write through, each to a part of its own.
#[derive(Clone, Copy)]
pub struct Shared(*mut f32);
// SAFETY: see above; who makes one promises it.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(data: &mut [f32]) -> Self {
        Self(data.as_mut_ptr())
    }

    pub fn get(self) -> *mut f32 {
        self.0
    }
}

/// `out[m,n]` = `a[m,k]`·`b[k,n]`, added to `out` where `add`. `out` is row-major and contiguous.
pub fn matmul([m, n, k]: [usize; 3], a: View, b: View, out: &mut [f32], add: bool) {
    Panels::pack([k, n], b, None).multiply(m, a, out, add, None);
}

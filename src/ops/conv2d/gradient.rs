//! Gradients of a convolution on a GPU.

use super::pack::{self, Wide};
use super::tiles::{Tile, padded};
use crate::Result;
use crate::cpu::conv2d::Params as Geometry;
use crate::gpu::{Buffer, Gpu};
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

const NAME: &str = "conv2d/gradient";
pub(super) const SHADER: &str = include_str!("../../../shaders/conv2d/gradient.wgsl");
const SHARED: &str = "conv2d/gradient_shared";
pub(super) const SHARED_SHADER: &str = include_str!("../../../shaders/conv2d/gradient_shared.wgsl");

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Params {
    n: u32,
    h: u32,
    w: u32,
    groups_in: u32,
    out_h: u32,
    out_w: u32,
    groups_out: u32,
    kh: u32,
    kw: u32,
    stride: u32,
    top: u32,
    left: u32,
    replicate: u32,
    /// Rows of the output that a slice sums.
    rows: u32,
}

impl Params {
    fn new(p: &Geometry) -> Self {
        Self {
            n: p.n,
            h: p.h,
            w: p.w,
            groups_in: p.c_in.div_ceil(4),
            out_h: p.out_h,
            out_w: p.out_w,
            groups_out: p.c_out.div_ceil(4),
            kh: p.kh,
            kw: p.kw,
            stride: p.stride,
            top: p.top,
            left: p.left,
            replicate: p.replicate,
            rows: p.n * p.out_h,
        }
    }
}

const MATRIX: &str = "conv2d/gradient_matrix";
pub(super) const MATRIX_SHADER: &str = include_str!("../../../shaders/conv2d/gradient_matrix.wgsl");

/// What multiplies x and the gradient of the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Product {
    /// In registers, for software adapters.
    Direct,
    /// 64 × 64 sums in shared memory.
    Tile64,
    /// 128 × 128; 16 KiB suffice.
    Tile128,
    /// On matrix units, for f16.
    Matrix,
    /// The same on an adapter without, with matrices of 4 × 4.
    #[cfg(test)]
    Emulated,
}

impl Product {
    /// What should be fastest.
    pub fn likely(gpu: &Gpu, p: &Geometry) -> Self {
        let area = |side| p.c_in.next_multiple_of(side) * p.c_out.next_multiple_of(side);
        match gpu.report().hardware {
            false => Self::Direct,
            // The larger one, unless much of it would lie beyond the last channel.
            true if area(128) <= area(64) / 8 * 9 => Self::Tile128,
            true => Self::Tile64,
        }
    }

    /// Can matrix units make it?
    pub fn has_matrices(gpu: &Gpu) -> bool {
        gpu.is_half() && gpu.report().matrix_side(true).is_some()
    }

    /// Channels along a side of the sums of a workgroup, or of a thread in registers.
    fn side(self, gpu: &Gpu) -> u32 {
        match self {
            Self::Direct => 16,
            Self::Tile64 => 64,
            Self::Tile128 => 128,
            Self::Matrix => Tile::matrix(gpu).channels,
            #[cfg(test)]
            Self::Emulated => 32,
        }
    }

    /// Workgroups of a slice.
    fn workgroups(self, gpu: &Gpu, p: &Params) -> [u32; 2] {
        let side = self.side(gpu);
        let across = p.kh * p.kw * (4 * p.groups_in).div_ceil(side);
        let lanes = match self {
            Self::Direct => gpu.lanes(),
            _ => 1,
        };
        [across.div_ceil(lanes), (4 * p.groups_out).div_ceil(side)]
    }

    /// Slices for about so many workgroups, as far as rows and a binding allow.
    pub fn slices(self, gpu: &Gpu, p: &Geometry, workgroups: u32) -> u32 {
        let params = Params::new(p);
        let size = 16 * p.kh * p.kw * params.groups_in * params.groups_out;
        let fits = (gpu.max_elements() / size as usize).max(1) as u32;
        let [across, down] = self.workgroups(gpu, &params);
        workgroups
            .div_ceil(across * down)
            .min(fits)
            .min(params.rows)
    }

    /// Room for operands that are made for it: matrix units multiply numbers as the GPU keeps them.
    pub fn room(self, gpu: &Arc<Gpu>, len: usize) -> Result<Buffer> {
        match self {
            Self::Direct | Self::Tile64 | Self::Tile128 => gpu.alloc_f32(len),
            _ => gpu.alloc(len),
        }
    }

    /// dW of each slice, `[slices, kh, kw, 4·groups_in, 4·groups_out]`, f32.
    fn run(
        self,
        gpu: &Arc<Gpu>,
        [x, grad]: [&Buffer; 2],
        slices: u32,
        p: &Params,
    ) -> Result<Buffer> {
        let size = 16 * p.kh * p.kw * p.groups_in * p.groups_out;
        let dw = gpu.alloc_f32((slices * size) as usize)?;
        let pass = match self {
            Self::Direct => gpu.pass(NAME, SHADER).constant("LANES", gpu.lanes().into()),
            Self::Matrix => gpu.pass(MATRIX, MATRIX_SHADER),
            #[cfg(test)]
            Self::Emulated => {
                let text = super::emulated::gradient(4);
                gpu.pass("conv2d/emulated_gradient", text)
            }
            Self::Tile64 | Self::Tile128 => gpu
                .pass(SHARED, SHARED_SHADER)
                .constant("SIDE", self.side(gpu).into())
                .constant("THREADS", (self.side(gpu).pow(2) / 64).into()),
        };
        let [across, down] = self.workgroups(gpu, p);
        pass.entry("weight")
            .read(x)
            .read(grad)
            .write(&dw)
            .params(p)
            .groups([across, down, slices])?;
        Ok(dw)
    }

    /// Σ over rows of x `[slices, rows, c_in]` times those of grad `[slices, rows, c_out]`, channels in
    /// groups of 4: `[slices, c_in, c_out]`, f32.
    pub fn matrices(
        self,
        gpu: &Arc<Gpu>,
        operands: [&Buffer; 2],
        [slices, rows]: [u32; 2],
        [groups_in, groups_out]: [u32; 2],
    ) -> Result<Buffer> {
        // A 1×1 convolution of a picture with a row for each slice.
        let params = Params {
            n: 1,
            h: slices,
            w: rows,
            groups_in,
            out_h: slices,
            out_w: rows,
            groups_out,
            kh: 1,
            kw: 1,
            stride: 1,
            top: 0,
            left: 0,
            replicate: 0,
            rows: 1,
        };
        self.run(gpu, operands, slices, &params)
    }
}

/// Gives the gradient of a picture with its border repeated to the pixels that it repeats.
pub(super) fn fold(gpu: &Arc<Gpu>, dx: &Buffer, p: &Geometry) -> Result<Buffer> {
    debug_assert_eq!(dx.len() as u32, p.n * padded(p)[0] * padded(p)[1] * p.c_in);
    let dx = Wide::of(gpu, dx, p.c_in)?;
    let params = Params::new(p);
    let groups = (p.n * p.h * p.w * params.groups_in) as usize;
    let folded = gpu.alloc(4 * groups)?;
    let pass = gpu.pass(NAME, SHADER).entry("fold");
    let pass = pass.read(dx.buffer()).write(&folded).params(&params);
    pass.run(groups)?;
    pack::narrow(gpu, folded, p.c_in)
}

/// dL/dweight `[kh,kw,c_in,c_out]`, f32, from sums in about so many slices.
pub(super) fn weight(
    gpu: &Arc<Gpu>,
    [x, grad]: [&Buffer; 2],
    (product, slices): (Product, u32),
    p: &Geometry,
) -> Result<Buffer> {
    let (x, grad) = (Wide::of(gpu, x, p.c_in)?, Wide::of(gpu, grad, p.c_out)?);
    let params = Params::new(p);
    let rows = params.rows.div_ceil(slices);
    let slices = params.rows.div_ceil(rows);
    let operands = [x.buffer(), grad.buffer()];
    let dw = product.run(gpu, operands, slices, &Params { rows, ..params })?;
    let dw = super::sum::slices(gpu, dw, slices, params.groups_out)?;
    // As wide as groups of 4 made it in both directions.
    let dw = pack::narrow(gpu, dw, p.c_out)?;
    match p.c_in % 4 {
        0 => Ok(dw),
        _ => pack::copy(gpu, &dw, 4 * params.groups_in * p.c_out, p.c_in * p.c_out),
    }
}

/// dL/dbias `[c_out]`, f32.
pub(super) fn bias(gpu: &Arc<Gpu>, grad: &Buffer, c_out: u32) -> Result<Buffer> {
    let grad = Wide::of(gpu, grad, c_out)?;
    let sums = super::sum::columns(gpu, grad.buffer(), c_out.div_ceil(4))?;
    pack::narrow(gpu, sums, c_out)
}

#[cfg(test)]
mod tests {
    use super::super::tuner::{distance, noise};
    use super::super::{plain, tiles::ENOUGH};
    use super::*;
    use crate::gpu::{self, Options};

    #[test]
    fn every_product_is_what_the_formula_says() {
        let options = Options {
            poison: true,
            ..Options::default()
        };
        let gpu = gpu::open(0, &options).expect("an adapter");
        // Channels that do not fill the smaller and the larger tiles, pictures that end within a step.
        for [c_in, c_out, h, w, k, stride, replicate] in [
            [133, 146, 9, 7, 3, 2, 0],
            [130, 127, 5, 9, 3, 1, 1],
            [67, 190, 1, 1, 1, 1, 0],
            [19, 66, 3, 17, 5, 1, 1],
        ] {
            let padding = k / 2;
            let along = |size: u32| (size + 2 * padding - k) / stride + 1;
            let p = Geometry {
                n: 11,
                h,
                w,
                c_in,
                out_h: along(h),
                out_w: along(w),
                c_out,
                kh: k,
                kw: k,
                stride,
                top: padding,
                left: padding,
                replicate,
                activation: 0,
                slope: 0.0,
                residual: 0,
            };
            let upload = |len: u32| gpu.upload(&noise(len)).expect("room");
            let x = upload(p.n * p.h * p.w * p.c_in);
            let grad = upload(p.n * p.out_h * p.out_w * p.c_out);
            let [expected, _] = plain::backward_weight(&gpu, [&x, &grad], &p).unwrap();
            let expected = gpu.read(&expected).unwrap();
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            for product in [Product::Direct, Product::Tile64, Product::Tile128] {
                let slices = product.slices(&gpu, &p, ENOUGH);
                let dw = weight(&gpu, [&x, &grad], (product, slices), &p).unwrap();
                let found = gpu.read(&dw).unwrap();
                assert_eq!(found.len(), expected.len());
                let error = distance(&found, &expected);
                assert!(error < 1e-6, "{product:?} {p:?}: {error:e}");
            }
        }
    }
    #[test]
    fn the_kernel_for_matrix_units_computes_the_same() {
        for (half, tolerance) in [(false, 2e-5), (true, 1e-3)] {
            let options = Options {
                poison: true,
                half,
                ..Options::default()
            };
            let gpu = gpu::open(0, &options).expect("an adapter");
            // Neither channels nor pixels fill the tiles; three slices of five rows, 20 pixels:
            // steps of 8 pixels, the last cut off.
            let p = Geometry {
                n: 3,
                h: 9,
                w: 7,
                c_in: 36,
                out_h: 5,
                out_w: 4,
                c_out: 68,
                kh: 3,
                kw: 3,
                stride: 2,
                top: 1,
                left: 1,
                replicate: 0,
                activation: 0,
                slope: 0.0,
                residual: 0,
            };
            let upload = |len: u32| gpu.upload(&noise(len)).expect("room");
            let x = upload(p.n * p.h * p.w * p.c_in);
            let grad = upload(p.n * p.out_h * p.out_w * p.c_out);
            let [expected, _] = plain::backward_weight(&gpu, [&x, &grad], &p).unwrap();
            let dw = weight(&gpu, [&x, &grad], (Product::Emulated, 3), &p).unwrap();
            let (found, expected) = (gpu.read(&dw).unwrap(), gpu.read(&expected).unwrap());
            assert_eq!(found.len(), expected.len());
            for (f, e) in found.iter().zip(&expected) {
                let error = (f - e).abs();
                assert!(error < tolerance * (1.0 + e.abs()), "{half}: {f} not {e}");
            }
        }
    }
}

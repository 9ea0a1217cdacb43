//! Gradients of a convolution on a GPU.

use super::pack::{self, Wide};
use super::tiles::{ENOUGH, padded};
use crate::Result;
use crate::cpu::conv2d::Params as Geometry;
use crate::gpu::{Buffer, Gpu};
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

const NAME: &str = "conv2d/gradient";
const SHADER: &str = include_str!("../../../shaders/conv2d/gradient.wgsl");
const SHARED: &str = "conv2d/gradient_shared";
const SHARED_SHADER: &str = include_str!("../../../shaders/conv2d/gradient_shared.wgsl");

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

/// What multiplies x and the gradient of the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Product {
    /// In registers, for software adapters.
    Direct,
    /// With tiles in shared memory.
    Shared,
}

impl Product {
    pub fn of(gpu: &Gpu) -> Self {
        match gpu.report().hardware {
            true => Self::Shared,
            false => Self::Direct,
        }
    }

    /// What a profile calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Shared => "tile64",
        }
    }

    /// Workgroups of a slice.
    fn workgroups(self, gpu: &Gpu, p: &Params) -> [u32; 2] {
        let taps = p.kh * p.kw;
        match self {
            Self::Direct => [
                (taps * p.groups_in.div_ceil(4)).div_ceil(gpu.lanes()),
                p.groups_out.div_ceil(4),
            ],
            Self::Shared => [taps * p.groups_in.div_ceil(16), p.groups_out.div_ceil(16)],
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
            Self::Shared => gpu.pass(SHARED, SHARED_SHADER),
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

/// dL/dweight `[kh,kw,c_in,c_out]`, f32.
pub(super) fn weight(
    gpu: &Arc<Gpu>,
    [x, grad]: [&Buffer; 2],
    product: Product,
    p: &Geometry,
) -> Result<Buffer> {
    let (x, grad) = (Wide::of(gpu, x, p.c_in)?, Wide::of(gpu, grad, p.c_out)?);
    let params = Params::new(p);
    let size = 16 * p.kh * p.kw * params.groups_in * params.groups_out;
    let [across, down] = product.workgroups(gpu, &params);
    // More slices than needed would only be more to add up.
    let wanted = ENOUGH.div_ceil(across * down).min(params.rows);
    let fits = (gpu.max_elements() / size as usize).max(1) as u32;
    let rows = params.rows.div_ceil(wanted.min(fits));
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

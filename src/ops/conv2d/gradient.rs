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

/// dL/dweight `[kh,kw,c_in,c_out]`, f32, with tiles in shared memory or in registers.
pub(super) fn weight(
    gpu: &Arc<Gpu>,
    [x, grad]: [&Buffer; 2],
    shared: bool,
    p: &Geometry,
) -> Result<Buffer> {
    let (x, grad) = (Wide::of(gpu, x, p.c_in)?, Wide::of(gpu, grad, p.c_out)?);
    let params = Params::new(p);
    let taps = p.kh * p.kw;
    let size = taps * params.groups_in * 4 * params.groups_out;
    let lanes = gpu.lanes();
    let (pass, grid) = match shared {
        true => {
            let grid = [
                taps * params.groups_in.div_ceil(16),
                params.groups_out.div_ceil(16),
            ];
            (gpu.pass(SHARED, SHARED_SHADER), grid)
        }
        false => {
            let across = (taps * params.groups_in.div_ceil(4)).div_ceil(lanes);
            let pass = gpu.pass(NAME, SHADER).constant("LANES", lanes.into());
            (pass, [across, params.groups_out.div_ceil(4)])
        }
    };
    // More slices than needed would only be more to add up.
    let wanted = ENOUGH.div_ceil(grid[0] * grid[1]).min(params.rows);
    let fits = (gpu.max_elements() / (4 * size as usize)).max(1) as u32;
    let rows = params.rows.div_ceil(wanted.min(fits));
    let slices = params.rows.div_ceil(rows);
    let dw = gpu.alloc_f32((slices * size * 4) as usize)?;
    pass.entry("weight")
        .read(x.buffer())
        .read(grad.buffer())
        .write(&dw)
        .params(&Params { rows, ..params })
        .groups([grid[0], grid[1], slices])?;
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

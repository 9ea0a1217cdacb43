//! The kernels that do as the formula says, against which the others are checked.

use super::NAME;
use crate::Result;
use crate::cpu::conv2d::Params;
use crate::gpu::{Buffer, Gpu};
use std::sync::Arc;

const SHADER: &str = include_str!("../../../shaders/conv2d.wgsl");

pub(super) fn forward(
    gpu: &Arc<Gpu>,
    [x, weight, bias]: [&Buffer; 3],
    residual: Option<&Buffer>,
    p: &Params,
) -> Result<Buffer> {
    let rows = (p.n * p.out_h) as usize;
    let y = gpu.alloc(rows * (p.out_w * p.c_out) as usize)?;
    let pass = gpu.pass(NAME, SHADER).read(x).read(weight).read(bias);
    let pass = pass.read(residual.unwrap_or(bias)).write(&y).params(p);
    pass.run(rows * p.out_w.div_ceil(4) as usize * p.c_out.div_ceil(4) as usize)?;
    Ok(y)
}

pub(super) fn backward_input(
    gpu: &Arc<Gpu>,
    [grad, weight]: [&Buffer; 2],
    p: &Params,
) -> Result<Buffer> {
    let count = (p.n * p.h * p.w * p.c_in) as usize;
    let dx = gpu.alloc(count)?;
    let pass = gpu.pass(NAME, SHADER).entry("backward_input");
    let pass = pass.read(grad).read(weight).write(&dx).params(p);
    pass.run(count)?;
    Ok(dx)
}

/// dL/dweight and dL/dbias, f32
pub(super) fn backward_weight(
    gpu: &Arc<Gpu>,
    [x, grad]: [&Buffer; 2],
    p: &Params,
) -> Result<[Buffer; 2]> {
    let weights = (p.kh * p.kw * p.c_in * p.c_out) as usize;
    let bias = p.c_out as usize;
    let (dw, db) = (gpu.alloc_f32(weights)?, gpu.alloc_f32(bias)?);
    let pass = gpu.pass(NAME, SHADER).entry("backward_weight");
    let pass = pass.read(x).read(grad).write(&dw).write(&db);
    pass.params(p).run(weights + bias)?;
    Ok([dw, db])
}

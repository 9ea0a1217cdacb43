//! Sums of slices and of columns, always in the same order.

use super::tiles::{self, Operands, Partial};
use crate::Result;
use crate::gpu::{Buffer, Gpu};
use crate::ops::Activation;
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

const NAME: &str = "conv2d/sum";
pub(super) const SHADER: &str = include_str!("../../../shaders/conv2d/sum.wgsl");

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Params {
    slices: u32,
    rows: u32,
    groups: u32,
    bias: u32,
    activation: u32,
    slope: f32,
    residual: u32,
}

fn run(
    gpu: &Arc<Gpu>,
    partial: &Buffer,
    bias: Option<&Buffer>,
    residual: Option<&Buffer>,
    y: Buffer,
    params: &Params,
) -> Result<Buffer> {
    gpu.pass(NAME, SHADER)
        .read(partial)
        .read(bias.unwrap_or(partial))
        .read(residual.unwrap_or(partial))
        .write(&y)
        .params(params)
        .run((params.rows * params.groups) as usize)?;
    Ok(y)
}

/// y = f(bias + Σ partial) (+ residual), as `product` would have ended.
pub(super) fn finish(
    gpu: &Arc<Gpu>,
    partial: &Partial,
    operands: &Operands,
    p: &tiles::Params,
) -> Result<Buffer> {
    let params = Params {
        slices: partial.slices,
        rows: p.rows,
        groups: p.groups_out,
        bias: operands.bias.is_some().into(),
        activation: operands.activation,
        slope: operands.slope,
        residual: operands.residual.is_some().into(),
    };
    let y = gpu.alloc((4 * params.rows * params.groups) as usize)?;
    let (bias, residual) = (operands.bias, operands.residual);
    run(gpu, &partial.sums, bias, residual, y, &params)
}

/// Σ partial `[slices, …, groups·4]`, both in f32.
pub(super) fn slices(gpu: &Arc<Gpu>, partial: Buffer, slices: u32, groups: u32) -> Result<Buffer> {
    if slices == 1 {
        return Ok(partial);
    }
    let params = Params {
        slices,
        rows: partial.len() as u32 / slices / groups / 4,
        groups,
        bias: 0,
        activation: Activation::Identity.kind(),
        slope: 0.0,
        residual: 0,
    };
    let sum = gpu.alloc_f32(partial.len() / slices as usize)?;
    run(gpu, &partial, None, None, sum, &params)
}

/// Σ of the rows of x `[rows, groups·4]`, in f32.
pub(super) fn columns(gpu: &Arc<Gpu>, x: &Buffer, groups: u32) -> Result<Buffer> {
    let rows = x.len() as u32 / groups / 4;
    // As many slices as rows in each keep both sums short.
    let slices = (rows as f64).sqrt().ceil() as u32;
    let params = Params {
        slices,
        rows,
        groups,
        bias: 0,
        activation: Activation::Identity.kind(),
        slope: 0.0,
        residual: 0,
    };
    let sums = gpu.alloc_f32((4 * slices * groups) as usize)?;
    let pass = gpu.pass(NAME, SHADER).entry("columns");
    let pass = pass.read(x).write(&sums).params(&params);
    pass.run((slices * groups) as usize)?;
    self::slices(gpu, sums, slices, groups)
}

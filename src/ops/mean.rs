//! Global mean over a picture; the extractor is frozen, so it has no gradient.

use super::bands::Windows;
use super::conv2d::Conv2d;
use super::{Cost, kernel, refuse_gradient};
use crate::cpu::mean::{self as cpu, Params};
use crate::gpu::Gpu;
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

const NAME: &str = "mean";
const SHADER: &str = include_str!("../../shaders/mean.wgsl");

/// Pictures of more pixels are averaged row by row on a GPU, and then the rows: bands have whole rows, and there
/// are more workgroups. For smaller ones a second launch costs more than it brings.
const AT_ONCE: usize = 4096;

/// `y[n, 0, 0, c]` = mean over H and W (`torch.nn.functional.adaptive_avg_pool2d(x, 1)`).
///
/// x `[N,H,W,C]`, y `[N,1,1,C]`.
///
/// # Errors
/// [`Error::Shape`] for an empty picture, or when a gradient is wanted.
pub fn mean(tape: &Tape, x: &Var) -> Result<Var> {
    refuse_gradient(NAME, tape, &[x])?;
    let all = x.tensor().shape();
    let [n, h, w, c] = all.nhwc(NAME)?;
    if all.is_empty() {
        return Err(Error::shape(NAME, "at least one pixel", all.to_string()));
    }
    let _kernel = kernel(NAME, "forward", &[all], cost(all));
    match x.tensor().device() {
        Device::Cpu => {
            let params = params(n, h * w, c);
            let y = cpu::mean(x.tensor().host(), &params);
            Ok(tape.constant(&Tensor::host_tensor([n, 1, 1, c], y)))
        }
        Device::Gpu(gpu) => {
            let [h, w] = if h * w > AT_ONCE { [h, w] } else { [1, h * w] };
            let x = x.tensor().reshape([n, h, w, c])?;
            let windows = Windows {
                x: &tape.constant(&x),
                residual: None,
                rows: 1,
                conv: Conv2d::new(Default::default()),
                widest: c,
            };
            let in_bands = windows.in_bands(tape, [n, h, 1, c].into(), |band| {
                Ok(tape.constant(&of_rows(gpu, band.x.tensor())?))
            })?;
            let means = match in_bands {
                Some(means) => means.tensor().clone(),
                None => of_rows(gpu, &x)?,
            };
            let y = match h {
                1 => means,
                _ => of_rows(gpu, &means.reshape([n, 1, h, c])?)?,
            };
            Ok(tape.constant(&y))
        }
    }
}

/// The mean of every row, `[N,H,1,C]`.
fn of_rows(gpu: &Arc<Gpu>, x: &Tensor) -> Result<Tensor> {
    let [n, h, w, c] = x.shape().nhwc(NAME)?;
    let y = gpu.alloc(n * h * c)?;
    let (entry, groups) = match c % 4 {
        0 => ("main", n * h * c.div_ceil(16)),
        _ => ("narrow", n * h * c),
    };
    let pass = gpu.pass(NAME, SHADER).entry(entry);
    let pass = pass.read(x.buffer()).write(&y).params(&params(n * h, w, c));
    pass.folded(groups)?;
    Ok(Tensor::gpu_tensor(gpu, [n, h, 1, c], y))
}

fn params(n: usize, pixels: usize, channels: usize) -> Params {
    Params {
        n: n as u32,
        pixels: pixels as u32,
        channels: channels as u32,
    }
}

pub fn cost(x: Shape) -> Cost {
    Cost::new(x.len(), x.len())
}

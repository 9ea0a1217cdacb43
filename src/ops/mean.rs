//! Global mean over a picture; the extractor is frozen, so it has no gradient.

use super::{Cost, kernel, refuse_gradient};
use crate::cpu::mean::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor};
use crate::{Error, Result};

const NAME: &str = "mean";
const SHADER: &str = include_str!("../../shaders/mean.wgsl");

/// `y[n, 0, 0, c]` = mean over H and W (`torch.nn.functional.adaptive_avg_pool2d(x, 1)`).
///
/// x `[N,H,W,C]`, y `[N,1,1,C]`.
///
/// # Errors
/// [`Error::Shape`] for an empty picture, or when a gradient is wanted.
pub fn mean(tape: &Tape, x: &Var) -> Result<Var> {
    refuse_gradient(NAME, tape, &[x])?;
    let x = x.tensor();
    let [n, h, w, c] = x.shape().nhwc(NAME)?;
    if x.shape().is_empty() {
        return Err(Error::shape(
            NAME,
            "at least one pixel",
            x.shape().to_string(),
        ));
    }
    let params = Params {
        n: n as u32,
        pixels: (h * w) as u32,
        channels: c as u32,
    };
    let shape = Shape::from([n, 1, 1, c]);
    let _kernel = kernel(NAME, "forward", &[x.shape()], cost(x.shape()));
    let y = match x.device() {
        Device::Cpu => Tensor::host_tensor(shape, cpu::mean(x.host(), &params)),
        Device::Gpu(gpu) => {
            let y = gpu.alloc(shape.len())?;
            let (entry, groups) = match c % 4 {
                0 => ("main", n * c.div_ceil(16)),
                _ => ("narrow", n * c),
            };
            let pass = gpu.pass(NAME, SHADER).entry(entry);
            let pass = pass.read(x.buffer()).write(&y).params(&params);
            pass.run(groups * 64)?;
            Tensor::gpu_tensor(gpu, shape, y)
        }
    };
    Ok(tape.constant(&y))
}

pub fn cost(x: Shape) -> Cost {
    Cost::new(x.len(), x.len())
}

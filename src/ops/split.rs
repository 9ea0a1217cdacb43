//! The channels in two parts.

use super::concat;
use super::{Cost, kernel};
use crate::cpu::split::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor};
use crate::{Error, Result};

const NAME: &str = "split";
const SHADER: &str = include_str!("../../shaders/split.wgsl");

/// The first `at` channels, and the rest (`torch.split`).
///
/// x `[N,H,W,C]` → `[N,H,W,at]`, `[N,H,W,C−at]`.
///
/// # Errors
/// [`Error::Shape`] when either part would be empty.
pub fn split(tape: &Tape, x: &Var, at: usize) -> Result<(Var, Var)> {
    let tensor = x.tensor();
    let channels = tensor.shape().channels();
    if at == 0 || at >= channels {
        return Err(Error::shape(
            NAME,
            format!("more than {at} channels"),
            tensor.shape().to_string(),
        ));
    }
    let parts = [slice(tensor, 0, at)?, slice(tensor, at, channels - at)?];
    let shapes = [parts[0].shape(), parts[1].shape()];
    let device = tensor.device().clone();
    let [first, second] = tape.record(NAME, [x], parts, move |grads| {
        let [first, second] = grads;
        let or_zero = |grad: Option<Tensor>, shape: Shape| match grad {
            Some(grad) => Ok(grad),
            None => Tensor::full(&device, shape, 0.0),
        };
        let (first, second) = (or_zero(first, shapes[0])?, or_zero(second, shapes[1])?);
        Ok([Some(concat::forward(&first, &second)?)])
    });
    Ok((first, second))
}

/// Channels `start..start + count`.
pub(super) fn slice(x: &Tensor, start: usize, count: usize) -> Result<Tensor> {
    let [n, h, w, channels] = x.shape().nhwc(NAME)?;
    let params = Params {
        pixels: (n * h * w) as u32,
        channels: channels as u32,
        start: start as u32,
        count: count as u32,
    };
    let shape = Shape::from([n, h, w, count]);
    let _kernel = kernel(NAME, "forward", &[x.shape(), shape], cost(shape));
    match x.device() {
        Device::Cpu => Ok(Tensor::host_tensor(shape, cpu::slice(x.host(), &params))),
        Device::Gpu(gpu) => {
            let y = gpu.alloc(shape.len())?;
            gpu.pass(NAME, SHADER)
                .read(x.buffer())
                .write(&y)
                .params(&params)
                .run(shape.len())?;
            Ok(Tensor::gpu_tensor(gpu, shape, y))
        }
    }
}

/// Of a part of this shape.
pub fn cost(part: Shape) -> Cost {
    Cost::new(0, 2 * part.len())
}

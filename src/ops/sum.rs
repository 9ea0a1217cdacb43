//! The weighted sum of all elements.

use super::{Cost, kernel};
use crate::Result;
use crate::cpu::sum::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor};

const NAME: &str = "sum";
const SHADER: &str = include_str!("../../shaders/sum.wgsl");

/// y `[1]` = weight · Σ x (`torch.sum`); a mean where the weight is one over the count.
/// In f32 alone, whatever the precision: what is summed up is a loss.
///
/// # Errors
/// [`crate::Error::OutOfMemory`].
pub fn sum(tape: &Tape, x: &Var, weight: f32) -> Result<Var> {
    let shape = x.tensor().shape();
    let params = Params {
        count: shape.len() as u32,
        weight,
    };
    let y = forward(x.tensor(), &params)?;
    let [y] = tape.record(NAME, [x], [y], move |[grad]| {
        Ok([grad
            .map(|grad| backward(&grad, shape, &params))
            .transpose()?])
    });
    Ok(y)
}

fn forward(x: &Tensor, params: &Params) -> Result<Tensor> {
    let _kernel = kernel(NAME, "forward", &[x.shape()], cost(x.shape()));
    match x.device() {
        Device::Cpu => Ok(Tensor::host_tensor(
            [1],
            vec![cpu::sum(x.host(), params.weight)],
        )),
        Device::Gpu(gpu) => {
            let y = gpu.alloc_f32(1)?;
            gpu.pass(NAME, SHADER)
                .read(x.buffer())
                .write(&y)
                .params(params)
                .run(64)?;
            Ok(Tensor::gpu_tensor(gpu, [1], y))
        }
    }
}

fn backward(grad: &Tensor, x: Shape, params: &Params) -> Result<Tensor> {
    let _kernel = kernel(NAME, "backward", &[x], Cost::exact(x.len()));
    match grad.device() {
        Device::Cpu => Ok(Tensor::host_tensor(
            x,
            vec![params.weight * grad.host()[0]; x.len()],
        )),
        Device::Gpu(gpu) => {
            let dx = gpu.alloc_f32(x.len())?;
            let pass = gpu
                .pass(NAME, SHADER)
                .entry("backward")
                .read(grad.buffer())
                .write(&dx);
            pass.params(params).run(x.len())?;
            Ok(Tensor::gpu_tensor(gpu, x, dx))
        }
    }
}

/// Of the forward pass.
pub fn cost(x: Shape) -> Cost {
    Cost::new(x.len(), 0) + Cost::exact(x.len())
}

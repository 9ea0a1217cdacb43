//! Activations: ReLU, leaky ReLU, SiLU, sigmoid, ReLU6.

use super::{Activation, Cost, kernel};
use crate::cpu::activation::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "activation";
const SHADER: &str = include_str!("../../shaders/activation.wgsl");

/// y = f(x), elementwise (`torch.nn.functional.leaky_relu`, `relu`, `silu`, `sigmoid`, `relu6`).
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn activation(tape: &Tape, x: &Var, f: Activation) -> Result<Var> {
    let input = x.tensor().clone();
    let y = forward(&input, f)?;
    let [y] = tape.record(NAME, [x], [y], move |[grad]| {
        Ok([grad.map(|grad| backward(&input, &grad, f)).transpose()?])
    });
    Ok(y)
}

fn params(shape: Shape, f: Activation) -> Params {
    Params {
        count: shape.len() as u32,
        kind: f.kind(),
        slope: f.slope(),
    }
}

fn forward(x: &Tensor, f: Activation) -> Result<Tensor> {
    let _kernel = kernel(NAME, "forward", &[x.shape()], cost(x.shape()));
    match x.device() {
        Device::Cpu => Ok(Tensor::host_tensor(x.shape(), cpu::forward(x.host(), f))),
        Device::Gpu(gpu) => {
            let y = gpu.alloc(x.shape().len())?;
            let pass = gpu.pass(NAME, SHADER).read(x.buffer()).write(&y);
            pass.params(&params(x.shape(), f)).sweep(x.shape().len())?;
            Ok(Tensor::gpu_tensor(gpu, x.shape(), y))
        }
    }
}

pub(super) fn backward(x: &Tensor, grad: &Tensor, f: Activation) -> Result<Tensor> {
    if x.shape() != grad.shape() {
        return Err(Error::shape(
            NAME,
            format!("a gradient {}", x.shape()),
            grad.shape().to_string(),
        ));
    }
    let n = x.shape().len();
    let _kernel = kernel(NAME, "backward", &[x.shape()], Cost::new(6 * n, 3 * n));
    match same_device(NAME, &[x, grad])? {
        Device::Cpu => Ok(Tensor::host_tensor(
            x.shape(),
            cpu::backward(x.host(), grad.host(), f),
        )),
        Device::Gpu(gpu) => {
            let dx = gpu.alloc(x.shape().len())?;
            let pass = gpu.pass(NAME, SHADER).entry("backward");
            let pass = pass.read(x.buffer()).read(grad.buffer()).write(&dx);
            pass.params(&params(x.shape(), f)).sweep(x.shape().len())?;
            Ok(Tensor::gpu_tensor(gpu, x.shape(), dx))
        }
    }
}

/// Of the forward pass.
pub fn cost(x: Shape) -> Cost {
    Cost::new(4 * x.len(), 2 * x.len())
}

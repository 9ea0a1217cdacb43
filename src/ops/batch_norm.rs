//! Batch normalisation with the statistics of the batch. For inference it is folded into the
//! convolution before it (`nn::layers`).

use super::{Cost, kernel};
use crate::cpu::batch_norm::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "batch_norm";
const SHADER: &str = include_str!("../../shaders/batch_norm.wgsl");

/// Mean and unbiased variance over what was seen so far, each `[C]`, f32.
#[derive(Clone, Debug)]
pub struct Running {
    pub mean: Tensor,
    pub var: Tensor,
}

/// y = (x − mean)/√(var + ε)·weight + bias over N,H,W, and the updated running statistics
/// (`torch.nn.functional.batch_norm(training=True)`).
///
/// x, y `[N,H,W,C]`; weight, bias `[C]`, whose gradients are f32.
///
/// # Errors
/// [`Error::Shape`] when they do not fit or there is only one value per channel.
pub fn batch_norm(
    tape: &Tape,
    x: &Var,
    weight: &Var,
    bias: &Var,
    running: &Running,
    epsilon: f32,
    momentum: f32,
) -> Result<(Var, Running)> {
    let (xt, wt, bt) = (x.tensor().clone(), weight.tensor().clone(), bias.tensor());
    let [n, h, w, c] = xt.shape().nhwc(NAME)?;
    let vector = Shape::from([c]);
    let vectors = [&wt, bt, &running.mean, &running.var];
    if n * h * w < 2 || vectors.iter().any(|v| v.shape() != vector) {
        let expected =
            format!("two or more pixels; weight, bias, running mean and variance {vector}");
        let found = format!("{}, {:?}", xt.shape(), vectors.map(|v| v.shape()));
        return Err(Error::shape(NAME, expected, found));
    }
    let params = Params {
        rows: (n * h * w) as u32,
        channels: c as u32,
        epsilon,
        momentum,
    };
    let (y, stats, running) = forward(&xt, &wt, bt, running, &params)?;
    let [y] = tape.record(NAME, [x, weight, bias], [y], move |[grad]| match grad {
        Some(grad) => Ok(backward(&xt, &stats, &wt, &grad, &params)?.map(Some)),
        None => Ok([None, None, None]),
    });
    Ok((y, running))
}

fn forward(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    running: &Running,
    p: &Params,
) -> Result<(Tensor, Tensor, Running)> {
    let (shape, vector) = (x.shape(), weight.shape());
    let pair = Shape::from([2 * vector.len()]);
    let _kernel = kernel(NAME, "forward", &[shape], cost(shape));
    match same_device(NAME, &[x, weight, bias, &running.mean, &running.var])? {
        Device::Cpu => {
            let found = cpu::statistics(x.host(), running.mean.host(), running.var.host(), p);
            let y = cpu::forward(x.host(), &found.stats, weight.host(), bias.host());
            let mean = Tensor::host_tensor(vector, found.running_mean);
            let var = Tensor::host_tensor(vector, found.running_var);
            Ok((
                Tensor::host_tensor(shape, y),
                Tensor::host_tensor(pair, found.stats),
                Running { mean, var },
            ))
        }
        Device::Gpu(gpu) => {
            let (stats, mean, var) = (
                gpu.alloc_f32(pair.len())?,
                gpu.alloc_f32(vector.len())?,
                gpu.alloc_f32(vector.len())?,
            );
            let pass = gpu.pass(NAME, SHADER).entry("statistics").read(x.buffer());
            let pass = pass.read(running.mean.buffer()).read(running.var.buffer());
            pass.write(&stats)
                .write(&mean)
                .write(&var)
                .params(p)
                .folded(blocks(vector))?;
            let y = gpu.alloc(shape.len())?;
            let pass = gpu.pass(NAME, SHADER).read(x.buffer()).read(&stats);
            let pass = pass.read(weight.buffer()).read(bias.buffer()).write(&y);
            pass.params(p).sweep(shape.len())?;
            let (mean, var) = (
                Tensor::gpu_tensor(gpu, vector, mean),
                Tensor::gpu_tensor(gpu, vector, var),
            );
            let stats = Tensor::gpu_tensor(gpu, pair, stats);
            Ok((
                Tensor::gpu_tensor(gpu, shape, y),
                stats,
                Running { mean, var },
            ))
        }
    }
}

fn backward(
    x: &Tensor,
    stats: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
    p: &Params,
) -> Result<[Tensor; 3]> {
    let (shape, vector) = (x.shape(), weight.shape());
    let n = shape.len();
    let _kernel = kernel(NAME, "backward", &[shape], Cost::new(10 * n, 3 * n));
    match same_device(NAME, &[x, stats, weight, grad])? {
        Device::Cpu => {
            let (dx, dw, db) = cpu::backward(x.host(), stats.host(), weight.host(), grad.host(), p);
            Ok([
                Tensor::host_tensor(shape, dx),
                Tensor::host_tensor(vector, dw),
                Tensor::host_tensor(vector, db),
            ])
        }
        Device::Gpu(gpu) => {
            let (dx, dw, db) = (
                gpu.alloc(shape.len())?,
                gpu.alloc_f32(vector.len())?,
                gpu.alloc_f32(vector.len())?,
            );
            let pass = gpu
                .pass(NAME, SHADER)
                .entry("backward_weight")
                .read(x.buffer())
                .read(stats.buffer());
            pass.read(grad.buffer())
                .write(&dw)
                .write(&db)
                .params(p)
                .folded(blocks(vector))?;
            let pass = gpu
                .pass(NAME, SHADER)
                .entry("backward_input")
                .read(x.buffer())
                .read(stats.buffer());
            let pass = pass
                .read(grad.buffer())
                .read(weight.buffer())
                .read(&dw)
                .read(&db)
                .write(&dx);
            pass.params(p).sweep(shape.len())?;
            Ok([
                Tensor::gpu_tensor(gpu, shape, dx),
                Tensor::gpu_tensor(gpu, vector, dw),
                Tensor::gpu_tensor(gpu, vector, db),
            ])
        }
    }
}

/// Workgroups that sum over pixels.
fn blocks(channels: Shape) -> usize {
    channels.len().div_ceil(16)
}

/// Of the forward pass.
pub fn cost(x: Shape) -> Cost {
    Cost::new(7 * x.len(), 2 * x.len())
}

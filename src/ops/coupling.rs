//! The affine coupling of a conditional RealNVP, with the gamma trick and the soft clamp (paper,
//! section 3.2; Dinh et al., "Density estimation using Real NVP").

use super::conv2d::{self, Conv2d, conv2d};
use super::{Activation, Cost, kernel};
use crate::cpu::coupling::{self as cpu, Params};
use crate::gpu::{Buffer, Gpu};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};
use std::sync::Arc;

const NAME: &str = "coupling";
const SHADER: &str = include_str!("../../shaders/coupling.wgsl");

/// y = clamp(x·exp ℓ(s) + t, ±1e6) and log_det = so_far + Σ_c ℓ(s), where s and t are the halves of
/// γ·u and ℓ(s) = α·0.636·atan(s/α). What x has beyond C channels passes through.
///
/// x, y `[N,H,W,C]` or wider, u `[N,H,W,2C]` (s, then t), γ `[1]`, log_det and so_far `[N,H,W,1]`;
/// these two and the gradient of γ are f32.
///
/// # Errors
/// [`Error::Shape`] when they do not fit.
pub fn coupling(
    tape: &Tape,
    x: &Var,
    u: &Var,
    gamma: &Var,
    so_far: Option<&Var>,
    alpha: f32,
) -> Result<(Var, Var)> {
    let [xt, ut, gt] = [x, u, gamma].map(|v| v.tensor().clone());
    let before = so_far.map(Var::tensor);
    let params = params([&xt, &gt], ut.shape(), before, alpha)?;
    let outputs = run([&xt, &ut, &gt], before, &params, false)?;
    let none = tape.constant(&gt);
    let inputs = [x, u, gamma, so_far.unwrap_or(&none)];
    let [y, log_det] = tape.record(NAME, inputs, outputs, move |[dy, dl]| {
        let dy = match dy {
            Some(dy) => dy,
            None => Tensor::full(xt.device(), xt.shape(), 0.0)?,
        };
        let dl = match dl {
            Some(dl) => dl,
            None => {
                let zeros = vec![0.0; per_pixel(&xt).len()];
                Tensor::new_f32(xt.device(), per_pixel(&xt), zeros)?
            }
        };
        let [dx, du, dgamma] = backward(&xt, &ut, &gt, &dy, &dl, &params)?.map(Some);
        Ok([dx, du, dgamma, Some(dl)])
    });
    Ok((y, log_det))
}

/// The convolution that makes u.
pub struct Subnet<'a> {
    pub hidden: &'a Var,
    pub weight: &'a Var,
    pub bias: &'a Var,
    pub conv: Conv2d,
}

/// [`coupling`] with u = hidden ∗ weight + bias. Where a GPU makes the convolution as a sum in slices and no
/// gradient is wanted, the slices are added up on the way.
///
/// # Errors
/// As [`conv2d()`] and [`coupling`].
pub fn coupling_of(
    tape: &Tape,
    x: &Var,
    u: &Subnet,
    gamma: &Var,
    so_far: Option<&Var>,
    alpha: f32,
) -> Result<(Var, Var)> {
    let inputs = [x, u.hidden, u.weight, u.bias, gamma, so_far.unwrap_or(x)];
    let frozen = !tape.is_training() || !inputs.iter().any(|v| v.is_recorded());
    let plain = u.conv.activation == Activation::Identity;
    if let Device::Gpu(gpu) = same_device(NAME, &inputs.map(Var::tensor))?
        && frozen
        && plain
        && let Some((partial, shape)) =
            conv2d::partial(u.hidden.tensor(), u.weight.tensor(), u.conv)?
    {
        let [x, bias, gamma] = [x, u.bias, gamma].map(Var::tensor);
        let before = so_far.map(Var::tensor);
        let params = Params {
            slices: partial.slices,
            ..params([x, gamma], shape, before, alpha)?
        };
        if bias.shape() != Shape::from([shape.channels()]) {
            let expected = format!("a bias [{}]", shape.channels());
            return Err(Error::shape(NAME, expected, bias.shape().to_string()));
        }
        let _kernel = kernel(NAME, "forward", &[x.shape()], cost(x.shape()));
        let u = [&partial.sums, bias.buffer()];
        let [y, log_det] = launch(gpu, "summed", [x, gamma], u, before, &params)?;
        return Ok((tape.constant(&y), tape.constant(&log_det)));
    }
    let made = conv2d(tape, u.hidden, u.weight, u.bias, None, u.conv)?;
    coupling(tape, x, &made, gamma, so_far, alpha)
}

/// Undoes [`coupling`]: x = (y - t)·exp(-ℓ(s)), log_det = so_far - Σ_c ℓ(s). Not differentiated.
///
/// # Errors
/// [`Error::Shape`] when they do not fit.
pub fn coupling_inverse(
    tape: &Tape,
    y: &Var,
    u: &Var,
    gamma: &Var,
    so_far: Option<&Var>,
    alpha: f32,
) -> Result<(Var, Var)> {
    let inputs = [y, u, gamma].map(Var::tensor);
    let before = so_far.map(Var::tensor);
    let params = params(
        [y.tensor(), gamma.tensor()],
        u.tensor().shape(),
        before,
        alpha,
    )?;
    let [x, log_det] = run(inputs, before, &params, true)?;
    Ok((tape.constant(&x), tape.constant(&log_det)))
}

fn per_pixel(x: &Tensor) -> Shape {
    let mut dims = x.shape().dims().to_vec();
    dims[3] = 1;
    Shape::new(&dims)
}

fn params(
    [x, gamma]: [&Tensor; 2],
    u: Shape,
    so_far: Option<&Tensor>,
    alpha: f32,
) -> Result<Params> {
    let ([n, h, w, width], [_, _, _, both]) = (x.shape().nhwc(NAME)?, u.nhwc(NAME)?);
    let c = both / 2;
    let fits = u == Shape::from([n, h, w, 2 * c]) && c <= width && gamma.shape().len() == 1;
    if !fits || so_far.is_some_and(|l| l.shape() != per_pixel(x)) {
        let expected = format!(
            "u [{n}, {h}, {w}, 2C] for C of the {width} channels of x, one gamma, log_det [{n}, {h}, {w}, 1]"
        );
        let found = format!(
            "u {u}, gamma {}, log_det {:?}",
            gamma.shape(),
            so_far.map(Tensor::shape)
        );
        return Err(Error::shape(NAME, expected, found));
    }
    Ok(Params {
        pixels: (n * h * w) as u32,
        channels: c as u32,
        width: width as u32,
        accumulate: so_far.is_some() as u32,
        slices: 0,
        alpha,
    })
}

fn run(
    [x, u, gamma]: [&Tensor; 3],
    so_far: Option<&Tensor>,
    params: &Params,
    inverse: bool,
) -> Result<[Tensor; 2]> {
    let pixel = per_pixel(x);
    let direction = if inverse { "inverse" } else { "forward" };
    let _kernel = kernel(NAME, direction, &[x.shape()], cost(x.shape()));
    match same_device(NAME, &[x, u, gamma, so_far.unwrap_or(x)])? {
        Device::Cpu => {
            let direction = if inverse { cpu::inverse } else { cpu::forward };
            let so_far = so_far.map(Tensor::host);
            let (y, log_det) = direction([x.host(), u.host()], gamma.host()[0], so_far, params);
            Ok([
                Tensor::host_tensor(x.shape(), y),
                Tensor::host_tensor(pixel, log_det),
            ])
        }
        Device::Gpu(gpu) => {
            let entry = if inverse { "inverse" } else { "main" };
            launch(gpu, entry, [x, gamma], [u.buffer()], so_far, params)
        }
    }
}

/// `u` is u, or the slices of its sum and the bias.
fn launch<const U: usize>(
    gpu: &Arc<Gpu>,
    entry: &'static str,
    [x, gamma]: [&Tensor; 2],
    u: [&Buffer; U],
    so_far: Option<&Tensor>,
    params: &Params,
) -> Result<[Tensor; 2]> {
    let pixel = per_pixel(x);
    let (y, log_det) = (gpu.alloc(x.shape().len())?, gpu.alloc_f32(pixel.len())?);
    let pass = gpu.pass(NAME, SHADER).entry(entry).read(x.buffer());
    let pass = pass.read(u[0]).read(gamma.buffer());
    let pass = pass.read(so_far.unwrap_or(gamma).buffer());
    let pass = pass.write(&y).write(&log_det);
    let pass = u[1..].iter().fold(pass, |pass, bias| pass.read(bias));
    pass.params(params).run(pixel.len() * 64)?;
    Ok([
        Tensor::gpu_tensor(gpu, x.shape(), y),
        Tensor::gpu_tensor(gpu, pixel, log_det),
    ])
}

fn backward(
    x: &Tensor,
    u: &Tensor,
    gamma: &Tensor,
    dy: &Tensor,
    dl: &Tensor,
    params: &Params,
) -> Result<[Tensor; 3]> {
    let n = x.shape().len();
    let _kernel = kernel(NAME, "backward", &[x.shape()], Cost::new(26 * n, 7 * n));
    match same_device(NAME, &[x, u, gamma, dy, dl])? {
        Device::Cpu => {
            let (dx, du, dgamma) = cpu::backward(
                x.host(),
                u.host(),
                gamma.host()[0],
                dy.host(),
                dl.host(),
                params,
            );
            let dgamma = Tensor::host_tensor(gamma.shape(), vec![dgamma]);
            Ok([
                Tensor::host_tensor(x.shape(), dx),
                Tensor::host_tensor(u.shape(), du),
                dgamma,
            ])
        }
        Device::Gpu(gpu) => {
            let (dx, du) = (gpu.alloc(x.shape().len())?, gpu.alloc(u.shape().len())?);
            let (shares, dgamma) = (gpu.alloc_f32(dl.shape().len())?, gpu.alloc_f32(1)?);
            let pass = gpu.pass(NAME, SHADER).entry("backward");
            let pass = pass.read(x.buffer()).read(u.buffer()).read(gamma.buffer());
            let pass = pass
                .read(dy.buffer())
                .read(dl.buffer())
                .write(&dx)
                .write(&du)
                .write(&shares);
            pass.params(params).run(dl.shape().len() * 64)?;
            let pass = gpu
                .pass(NAME, SHADER)
                .entry("backward_gamma")
                .read(&shares)
                .write(&dgamma);
            pass.params(params).run(64)?;
            Ok([
                Tensor::gpu_tensor(gpu, x.shape(), dx),
                Tensor::gpu_tensor(gpu, u.shape(), du),
                Tensor::gpu_tensor(gpu, gamma.shape(), dgamma),
            ])
        }
    }
}

/// Of either direction.
pub fn cost(x: Shape) -> Cost {
    Cost::new(12 * x.len(), 4 * x.len())
}

//! One step of Adam, in place (Kingma & Ba; `torch.optim.Adam`, where weight decay is an L2 term
//! added to the gradient).

use super::{Cost, kernel};
use crate::cpu::adam::{self as cpu, Params};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};
use bytemuck::Zeroable;

const NAME: &str = "adam";
const SHADER: &str = include_str!("../../shaders/adam.wgsl");

/// The constants of an optimiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
}

/// What the gradients of parameters in f16 were multiplied by, lest they vanish.
pub struct Scaled {
    pub scale: f32,
    /// `[1]`, 0 until [`check`] finds a gradient that is not finite.
    overflow: Tensor,
}

impl Scaled {
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(device: &Device, scale: f32) -> Result<Self> {
        Ok(Self {
            scale,
            overflow: Tensor::new_f32(device, [1], vec![0.0])?,
        })
    }

    pub fn overflow(&self) -> &Tensor {
        &self.overflow
    }
}

/// Notes whether a gradient, f32 on a GPU, is infinite or no number (`torch.amp.GradScaler`).
///
/// # Errors
/// [`Error::Shape`] when it is somewhere else.
pub fn check(grad: &Tensor, scaled: &Scaled) -> Result<()> {
    let n = grad.shape().len();
    let _kernel = kernel(
        NAME,
        "check",
        &[grad.shape()],
        Cost::new(n, 0) + Cost::exact(n),
    );
    match same_device(NAME, &[grad, &scaled.overflow])? {
        Device::Gpu(gpu) if !grad.is_half() => {
            let pass = gpu.pass(NAME, SHADER).entry("check");
            let pass = pass.read(grad.buffer()).write(scaled.overflow.buffer());
            let params = Params {
                count: n as u32,
                ..Params::zeroed()
            };
            pass.params(&params).sweep(n)
        }
        _ => Err(Error::shape(NAME, "a gradient in f32 on a GPU", "another")),
    }
}

/// Changes a parameter and its two moments, all of one shape. `step` counts from 1. A parameter in f16
/// has f32 beside it, which are changed and then rounded, where no gradient overflowed; moments and
/// gradient are f32.
///
/// # Errors
/// [`Error::Shape`] when they do not fit, or when `scaled` is not there for f16, and for f16 alone.
pub fn adam(
    p: &mut Tensor,
    m: &mut Tensor,
    v: &mut Tensor,
    grad: &Tensor,
    step: u32,
    adam: &Adam,
    scaled: Option<&Scaled>,
) -> Result<()> {
    let shape = p.shape();
    let others = [&*m, &*v, grad];
    let fit = |t: &&Tensor| t.shape() == shape && !t.is_half();
    if step == 0 || !others.iter().all(fit) || p.is_half() != scaled.is_some() {
        let expected = format!(
            "moments and gradient {shape} in f32, step 1 or later, a scale where the parameter is f16"
        );
        let found = format!("{:?}, step {step}", others.map(Tensor::shape));
        return Err(Error::shape(NAME, expected, found));
    }
    let power = |beta: f64| 1.0 - beta.powi(step as i32);
    let params = Params {
        count: shape.len() as u32,
        rate: (adam.learning_rate / power(adam.beta1)) as f32,
        beta1: adam.beta1 as f32,
        beta2: adam.beta2 as f32,
        new1: (1.0 - adam.beta1) as f32,
        new2: (1.0 - adam.beta2) as f32,
        epsilon: adam.epsilon as f32,
        decay: adam.weight_decay as f32,
        correction: power(adam.beta2).sqrt() as f32,
        unscale: 1.0 / scaled.map_or(1.0, |scaled| scaled.scale),
    };
    // The parameter is kept in f32, and rounded for those who read it.
    let rounded = if p.is_half() { shape.len() } else { 0 };
    let cost = cost(shape) + Cost::new(0, rounded);
    let _kernel = kernel(NAME, "step", &[shape], cost);
    match same_device(NAME, &[p, m, v, grad])?.clone() {
        Device::Cpu => cpu::step(
            p.host_mut(),
            m.host_mut(),
            v.host_mut(),
            grad.host(),
            &params,
        ),
        Device::Gpu(gpu) => {
            p.keep_exact()?;
            [&mut *p, &mut *m, &mut *v]
                .into_iter()
                .try_for_each(Tensor::unshare)?;
            let pass = gpu
                .pass(NAME, SHADER)
                .write(p.exact().unwrap_or(p.buffer()))
                .write(m.buffer())
                .write(v.buffer());
            let mut pass = pass.read(grad.buffer()).params(&params);
            if let Some(scaled) = scaled {
                pass = pass.entry("scaled").read(scaled.overflow.buffer());
                pass = pass.write(p.buffer());
            }
            pass.sweep(shape.len())?;
        }
    }
    Ok(())
}

pub fn cost(p: Shape) -> Cost {
    Cost::new(14 * p.len(), 0) + Cost::exact(7 * p.len())
}

//! One step of Adam, in place (Kingma & Ba; `torch.optim.Adam`, where weight decay is an L2 term
//! added to the gradient).

use super::{Cost, kernel};
use crate::cpu::adam::{self as cpu, Params};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

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

/// Changes a parameter and its two moments, all of one shape. `step` counts from 1.
///
/// # Errors
/// [`Error::Shape`] when they do not fit.
pub fn adam(
    p: &mut Tensor,
    m: &mut Tensor,
    v: &mut Tensor,
    grad: &Tensor,
    step: u32,
    adam: &Adam,
) -> Result<()> {
    let shape = p.shape();
    let others = [m.shape(), v.shape(), grad.shape()];
    if step == 0 || others.iter().any(|&other| other != shape) {
        let expected = format!("moments and gradient {shape}, step 1 or later");
        return Err(Error::shape(
            NAME,
            expected,
            format!("{others:?}, step {step}"),
        ));
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
    };
    let _kernel = kernel(NAME, "step", &[shape], cost(shape));
    match same_device(NAME, &[p, m, v, grad])?.clone() {
        Device::Cpu => cpu::step(
            p.host_mut(),
            m.host_mut(),
            v.host_mut(),
            grad.host(),
            &params,
        ),
        Device::Gpu(gpu) => {
            [&mut *p, &mut *m, &mut *v]
                .into_iter()
                .try_for_each(Tensor::unshare)?;
            let pass = gpu
                .pass(NAME, SHADER)
                .write(p.buffer())
                .write(m.buffer())
                .write(v.buffer());
            pass.read(grad.buffer()).params(&params).run(shape.len())?;
        }
    }
    Ok(())
}

pub fn cost(p: Shape) -> Cost {
    Cost::new(14 * p.len(), 7 * p.len())
}

//! Activations and their gradients; see `shaders/activation.wgsl`.

use super::lanes::Lanes;
use super::pool::copy;
use super::simd::{exp, vectorised};
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

const CHUNK: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    Identity,
    /// max(x, 0)
    Relu,
    /// max(x, 0) + slope·min(x, 0); with slope 0, unlike ReLU, −∞ becomes NaN.
    LeakyRelu(f32),
    /// x·sigmoid(x)
    Silu,
    Sigmoid,
    /// min(max(x, 0), 6)
    Relu6,
}

impl Activation {
    /// The number that shaders know it by (`activate` in `shaders/prelude.wgsl`).
    pub fn kind(self) -> u32 {
        match self {
            Self::Identity => 0,
            Self::LeakyRelu(_) => 1,
            Self::Silu => 2,
            Self::Sigmoid => 3,
            Self::Relu6 => 4,
            Self::Relu => 5,
        }
    }

    pub fn slope(self) -> f32 {
        match self {
            Self::LeakyRelu(slope) => slope,
            _ => 0.0,
        }
    }

    /// Applies it to a row in place.
    #[inline(always)]
    pub fn apply(self, row: &mut [f32]) {
        match self {
            Self::Identity => {}
            // Not `f32::max`, for which NaN is less than 0.
            Self::Relu => row
                .iter_mut()
                .for_each(|x| *x = if *x <= 0.0 { 0.0 } else { *x }),
            Self::LeakyRelu(slope) => row
                .iter_mut()
                .for_each(|x| *x = if *x > 0.0 { *x } else { slope * *x }),
            Self::Silu => row.iter_mut().for_each(|x| *x /= 1.0 + exp(-*x)),
            Self::Sigmoid => row.iter_mut().for_each(|x| *x = 1.0 / (1.0 + exp(-*x))),
            Self::Relu6 => row.iter_mut().for_each(|x| *x = x.clamp(0.0, 6.0)),
        }
    }

    /// Gives itself to `work`, whose loops are then compiled for each activation alone. Mark the closure
    /// `#[inline(always)]`.
    #[inline(always)]
    pub fn known<R>(self, work: impl FnOnce(Self) -> R) -> R {
        match self {
            Self::Identity => work(Self::Identity),
            Self::Relu => work(Self::Relu),
            Self::LeakyRelu(slope) => work(Self::LeakyRelu(slope)),
            Self::Silu => work(Self::Silu),
            Self::Sigmoid => work(Self::Sigmoid),
            Self::Relu6 => work(Self::Relu6),
        }
    }

    /// Of some values.
    #[inline(always)]
    pub fn of<V: Lanes>(self, x: V) -> V {
        let one = V::splat(1.0);
        match self {
            Self::Identity => x,
            // In this order NaN stays NaN, here and below.
            Self::Relu => V::splat(0.0).max(x),
            Self::LeakyRelu(slope) => {
                let zero = V::splat(0.0);
                V::splat(slope).mul_add(zero.min(x), zero.max(x))
            }
            Self::Silu => x.div(one.add(x.exp_neg())),
            Self::Sigmoid => one.div(one.add(x.exp_neg())),
            Self::Relu6 => V::splat(6.0).min(V::splat(0.0).max(x)),
        }
    }

    /// grad times its derivative at x; where that is 0 or 1 by the side of a kink, grad is chosen and not multiplied.
    #[inline(always)]
    fn gradient(self, x: f32, grad: f32) -> f32 {
        let sigmoid = 1.0 / (1.0 + exp(-x));
        match self {
            Self::Identity => grad,
            Self::Relu => {
                if x <= 0.0 {
                    0.0
                } else {
                    grad
                }
            }
            Self::LeakyRelu(slope) => {
                if x > 0.0 {
                    grad
                } else {
                    slope * grad
                }
            }
            Self::Silu => grad * (sigmoid * (1.0 + x * (1.0 - sigmoid))),
            // Not σ·(1 − σ), which cancels where σ is near 1.
            Self::Sigmoid => {
                let e = exp(-x.abs());
                grad * (e / ((1.0 + e) * (1.0 + e)))
            }
            Self::Relu6 => {
                if x <= 0.0 || x >= 6.0 {
                    0.0
                } else {
                    grad
                }
            }
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Params {
    pub count: u32,
    pub kind: u32,
    pub slope: f32,
}

pub fn forward(x: &[f32], activation: Activation) -> Vec<f32> {
    let mut y = copy(x);
    y.par_chunks_mut(CHUNK).for_each(|chunk| {
        vectorised(
            #[inline(always)]
            || activation.apply(chunk),
        )
    });
    y
}

/// grad · activation'(x)
pub fn backward(x: &[f32], grad: &[f32], activation: Activation) -> Vec<f32> {
    let mut dx = copy(grad);
    dx.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(dx, x)| {
            vectorised(
                #[inline(always)]
                || {
                    dx.iter_mut()
                        .zip(x)
                        .for_each(|(d, &x)| *d = activation.gradient(x, *d))
                },
            )
        });
    dx
}

//! A fixed permutation of the channels.

use super::{Cost, kernel};
use crate::cpu::permute::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "permute";
const SHADER: &str = include_str!("../../shaders/permute.wgsl");

/// A permutation and its inverse on a device.
#[derive(Clone, Debug)]
pub struct Permutation {
    order: Tensor,
    inverse: Tensor,
}

impl Permutation {
    /// Output channel i is input channel `order[i]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `order` is no permutation of 0..len.
    pub fn new(device: &Device, order: &[usize]) -> Result<Self> {
        let mut inverse = vec![f32::NAN; order.len()];
        for (i, &from) in order.iter().enumerate() {
            match inverse.get_mut(from) {
                Some(slot) if slot.is_nan() => *slot = i as f32,
                _ => {
                    return Err(Error::shape(
                        NAME,
                        "a permutation of 0..C",
                        format!("{order:?}"),
                    ));
                }
            }
        }
        let forward = order.iter().map(|&i| i as f32).collect();
        Ok(Self {
            order: Tensor::new(device, [order.len()], forward)?,
            inverse: Tensor::new(device, [order.len()], inverse)?,
        })
    }

    /// The permutation that undoes this one.
    pub fn inverse(&self) -> Self {
        Self {
            order: self.inverse.clone(),
            inverse: self.order.clone(),
        }
    }
}

/// `y[…, i] = x[…, order[i]]`.
///
/// x, y `[N,H,W,C]`.
///
/// # Errors
/// [`Error::Shape`] when the permutation is for another number of channels.
pub fn permute(tape: &Tape, x: &Var, permutation: &Permutation) -> Result<Var> {
    let y = forward(x.tensor(), &permutation.order)?;
    let inverse = permutation.inverse.clone();
    let [y] = tape.record(NAME, [x], [y], move |[grad]| {
        Ok([grad.map(|grad| forward(&grad, &inverse)).transpose()?])
    });
    Ok(y)
}

fn forward(x: &Tensor, order: &Tensor) -> Result<Tensor> {
    let [n, h, w, c] = x.shape().nhwc(NAME)?;
    if order.shape() != Shape::from([c]) {
        let expected = format!("x with {} channels", order.shape().len());
        return Err(Error::shape(NAME, expected, x.shape().to_string()));
    }
    let _kernel = kernel(NAME, "forward", &[x.shape()], cost(x.shape()));
    match same_device(NAME, &[x, order])? {
        Device::Cpu => Ok(Tensor::host_tensor(
            x.shape(),
            cpu::permute(x.host(), order.host()),
        )),
        Device::Gpu(gpu) => {
            let y = gpu.alloc(x.shape().len())?;
            let params = Params {
                pixels: (n * h * w) as u32,
                channels: c as u32,
            };
            let pass = gpu
                .pass(NAME, SHADER)
                .read(x.buffer())
                .read(order.buffer())
                .write(&y);
            pass.params(&params).run(x.shape().len())?;
            Ok(Tensor::gpu_tensor(gpu, x.shape(), y))
        }
    }
}

pub fn cost(x: Shape) -> Cost {
    Cost::new(0, 2 * x.len())
}

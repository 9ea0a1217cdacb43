//! Channel concatenation.

use super::split::slice;
use super::{Cost, kernel};
use crate::cpu::concat::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "concat";
const SHADER: &str = include_str!("../../shaders/concat.wgsl");

/// y = a ++ b along the last axis (`torch.cat`).
///
/// a `[N,H,W,Ca]`, b `[N,H,W,Cb]`, y `[N,H,W,Ca+Cb]`.
///
/// # Errors
/// [`Error::Shape`] when N, H or W differ.
pub fn concat(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    let y = forward(a.tensor(), b.tensor())?;
    let (first, second) = (a.tensor().shape().channels(), b.tensor().shape().channels());
    let wanted = [a.is_recorded(), b.is_recorded()];
    let [y] = tape.record(NAME, [a, b], [y], move |[grad]| {
        let Some(grad) = grad else {
            return Ok([None, None]);
        };
        let part =
            |wanted: bool, start, count| wanted.then(|| slice(&grad, start, count)).transpose();
        Ok([part(wanted[0], 0, first)?, part(wanted[1], first, second)?])
    });
    Ok(y)
}

pub(super) fn forward(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ([n, h, w, first], [bn, bh, bw, second]) = (a.shape().nhwc(NAME)?, b.shape().nhwc(NAME)?);
    if [n, h, w] != [bn, bh, bw] || first * second == 0 {
        return Err(Error::shape(
            NAME,
            format!("b [{n}, {h}, {w}, C]"),
            b.shape().to_string(),
        ));
    }
    let shape = Shape::from([n, h, w, first + second]);
    let params = Params {
        pixels: (n * h * w) as u32,
        first: first as u32,
        second: second as u32,
    };
    let _kernel = kernel(NAME, "forward", &[a.shape(), b.shape()], cost(shape));
    match same_device(NAME, &[a, b])? {
        Device::Cpu => Ok(Tensor::host_tensor(
            shape,
            cpu::concat(a.host(), b.host(), &params),
        )),
        Device::Gpu(gpu) => {
            let y = gpu.alloc(shape.len())?;
            let pass = gpu
                .pass(NAME, SHADER)
                .read(a.buffer())
                .read(b.buffer())
                .write(&y);
            pass.params(&params).run(shape.len())?;
            Ok(Tensor::gpu_tensor(gpu, shape, y))
        }
    }
}

pub fn cost(y: Shape) -> Cost {
    Cost::new(0, 2 * y.len())
}

//! The teacher's loss per pixel: the negative log-likelihood under a standard normal, without its
//! constant (paper, Eq. 3).

use super::{Cost, kernel};
use crate::cpu::likelihood::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "likelihood";
const SHADER: &str = include_str!("../../shaders/likelihood.wgsl");

/// map = mask · (‖z‖²/2 − log_det).
///
/// z `[N,H,W,C]`; log_det, mask and map `[N,H,W,1]`, f32; the mask has no gradient.
///
/// # Errors
/// [`Error::Shape`] when they do not fit.
pub fn likelihood(tape: &Tape, z: &Var, log_det: &Var, mask: &Tensor) -> Result<Var> {
    let (zt, lt, mask) = (z.tensor().clone(), log_det.tensor(), mask.clone());
    let [n, h, w, c] = zt.shape().nhwc(NAME)?;
    let pixel = Shape::from([n, h, w, 1]);
    if lt.shape() != pixel || mask.shape() != pixel {
        let found = format!("log_det {}, mask {}", lt.shape(), mask.shape());
        return Err(Error::shape(
            NAME,
            format!("log_det and mask {pixel}"),
            found,
        ));
    }
    let params = Params {
        pixels: pixel.len() as u32,
        channels: c as u32,
    };
    let _kernel = kernel(NAME, "forward", &[zt.shape()], cost(zt.shape()));
    let map = match same_device(NAME, &[&zt, lt, &mask])? {
        Device::Cpu => Tensor::host_tensor(
            pixel,
            cpu::forward(zt.host(), lt.host(), mask.host(), &params),
        ),
        Device::Gpu(gpu) => {
            let map = gpu.alloc_f32(pixel.len())?;
            let pass = gpu
                .pass(NAME, SHADER)
                .read(zt.buffer())
                .read(lt.buffer())
                .read(mask.buffer());
            pass.write(&map).params(&params).run(pixel.len() * 64)?;
            Tensor::gpu_tensor(gpu, pixel, map)
        }
    };
    let [map] = tape.record(NAME, [z, log_det], [map], move |[grad]| match grad {
        Some(grad) => Ok(backward(&zt, &grad, &mask, &params)?.map(Some)),
        None => Ok([None, None]),
    });
    Ok(map)
}

fn backward(z: &Tensor, grad: &Tensor, mask: &Tensor, params: &Params) -> Result<[Tensor; 2]> {
    let pixel = mask.shape();
    let n = z.shape().len();
    let _kernel = kernel(NAME, "backward", &[z.shape()], Cost::new(2 * n, 2 * n));
    match same_device(NAME, &[z, grad, mask])? {
        Device::Cpu => {
            let (dz, dl) = cpu::backward(z.host(), grad.host(), mask.host(), params);
            Ok([
                Tensor::host_tensor(z.shape(), dz),
                Tensor::host_tensor(pixel, dl),
            ])
        }
        Device::Gpu(gpu) => {
            let (dz, dl) = (gpu.alloc(z.shape().len())?, gpu.alloc_f32(pixel.len())?);
            let pass = gpu.pass(NAME, SHADER).entry("backward");
            let pass = pass
                .read(z.buffer())
                .read(grad.buffer())
                .read(mask.buffer())
                .write(&dz)
                .write(&dl);
            pass.params(params).run(pixel.len() * 64)?;
            Ok([
                Tensor::gpu_tensor(gpu, z.shape(), dz),
                Tensor::gpu_tensor(gpu, pixel, dl),
            ])
        }
    }
}

/// Of the forward pass.
pub fn cost(z: Shape) -> Cost {
    Cost::new(2 * z.len(), z.len())
}

//! The distance between student and teacher per pixel (paper, Eq. 4; the mean over channels in
//! place of the sum).

use super::{Cost, kernel};
use crate::cpu::distance::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "distance";
const SHADER: &str = include_str!("../../shaders/distance.wgsl");

/// map = mask · mean_c (student − teacher)².
///
/// student and teacher `[N,H,W,C]`, mask and map `[N,H,W,1]`, f32; only the student has a gradient.
///
/// # Errors
/// [`Error::Shape`] when they do not fit.
pub fn distance(tape: &Tape, student: &Var, teacher: &Tensor, mask: &Tensor) -> Result<Var> {
    let (st, tt, mask) = (student.tensor().clone(), teacher.clone(), mask.clone());
    let [n, h, w, c] = st.shape().nhwc(NAME)?;
    let pixel = Shape::from([n, h, w, 1]);
    if tt.shape() != st.shape() || mask.shape() != pixel {
        let found = format!("teacher {}, mask {}", tt.shape(), mask.shape());
        return Err(Error::shape(
            NAME,
            format!("teacher {}, mask {pixel}", st.shape()),
            found,
        ));
    }
    let params = Params {
        pixels: pixel.len() as u32,
        channels: c as u32,
    };
    let _kernel = kernel(NAME, "forward", &[st.shape()], cost(st.shape()));
    let map = match same_device(NAME, &[&st, &tt, &mask])? {
        Device::Cpu => Tensor::host_tensor(
            pixel,
            cpu::forward(st.host(), tt.host(), mask.host(), &params),
        ),
        Device::Gpu(gpu) => {
            let map = gpu.alloc_f32(pixel.len())?;
            let pass = gpu
                .pass(NAME, SHADER)
                .read(st.buffer())
                .read(tt.buffer())
                .read(mask.buffer());
            pass.write(&map).params(&params).run(pixel.len() * 64)?;
            Tensor::gpu_tensor(gpu, pixel, map)
        }
    };
    let [map] = tape.record(NAME, [student], [map], move |[grad]| {
        Ok([grad
            .map(|grad| backward(&st, &tt, &mask, &grad, &params))
            .transpose()?])
    });
    Ok(map)
}

fn backward(
    student: &Tensor,
    teacher: &Tensor,
    mask: &Tensor,
    grad: &Tensor,
    params: &Params,
) -> Result<Tensor> {
    let shape = student.shape();
    let n = shape.len();
    let _kernel = kernel(NAME, "backward", &[shape], Cost::new(3 * n, 3 * n));
    match same_device(NAME, &[student, teacher, mask, grad])? {
        Device::Cpu => {
            let ds = cpu::backward(
                student.host(),
                teacher.host(),
                mask.host(),
                grad.host(),
                params,
            );
            Ok(Tensor::host_tensor(shape, ds))
        }
        Device::Gpu(gpu) => {
            let ds = gpu.alloc(shape.len())?;
            let pass = gpu
                .pass(NAME, SHADER)
                .entry("backward")
                .read(student.buffer())
                .read(teacher.buffer());
            let pass = pass.read(mask.buffer()).read(grad.buffer()).write(&ds);
            pass.params(params).run(shape.len())?;
            Ok(Tensor::gpu_tensor(gpu, shape, ds))
        }
    }
}

/// Of the forward pass.
pub fn cost(student: Shape) -> Cost {
    Cost::new(3 * student.len(), 2 * student.len())
}

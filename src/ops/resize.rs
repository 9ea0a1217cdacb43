//! Bilinear and bicubic interpolation of maps; no gradient.

use super::{Cost, kernel, refuse_gradient};
use crate::cpu::resize::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor};
use crate::{Error, Result};

const NAME: &str = "resize";
const SHADER: &str = include_str!("../../shaders/resize.wgsl");

/// How [`resize`] interpolates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Filter {
    Bilinear,
    /// a = −0.75
    Bicubic,
}

/// `[N,H,W,C]` → `[N,height,width,C]` (`torch.nn.functional.interpolate(align_corners=False)`).
///
/// # Errors
/// [`Error::Shape`] for an empty picture or size, or when a gradient is wanted.
pub fn resize(tape: &Tape, x: &Var, [height, width]: [usize; 2], filter: Filter) -> Result<Var> {
    refuse_gradient(NAME, tape, &[x])?;
    let x = x.tensor();
    let [n, h, w, c] = x.shape().nhwc(NAME)?;
    if x.shape().is_empty() || height * width == 0 {
        let found = format!("{} to {height}×{width}", x.shape());
        return Err(Error::shape(NAME, "at least one pixel", found));
    }
    let params = Params {
        n: n as u32,
        h: h as u32,
        w: w as u32,
        c: c as u32,
        out_h: height as u32,
        out_w: width as u32,
        bicubic: (filter == Filter::Bicubic) as u32,
    };
    let shape = Shape::from([n, height, width, c]);
    let _kernel = kernel(NAME, "forward", &[x.shape(), shape], cost(x.shape(), shape));
    let y = match x.device() {
        Device::Cpu => Tensor::host_tensor(shape, cpu::resize(x.host(), &params)),
        Device::Gpu(gpu) => {
            let y = gpu.alloc_f32(shape.len())?;
            gpu.pass(NAME, SHADER)
                .read(x.buffer())
                .write(&y)
                .params(&params)
                .run(shape.len())?;
            Tensor::gpu_tensor(gpu, shape, y)
        }
    };
    Ok(tape.constant(&y))
}

pub fn cost(x: Shape, y: Shape) -> Cost {
    Cost::new(32 * y.len(), 0) + Cost::exact(x.len() + y.len())
}

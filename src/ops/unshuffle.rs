//! Pixel-unshuffle, which makes channels of a depth map's pixels, and its inverse. Inputs are data:
//! no gradient.

use super::{Cost, kernel, refuse_gradient};
use crate::cpu::unshuffle::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor};
use crate::{Error, Result};

const NAME: &str = "unshuffle";
const SHADER: &str = include_str!("../../shaders/unshuffle.wgsl");

/// `[N,H·d,W·d,C]` → `[N,H,W,C·d²]`, channel order c·d² + dy·d + dx (`torch.nn.PixelUnshuffle`).
///
/// # Errors
/// [`Error::Shape`] when H·d or W·d is no multiple of d, or when a gradient is wanted.
pub fn unshuffle(tape: &Tape, x: &Var, d: usize) -> Result<Var> {
    refuse_gradient(NAME, tape, &[x])?;
    let [n, h, w, c] = x.tensor().shape().nhwc(NAME)?;
    if d == 0 || h % d != 0 || w % d != 0 {
        return Err(Error::shape(
            NAME,
            format!("height and width multiples of {d}"),
            x.tensor().shape().to_string(),
        ));
    }
    let shape = Shape::from([n, h / d, w / d, c * d * d]);
    run(tape, x.tensor(), shape, [n, h / d, w / d, c, d], false)
}

/// Undoes [`unshuffle`] (`torch.nn.PixelShuffle`).
///
/// # Errors
/// [`Error::Shape`] when C is no multiple of d², or when a gradient is wanted.
pub fn shuffle(tape: &Tape, x: &Var, d: usize) -> Result<Var> {
    refuse_gradient(NAME, tape, &[x])?;
    let [n, h, w, c] = x.tensor().shape().nhwc(NAME)?;
    if d == 0 || c % (d * d) != 0 {
        return Err(Error::shape(
            NAME,
            format!("channels a multiple of {}", d * d),
            x.tensor().shape().to_string(),
        ));
    }
    let shape = Shape::from([n, h * d, w * d, c / (d * d)]);
    run(tape, x.tensor(), shape, [n, h, w, c / (d * d), d], true)
}

fn run(tape: &Tape, x: &Tensor, shape: Shape, geometry: [usize; 5], inverse: bool) -> Result<Var> {
    let [n, h, w, c, d] = geometry.map(|v| v as u32);
    let params = Params { n, h, w, c, d };
    let entry = if inverse { "shuffle" } else { "forward" };
    let _kernel = kernel(NAME, entry, &[x.shape(), shape], cost(shape));
    let y = match x.device() {
        Device::Cpu => {
            let direction = if inverse {
                cpu::shuffle
            } else {
                cpu::unshuffle
            };
            Tensor::host_tensor(shape, direction(x.host(), &params))
        }
        Device::Gpu(gpu) => {
            let y = gpu.alloc(shape.len())?;
            let pass = gpu
                .pass(NAME, SHADER)
                .entry(if inverse { "shuffle" } else { "main" });
            pass.read(x.buffer())
                .write(&y)
                .params(&params)
                .run(shape.len())?;
            Tensor::gpu_tensor(gpu, shape, y)
        }
    };
    Ok(tape.constant(&y))
}

pub fn cost(x: Shape) -> Cost {
    Cost::new(0, 2 * x.len())
}

//! The scaling of squeeze-and-excite; the extractor is frozen, so it has no gradient.

use super::bands::Windows;
use super::conv2d::Conv2d;
use super::{Cost, kernel, refuse_gradient};
use crate::cpu::scale::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "scale";
const SHADER: &str = include_str!("../../shaders/scale.wgsl");

/// `y[n, h, w, c]` = `x[n, h, w, c]` · `gate[n, 0, 0, c]`.
///
/// x, y `[N,H,W,C]`, gate `[N,1,1,C]`.
///
/// # Errors
/// [`Error::Shape`] when they do not fit, or when a gradient is wanted.
pub fn scale(tape: &Tape, x: &Var, gate: &Var) -> Result<Var> {
    refuse_gradient(NAME, tape, &[x, gate])?;
    let shape = x.tensor().shape();
    let [n, h, w, c] = shape.nhwc(NAME)?;
    let gate = gate.tensor();
    if gate.shape() != Shape::from([n, 1, 1, c]) {
        return Err(Error::shape(
            NAME,
            format!("a gate [{n}, 1, 1, {c}]"),
            gate.shape().to_string(),
        ));
    }
    let windows = Windows {
        x,
        residual: None,
        rows: 1,
        conv: Conv2d::new(Default::default()),
        widest: c,
    };
    let in_bands = windows.in_bands(tape, shape, |band| {
        let gate = gate.rows(band.picture, 0..1)?;
        scale(tape, &band.x, &tape.constant(&gate))
    })?;
    if let Some(y) = in_bands {
        return Ok(y);
    }
    let x = x.tensor();
    let params = Params {
        n: n as u32,
        pixels: (h * w) as u32,
        channels: c as u32,
    };
    let _kernel = kernel(NAME, "forward", &[shape], cost(shape));
    let y = match same_device(NAME, &[x, gate])? {
        Device::Cpu => Tensor::host_tensor(shape, cpu::scale(x.host(), gate.host(), &params)),
        Device::Gpu(gpu) => {
            let y = gpu.alloc(shape.len())?;
            let (entry, threads) = match c % 4 {
                0 => ("main", shape.len() / 4),
                _ => ("narrow", shape.len()),
            };
            let pass = gpu.pass(NAME, SHADER).entry(entry);
            let pass = pass.read(x.buffer()).read(gate.buffer()).write(&y);
            pass.params(&params).run(threads)?;
            Tensor::gpu_tensor(gpu, shape, y)
        }
    };
    Ok(tape.constant(&y))
}

pub fn cost(x: Shape) -> Cost {
    Cost::new(x.len(), 2 * x.len())
}

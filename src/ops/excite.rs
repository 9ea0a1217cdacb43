//! The gate of squeeze-and-excite (Hu et al., "Squeeze-and-Excitation Networks"); the extractor is
//! frozen, so it has no gradient.

use super::{Cost, kernel, refuse_gradient};
use crate::cpu::excite::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "excite";
const SHADER: &str = include_str!("../../shaders/excite.wgsl");

/// Outputs of a workgroup, as in the shader.
const OF_HIDDEN: usize = 4;
const OF_GATE: usize = 32;

/// gate = σ(SiLU(x · reduce + bias) · expand + bias), x being the channels' means.
///
/// x and gate `[N,1,1,C]`; `reduce` and `expand` are weight and bias of 1×1 convolutions: `[1,1,C,S]`
/// and `[S]`, `[1,1,S,C]` and `[C]`.
///
/// # Errors
/// [`Error::Shape`] when they do not fit, or when a gradient is wanted.
pub fn excite(tape: &Tape, x: &Var, reduce: [&Tensor; 2], expand: [&Tensor; 2]) -> Result<Var> {
    refuse_gradient(NAME, tape, &[x])?;
    let x = x.tensor();
    let shape = x.shape();
    let [n, h, w, c] = shape.nhwc(NAME)?;
    let hidden = reduce[0].shape().channels();
    let expected = [
        Shape::from([1, 1, c, hidden]),
        Shape::from([hidden]),
        Shape::from([1, 1, hidden, c]),
        Shape::from([c]),
    ];
    let weights = [reduce[0], reduce[1], expand[0], expand[1]];
    let found = weights.map(Tensor::shape);
    if [h, w] != [1, 1] || found != expected || shape.is_empty() || hidden == 0 {
        let expected = format!("x [N, 1, 1, {c}], weights and biases {expected:?}");
        return Err(Error::shape(NAME, expected, format!("{shape}, {found:?}")));
    }
    let params = Params {
        n: n as u32,
        channels: c as u32,
        hidden: hidden as u32,
    };
    let [w1, b1, w2, b2] = weights;
    let _kernel = kernel(NAME, "forward", &found[..1], cost(shape, hidden));
    let gate = match same_device(NAME, &[x, w1, b1, w2, b2])? {
        Device::Cpu => {
            let (reduce, expand) = ((w1.host(), b1.host()), (w2.host(), b2.host()));
            Tensor::host_tensor(shape, cpu::excite(x.host(), reduce, expand, &params))
        }
        Device::Gpu(gpu) => {
            let (squeezed, gate) = (gpu.alloc_f32(n * hidden)?, gpu.alloc(shape.len())?);
            let pass = gpu.pass(NAME, SHADER).entry("squeeze").read(x.buffer());
            let pass = pass.read(w1.buffer()).read(b1.buffer()).write(&squeezed);
            pass.params(&params)
                .folded(n * hidden.div_ceil(OF_HIDDEN))?;
            let pass = gpu.pass(NAME, SHADER).read(&squeezed);
            let pass = pass.read(w2.buffer()).read(b2.buffer()).write(&gate);
            pass.params(&params).folded(n * c.div_ceil(OF_GATE))?;
            Tensor::gpu_tensor(gpu, shape, gate)
        }
    };
    Ok(tape.constant(&gate))
}

/// `hidden` channels between the two layers.
pub fn cost(x: Shape, hidden: usize) -> Cost {
    let weights = 2 * x.channels() * hidden;
    Cost::new(2 * weights * x.len() / x.channels(), weights + 2 * x.len())
}

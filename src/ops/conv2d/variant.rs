//! Which kernel runs a convolution on a GPU.

use super::tiles::{Tile, convolution};
use super::{gradient, plain};
use crate::Result;
use crate::cpu::conv2d::Params as Geometry;
use crate::gpu::{Buffer, Gpu};
use crate::kernel;
use std::sync::Arc;

/// The kernels for a convolution on a GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    /// As the formula says, a few outputs per thread: the reference for the others.
    Plain,
    /// Tiles in registers, for software adapters.
    Direct,
}

impl Variant {
    pub const ALL: [Self; 2] = [Self::Plain, Self::Direct];

    /// What `--variant` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Direct => "direct",
        }
    }
}

/// The one to take; a profiler is told.
fn choose(gpu: &Gpu, _: &Geometry) -> Variant {
    let forced = gpu.variant();
    let named = |variant: &Variant| Some(variant.name()) == forced;
    let chosen = Variant::ALL.into_iter().find(named);
    let chosen = chosen.unwrap_or(Variant::Direct);
    kernel::variant(chosen.name());
    chosen
}

/// y = f(x ∗ weight + bias) (+ residual)
pub(super) fn forward(
    gpu: &Arc<Gpu>,
    [x, weight, bias]: [&Buffer; 3],
    residual: Option<&Buffer>,
    p: &Geometry,
) -> Result<Buffer> {
    match choose(gpu, p) {
        Variant::Plain => plain::forward(gpu, [x, weight, bias], residual, p),
        Variant::Direct => {
            let tile = Tile::direct(gpu);
            convolution(gpu, &tile, [x, weight], [Some(bias), residual], false, p)
        }
    }
}

/// dL/dx
pub(super) fn backward_input(
    gpu: &Arc<Gpu>,
    [grad, weight]: [&Buffer; 2],
    p: &Geometry,
) -> Result<Buffer> {
    let dx = match choose(gpu, p) {
        Variant::Plain => return plain::backward_input(gpu, [grad, weight], p),
        Variant::Direct => {
            let tile = Tile::direct(gpu);
            convolution(gpu, &tile, [grad, weight], [None, None], true, p)?
        }
    };
    match p.replicate {
        1 => gradient::fold(gpu, &dx, p),
        _ => Ok(dx),
    }
}

/// dL/dweight and dL/dbias
pub(super) fn backward_weight(
    gpu: &Arc<Gpu>,
    [x, grad]: [&Buffer; 2],
    p: &Geometry,
) -> Result<[Buffer; 2]> {
    match choose(gpu, p) {
        Variant::Plain => plain::backward_weight(gpu, [x, grad], p),
        Variant::Direct => Ok([
            gradient::weight(gpu, [x, grad], p)?,
            gradient::bias(gpu, grad, p.c_out)?,
        ]),
    }
}

//! Which kernel runs a convolution on a GPU.

use super::pack::{self, Wide};
use super::tiles::{ENOUGH, Operands, Params, Tile, product, split};
use super::{gradient, plain, winograd};
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
    /// 64 × 64 outputs in shared memory.
    Tile64,
    /// 128 × 128 outputs in shared memory.
    Tile128,
    /// 64 × 64 outputs, the sum split over workgroups: for small maps.
    Split,
    /// F(2×2, 3×3)
    Winograd2,
    /// F(4×4, 3×3)
    Winograd4,
}

impl Variant {
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::Direct,
        Self::Tile64,
        Self::Tile128,
        Self::Split,
        Self::Winograd2,
        Self::Winograd4,
    ];

    /// What `--variant` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Direct => "direct",
            Self::Tile64 => "tile64",
            Self::Tile128 => "tile128",
            Self::Split => "split",
            Self::Winograd2 => "winograd2",
            Self::Winograd4 => "winograd4",
        }
    }

    /// Can it run this on this adapter?
    fn suits(self, gpu: &Gpu, p: &Params) -> bool {
        match self {
            Self::Plain | Self::Direct | Self::Tile64 | Self::Split => true,
            Self::Tile128 => has_room_for_128(gpu),
            Self::Winograd2 | Self::Winograd4 => winograd::suits(p),
        }
    }

    /// What makes its matrix products.
    fn tile(self, gpu: &Gpu, p: &Params) -> Tile {
        match self {
            Self::Tile64 | Self::Split => Tile::shared(64),
            Self::Tile128 => Tile::shared(128),
            Self::Plain | Self::Direct => Tile::direct(gpu),
            Self::Winograd2 | Self::Winograd4 if !gpu.report().hardware => Tile::direct(gpu),
            Self::Winograd2 | Self::Winograd4 => Tile::shared(match has_room_for_128(gpu) {
                true if p.groups_out >= 32 => 128,
                _ => 64,
            }),
        }
    }
}

/// The larger tile needs more than the 16 KiB that every GPU has.
fn has_room_for_128(gpu: &Gpu) -> bool {
    gpu.report().max_workgroup_bytes >= 20 * 1024
}

/// The one to take; a profiler is told.
fn choose(gpu: &Gpu, p: &Params) -> Variant {
    let forced = |variant: &Variant| Some(variant.name()) == gpu.variant();
    let mut all = Variant::ALL.into_iter();
    let chosen = all.find(|v| forced(v) && v.suits(gpu, p));
    let chosen = chosen.unwrap_or_else(|| likely(gpu, p));
    kernel::variant(chosen.name());
    chosen
}

/// What should be fastest, by the adapter and the size.
fn likely(gpu: &Gpu, p: &Params) -> Variant {
    if !gpu.report().hardware {
        return Variant::Direct;
    }
    let workgroups = |side| {
        let [across, down] = Tile::shared(side).workgroups(p.rows, p.groups_out);
        across * down
    };
    if workgroups(64) < ENOUGH && p.steps >= 128 {
        return Variant::Split;
    }
    match has_room_for_128(gpu) && workgroups(128) >= ENOUGH {
        true => Variant::Tile128,
        false => Variant::Tile64,
    }
}

/// y = f(x ∗ weight + bias) (+ residual)
pub(super) fn forward(
    gpu: &Arc<Gpu>,
    [x, weight, bias]: [&Buffer; 3],
    residual: Option<&Buffer>,
    p: &Geometry,
) -> Result<Buffer> {
    let params = Params::forward(p);
    match choose(gpu, &params) {
        Variant::Plain => plain::forward(gpu, [x, weight, bias], residual, p),
        variant => {
            let operands = [Some(bias), residual];
            let call = (variant, false, &params);
            convolution(gpu, call, [x, weight], operands, [p.c_in, p.c_out])
        }
    }
}

/// dL/dx
pub(super) fn backward_input(
    gpu: &Arc<Gpu>,
    [grad, weight]: [&Buffer; 2],
    p: &Geometry,
) -> Result<Buffer> {
    let params = Params::backward_input(p);
    let dx = match choose(gpu, &params) {
        Variant::Plain => return plain::backward_input(gpu, [grad, weight], p),
        variant => {
            let (call, channels) = ((variant, true, &params), [p.c_out, p.c_in]);
            convolution(gpu, call, [grad, weight], [None, None], channels)?
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
    let shared = match choose(gpu, &Params::forward(p)) {
        Variant::Plain => return plain::backward_weight(gpu, [x, grad], p),
        Variant::Direct => false,
        Variant::Winograd2 | Variant::Winograd4 => gpu.report().hardware,
        _ => true,
    };
    let dw = gradient::weight(gpu, [x, grad], shared, p)?;
    Ok([dw, gradient::bias(gpu, grad, p.c_out)?])
}

/// A convolution, or the gradient of its input where `turned`: the taps from the other end and the
/// channels of the weights swapped.
fn convolution(
    gpu: &Arc<Gpu>,
    (variant, turned, params): (Variant, bool, &Params),
    [x, weight]: [&Buffer; 2],
    [bias, residual]: [Option<&Buffer>; 2],
    [c_in, c_out]: [u32; 2],
) -> Result<Buffer> {
    let x = Wide::of(gpu, x, c_in)?;
    let bias = bias.map(|b| Wide::kept(gpu, b, c_out)).transpose()?;
    let residual = residual.map(|r| Wide::of(gpu, r, c_out)).transpose()?;
    let operands = |weight| Operands {
        x: x.buffer(),
        weight,
        bias: bias.as_ref().map(Wide::buffer),
        residual: residual.as_ref().map(Wide::buffer),
    };
    let tile = variant.tile(gpu, params);
    let side = match variant {
        Variant::Winograd2 => Some(2),
        Variant::Winograd4 => Some(4),
        _ => None,
    };
    let y = if let Some(side) = side {
        let (tile, channels) = ((side, &tile), [c_in, c_out]);
        winograd::convolution(gpu, tile, &operands(weight), channels, turned, params)?
    } else {
        let sizes = [params.kh * params.kw, c_in, c_out];
        let packed = pack::weights(gpu, weight, sizes, tile.channels, turned)?;
        match variant {
            Variant::Split => split(gpu, &tile, &operands(&packed), params)?,
            _ => product(gpu, &tile, &operands(&packed), 1, params)?,
        }
    };
    pack::narrow(gpu, y, c_out)
}

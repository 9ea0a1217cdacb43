//! Which kernel runs a convolution on a GPU.

use super::gradient::Product;
use super::pack::{self, Wide};
use super::tiles::{ENOUGH, Operands, Params, Partial, Tile, product, split};
use super::{gradient, plain, sample, sum, tiles, tuner, winograd};
use crate::Result;
use crate::cpu::conv2d::Params as Geometry;
use crate::gpu::{AdapterReport, Buffer, Gpu};
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
    /// On matrix units, where the adapter lists them.
    Matrix,
}

impl Variant {
    pub const ALL: [Self; 8] = [
        Self::Plain,
        Self::Direct,
        Self::Tile64,
        Self::Tile128,
        Self::Split,
        Self::Winograd2,
        Self::Winograd4,
        Self::Matrix,
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
            Self::Matrix => "matrix",
        }
    }

    /// The one that `--variant` named.
    fn forced(gpu: &Gpu) -> Option<Self> {
        let named = |variant: &Self| Some(variant.name()) == gpu.variant();
        Self::ALL.into_iter().find(named)
    }

    /// Can it run anything on this adapter, in this precision?
    pub fn runs_on(self, report: &AdapterReport, half: bool) -> bool {
        match self {
            Self::Plain | Self::Direct | Self::Tile64 | Self::Tile128 | Self::Split => true,
            Self::Winograd2 | Self::Winograd4 => true,
            Self::Matrix => report.has_matrix_units(half),
        }
    }

    /// Can it run this?
    fn suits(self, gpu: &Gpu, p: &Params) -> bool {
        let fits = match self {
            Self::Winograd2 => winograd::suits(gpu, (2, &self.tile(gpu, p)), p),
            Self::Winograd4 => winograd::suits(gpu, (4, &self.tile(gpu, p)), p),
            _ => true,
        };
        fits && self.runs_on(gpu.report(), gpu.is_half())
    }

    /// Is its sum made in slices?
    fn splits(self, gpu: &Gpu, p: &Params) -> bool {
        let [across, down] = self.tile(gpu, p).workgroups(p.rows, p.groups_out);
        match self {
            Self::Split => true,
            // Half of the device would wait.
            Self::Matrix => 2 * across * down < ENOUGH && p.steps >= 128,
            _ => false,
        }
    }

    /// What makes its matrix products.
    fn tile(self, gpu: &Gpu, p: &Params) -> Tile {
        match self {
            Self::Tile64 | Self::Split => Tile::shared(64),
            Self::Tile128 => Tile::shared(128),
            Self::Matrix => Tile::matrix(gpu),
            Self::Plain | Self::Direct => Tile::direct(gpu),
            Self::Winograd2 | Self::Winograd4 if !gpu.report().hardware => Tile::direct(gpu),
            Self::Winograd2 => winograd::tile(2, p),
            Self::Winograd4 => winograd::tile(4, p),
        }
    }
}

/// A convolution, or the gradient of its input where `turned`: a convolution with the taps from the
/// other end and the channels of the weights swapped.
struct Call<'a> {
    turned: bool,
    geometry: &'a Geometry,
    params: Params,
    /// Of its input and its output.
    channels: [u32; 2],
}

struct Inputs<'a> {
    x: &'a Buffer,
    weight: &'a Buffer,
    bias: Option<&'a Buffer>,
    residual: Option<&'a Buffer>,
}

/// y = f(x ∗ weight + bias) (+ residual)
pub(super) fn forward(
    gpu: &Arc<Gpu>,
    [x, weight, bias]: [&Buffer; 3],
    residual: Option<&Buffer>,
    p: &Geometry,
) -> Result<Buffer> {
    let call = Call::forward(p);
    let inputs = Inputs {
        x,
        weight,
        bias: Some(bias),
        residual,
    };
    call.run(gpu, call.choose(gpu)?, &inputs)
}

/// Is a forward pass best made as [`partial`] sums?
pub(super) fn is_split(gpu: &Arc<Gpu>, p: &Geometry) -> Result<bool> {
    let call = Call::forward(p);
    Ok(call.choose(gpu)?.splits(gpu, &call.params))
}

/// x ∗ weight in slices that are not added up.
pub(super) fn partial(gpu: &Arc<Gpu>, [x, weight]: [&Buffer; 2], p: &Geometry) -> Result<Partial> {
    let call = Call::forward(p);
    let variant = call.choose(gpu)?;
    let x = Wide::of(gpu, x, p.c_in)?;
    let operands = |weight| Operands {
        x: x.buffer(),
        weight,
        bias: None,
        residual: None,
    };
    let tile = variant.tile(gpu, &call.params);
    let weight = call.packed(gpu, weight, &tile)?;
    split(gpu, &tile, &operands(&weight), &call.params)
}

/// dL/dx
pub(super) fn backward_input(
    gpu: &Arc<Gpu>,
    [grad, weight]: [&Buffer; 2],
    p: &Geometry,
) -> Result<Buffer> {
    let call = Call {
        turned: true,
        geometry: p,
        params: Params::backward_input(p),
        channels: [p.c_out, p.c_in],
    };
    let inputs = Inputs {
        x: grad,
        weight,
        bias: None,
        residual: None,
    };
    call.run(gpu, call.choose(gpu)?, &inputs)
}

/// dL/dweight and dL/dbias
pub(super) fn backward_weight(
    gpu: &Arc<Gpu>,
    [x, grad]: [&Buffer; 2],
    p: &Geometry,
) -> Result<[Buffer; 2]> {
    let forced = Variant::forced(gpu);
    let side = match forced {
        Some(Variant::Winograd2) => Some(2),
        Some(Variant::Winograd4) => Some(4),
        None if winograd::gradient::pays(gpu, p) => Some(4),
        _ => None,
    };
    let product = match forced {
        Some(Variant::Plain) => {
            kernel::variant(Variant::Plain.name());
            return plain::backward_weight(gpu, [x, grad], p);
        }
        Some(Variant::Direct) => Product::Direct,
        Some(Variant::Tile64 | Variant::Split) => Product::Tile64,
        Some(Variant::Tile128) => Product::Tile128,
        _ => Product::likely(gpu, p),
    };
    let dw = match side.filter(|&side| winograd::gradient::suits(gpu, side, p)) {
        Some(side) => {
            let variant = [Variant::Winograd2, Variant::Winograd4][usize::from(side == 4)];
            kernel::variant(variant.name());
            winograd::gradient::weight(gpu, [x, grad], (side, product), p)?
        }
        None => {
            let product = match forced {
                None | Some(Variant::Matrix) if Product::has_matrices(gpu) => Product::Matrix,
                _ => product,
            };
            kernel::variant(product.name());
            gradient::weight(gpu, [x, grad], product, p)?
        }
    };
    Ok([dw, gradient::bias(gpu, grad, p.c_out)?])
}

impl<'a> Call<'a> {
    fn forward(p: &'a Geometry) -> Self {
        Self {
            turned: false,
            geometry: p,
            params: Params::forward(p),
            channels: [p.c_in, p.c_out],
        }
    }

    /// The variant to take; a profiler is told.
    fn choose(&self, gpu: &Arc<Gpu>) -> Result<Variant> {
        let p = &self.params;
        let forced = Variant::forced(gpu).filter(|variant| variant.suits(gpu, p));
        let chosen = match forced {
            Some(variant) => variant,
            None if gpu.tunes() => self.fastest(gpu).unwrap_or_else(|| likely(gpu, p)),
            None => likely(gpu, p),
        };
        kernel::variant(chosen.name());
        Ok(chosen)
    }

    /// Measured with inputs of its own, without a residual.
    fn fastest(&self, gpu: &Arc<Gpu>) -> Option<Variant> {
        let geometry = Geometry {
            residual: 0,
            ..*self.geometry
        };
        let params = Params {
            residual: 0,
            ..self.params
        };
        let call = Call {
            geometry: &geometry,
            params,
            ..*self
        };
        let p = &geometry;
        let candidates = Variant::ALL.into_iter().filter(|variant| {
            let fits_adapter = match variant {
                Variant::Plain => false,
                Variant::Direct => !gpu.report().hardware,
                _ => true,
            };
            fits_adapter && variant.suits(gpu, &params)
        });
        let direction = if self.turned {
            "backward_input"
        } else {
            "forward"
        };
        let precision = if gpu.is_half() { "f16" } else { "f32" };
        let input = params.rows / params.out_h / params.out_w * params.h * params.w;
        tuner::fastest(
            gpu,
            &tuner::Problem {
                name: &format!(
                    "conv2d {TEXTS:08x} {precision} {direction} {}x{}x{}x{} {}x{}x{} stride {} padding {} {} {} to {}x{}",
                    p.n,
                    p.h,
                    p.w,
                    p.c_in,
                    p.kh,
                    p.kw,
                    p.c_out,
                    p.stride,
                    p.top,
                    p.left,
                    p.replicate,
                    p.out_h,
                    p.out_w
                ),
                candidates: &candidates.collect::<Vec<_>>(),
                inputs: &[
                    input * self.channels[0],
                    p.kh * p.kw * p.c_in * p.c_out,
                    p.c_out,
                ],
                outputs: match self.turned {
                    true => [p.n * p.h * p.w, p.c_in],
                    false => [p.n * p.out_h * p.out_w, p.c_out],
                }
                .map(|size| size as usize),
                products: (p.kh * p.kw * p.c_in * p.c_out) as usize,
                pixel: &|inputs, pixel| match self.turned {
                    true => sample::backward_input(p, inputs, pixel),
                    false => sample::forward(p, inputs, pixel),
                },
                run: &|variant, inputs| {
                    let inputs = Inputs {
                        x: &inputs[0],
                        weight: &inputs[1],
                        bias: (!self.turned).then_some(&inputs[2]),
                        residual: None,
                    };
                    call.run(gpu, variant, &inputs)
                },
            },
        )
    }

    fn run(&self, gpu: &Arc<Gpu>, variant: Variant, inputs: &Inputs) -> Result<Buffer> {
        let p = self.geometry;
        match (variant, self.turned) {
            (Variant::Plain, true) => plain::backward_input(gpu, [inputs.x, inputs.weight], p),
            (Variant::Plain, false) => {
                let bias = inputs.bias.unwrap_or(inputs.weight);
                plain::forward(gpu, [inputs.x, inputs.weight, bias], inputs.residual, p)
            }
            (_, true) if p.replicate == 1 => {
                let padded = self.convolution(gpu, variant, inputs)?;
                gradient::fold(gpu, &padded, p)
            }
            _ => self.convolution(gpu, variant, inputs),
        }
    }

    fn convolution(&self, gpu: &Arc<Gpu>, variant: Variant, inputs: &Inputs) -> Result<Buffer> {
        let (params, [c_in, c_out]) = (&self.params, self.channels);
        let wide = |rows| Wide::of(gpu, rows, c_out);
        let x = Wide::of(gpu, inputs.x, c_in)?;
        let bias = (inputs.bias)
            .map(|b| Wide::kept(gpu, b, c_out))
            .transpose()?;
        let residual = inputs.residual.map(wide).transpose()?;
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
            let operands = operands(inputs.weight);
            let channels = self.channels;
            winograd::convolution(gpu, (side, &tile), &operands, channels, self.turned, params)?
        } else {
            let packed = self.packed(gpu, inputs.weight, &tile)?;
            match variant {
                _ if variant.splits(gpu, params) => {
                    let partial = split(gpu, &tile, &operands(&packed), params)?;
                    sum::finish(gpu, &partial, &operands(&packed), params)?
                }
                _ => product(gpu, &tile, &operands(&packed), 1, params)?,
            }
        };
        pack::narrow(gpu, y, c_out)
    }

    fn packed(&self, gpu: &Arc<Gpu>, weight: &Buffer, tile: &Tile) -> Result<Arc<Buffer>> {
        let taps = self.geometry.kh * self.geometry.kw;
        let [c_in, c_out] = self.channels;
        pack::weights(gpu, weight, [taps, c_in, c_out], tile.channels, self.turned)
    }
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
    if workgroups(64) < ENOUGH && p.steps >= 128 && Variant::Split.suits(gpu, p) {
        return Variant::Split;
    }
    match workgroups(128) >= ENOUGH {
        true => Variant::Tile128,
        false => Variant::Tile64,
    }
}

/// Tells kernels that were edited from those that were measured.
const TEXTS: u32 = fnv([
    tiles::DIRECT,
    tiles::SHARED,
    tiles::MATRIX,
    winograd::SHADER,
    sum::SHADER,
]);

/// Fowler, Noll and Vo's hash, FNV-1a.
const fn fnv(texts: [&str; 5]) -> u32 {
    let mut hash = 0x811c_9dc5;
    let mut text = 0;
    while text < texts.len() {
        let bytes = texts[text].as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
            i += 1;
        }
        text += 1;
    }
    hash
}

//! A convolution on a GPU, or the gradient of its input: the kernel to take, and its run.

use super::pack::{self, Wide};
use super::plan::Plan;
use super::tiles::{self, Operands, Params, Partial, Tile, product, split};
use super::variant::Variant;
use super::{gradient, plain, sample, sum, tuner, winograd};
use crate::Result;
use crate::cpu::conv2d::Params as Geometry;
use crate::gpu::{self, Buffer, Gpu};
use crate::kernel;
use crate::ops::Activation;
use std::sync::Arc;

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
    Ok(call.choose(gpu)?.slices > 1)
}

/// x ∗ weight in slices that are not added up.
pub(super) fn partial(gpu: &Arc<Gpu>, [x, weight]: [&Buffer; 2], p: &Geometry) -> Result<Partial> {
    let call = Call::forward(p);
    let plan = call.choose(gpu)?;
    let x = Wide::of(gpu, x, p.c_in)?;
    let tile = plan.tile(gpu, &call.params);
    let weight = call.packed(gpu, weight, &tile)?;
    let operands = Operands::bare(x.buffer(), &weight);
    split(gpu, &tile, &operands, plan.slices, &call.params)
}

/// dL/dx
pub(super) fn backward_input(
    gpu: &Arc<Gpu>,
    [grad, weight]: [&Buffer; 2],
    p: &Geometry,
) -> Result<Buffer> {
    let call = Call::backward_input(p);
    let inputs = Inputs {
        x: grad,
        weight,
        bias: None,
        residual: None,
    };
    call.run(gpu, call.choose(gpu)?, &inputs)
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

    fn backward_input(p: &'a Geometry) -> Self {
        Self {
            turned: true,
            geometry: p,
            params: Params::backward_input(p),
            channels: [p.c_out, p.c_in],
        }
    }

    /// The kernel to take; a profiler is told.
    fn choose(&self, gpu: &Arc<Gpu>) -> Result<Plan> {
        let p = &self.params;
        let chosen = match Plan::forced(gpu, p) {
            Some(plan) => plan,
            None if gpu.tunes() => self.fastest(gpu).unwrap_or_else(|| Plan::likely(gpu, p)),
            None => Plan::likely(gpu, p),
        };
        kernel::variant(&chosen.name());
        Ok(chosen)
    }

    /// Measured with inputs of its own, without a residual.
    fn fastest(&self, gpu: &Arc<Gpu>) -> Option<Plan> {
        let geometry = Geometry {
            residual: 0,
            ..*self.geometry
        };
        let params = self.params;
        let call = Call {
            geometry: &geometry,
            ..*self
        };
        let p = &geometry;
        let direction = if self.turned {
            "backward_input"
        } else {
            "forward"
        };
        let input = params.rows / params.out_h / params.out_w * params.h * params.w;
        tuner::fastest(
            gpu,
            &tuner::Problem {
                name: &problem(gpu, direction, p),
                candidates: &Plan::candidates(gpu, &params),
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
                run: &|plan, inputs| {
                    let inputs = Inputs {
                        x: &inputs[0],
                        weight: &inputs[1],
                        bias: (!self.turned).then_some(&inputs[2]),
                        residual: None,
                    };
                    call.run(gpu, plan, &inputs)
                },
            },
        )
    }

    fn run(&self, gpu: &Arc<Gpu>, plan: Plan, inputs: &Inputs) -> Result<Buffer> {
        let p = self.geometry;
        match (plan.variant, self.turned) {
            (Variant::Plain, true) => plain::backward_input(gpu, [inputs.x, inputs.weight], p),
            (Variant::Plain, false) => {
                let bias = inputs.bias.unwrap_or(inputs.weight);
                plain::forward(gpu, [inputs.x, inputs.weight, bias], inputs.residual, p)
            }
            (_, true) if p.replicate == 1 => {
                let padded = self.convolution(gpu, plan, inputs)?;
                gradient::fold(gpu, &padded, p)
            }
            _ => self.convolution(gpu, plan, inputs),
        }
    }

    fn convolution(&self, gpu: &Arc<Gpu>, plan: Plan, inputs: &Inputs) -> Result<Buffer> {
        let (params, [c_in, c_out]) = (&self.params, self.channels);
        let wide = |rows| Wide::of(gpu, rows, c_out);
        let x = Wide::of(gpu, inputs.x, c_in)?;
        let bias = (inputs.bias)
            .map(|b| Wide::kept(gpu, b, c_out))
            .transpose()?;
        let residual = inputs.residual.map(wide).transpose()?;
        let (activation, slope) = match self.turned {
            true => (Activation::Identity.kind(), 0.0),
            false => (self.geometry.activation, self.geometry.slope),
        };
        let operands = |weight| Operands {
            x: x.buffer(),
            weight,
            bias: bias.as_ref().map(Wide::buffer),
            residual: residual.as_ref().map(Wide::buffer),
            activation,
            slope,
        };
        let tile = plan.tile(gpu, params);
        let side = match plan.variant {
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
            match plan.slices {
                1 => product(gpu, &tile, &operands(&packed), 1, params)?,
                slices => {
                    let partial = split(gpu, &tile, &operands(&packed), slices, params)?;
                    sum::finish(gpu, &partial, &operands(&packed), params)?
                }
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

/// What the tuner calls it.
pub(super) fn problem(gpu: &Gpu, direction: &str, p: &Geometry) -> String {
    let precision = if gpu.is_half() { "f16" } else { "f32" };
    format!(
        "conv2d {HASH:08x} {precision} {direction} {}x{}x{}x{} {}x{}x{} stride {} padding {} {} {} to {}x{}",
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
    )
}

/// All that a measured kernel is made of.
const TEXTS: [&str; 11] = [
    gpu::PRELUDE,
    gpu::PRODUCT,
    pack::SHADER,
    tiles::DIRECT,
    tiles::SHARED,
    tiles::MATRIX,
    winograd::SHADER,
    sum::SHADER,
    gradient::SHADER,
    gradient::SHARED_SHADER,
    gradient::MATRIX_SHADER,
];

/// Tells kernels that were edited from those that were measured.
const HASH: u32 = fnv(&TEXTS);

/// Fowler, Noll and Vo's hash, FNV-1a.
const fn fnv(texts: &[&str]) -> u32 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Options;

    fn opened() -> Arc<Gpu> {
        let options = Options {
            poison: true,
            ..Options::default()
        };
        gpu::open(0, &options).expect("an adapter")
    }

    /// 36 and 100 channels: 81 groups of input channels over all taps, 225 the other way round.
    fn geometry() -> Geometry {
        Geometry {
            n: 2,
            h: 9,
            w: 7,
            c_in: 36,
            out_h: 5,
            out_w: 4,
            c_out: 100,
            kh: 3,
            kw: 3,
            stride: 2,
            top: 1,
            left: 1,
            replicate: 0,
            activation: 2,
            slope: 0.0,
            residual: 0,
        }
    }

    #[test]
    fn every_kernel_that_is_measured_counts_when_it_is_edited() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders/conv2d");
        let files = std::fs::read_dir(&folder).unwrap();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        let missing: Vec<String> = texts.filter(|text| !TEXTS.contains(&&**text)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        for i in 0..TEXTS.len() {
            let mut edited = TEXTS;
            edited[i] = &edited[i][1..];
            assert_ne!(fnv(&edited), HASH, "{}", TEXTS[i]);
        }
    }

    #[test]
    fn any_number_of_slices_gives_the_same() {
        let (gpu, p) = (opened(), geometry());
        let drawn = [2 * 9 * 7 * 36, 9 * 36 * 100, 100, 2 * 5 * 4 * 100].map(tuner::noise);
        let [x, weight, bias, grad] = drawn.each_ref().map(|values| gpu.upload(values).unwrap());
        for turned in [false, true] {
            let call = match turned {
                false => Call::forward(&p),
                true => Call::backward_input(&p),
            };
            let inputs = Inputs {
                x: if turned { &grad } else { &x },
                weight: &weight,
                bias: (!turned).then_some(&bias),
                residual: None,
            };
            let run = |variant, slices| {
                let plan = Plan { variant, slices };
                gpu.read(&call.run(&gpu, plan, &inputs).unwrap()).unwrap()
            };
            let expected = run(Variant::Plain, 1);
            for variant in [Variant::Direct, Variant::Tile64, Variant::Tile128] {
                for slices in [1, 2, 3, 7, 16] {
                    let found = run(variant, slices);
                    assert_eq!(found.len(), expected.len());
                    for (f, e) in found.iter().zip(&expected) {
                        let error = (f - e).abs();
                        assert!(error < 5e-5, "{variant:?} in {slices}: {f} not {e}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_measured_has_slices_that_are_worth_it() {
        let gpu = opened();
        // A layer of the student, of one picture and of many; and sums too short to be cut.
        for (n, h, c_in, most) in [(1, 24, 1024, 16), (8, 24, 1024, 3), (1, 192, 8, 1)] {
            let p = Geometry {
                n,
                h,
                w: h,
                c_in,
                out_h: h,
                out_w: h,
                c_out: 1024,
                stride: 1,
                ..geometry()
            };
            let plans = Plan::sliced(&gpu, Variant::Tile128, &Params::forward(&p));
            let slices: Vec<u32> = plans.iter().map(|plan| plan.slices).collect();
            assert_eq!((slices[0], slices[slices.len() - 1]), (1, most));
        }
    }
}

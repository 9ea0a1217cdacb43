//! The gradients of a convolution's weights and bias on a GPU: the kernel to take, and its run.

use super::call::problem;
use super::gradient::{self, Product};
use super::plan::Plan;
use super::tiles::ENOUGH;
use super::variant::Variant;
use super::{plain, sample, tuner, winograd};
use crate::Result;
use crate::cpu::conv2d::Params as Geometry;
use crate::gpu::{Buffer, Gpu};
use crate::kernel;
use std::sync::Arc;

/// dL/dweight and dL/dbias
pub(super) fn backward(
    gpu: &Arc<Gpu>,
    [x, grad]: [&Buffer; 2],
    p: &Geometry,
) -> Result<[Buffer; 2]> {
    let plan = choose(gpu, p);
    kernel::variant(&plan.name());
    if plan.variant == Variant::Plain {
        return plain::backward_weight(gpu, [x, grad], p);
    }
    let dw = weight(gpu, plan, [x, grad], p)?;
    Ok([dw, gradient::bias(gpu, grad, p.c_out)?])
}

fn choose(gpu: &Arc<Gpu>, p: &Geometry) -> Plan {
    let forced = Variant::forced(gpu).filter(|&(variant, _)| suits(gpu, variant, p));
    match forced {
        Some((variant, Some(slices))) => {
            let most = product(gpu, variant, p).slices(gpu, p, u32::MAX);
            let slices = slices.min(most);
            Plan { variant, slices }
        }
        Some((variant, None)) => plan(gpu, variant, p),
        None if gpu.tunes() => fastest(gpu, p).unwrap_or_else(|| likely(gpu, p)),
        None => likely(gpu, p),
    }
}

fn suits(gpu: &Gpu, variant: Variant, p: &Geometry) -> bool {
    match variant {
        Variant::Plain | Variant::Direct | Variant::Tile64 | Variant::Tile128 => true,
        // Sums over pixels are in slices as they are.
        Variant::Split => false,
        Variant::Matrix => Product::has_matrices(gpu),
        Variant::Winograd2 => winograd::gradient::suits(gpu, 2, p),
        Variant::Winograd4 => winograd::gradient::suits(gpu, 4, p),
    }
}

/// `variant` in as many slices as should be best.
fn plan(gpu: &Gpu, variant: Variant, p: &Geometry) -> Plan {
    match variant {
        Variant::Plain | Variant::Winograd2 | Variant::Winograd4 => Plan::whole(variant),
        _ => Plan {
            variant,
            slices: product(gpu, variant, p).slices(gpu, p, ENOUGH),
        },
    }
}

/// What multiplies x and the gradient of the output.
fn product(gpu: &Gpu, variant: Variant, p: &Geometry) -> Product {
    match variant {
        Variant::Direct => Product::Direct,
        Variant::Tile64 => Product::Tile64,
        Variant::Tile128 => Product::Tile128,
        Variant::Matrix => Product::Matrix,
        // F(2×2) can keep its numbers in f16.
        Variant::Winograd2 if Product::has_matrices(gpu) => Product::Matrix,
        _ => Product::likely(gpu, p),
    }
}

/// What should be fastest, by the adapter and the size.
fn likely(gpu: &Gpu, p: &Geometry) -> Plan {
    let variant = if gpu.report().hardware && Product::has_matrices(gpu) {
        let pixels = p.n * p.out_h * p.out_w;
        let pays = winograd::pays_on_matrices(pixels, p.c_in / 4, p.c_out / 4);
        match pays && suits(gpu, Variant::Winograd2, p) {
            true => Variant::Winograd2,
            false => Variant::Matrix,
        }
    } else if winograd::gradient::pays(gpu, p) && suits(gpu, Variant::Winograd4, p) {
        Variant::Winograd4
    } else {
        match Product::likely(gpu, p) {
            Product::Direct => Variant::Direct,
            Product::Tile128 => Variant::Tile128,
            _ => Variant::Tile64,
        }
    };
    plan(gpu, variant, p)
}

/// Measured with inputs of its own.
fn fastest(gpu: &Arc<Gpu>, p: &Geometry) -> Option<Plan> {
    let hardware = gpu.report().hardware;
    let variants = Variant::ALL.into_iter().filter(|&variant| match variant {
        Variant::Plain => false,
        Variant::Direct => !hardware,
        _ => suits(gpu, variant, p),
    });
    let candidates = variants.flat_map(|variant| match variant {
        Variant::Tile64 | Variant::Tile128 | Variant::Matrix if hardware => {
            let most = product(gpu, variant, p).slices(gpu, p, 4 * ENOUGH);
            Plan::up_to(most, variant)
        }
        _ => vec![plan(gpu, variant, p)],
    });
    let grad = p.n * p.out_h * p.out_w * p.c_out;
    tuner::fastest(
        gpu,
        &tuner::Problem {
            name: &problem(gpu, "backward_weight", p),
            candidates: &candidates.collect::<Vec<_>>(),
            inputs: &[p.n * p.h * p.w * p.c_in, grad],
            outputs: [p.kh * p.kw * p.c_in, p.c_out].map(|size| size as usize),
            products: grad as usize,
            pixel: &|inputs, pixel| sample::backward_weight(p, inputs, pixel),
            run: &|plan, inputs| weight(gpu, plan, [&inputs[0], &inputs[1]], p),
        },
    )
}

/// dL/dweight `[kh,kw,c_in,c_out]`, f32.
fn weight(gpu: &Arc<Gpu>, plan: Plan, operands: [&Buffer; 2], p: &Geometry) -> Result<Buffer> {
    let product = product(gpu, plan.variant, p);
    match plan.variant {
        Variant::Winograd2 => winograd::gradient::weight(gpu, operands, (2, product), p),
        Variant::Winograd4 => winograd::gradient::weight(gpu, operands, (4, product), p),
        _ => gradient::weight(gpu, operands, (product, plan.slices), p),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{self, Options};

    #[test]
    fn any_number_of_slices_gives_the_same() {
        let options = Options {
            poison: true,
            ..Options::default()
        };
        let gpu = gpu::open(0, &options).expect("an adapter");
        let p = Geometry {
            n: 3,
            h: 9,
            w: 7,
            c_in: 67,
            out_h: 9,
            out_w: 6,
            c_out: 130,
            kh: 3,
            kw: 3,
            stride: 1,
            top: 1,
            left: 1,
            replicate: 1,
            activation: 0,
            slope: 0.0,
            residual: 0,
        };
        let drawn = [3 * 9 * 7 * 67, 3 * 9 * 6 * 130].map(tuner::noise);
        let [x, grad] = drawn.each_ref().map(|values| gpu.upload(values).unwrap());
        let rows = (0..9 * 67).flat_map(|row| sample::backward_weight(&p, &drawn, row));
        let expected: Vec<f64> = rows.collect();
        for variant in [Variant::Direct, Variant::Tile64, Variant::Tile128] {
            for slices in [1, 2, 5, 27] {
                let dw = weight(&gpu, Plan { variant, slices }, [&x, &grad], &p).unwrap();
                let found = gpu.read(&dw).unwrap();
                assert_eq!(found.len(), expected.len());
                for (f, e) in found.iter().zip(&expected) {
                    let error = (f64::from(*f) - e).abs();
                    assert!(error < 2e-5, "{variant:?} in {slices}: {f} not {e}");
                }
            }
        }
    }
}

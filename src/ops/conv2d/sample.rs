//! Single elements of a convolution as the formula says, in f64: what the tuner holds a kernel against.

use crate::cpu::conv2d::Params;

/// Element `at` of y = f(x ∗ weight + bias); `inputs` are x, weight and bias.
pub(super) fn forward(p: &Params, inputs: &[Vec<f32>], at: usize) -> f64 {
    let [n, oy, ox, co] = indices(at, [p.out_h, p.out_w, p.c_out]);
    let mut sum = f64::from(inputs[2][co]);
    for ky in 0..p.kh {
        let Some(iy) = p.source(oy as u32, ky, p.top, p.h) else {
            continue;
        };
        for kx in 0..p.kw {
            let Some(ix) = p.source(ox as u32, kx, p.left, p.w) else {
                continue;
            };
            let pixel = ((n * p.h as usize + iy) * p.w as usize + ix) * p.c_in as usize;
            let x = &inputs[0][pixel..][..p.c_in as usize];
            let taps = (ky * p.kw + kx) as usize * x.len() * p.c_out as usize + co;
            let weights = inputs[1][taps..].iter().step_by(p.c_out as usize);
            sum += dot(x.iter().zip(weights));
        }
    }
    match p.activation {
        1 => sum.max(0.0) + f64::from(p.slope) * sum.min(0.0),
        2 => sum / (1.0 + (-sum).exp()),
        3 => 1.0 / (1.0 + (-sum).exp()),
        _ => sum,
    }
}

/// Element `at` of dL/dx; `inputs` are dL/dy and weight.
pub(super) fn backward_input(p: &Params, inputs: &[Vec<f32>], at: usize) -> f64 {
    let [n, iy, ix, ci] = indices(at, [p.h, p.w, p.c_in]);
    let mut sum = 0.0;
    // Where x was read: outputs and taps along one side.
    let readers = |outputs: u32, taps: u32, before: u32, size: u32, at: usize| {
        let all = (0..outputs).flat_map(move |out| (0..taps).map(move |tap| (out, tap)));
        all.filter(move |&(out, tap)| p.source(out, tap, before, size) == Some(at))
    };
    for (oy, ky) in readers(p.out_h, p.kh, p.top, p.h, iy) {
        for (ox, kx) in readers(p.out_w, p.kw, p.left, p.w, ix) {
            let pixel = (n as u32 * p.out_h + oy) * p.out_w + ox;
            let grad = &inputs[0][(pixel * p.c_out) as usize..][..p.c_out as usize];
            let tap = ((ky * p.kw + kx) * p.c_in) as usize + ci;
            sum += dot(grad.iter().zip(&inputs[1][tap * grad.len()..]));
        }
    }
    sum
}

/// Picture, row, column and channel of an element.
fn indices(at: usize, [h, w, c]: [u32; 3]) -> [usize; 4] {
    let [h, w, c] = [h, w, c].map(|size| size as usize);
    [at / c / w / h, at / c / w % h, at / c % w, at % c]
}

fn dot<'a>(pairs: impl Iterator<Item = (&'a f32, &'a f32)>) -> f64 {
    pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::tuner::noise;
    use super::*;
    use crate::cpu::conv2d;
    use crate::ops::Activation;

    #[test]
    fn every_element_is_that_of_the_cpu() {
        for (kh, kw, stride, top, left, replicate, f) in [
            (3, 3, 1, 1, 1, 0, Activation::Silu),
            (3, 2, 2, 0, 1, 1, Activation::LeakyRelu(0.2)),
            (1, 1, 1, 0, 0, 0, Activation::Sigmoid),
            (5, 5, 1, 2, 2, 1, Activation::Identity),
        ] {
            let (h, w) = (7, 6);
            let along = |size: u32, k: u32, before: u32| (size + 2 * before - k) / stride + 1;
            let p = Params {
                n: 2,
                h,
                w,
                c_in: 5,
                out_h: along(h, kh, top),
                out_w: along(w, kw, left),
                c_out: 3,
                kh,
                kw,
                stride,
                top,
                left,
                replicate,
                activation: f.kind(),
                slope: f.slope(),
                residual: 0,
            };
            let (inside, outside) = (2 * h * w * 5, 2 * p.out_h * p.out_w * 3);
            let weight = noise(kh * kw * 15);
            let forwards = [noise(inside), weight.clone(), noise(3)];
            let y = conv2d::forward(&forwards[0], &weight, &forwards[2], None, f, &p);
            let backwards = [noise(outside), weight];
            let dx = conv2d::backward_input(&backwards[0], &backwards[1], &p);
            assert_eq!([y.len(), dx.len()], [outside as usize, inside as usize]);
            let y_found = (0..y.len()).map(|at| forward(&p, &forwards, at));
            let dx_found = (0..dx.len()).map(|at| backward_input(&p, &backwards, at));
            for (found, expected) in y_found.chain(dx_found).zip(y.iter().chain(&dx)) {
                assert!((found - f64::from(*expected)).abs() < 2e-5, "{p:?}");
            }
        }
    }
}

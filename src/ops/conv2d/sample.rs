//! Single pixels of a convolution as the formula says, in f64: what the tuner holds a kernel against.

use crate::cpu::conv2d::Params;

/// The channels of a pixel of y = f(x ∗ weight + bias); `inputs` are x, weight and bias.
pub(super) fn forward(p: &Params, inputs: &[Vec<f32>], pixel: usize) -> Vec<f64> {
    let [n, oy, ox] = place(pixel, [p.out_h, p.out_w]);
    let (c_in, c_out) = (p.c_in as usize, p.c_out as usize);
    let mut sums: Vec<f64> = inputs[2].iter().map(|&b| b.into()).collect();
    for ky in 0..p.kh {
        let Some(iy) = p.source(oy as u32, ky, p.top, p.h) else {
            continue;
        };
        for kx in 0..p.kw {
            let Some(ix) = p.source(ox as u32, kx, p.left, p.w) else {
                continue;
            };
            let at = (n * p.h as usize + iy) * p.w as usize + ix;
            let tap = (ky * p.kw + kx) as usize;
            let weights = inputs[1][tap * c_in * c_out..].chunks_exact(c_out);
            for (&x, weights) in inputs[0][at * c_in..][..c_in].iter().zip(weights) {
                let products = weights.iter().map(|&w| f64::from(x) * f64::from(w));
                sums.iter_mut().zip(products).for_each(|(sum, p)| *sum += p);
            }
        }
    }
    let f = |y: f64| match p.activation {
        1 => y.max(0.0) + f64::from(p.slope) * y.min(0.0),
        2 => y / (1.0 + (-y).exp()),
        3 => 1.0 / (1.0 + (-y).exp()),
        4 => y.clamp(0.0, 6.0),
        _ => y,
    };
    sums.into_iter().map(f).collect()
}

/// The channels of a pixel of dL/dx; `inputs` are dL/dy and weight.
pub(super) fn backward_input(p: &Params, inputs: &[Vec<f32>], pixel: usize) -> Vec<f64> {
    let [n, iy, ix] = place(pixel, [p.h, p.w]);
    let (c_in, c_out) = (p.c_in as usize, p.c_out as usize);
    let mut sums = vec![0.0; c_in];
    // Where x was read: outputs and taps along one side.
    let readers = |outputs: u32, taps: u32, before: u32, size: u32, at: usize| {
        let all = (0..outputs).flat_map(move |out| (0..taps).map(move |tap| (out, tap)));
        all.filter(move |&(out, tap)| p.source(out, tap, before, size) == Some(at))
    };
    for (oy, ky) in readers(p.out_h, p.kh, p.top, p.h, iy) {
        for (ox, kx) in readers(p.out_w, p.kw, p.left, p.w, ix) {
            let at = ((n as u32 * p.out_h + oy) * p.out_w + ox) as usize;
            let grad = &inputs[0][at * c_out..][..c_out];
            let tap = (ky * p.kw + kx) as usize;
            let weights = inputs[1][tap * c_in * c_out..].chunks_exact(c_out);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                let pairs = grad.iter().zip(weights);
                *sum += pairs
                    .map(|(&g, &w)| f64::from(g) * f64::from(w))
                    .sum::<f64>();
            }
        }
    }
    sums
}

/// The output channels of a tap and an input channel, its "pixel", of dL/dweight; `inputs` are x and dL/dy.
pub(super) fn backward_weight(p: &Params, inputs: &[Vec<f32>], pixel: usize) -> Vec<f64> {
    let (c_in, c_out) = (p.c_in as usize, p.c_out as usize);
    let [tap, ci] = [pixel / c_in, pixel % c_in];
    let [ky, kx] = [tap as u32 / p.kw, tap as u32 % p.kw];
    let mut sums = vec![0.0; c_out];
    for (out, grad) in inputs[1].chunks_exact(c_out).enumerate() {
        let [n, oy, ox] = place(out, [p.out_h, p.out_w]);
        let iy = p.source(oy as u32, ky, p.top, p.h);
        let ix = p.source(ox as u32, kx, p.left, p.w);
        let (Some(iy), Some(ix)) = (iy, ix) else {
            continue;
        };
        let x = inputs[0][((n * p.h as usize + iy) * p.w as usize + ix) * c_in + ci];
        let products = grad.iter().map(|&g| f64::from(x) * f64::from(g));
        sums.iter_mut().zip(products).for_each(|(sum, p)| *sum += p);
    }
    sums
}

/// Picture, row and column.
fn place(pixel: usize, [h, w]: [u32; 2]) -> [usize; 3] {
    let [h, w] = [h, w].map(|size| size as usize);
    [pixel / w / h, pixel / w % h, pixel % w]
}

#[cfg(test)]
mod tests {
    use super::super::tuner::noise;
    use super::*;
    use crate::cpu::conv2d;
    use crate::ops::Activation;

    #[test]
    fn every_pixel_is_that_of_the_cpu() {
        for (kh, kw, stride, top, left, replicate, f) in [
            (3, 3, 1, 1, 1, 0, Activation::Silu),
            (3, 2, 2, 0, 1, 1, Activation::LeakyRelu(0.2)),
            (1, 1, 1, 0, 0, 0, Activation::Sigmoid),
            (5, 5, 1, 2, 2, 1, Activation::Identity),
            (3, 3, 1, 1, 1, 0, Activation::Relu6),
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
            let weights = [noise(inside), noise(outside)];
            let (dw, _) = conv2d::backward_weight(&weights[0], &weights[1], &p);
            let backwards = [noise(outside), weight];
            let dx = conv2d::backward_input(&backwards[0], &backwards[1], &p);
            assert_eq!([y.len(), dx.len()], [outside as usize, inside as usize]);
            let y_found = (0..y.len() / 3).flat_map(|pixel| forward(&p, &forwards, pixel));
            let dx_found =
                (0..dx.len() / 5).flat_map(|pixel| backward_input(&p, &backwards, pixel));
            let dw_found = (0..dw.len() / 3).flat_map(|pixel| backward_weight(&p, &weights, pixel));
            let found: Vec<f64> = y_found.chain(dx_found).chain(dw_found).collect();
            assert_eq!(found.len(), y.len() + dx.len() + dw.len());
            for (found, expected) in found.iter().zip(y.iter().chain(&dx).chain(&dw)) {
                assert!((found - f64::from(*expected)).abs() < 2e-5, "{p:?}");
            }
        }
    }
}

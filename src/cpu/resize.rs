//! Bilinear and bicubic interpolation; see `shaders/resize.wgsl`.

use super::pool::take;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
    pub out_h: u32,
    pub out_w: u32,
    /// 0: bilinear.
    pub bicubic: u32,
}

/// Source indices and their weights: the middle two of four where it is bilinear.
type Taps = [(usize, f32); 4];

impl Params {
    fn taps(&self, out: usize, size: u32, out_size: u32) -> Taps {
        let at = (out as f64 + 0.5) * size as f64 / out_size as f64 - 0.5;
        let at = if self.bicubic == 1 { at } else { at.max(0.0) };
        let f = at - at.floor();
        let near = |t: f64| ((-0.75 + 2.0) * t - (-0.75 + 3.0)) * t * t + 1.0;
        let far = |t: f64| ((-0.75 * t + 3.75) * t - 6.0) * t + 3.0;
        let weights = match self.bicubic {
            1 => [far(1.0 + f), near(f), near(1.0 - f), far(2.0 - f)],
            _ => [0.0, 1.0 - f, f, 0.0],
        };
        // Where a pixel becomes one, bilinear looks at no neighbour: a weight of 0 times infinity is NaN.
        let copied = self.bicubic == 0 && size == out_size;
        let step = |i: usize| if copied { 0 } else { i as i64 - 1 };
        let index = |i: usize| (at.floor() as i64 + step(i)).clamp(0, size as i64 - 1) as usize;
        [0, 1, 2, 3].map(|i| (index(i), weights[i] as f32))
    }
}

pub fn resize(x: &[f32], params: &Params) -> Vec<f32> {
    let [h, w, c, out_h, out_w] =
        [params.h, params.w, params.c, params.out_h, params.out_w].map(|v| v as usize);
    let columns: Vec<Taps> = (0..out_w)
        .map(|ox| params.taps(ox, params.w, params.out_w))
        .collect();
    let bicubic = params.bicubic == 1;
    let mut y = take(params.n as usize * out_h * out_w * c);
    let rows = y.par_chunks_exact_mut(out_w * c).enumerate();
    rows.for_each_init(
        || vec![0.0; w * c],
        |between, (row, y)| {
            let sample = row / out_h * h;
            between.fill(0.0);
            let taps = params.taps(row % out_h, params.h, params.out_h);
            for &(iy, wy) in if bicubic { &taps[..] } else { &taps[1..3] } {
                let x = &x[(sample + iy) * w * c..][..w * c];
                between.iter_mut().zip(x).for_each(|(b, x)| *b += wy * x);
            }
            for (y, taps) in y.chunks_exact_mut(c).zip(&columns) {
                for (i, y) in y.iter_mut().enumerate() {
                    let [p, q, r, s] = taps.map(|(ix, wx)| wx * between[ix * c + i]);
                    *y = if bicubic { p + q + r + s } else { q + r };
                }
            }
        },
    );
    y
}

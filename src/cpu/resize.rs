//! Bilinear and bicubic interpolation; see `shaders/resize.wgsl`.

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

/// Four source indices and their weights.
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
        let index =
            |i: usize| (at.floor() as i64 + i as i64 - 1).clamp(0, size as i64 - 1) as usize;
        [0, 1, 2, 3].map(|i| (index(i), weights[i] as f32))
    }
}

pub fn resize(x: &[f32], params: &Params) -> Vec<f32> {
    let [h, w, c, out_h, out_w] =
        [params.h, params.w, params.c, params.out_h, params.out_w].map(|v| v as usize);
    let columns: Vec<Taps> = (0..out_w)
        .map(|ox| params.taps(ox, params.w, params.out_w))
        .collect();
    let mut y = vec![0.0; params.n as usize * out_h * out_w * c];
    y.par_chunks_exact_mut(out_w * c)
        .enumerate()
        .for_each(|(row, y)| {
            let sample = row / out_h * h;
            for (iy, wy) in params.taps(row % out_h, params.h, params.out_h) {
                for (y, taps) in y.chunks_exact_mut(c).zip(&columns) {
                    for (ix, wx) in taps {
                        let x = &x[((sample + iy) * w + ix) * c..][..c];
                        y.iter_mut().zip(x).for_each(|(y, x)| *y += wy * wx * x);
                    }
                }
            }
        });
    y
}

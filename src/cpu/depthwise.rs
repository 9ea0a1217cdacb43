//! Depthwise convolution; see `shaders/depthwise.wgsl`.

use super::activation::Activation;
use super::pool::take;
use super::vectorised;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

/// Channels held in registers at once.
const LANES: usize = 32;

/// Geometry: x `[n,h,w,c]`, weight `[kh,kw,c]`, y `[n,out_h,out_w,c]`; zero padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
    pub out_h: u32,
    pub out_w: u32,
    pub kh: u32,
    pub kw: u32,
    pub stride: u32,
    pub top: u32,
    pub left: u32,
}

/// Offsets in `x` and `weight` of the taps inside the picture for one output pixel.
type Taps = Vec<(usize, usize)>;

impl Params {
    #[inline(always)]
    fn taps(&self, n: usize, oy: usize, ox: usize, taps: &mut Taps) {
        let (w, c) = (self.w as usize, self.c as usize);
        let along = |out: usize, tap: usize, before: u32, size: u32| {
            let at = (out * self.stride as usize + tap).wrapping_sub(before as usize);
            (at < size as usize).then_some(at)
        };
        taps.clear();
        for ky in 0..self.kh as usize {
            let Some(y) = along(oy, ky, self.top, self.h) else {
                continue;
            };
            for kx in 0..self.kw as usize {
                if let Some(x) = along(ox, kx, self.left, self.w) {
                    let pixel = (n * self.h as usize + y) * w + x;
                    taps.push((pixel * c, (ky * self.kw as usize + kx) * c));
                }
            }
        }
    }
}

/// y = f(x ∗ weight + bias), every channel by itself.
pub fn forward(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    f: Activation,
    params: &Params,
) -> Vec<f32> {
    let c = params.c as usize;
    let (out_h, out_w) = (params.out_h as usize, params.out_w as usize);
    let mut y = take(params.n as usize * out_h * out_w * c);
    y.par_chunks_mut(out_w * c)
        .enumerate()
        .for_each(|(row, y)| {
            let mut taps = Taps::with_capacity((params.kh * params.kw) as usize);
            for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                params.taps(row / out_h, row % out_h, ox, &mut taps);
                vectorised(
                    #[inline(always)]
                    || pixel(x, weight, bias, &taps, y),
                );
            }
            vectorised(
                #[inline(always)]
                || f.apply(y),
            );
        });
    y
}

#[inline(always)]
fn pixel(x: &[f32], weight: &[f32], bias: &[f32], taps: &Taps, y: &mut [f32]) {
    let whole = y.len() / LANES * LANES;
    for from in (0..whole).step_by(LANES) {
        let mut acc = [0.0; LANES];
        acc.copy_from_slice(&bias[from..from + LANES]);
        for &(at, tap) in taps {
            let x = &x[at + from..][..LANES];
            let w = &weight[tap + from..][..LANES];
            for i in 0..LANES {
                acc[i] += x[i] * w[i];
            }
        }
        y[from..from + LANES].copy_from_slice(&acc);
    }
    y[whole..].copy_from_slice(&bias[whole..]);
    for &(at, tap) in taps {
        let x = &x[at + whole..at + bias.len()];
        let w = &weight[tap + whole..tap + bias.len()];
        for ((y, x), w) in y[whole..].iter_mut().zip(x).zip(w) {
            *y += x * w;
        }
    }
}

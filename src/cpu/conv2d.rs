//! Convolution as a matrix product over unfolded patches; see `shaders/conv2d.wgsl`.

use super::activation::Activation;
use super::matmul::{Epilogue, Panels, View, matmul};
use super::pool::{give, take};
use super::{vectorised, winograd};
use crate::kernel::variant;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

/// Geometry: x `[n,h,w,c_in]`, weight `[kh,kw,c_in,c_out]`, y `[n,out_h,out_w,c_out]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c_in: u32,
    pub out_h: u32,
    pub out_w: u32,
    pub c_out: u32,
    pub kh: u32,
    pub kw: u32,
    pub stride: u32,
    pub top: u32,
    pub left: u32,
    /// 1: the border is repeated; 0: zeros.
    pub replicate: u32,
    pub activation: u32,
    pub slope: f32,
    /// 1: a residual is added after the activation.
    pub residual: u32,
}

impl Params {
    fn patch(&self) -> usize {
        (self.kh * self.kw * self.c_in) as usize
    }

    fn pixels(&self) -> usize {
        (self.n * self.out_h * self.out_w) as usize
    }

    /// 1×1, stride 1: the picture is the matrix.
    fn is_pointwise(&self) -> bool {
        self.kh == 1
            && self.kw == 1
            && self.stride == 1
            && self.h == self.out_h
            && self.w == self.out_w
    }

    /// Output pixels worked on at once: patches of 4 MiB, a few hundred rows at least.
    fn rows_at_once(&self) -> usize {
        (1024 * 1024 / self.patch())
            .clamp(384, 65536)
            .min(self.pixels())
    }

    /// Input row or column for output `out`, tap `tap`; `None` in zero padding.
    #[inline(always)]
    pub(crate) fn source(&self, out: u32, tap: u32, before: u32, size: u32) -> Option<usize> {
        let at = (out * self.stride + tap) as i64 - before as i64;
        match self.replicate {
            1 => Some(at.clamp(0, size as i64 - 1) as usize),
            _ => (at >= 0 && at < size as i64).then_some(at as usize),
        }
    }

    /// The convolution with stride 1 that takes a gradient back to the input; to the padded input
    /// where the border was repeated.
    fn turned(&self) -> Self {
        let grown = |out: u32, k: u32, size: u32| match self.replicate {
            1 => out + k - 1,
            _ => size,
        };
        let before = |k: u32, padding: u32| match self.replicate {
            1 => k - 1,
            _ => (k - 1).wrapping_sub(padding),
        };
        Self {
            h: self.out_h,
            w: self.out_w,
            c_in: self.c_out,
            out_h: grown(self.out_h, self.kh, self.h),
            out_w: grown(self.out_w, self.kw, self.w),
            c_out: self.c_in,
            top: before(self.kh, self.top),
            left: before(self.kw, self.left),
            replicate: 0,
            residual: 0,
            ..*self
        }
    }

    /// Calls `f(tap, input pixel)` for every tap of output pixel `pixel`.
    #[inline(always)]
    fn taps(&self, pixel: usize, mut f: impl FnMut(usize, Option<usize>)) {
        let ox = pixel as u32 % self.out_w;
        let oy = pixel as u32 / self.out_w % self.out_h;
        let n = pixel as u32 / self.out_w / self.out_h;
        for ky in 0..self.kh {
            let y = self.source(oy, ky, self.top, self.h);
            for kx in 0..self.kw {
                let x = self.source(ox, kx, self.left, self.w);
                let at = y
                    .zip(x)
                    .map(|(y, x)| (n as usize * self.h as usize + y) * self.w as usize + x);
                f((ky * self.kw + kx) as usize, at);
            }
        }
    }

    /// The input pixel under the first tap of output pixel `pixel`, if no tap is in the padding.
    fn inside(&self, pixel: usize) -> Option<usize> {
        let (ox, oy) = (
            pixel as u32 % self.out_w,
            pixel as u32 / self.out_w % self.out_h,
        );
        let n = pixel / (self.out_w * self.out_h) as usize;
        let x = (ox * self.stride).checked_sub(self.left)?;
        let y = (oy * self.stride).checked_sub(self.top)?;
        let fits = x + self.kw <= self.w && y + self.kh <= self.h;
        fits.then_some((n * self.h as usize + y as usize) * self.w as usize + x as usize)
    }

    /// Patches of the output pixels from `first`, one a row of kh·kw·c_in.
    fn unfold(&self, x: &[f32], first: usize, rows: &mut [f32]) {
        let c = self.c_in as usize;
        let across = self.kw as usize * c;
        for (i, row) in rows.chunks_exact_mut(self.patch()).enumerate() {
            if let Some(corner) = self.inside(first + i) {
                // A row of taps is one piece of x.
                for (ky, to) in row.chunks_exact_mut(across).enumerate() {
                    to.copy_from_slice(&x[(corner + ky * self.w as usize) * c..][..across]);
                }
                continue;
            }
            self.taps(first + i, |tap, pixel| {
                let to = &mut row[tap * c..][..c];
                match pixel {
                    Some(p) => to.copy_from_slice(&x[p * c..][..c]),
                    None => to.fill(0.0),
                }
            });
        }
    }
}

/// Pixels that one thread unfolds at a time.
const UNFOLDED: usize = 64;

/// y = f(x ∗ weight + bias) (+ residual)
pub fn forward(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    residual: Option<&[f32]>,
    f: Activation,
    params: &Params,
) -> Vec<f32> {
    if winograd::suits(params) {
        return winograd::forward(x, weight, false, bias, residual, f, params);
    }
    unfolded(x, weight, bias, residual, f, params)
}

/// The same by patches.
pub(super) fn unfolded(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    residual: Option<&[f32]>,
    f: Activation,
    params: &Params,
) -> Vec<f32> {
    variant(match params.is_pointwise() {
        true => "pointwise",
        false => "unfolded",
    });
    let (k, c) = (params.patch(), params.c_out as usize);
    let at_once = params.rows_at_once();
    let mut y = take(params.pixels() * c);
    let panels = Panels::pack([k, c], View::rows(weight, c), None);
    let epilogue = Epilogue { bias, f, residual };
    if params.is_pointwise() {
        panels.multiply(
            params.pixels(),
            View::rows(x, k),
            &mut y,
            false,
            Some(epilogue),
        );
        return y;
    }
    let mut patches = take(at_once * k);
    for (i, y) in y.chunks_mut(at_once * c).enumerate() {
        let (first, rows) = (i * at_once, y.len() / c);
        let patches = &mut patches[..rows * k];
        patches
            .par_chunks_mut(UNFOLDED * k)
            .enumerate()
            .for_each(|(j, patches)| params.unfold(x, first + j * UNFOLDED, patches));
        let residual = residual.map(|r| &r[first * c..][..y.len()]);
        let epilogue = Epilogue {
            residual,
            ..epilogue
        };
        panels.multiply(rows, View::rows(patches, k), y, false, Some(epilogue));
    }
    give(patches);
    y
}

/// dL/dx from dL/dy.
pub fn backward_input(grad: &[f32], weight: &[f32], params: &Params) -> Vec<f32> {
    let turned = params.turned();
    if winograd::suits(&turned) {
        let bias = vec![0.0; params.c_in as usize];
        let f = Activation::Identity;
        let dx = winograd::forward(grad, weight, true, &bias, None, f, &turned);
        return match params.replicate {
            1 => fold_border(&dx, params, &turned),
            _ => dx,
        };
    }
    folded(grad, weight, params)
}

/// The same by patches of gradients, folded back; pictures side by side.
pub(super) fn folded(grad: &[f32], weight: &[f32], params: &Params) -> Vec<f32> {
    variant("folded");
    let (k, c, c_in) = (params.patch(), params.c_out as usize, params.c_in as usize);
    let pixels = (params.out_h * params.out_w) as usize;
    let picture = (params.h * params.w) as usize * c_in;
    let mut dx = vec![0.0; params.n as usize * picture];
    dx.par_chunks_mut(picture).enumerate().for_each(|(n, dx)| {
        let mut patches = vec![0.0; pixels * k];
        let grad = View::rows(&grad[n * pixels * c..], c);
        matmul(
            [pixels, k, c],
            grad,
            View::rows(weight, c).t(),
            &mut patches,
            false,
        );
        let before = n * (params.h * params.w) as usize;
        vectorised(
            #[inline(always)]
            || {
                for (i, row) in patches.chunks_exact(k).enumerate() {
                    params.taps(n * pixels + i, |tap, pixel| {
                        if let Some(p) = pixel {
                            let to = &mut dx[(p - before) * c_in..][..c_in];
                            let from = &row[tap * c_in..][..c_in];
                            to.iter_mut().zip(from).for_each(|(d, g)| *d += g);
                        }
                    });
                }
            },
        );
    });
    dx
}

/// Gives the gradient of a repeated border `[n,h+…,w+…,c_in]` to the pixels that it repeats.
fn fold_border(padded: &[f32], params: &Params, turned: &Params) -> Vec<f32> {
    let (h, w, c) = (params.h as usize, params.w as usize, params.c_in as usize);
    let (rows, columns) = (turned.out_h as usize, turned.out_w as usize);
    let inside = |at: usize, before: u32, size: usize| {
        (at as i64 - before as i64).clamp(0, size as i64 - 1) as usize
    };
    let mut dx = vec![0.0; params.n as usize * h * w * c];
    dx.par_chunks_mut(h * w * c)
        .zip(padded.par_chunks(rows * columns * c))
        .for_each(|(dx, padded)| {
            for (i, from) in padded.chunks_exact(c).enumerate() {
                let y = inside(i / columns, params.top, h);
                let x = inside(i % columns, params.left, w);
                let to = &mut dx[(y * w + x) * c..][..c];
                to.iter_mut().zip(from).for_each(|(d, g)| *d += g);
            }
        });
    dx
}

/// dL/dweight `[kh,kw,c_in,c_out]` and dL/dbias `[c_out]`.
pub fn backward_weight(x: &[f32], grad: &[f32], params: &Params) -> (Vec<f32>, Vec<f32>) {
    let dw = match winograd::suits(params) {
        true => winograd::backward_weight(x, grad, params),
        false => unfolded_weight_gradient(x, grad, params),
    };
    (dw, column_sums(grad, params.c_out as usize))
}

/// dL/dweight by patches.
pub(super) fn unfolded_weight_gradient(x: &[f32], grad: &[f32], params: &Params) -> Vec<f32> {
    variant("unfolded");
    let (k, c) = (params.patch(), params.c_out as usize);
    let mut dw = vec![0.0; k * c];
    let at_once = (8 * 1024 * 1024 / k).clamp(1, params.pixels());
    let mut patches = vec![0.0; at_once * k];
    for (i, grad) in grad.chunks(at_once * c).enumerate() {
        let rows = grad.len() / c;
        let patches = &mut patches[..rows * k];
        let each = 64;
        patches
            .par_chunks_mut(each * k)
            .enumerate()
            .for_each(|(j, patches)| params.unfold(x, i * at_once + j * each, patches));
        matmul(
            [k, c, rows],
            View::rows(patches, k).t(),
            View::rows(grad, c),
            &mut dw,
            i > 0,
        );
    }
    dw
}

/// Sums over rows of `columns`, in f64: a bias gradient adds up thousands of pixels.
pub fn column_sums(rows: &[f32], columns: usize) -> Vec<f32> {
    let add = |mut a: Vec<f64>, b: Vec<f64>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    let parts: Vec<Vec<f64>> = rows
        .par_chunks(1024 * columns)
        .map(|chunk| {
            let mut sum = vec![0.0; columns];
            for row in chunk.chunks_exact(columns) {
                sum.iter_mut().zip(row).for_each(|(s, &r)| *s += r as f64);
            }
            sum
        })
        .collect();
    let sum = parts.into_iter().fold(vec![0.0; columns], add);
    sum.into_iter().map(|s| s as f32).collect()
}

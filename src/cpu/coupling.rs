//! Affine coupling, its inverse and its gradient; see `shaders/coupling.wgsl`.

use super::pool::take;
use super::simd::{atan, exp, vectorised};
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

/// x `[pixels,width]`, u `[pixels,2·channels]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub pixels: u32,
    pub channels: u32,
    pub width: u32,
    pub accumulate: u32,
    /// Of the sum that u is on a GPU, 0 where u is there.
    pub slices: u32,
    pub alpha: f32,
}

const LIMIT: f32 = 1e6;

/// ℓ(s) = α·0.636·atan(s/α)
#[inline(always)]
fn log_scale(s: f32, alpha: f32) -> f32 {
    alpha * 0.636 * atan(s / alpha)
}

/// (y, log_det), the latter added to `so_far`.
pub fn forward(
    [x, u]: [&[f32]; 2],
    gamma: f32,
    so_far: Option<&[f32]>,
    params: &Params,
) -> (Vec<f32>, Vec<f32>) {
    let alpha = params.alpha;
    transform(
        [x, u],
        so_far,
        params,
        #[inline(always)]
        move |x, us, ut| {
            let l = log_scale(gamma * us, alpha);
            ((x * exp(l) + gamma * ut).clamp(-LIMIT, LIMIT), l)
        },
    )
}

/// (x, log_det of the inverse), the latter added to `so_far`.
pub fn inverse(
    [y, u]: [&[f32]; 2],
    gamma: f32,
    so_far: Option<&[f32]>,
    params: &Params,
) -> (Vec<f32>, Vec<f32>) {
    let alpha = params.alpha;
    transform(
        [y, u],
        so_far,
        params,
        #[inline(always)]
        move |y, us, ut| {
            let l = log_scale(gamma * us, alpha);
            ((y - gamma * ut) * exp(-l), -l)
        },
    )
}

/// `f(x, u_s, u_t)` gives the new value and its share of the log-determinant.
fn transform(
    [x, u]: [&[f32]; 2],
    so_far: Option<&[f32]>,
    params: &Params,
    f: impl Fn(f32, f32, f32) -> (f32, f32) + Copy + Sync + Send,
) -> (Vec<f32>, Vec<f32>) {
    let (c, width) = (params.channels as usize, params.width as usize);
    let mut y = take(x.len());
    let mut log_det = match so_far {
        Some(so_far) => so_far.to_vec(),
        None => vec![0.0; params.pixels as usize],
    };
    let pixels = y
        .par_chunks_mut(width)
        .zip(x.par_chunks(width))
        .zip(u.par_chunks(2 * c));
    pixels.zip(&mut log_det).with_min_len(16).for_each_init(
        || vec![0.0; c],
        |logs, (((y, x), u), log_det)| {
            vectorised(
                #[inline(always)]
                || transform_row(&x[..c], u, f, &mut y[..c], logs),
            );
            y[c..].copy_from_slice(&x[c..]);
            // Apart: a sum keeps a loop from being vectorised.
            *log_det += sum(logs) as f32;
        },
    );
    (y, log_det)
}

/// In eight parts, which need not wait for each other.
fn sum(values: &[f32]) -> f64 {
    let mut parts = [0.0; 8];
    for values in values.chunks(parts.len()) {
        for (part, &value) in parts.iter_mut().zip(values) {
            *part += f64::from(value);
        }
    }
    parts.iter().sum()
}

#[inline(always)]
fn transform_row(
    x: &[f32],
    u: &[f32],
    f: impl Fn(f32, f32, f32) -> (f32, f32),
    y: &mut [f32],
    logs: &mut [f32],
) {
    let c = x.len();
    let (us, ut) = u.split_at(c);
    let (ut, y, logs) = (&ut[..c], &mut y[..c], &mut logs[..c]);
    for i in 0..c {
        (y[i], logs[i]) = f(x[i], us[i], ut[i]);
    }
}

/// (dx, du, dγ) of the forward direction.
pub fn backward(
    x: &[f32],
    u: &[f32],
    gamma: f32,
    dy: &[f32],
    dlog_det: &[f32],
    params: &Params,
) -> (Vec<f32>, Vec<f32>, f32) {
    let (c, width) = (params.channels as usize, params.width as usize);
    let alpha = params.alpha;
    let (mut dx, mut du) = (take(x.len()), take(u.len()));
    let outputs = dx.par_chunks_mut(width).zip(du.par_chunks_mut(2 * c));
    let inputs = x.par_chunks(width).zip(u.par_chunks(2 * c));
    let grads = dy.par_chunks(width).zip(dlog_det);
    let pixels = outputs.zip(inputs).zip(grads).with_min_len(16);
    let shares: Vec<f64> = pixels
        .map(|(((dx, du), (x, u)), (dy, &dl))| {
            vectorised(
                #[inline(always)]
                || backward_row([&x[..c], u, dy], [gamma, alpha, dl], dx, du),
            );
            dx[c..].copy_from_slice(&dy[c..]);
            let share = du.iter().zip(u).map(|(d, u)| f64::from(d * u)).sum::<f64>();
            du.iter_mut().for_each(|d| *d *= gamma);
            share
        })
        .collect();
    (dx, du, shares.into_iter().sum::<f64>() as f32)
}

/// dx, and the gradient of γ·u.
#[inline(always)]
fn backward_row(
    [x, u, dy]: [&[f32]; 3],
    [gamma, alpha, dl]: [f32; 3],
    dx: &mut [f32],
    du: &mut [f32],
) {
    let c = x.len();
    let (us, ut) = u.split_at(c);
    let (dus, dut) = du.split_at_mut(c);
    let (ut, dy) = (&ut[..c], &dy[..c]);
    let (dx, dut) = (&mut dx[..c], &mut dut[..c]);
    for i in 0..c {
        let s = gamma * us[i];
        let e = exp(log_scale(s, alpha));
        let inside = (x[i] * e + gamma * ut[i]).abs() <= LIMIT;
        let dt = if inside { dy[i] } else { 0.0 };
        let ratio = s / alpha;
        dx[i] = dt * e;
        dus[i] = (dt * x[i] * e + dl) * 0.636 / (1.0 + ratio * ratio);
        dut[i] = dt;
    }
}

//! Affine coupling, its inverse and its gradient; see `shaders/coupling.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

/// x `[pixels,channels]`, u `[pixels,2·channels]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub pixels: u32,
    pub channels: u32,
    pub alpha: f32,
}

const LIMIT: f32 = 1e6;

impl Params {
    fn log_scale(&self, s: f32) -> f32 {
        self.alpha * 0.636 * (s / self.alpha).atan()
    }
}

/// (y, log_det)
pub fn forward(x: &[f32], u: &[f32], gamma: f32, params: &Params) -> (Vec<f32>, Vec<f32>) {
    transform(x, u, params, |x, us, ut| {
        let l = params.log_scale(gamma * us);
        ((x * l.exp() + gamma * ut).clamp(-LIMIT, LIMIT), l)
    })
}

/// (x, log_det of the inverse)
pub fn inverse(y: &[f32], u: &[f32], gamma: f32, params: &Params) -> (Vec<f32>, Vec<f32>) {
    transform(y, u, params, |y, us, ut| {
        let l = params.log_scale(gamma * us);
        ((y - gamma * ut) * (-l).exp(), -l)
    })
}

/// `f(x, u_s, u_t)` gives the new value and its share of the log-determinant.
fn transform(
    x: &[f32],
    u: &[f32],
    params: &Params,
    f: impl Fn(f32, f32, f32) -> (f32, f32) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let c = params.channels as usize;
    let mut y = vec![0.0; x.len()];
    let mut log_det = vec![0.0; params.pixels as usize];
    let pixels = y
        .par_chunks_mut(c)
        .zip(x.par_chunks(c))
        .zip(u.par_chunks(2 * c));
    pixels
        .zip(&mut log_det)
        .with_min_len(16)
        .for_each(|(((y, x), u), log_det)| {
            let (us, ut) = u.split_at(c);
            let mut sum = 0.0_f64;
            for i in 0..c {
                let (value, l) = f(x[i], us[i], ut[i]);
                y[i] = value;
                sum += l as f64;
            }
            *log_det = sum as f32;
        });
    (y, log_det)
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
    let c = params.channels as usize;
    let mut dx = vec![0.0; x.len()];
    let mut du = vec![0.0; u.len()];
    let outputs = dx.par_chunks_mut(c).zip(du.par_chunks_mut(2 * c));
    let inputs = x.par_chunks(c).zip(u.par_chunks(2 * c));
    let grads = dy.par_chunks(c).zip(dlog_det);
    let pixels = outputs.zip(inputs).zip(grads).with_min_len(16);
    let shares: Vec<f64> = pixels
        .map(|(((dx, du), (x, u)), (dy, &dl))| {
            let (us, ut) = u.split_at(c);
            let (dus, dut) = du.split_at_mut(c);
            let mut share = 0.0;
            for i in 0..c {
                let s = gamma * us[i];
                let e = params.log_scale(s).exp();
                let inside = (x[i] * e + gamma * ut[i]).abs() <= LIMIT;
                let dt = if inside { dy[i] } else { 0.0 };
                let ratio = s / params.alpha;
                let ds = (dt * x[i] * e + dl) * 0.636 / (1.0 + ratio * ratio);
                dx[i] = dt * e;
                dus[i] = gamma * ds;
                dut[i] = gamma * dt;
                share += (ds * us[i] + dt * ut[i]) as f64;
            }
            share
        })
        .collect();
    (dx, du, shares.into_iter().sum::<f64>() as f32)
}

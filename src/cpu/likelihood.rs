//! The teacher's negative log-likelihood per pixel; see `shaders/likelihood.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub pixels: u32,
    pub channels: u32,
}

pub fn forward(z: &[f32], log_det: &[f32], mask: &[f32], params: &Params) -> Vec<f32> {
    let pixels = z
        .par_chunks(params.channels as usize)
        .zip(log_det)
        .zip(mask);
    pixels
        .with_min_len(64)
        .map(|((z, log_det), mask)| {
            let square: f64 = z.iter().map(|&z| z as f64 * z as f64).sum();
            mask * (0.5 * square - *log_det as f64) as f32
        })
        .collect()
}

/// (dz, dlog_det)
pub fn backward(z: &[f32], dmap: &[f32], mask: &[f32], params: &Params) -> (Vec<f32>, Vec<f32>) {
    let mut dz = z.to_vec();
    let pixels = dz
        .par_chunks_mut(params.channels as usize)
        .zip(dmap)
        .zip(mask);
    pixels
        .with_min_len(64)
        .for_each(|((dz, g), mask)| dz.iter_mut().for_each(|z| *z *= g * mask));
    (
        dz,
        dmap.iter().zip(mask).map(|(g, mask)| -g * mask).collect(),
    )
}

//! The masked squared distance per pixel; see `shaders/distance.wgsl`.

use super::pool::copy;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub pixels: u32,
    pub channels: u32,
}

pub fn forward(student: &[f32], teacher: &[f32], mask: &[f32], params: &Params) -> Vec<f32> {
    let c = params.channels as usize;
    let pixels = student.par_chunks(c).zip(teacher.par_chunks(c)).zip(mask);
    pixels
        .with_min_len(64)
        .map(|((s, t), mask)| {
            let sum: f64 = s.iter().zip(t).map(|(s, t)| ((s - t) as f64).powi(2)).sum();
            mask * (sum / c as f64) as f32
        })
        .collect()
}

pub fn backward(
    student: &[f32],
    teacher: &[f32],
    mask: &[f32],
    dmap: &[f32],
    params: &Params,
) -> Vec<f32> {
    let c = params.channels as usize;
    let mut ds = copy(student);
    let pixels = ds
        .par_chunks_mut(c)
        .zip(teacher.par_chunks(c))
        .zip(mask.par_iter().zip(dmap));
    pixels.with_min_len(64).for_each(|((ds, t), (mask, g))| {
        let weight = 2.0 * g * mask / c as f32;
        ds.iter_mut()
            .zip(t)
            .for_each(|(s, t)| *s = weight * (*s - t));
    });
    ds
}

//! Channel concatenation; see `shaders/concat.wgsl`.

use super::pool::take;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub pixels: u32,
    pub first: u32,
    pub second: u32,
}

pub fn concat(a: &[f32], b: &[f32], params: &Params) -> Vec<f32> {
    let (first, second) = (params.first as usize, params.second as usize);
    let mut y = take(params.pixels as usize * (first + second));
    let pixels = y
        .par_chunks_exact_mut(first + second)
        .zip(a.par_chunks(first))
        .zip(b.par_chunks(second));
    pixels.with_min_len(256).for_each(|((y, a), b)| {
        y[..first].copy_from_slice(a);
        y[first..].copy_from_slice(b);
    });
    y
}

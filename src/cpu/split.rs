//! A slice of the channels; see `shaders/split.wgsl`.

use super::pool::take;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub pixels: u32,
    pub channels: u32,
    pub start: u32,
    pub count: u32,
}

pub fn slice(x: &[f32], params: &Params) -> Vec<f32> {
    let (start, count) = (params.start as usize, params.count as usize);
    let mut y = take(params.pixels as usize * count);
    let pixels = y
        .par_chunks_exact_mut(count)
        .zip(x.par_chunks(params.channels as usize));
    pixels
        .with_min_len(256)
        .for_each(|(y, x)| y.copy_from_slice(&x[start..start + count]));
    y
}

//! The scaling of squeeze-and-excite; see `shaders/scale.wgsl`.

use super::pool::copy;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub n: u32,
    pub pixels: u32,
    pub channels: u32,
}

pub fn scale(x: &[f32], gate: &[f32], params: &Params) -> Vec<f32> {
    let (pixels, channels) = (params.pixels as usize, params.channels as usize);
    let mut y = copy(x);
    y.par_chunks_exact_mut(channels)
        .with_min_len(256)
        .enumerate()
        .for_each(|(pixel, y)| {
            let gate = &gate[pixel / pixels * channels..][..channels];
            y.iter_mut().zip(gate).for_each(|(y, g)| *y *= g);
        });
    y
}

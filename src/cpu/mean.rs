//! Global mean; see `shaders/mean.wgsl`.

use super::conv2d::column_sums;
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub n: u32,
    pub pixels: u32,
    pub channels: u32,
}

pub fn mean(x: &[f32], params: &Params) -> Vec<f32> {
    let (pixels, channels) = (params.pixels as usize, params.channels as usize);
    x.chunks_exact(pixels * channels)
        .flat_map(|sample| column_sums(sample, channels))
        .map(|sum| sum / pixels as f32)
        .collect()
}

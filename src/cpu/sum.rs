//! Weighted sum of everything; see `shaders/sum.wgsl`.

use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub count: u32,
    pub weight: f32,
}

pub fn sum(x: &[f32], weight: f32) -> f32 {
    (weight as f64 * x.iter().map(|&x| x as f64).sum::<f64>()) as f32
}

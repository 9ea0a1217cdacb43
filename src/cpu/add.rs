//! Elementwise sum; see `shaders/add.wgsl`.

use super::pool::copy;
use super::vectorised;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Params {
    pub count: u32,
}

pub fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut sum = copy(a);
    sum.par_chunks_mut(16 * 1024)
        .zip(b.par_chunks(16 * 1024))
        .for_each(|(sum, b)| {
            vectorised(
                #[inline(always)]
                || sum.iter_mut().zip(b).for_each(|(s, b)| *s += b),
            )
        });
    sum
}

//! Channel permutation; see `shaders/permute.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub pixels: u32,
    pub channels: u32,
}

/// `order` holds integers.
pub fn permute(x: &[f32], order: &[f32]) -> Vec<f32> {
    let c = order.len();
    let mut y = vec![0.0; x.len()];
    y.par_chunks_exact_mut(c)
        .zip(x.par_chunks(c))
        .with_min_len(256)
        .for_each(|(y, x)| {
            y.iter_mut()
                .zip(order)
                .for_each(|(y, &from)| *y = x[from as usize]);
        });
    y
}

//! The gate of squeeze-and-excite; see `shaders/excite.wgsl`.

use super::activation::{Activation, forward};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub n: u32,
    pub channels: u32,
    pub hidden: u32,
}

/// Weight `[inputs,outputs]` and bias `[outputs]` of a 1×1 convolution on one pixel.
pub type Pointwise<'a> = (&'a [f32], &'a [f32]);

pub fn excite(x: &[f32], reduce: Pointwise, expand: Pointwise, params: &Params) -> Vec<f32> {
    let samples = x.chunks_exact(params.channels as usize);
    let gate = |x| {
        let hidden = forward(&pointwise(x, reduce), Activation::Silu);
        forward(&pointwise(&hidden, expand), Activation::Sigmoid)
    };
    samples.flat_map(gate).collect()
}

fn pointwise(x: &[f32], (weight, bias): Pointwise) -> Vec<f32> {
    let mut y = bias.to_vec();
    for (&x, row) in x.iter().zip(weight.chunks_exact(y.len())) {
        y.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
    }
    y
}

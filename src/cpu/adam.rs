//! One step of Adam; see `shaders/adam.wgsl`.

use super::vectorised;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub count: u32,
    /// Learning rate over 1 − β1ᵗ.
    pub rate: f32,
    pub beta1: f32,
    pub beta2: f32,
    /// 1 − β1 and 1 − β2, rounded once: 1 − 0.999 in f32 is off by 1.3e-5.
    pub new1: f32,
    pub new2: f32,
    pub epsilon: f32,
    pub decay: f32,
    /// √(1 − β2ᵗ)
    pub correction: f32,
    /// What a gradient is multiplied by where it was scaled, on a GPU in f16.
    pub unscale: f32,
}

const CHUNK: usize = 16 * 1024;

pub fn step(p: &mut [f32], m: &mut [f32], v: &mut [f32], grad: &[f32], params: &Params) {
    let state = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    let all = p
        .par_chunks_mut(CHUNK)
        .zip(state)
        .zip(grad.par_chunks(CHUNK));
    all.for_each(|((p, (m, v)), grad)| {
        vectorised(
            #[inline(always)]
            || {
                for (((p, m), v), grad) in p.iter_mut().zip(m).zip(v).zip(grad) {
                    let g = grad + params.decay * *p;
                    *m = params.beta1 * *m + params.new1 * g;
                    *v = params.beta2 * *v + params.new2 * g * g;
                    *p -= params.rate * *m / (v.sqrt() / params.correction + params.epsilon);
                }
            },
        )
    });
}

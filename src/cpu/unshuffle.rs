//! Pixel-unshuffle and its inverse; see `shaders/unshuffle.wgsl`.

use super::pool::take;
use bytemuck::{Pod, Zeroable};

/// large `[n,h·d,w·d,c]`, small `[n,h,w,c·d²]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
    pub d: u32,
}

impl Params {
    /// Where the elements of the small layout lie in the large one, in order.
    fn large_indices(self) -> impl Iterator<Item = usize> {
        let [n, h, w, c, d] = [self.n, self.h, self.w, self.c, self.d].map(|x| x as usize);
        (0..n * h).flat_map(move |row| {
            (0..w).flat_map(move |x| {
                (0..c).flat_map(move |channel| {
                    (0..d * d)
                        .map(move |i| ((row * d + i / d) * w * d + x * d + i % d) * c + channel)
                })
            })
        })
    }
}

pub fn unshuffle(x: &[f32], params: &Params) -> Vec<f32> {
    params.large_indices().map(|i| x[i]).collect()
}

pub fn shuffle(x: &[f32], params: &Params) -> Vec<f32> {
    let mut y = take(x.len());
    params.large_indices().zip(x).for_each(|(i, &x)| y[i] = x);
    y
}

//! Channels in another order, in halves; see `shaders/permute.wgsl`.

use super::pool::take;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub pixels: u32,
    pub channels: u32,
    pub a_width: u32,
    pub b_width: u32,
    pub first_in: u32,
    pub first_out: u32,
    pub tail: u32,
    pub ordered: u32,
    pub conditioned: u32,
}

/// y1 and y2. `order` holds integers.
pub fn permute(
    [a, b]: [&[f32]; 2],
    order: Option<&[f32]>,
    condition: Option<&[f32]>,
    p: &Params,
) -> [Vec<f32>; 2] {
    let [pixels, channels, a_width, b_width] =
        [p.pixels, p.channels, p.a_width, p.b_width].map(|n| n as usize);
    let [first_in, first_out, tail] = [p.first_in, p.first_out, p.tail].map(|n| n as usize);
    let half = |channels: std::ops::Range<usize>| {
        let count = channels.len();
        // (to, from), apart by where they come from: to ask at every element takes longer than to copy it.
        let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
        for (to, c) in channels.enumerate() {
            let from = order.map_or(c, |order| order[c] as usize);
            match from.checked_sub(first_in) {
                None => from_a.push((to, from)),
                Some(from) => from_b.push((to, from)),
            }
        }
        let mut y = take(pixels * (count + tail));
        let rows = y.par_chunks_mut((count + tail).max(1)).enumerate();
        rows.with_min_len(64).for_each(|(pixel, row)| {
            let a = &a[pixel * a_width..][..a_width];
            let b = &b[pixel * b_width..][..b_width];
            from_a.iter().for_each(|&(to, from)| row[to] = a[from]);
            from_b.iter().for_each(|&(to, from)| row[to] = b[from]);
            match condition {
                Some(condition) => row[count..].copy_from_slice(&condition[pixel * tail..][..tail]),
                None => row[count..].fill(0.0),
            }
        });
        y
    };
    [half(0..first_out), half(first_out..channels)]
}

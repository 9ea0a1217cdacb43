//! Bilinear resize with antialiasing, bit for bit what PIL computes (spec section 1).
//!
//! PIL resizes in two passes, rows first, then columns. 8-bit pictures use 22-bit fixed-point
//! weights and are rounded to 8 bit after each pass; float pictures accumulate in f64 and are
//! rounded to f32 after each pass (Pillow, `src/libImaging/Resample.c`). Pillow 13 swaps the passes
//! where the height shrinks and the width grows; we keep the order of all versions before it.

use crate::cpu::vectorised;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Channels of a picture; grey pictures are repeated to three when they are loaded.
const CHANNELS: usize = 3;

/// That a thread takes at once.
const ROWS: usize = 16;

/// Pillow's `PRECISION_BITS`: 32 bits less 8 of the pixel and 2 of headroom.
const PRECISION_BITS: u32 = 22;

/// How a picture is brought to the model's square input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Fill the target, whatever the aspect ratio: torchvision's `Resize((h, w))`.
    #[default]
    Stretch,
    /// Keep the aspect ratio, centre the picture and pad the rest.
    Letterbox,
}

/// The rectangle of a target that a resized picture covers, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

impl Resize {
    /// Where a picture of `from` (width, height) lands in a target of `to` (width, height).
    pub fn placement(self, from: (usize, usize), to: (usize, usize)) -> Placement {
        let (width, height) = match self {
            Self::Stretch => to,
            Self::Letterbox => {
                let scale = (to.0 as f64 / from.0 as f64).min(to.1 as f64 / from.1 as f64);
                let fit = |side: usize, limit: usize| {
                    ((side as f64 * scale).round() as usize).clamp(1, limit)
                };
                (fit(from.0, to.0), fit(from.1, to.1))
            }
        };
        Placement {
            x: (to.0 - width) / 2,
            y: (to.1 - height) / 2,
            width,
            height,
        }
    }
}

/// Resizes 8-bit pixels `[height, width, 3]` to `[to.1, to.0, 3]`.
pub fn resize_u8(pixels: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    let mut rows = Cow::Borrowed(pixels);
    if from.0 != to.0 {
        let taps = Taps::new(from.0, to.0);
        let weights = taps.fixed_point();
        let mut narrowed = vec![0; to.0 * from.1 * CHANNELS];
        narrowed
            .par_chunks_exact_mut(to.0 * CHANNELS)
            .zip(pixels.par_chunks_exact(from.0 * CHANNELS))
            .with_min_len(ROWS)
            .for_each_init(
                || vec![0; from.0 * CHANNELS + 1],
                |longer, (out, row)| {
                    longer[..row.len()].copy_from_slice(row);
                    vectorised(
                        #[inline(always)]
                        || taps.row_u8(&weights, longer, out),
                    )
                },
            );
        rows = Cow::Owned(narrowed);
    }
    if from.1 == to.1 {
        return rows.into_owned();
    }
    let taps = Taps::new(from.1, to.1);
    let weights = taps.fixed_point();
    let stride = to.0 * CHANNELS;
    let mut out = vec![0; stride * to.1];
    let lines = out.par_chunks_exact_mut(stride).enumerate();
    lines.with_min_len(ROWS).for_each_init(
        || vec![0i32; stride],
        |sums, (y, out)| {
            vectorised(
                #[inline(always)]
                || taps.column_u8(&weights, &rows, y, sums, out),
            )
        },
    );
    out
}

/// Resizes float pixels `[height, width, 3]` to `[to.1, to.0, 3]`; PIL's mode `F`.
pub fn resize_f32(pixels: &[f32], from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
    let mut rows = Cow::Borrowed(pixels);
    if from.0 != to.0 {
        let taps = Taps::new(from.0, to.0);
        let mut narrowed = vec![0.0; to.0 * from.1 * CHANNELS];
        narrowed
            .par_chunks_exact_mut(to.0 * CHANNELS)
            .zip(pixels.par_chunks_exact(from.0 * CHANNELS))
            .with_min_len(ROWS)
            .for_each(|(out, row)| taps.row_f32(row, out));
        rows = Cow::Owned(narrowed);
    }
    if from.1 == to.1 {
        return rows.into_owned();
    }
    let taps = Taps::new(from.1, to.1);
    let stride = to.0 * CHANNELS;
    let mut out = vec![0.0; stride * to.1];
    let lines = out.par_chunks_exact_mut(stride).enumerate();
    lines.with_min_len(ROWS).for_each_init(
        || vec![0f64; stride],
        |sums, (y, out)| taps.column_f32(&rows, y, sums, out),
    );
    out
}

/// For each output position the input positions that it averages, and their weights.
struct Taps {
    /// First input position and number of positions, per output position.
    ranges: Vec<(usize, usize)>,
    /// `stride` weights per output position; those past its range are 0.
    weights: Vec<f64>,
    stride: usize,
}

impl Taps {
    /// Pillow's `precompute_coeffs` for the triangle filter.
    fn new(input: usize, output: usize) -> Self {
        let scale = input as f64 / output as f64;
        let filter_scale = scale.max(1.0);
        let support = filter_scale;
        let stride = support.ceil() as usize * 2 + 1;
        let mut ranges = Vec::with_capacity(output);
        let mut weights = vec![0.0; output * stride];
        for (x, weights) in weights.chunks_exact_mut(stride).enumerate() {
            let center = (x as f64 + 0.5) * scale;
            // `as usize` cuts towards zero and turns negatives to 0, as Pillow does in two steps.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let count = end - first;
            for (i, weight) in weights[..count].iter_mut().enumerate() {
                let distance = ((i + first) as f64 - center + 0.5) * (1.0 / filter_scale);
                *weight = (1.0 - distance.abs()).max(0.0);
            }
            // The sum is taken in order, as Pillow takes it.
            let total: f64 = weights[..count].iter().sum();
            if total != 0.0 {
                weights[..count].iter_mut().for_each(|w| *w /= total);
            }
            ranges.push((first, count));
        }
        Self {
            ranges,
            weights,
            stride,
        }
    }

    fn fixed_point(&self) -> Vec<i32> {
        let one = f64::from(1u32 << PRECISION_BITS);
        self.weights
            .iter()
            .map(|w| (0.5 + w * one) as i32)
            .collect()
    }

    /// `row` has one more byte than its pixels.
    #[inline(always)]
    fn row_u8(&self, weights: &[i32], row: &[u8], out: &mut [u8]) {
        let targets = out.chunks_exact_mut(CHANNELS);
        for ((out, weights), &(first, count)) in targets
            .zip(weights.chunks_exact(self.stride))
            .zip(&self.ranges)
        {
            // A fourth channel makes it a vector; what it holds is the next pixel's.
            let mut sums = [1i32 << (PRECISION_BITS - 1); CHANNELS + 1];
            let pixels = row[first * CHANNELS..].windows(CHANNELS + 1);
            for (weight, pixel) in weights[..count].iter().zip(pixels.step_by(CHANNELS)) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            for c in 0..CHANNELS {
                out[c] = clip(sums[c]);
            }
        }
    }

    #[inline(always)]
    fn column_u8(&self, weights: &[i32], rows: &[u8], y: usize, sums: &mut [i32], out: &mut [u8]) {
        let (first, count) = self.ranges[y];
        let weights = &weights[y * self.stride..][..count];
        sums.fill(1 << (PRECISION_BITS - 1));
        let rows = rows[first * out.len()..].chunks_exact(out.len());
        for (weight, row) in weights.iter().zip(rows) {
            for (sum, &pixel) in sums.iter_mut().zip(row) {
                *sum += i32::from(pixel) * weight;
            }
        }
        for (out, &sum) in out.iter_mut().zip(&*sums) {
            *out = clip(sum);
        }
    }

    fn row_f32(&self, row: &[f32], out: &mut [f32]) {
        let targets = out.chunks_exact_mut(CHANNELS);
        for ((out, weights), &(first, count)) in targets
            .zip(self.weights.chunks_exact(self.stride))
            .zip(&self.ranges)
        {
            let mut sums = [0f64; CHANNELS];
            let pixels = row[first * CHANNELS..].chunks_exact(CHANNELS);
            for (weight, pixel) in weights[..count].iter().zip(pixels) {
                for c in 0..CHANNELS {
                    sums[c] += f64::from(pixel[c]) * weight;
                }
            }
            for c in 0..CHANNELS {
                out[c] = sums[c] as f32;
            }
        }
    }

    fn column_f32(&self, rows: &[f32], y: usize, sums: &mut [f64], out: &mut [f32]) {
        let (first, count) = self.ranges[y];
        let weights = &self.weights[y * self.stride..][..count];
        sums.fill(0.0);
        let rows = rows[first * out.len()..].chunks_exact(out.len());
        for (weight, row) in weights.iter().zip(rows) {
            for (sum, &pixel) in sums.iter_mut().zip(row) {
                *sum += f64::from(pixel) * weight;
            }
        }
        for (out, &sum) in out.iter_mut().zip(&*sums) {
            *out = sum as f32;
        }
    }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

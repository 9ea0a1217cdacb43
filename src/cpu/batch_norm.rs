//! Batch normalisation while training; see `shaders/batch_norm.wgsl`.

use super::conv2d::column_sums;
use super::pool::{copy, take};
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

/// x `[rows,channels]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub rows: u32,
    pub channels: u32,
    pub epsilon: f32,
    pub momentum: f32,
}

/// What [`statistics`] finds: `stats` holds the means, then the inverse standard deviations.
pub struct Statistics {
    pub stats: Vec<f32>,
    pub running_mean: Vec<f32>,
    pub running_var: Vec<f32>,
}

pub fn statistics(
    x: &[f32],
    running_mean: &[f32],
    running_var: &[f32],
    params: &Params,
) -> Statistics {
    let (rows, c) = (params.rows as f32, params.channels as usize);
    let mean: Vec<f32> = column_sums(x, c).iter().map(|sum| sum / rows).collect();
    let mut squares = copy(x);
    squares.par_chunks_mut(c).with_min_len(64).for_each(|row| {
        row.iter_mut()
            .zip(&mean)
            .for_each(|(x, mean)| *x = (*x - mean) * (*x - mean));
    });
    let squares = column_sums(&squares, c);
    let blend = |old: &[f32], new: Vec<f32>| -> Vec<f32> {
        old.iter()
            .zip(new)
            .map(|(old, new)| (1.0 - params.momentum) * old + params.momentum * new)
            .collect()
    };
    let unbiased = squares.iter().map(|s| s / (rows - 1.0).max(1.0)).collect();
    let inv_std = squares
        .iter()
        .map(|s| 1.0 / (s / rows + params.epsilon).sqrt());
    Statistics {
        stats: mean.iter().copied().chain(inv_std).collect(),
        running_mean: blend(running_mean, mean),
        running_var: blend(running_var, unbiased),
    }
}

pub fn forward(x: &[f32], stats: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let (mean, inv_std) = stats.split_at(bias.len());
    let mut y = copy(x);
    y.par_chunks_mut(bias.len())
        .with_min_len(64)
        .for_each(|row| {
            for (c, y) in row.iter_mut().enumerate() {
                *y = (*y - mean[c]) * inv_std[c] * weight[c] + bias[c];
            }
        });
    y
}

/// (dx, dweight, dbias). Computed in f64: with few rows dx is a small difference of large terms.
pub fn backward(
    x: &[f32],
    stats: &[f32],
    weight: &[f32],
    dy: &[f32],
    params: &Params,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (rows, c) = (params.rows as f64, params.channels as usize);
    let mean = &stats[..c];
    let [off, square, plain, product] = sums(x, mean, dy);
    let mut dx = take(x.len());
    // dx = slope·dy + linear·(x - mean) + constant
    let (mut slope, mut linear, mut constant) = (vec![0.0; c], vec![0.0; c], vec![0.0; c]);
    let mut dweight = vec![0.0; c];
    for i in 0..c {
        // The mean was rounded to f32; this is what it lacks.
        let rest = off[i] / rows;
        let inv_std = 1.0 / (square[i] / rows - rest * rest + params.epsilon as f64).sqrt();
        let dw = inv_std * (product[i] - rest * plain[i]);
        dweight[i] = dw as f32;
        slope[i] = weight[i] as f64 * inv_std;
        linear[i] = -slope[i] * inv_std * dw / rows;
        constant[i] = -slope[i] * plain[i] / rows - linear[i] * rest;
    }
    let inputs = x.par_chunks(c).zip(dy.par_chunks(c));
    let all = dx.par_chunks_mut(c).zip(inputs).with_min_len(64);
    all.for_each(|(dx, (x, dy))| {
        for i in 0..c {
            let off = x[i] as f64 - mean[i] as f64;
            dx[i] = (slope[i] * dy[i] as f64 + linear[i] * off + constant[i]) as f32;
        }
    });
    (dx, dweight, plain.iter().map(|&s| s as f32).collect())
}

/// Per channel Σ off, Σ off², Σ dy and Σ off·dy, where off = x - mean. The chunks do not depend on
/// the number of threads, so neither does the result.
fn sums(x: &[f32], mean: &[f32], dy: &[f32]) -> [Vec<f64>; 4] {
    let c = mean.len();
    let zero = || [(); 4].map(|()| vec![0.0; c]);
    let chunks = x.par_chunks(1024 * c).zip(dy.par_chunks(1024 * c));
    let parts: Vec<[Vec<f64>; 4]> = chunks
        .map(|(x, dy)| {
            let mut sums = zero();
            let [off_sum, square, plain, product] = &mut sums;
            for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
                for i in 0..c {
                    let (off, dy) = (x[i] as f64 - mean[i] as f64, dy[i] as f64);
                    off_sum[i] += off;
                    square[i] += off * off;
                    plain[i] += dy;
                    product[i] += off * dy;
                }
            }
            sums
        })
        .collect();
    let mut total = zero();
    for part in &parts {
        for (total, part) in total.iter_mut().zip(part) {
            total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        }
    }
    total
}

//! Batch normalisation while training; see `shaders/batch_norm.wgsl`.

use super::conv2d::column_sums;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

/// x [rows,channels].
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
    let mut squares = x.to_vec();
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
    let mut y = x.to_vec();
    y.par_chunks_mut(bias.len())
        .with_min_len(64)
        .for_each(|row| {
            for (c, y) in row.iter_mut().enumerate() {
                *y = (*y - mean[c]) * inv_std[c] * weight[c] + bias[c];
            }
        });
    y
}

/// (dx, dweight, dbias)
pub fn backward(
    x: &[f32],
    stats: &[f32],
    weight: &[f32],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let c = weight.len();
    let rows = (x.len() / c) as f32;
    let (mean, inv_std) = stats.split_at(c);
    let dbias = column_sums(dy, c);
    let mut products = x.to_vec();
    products
        .par_chunks_mut(c)
        .zip(dy.par_chunks(c))
        .with_min_len(64)
        .for_each(|(row, dy)| {
            for i in 0..c {
                row[i] = dy[i] * (row[i] - mean[i]) * inv_std[i];
            }
        });
    let dweight = column_sums(&products, c);
    let mut dx = products;
    let inputs = x.par_chunks(c).zip(dy.par_chunks(c));
    dx.par_chunks_mut(c)
        .zip(inputs)
        .with_min_len(64)
        .for_each(|(dx, (x, dy))| {
            for i in 0..c {
                let normalised = (x[i] - mean[i]) * inv_std[i];
                dx[i] =
                    weight[i] * inv_std[i] * (dy[i] - (dbias[i] + normalised * dweight[i]) / rows);
            }
        });
    (dx, dweight, dbias)
}

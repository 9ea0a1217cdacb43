//! From a depth map to the model's depth input and foreground mask (spec section 3).

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::depth_map::DepthMap;
use super::resize::{Placement, Resize};
use crate::kernel::step;
use crate::{Error, Result};

/// The choices of spec section 3. Lengths are in metres, sizes in pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DepthOptions {
    /// How often holes are filled from their neighbours.
    pub fill_passes: usize,
    /// What counts as background.
    pub background: Background,
    /// A pixel is foreground where it is further than this from the background plane, metres.
    pub foreground_distance: f64,
    /// Side of the square that dilates the foreground; 0 or 1 leaves it.
    pub dilation: usize,
    /// Side of the depth input, a multiple of `map_size` (8 x in the paper).
    pub size: usize,
    /// Side of the feature map and of the mask M.
    pub map_size: usize,
    /// Whether M is binarised (paper, Eq. 5) or left soft (released code).
    pub mask: DepthMask,
    /// Must be that of the picture, so that both cover the same part of the feature map.
    pub resize: Resize,
}

impl Default for DepthOptions {
    fn default() -> Self {
        Self {
            fill_passes: 3,
            background: Background::Plane,
            foreground_distance: 0.007,
            dilation: 8,
            size: 192,
            map_size: 24,
            mask: DepthMask::Binary,
            resize: Resize::Stretch,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Background {
    /// The surface through the four corners of the map: a part lying on a table.
    #[default]
    Plane,
    /// None: every valid pixel belongs to the part, as where a surface fills the picture.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DepthMask {
    #[default]
    Binary,
    Soft,
}

/// What the model reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Depth {
    /// Depth around the foreground's mean in centimetres, 0 in the background, `[size, size]`.
    pub depth: Vec<f32>,
    /// Dilated foreground, 0 or 1, `[size, size]`.
    pub foreground: Vec<u8>,
    /// The mask M, `[map_size, map_size]`: 0 or 1, or between where `mask = soft`.
    /// All 0 where nothing stands out from the background: the caller decides what that means.
    pub mask: Vec<f32>,
}

/// Spec section 3, steps 2 to 8. `path` names the map in errors.
///
/// Errors: a map without a valid pixel; a corner without one in a quarter of the side; sizes that
/// do not fit each other.
pub fn preprocess(map: &DepthMap, options: &DepthOptions, path: &Path) -> Result<Depth> {
    let _step = step("prepare depth");
    check(options)?;
    if !map.has_measurement() {
        return Err(Error::file(
            path,
            "the depth map has only holes (0, negative, NaN or infinite); expected distances",
        ));
    }
    let mut z = map.z.clone();
    fill_holes(&mut z, map.width, options.fill_passes);
    let plane = match options.background {
        Background::Plane => Some(Plane::through_corners(&z, map.width, path)?),
        Background::None => None,
    };
    let foreground = Foreground::new(&z, map.width, plane, options.foreground_distance);

    let size = options.size;
    let from = (map.width, map.height);
    let place = options.resize.placement(from, (size, size));
    let centred = |i: usize| match foreground.mask[i] {
        1 => (z[i] - foreground.mean) * 100.0,
        _ => 0.0,
    };
    let depth = bilinear(centred, from, place, size);
    let covered = bilinear(|i| f32::from(foreground.mask[i]), from, place, size);
    let covered: Vec<u8> = covered.iter().map(|&x| u8::from(x > 0.0)).collect();
    let dilated = dilate(&covered, size, options.dilation);

    let full = Resize::Stretch.placement((size, size), (options.map_size, options.map_size));
    let value = |i: usize| f32::from(dilated[i]);
    let mut mask = bilinear(value, (size, size), full, options.map_size);
    if options.mask == DepthMask::Binary {
        mask.iter_mut().for_each(|m| *m = f32::from(*m > 0.0));
    }
    Ok(Depth {
        depth,
        foreground: dilated,
        mask,
    })
}

fn check(options: &DepthOptions) -> Result<()> {
    let (size, map) = (options.size, options.map_size);
    if map == 0 || size == 0 || !size.is_multiple_of(map) {
        return Err(Error::usage(format!(
            "depth size {size} must be a positive multiple of the feature map's side {map}"
        )));
    }
    let distance = options.foreground_distance;
    if !(distance >= 0.0 && distance.is_finite()) {
        return Err(Error::usage(format!(
            "foreground_distance is {distance}; expected metres, 0 or above"
        )));
    }
    Ok(())
}

/// Replaces each missing pixel (0) by the mean of the valid ones among its eight neighbours, where
/// there is one. Each of the `passes` reads only what the pass before left.
pub fn fill_holes(z: &mut [f32], width: usize, passes: usize) {
    let mut holes: Vec<usize> = (0..z.len()).filter(|&i| z[i] <= 0.0).collect();
    for _ in 0..passes {
        let filled: Vec<f32> = holes
            .par_iter()
            .with_min_len(4096)
            .map(|&i| neighbour_mean(z, width, i))
            .collect();
        for (&i, &value) in holes.iter().zip(&filled) {
            z[i] = value;
        }
        holes.retain(|&i| z[i] <= 0.0);
    }
}

/// Mean of the valid neighbours of pixel `i`, 0 where there is none.
fn neighbour_mean(z: &[f32], width: usize, i: usize) -> f32 {
    let (x, y, height) = (i % width, i / width, z.len() / width);
    let columns = x.saturating_sub(1)..(x + 2).min(width);
    let (mut sum, mut count) = (0.0, 0.0);
    for row in y.saturating_sub(1)..(y + 2).min(height) {
        // Missing pixels, the centre among them, are 0: they add nothing to the sum.
        for &z in &z[row * width..][columns.clone()] {
            sum += z;
            count += f32::from(z > 0.0);
        }
    }
    if count > 0.0 { sum / count } else { 0.0 }
}

/// The background: bilinear between the depths at the four corner pixels, metres.
#[derive(Clone, Copy, Debug)]
struct Plane {
    top: [f64; 2],
    bottom: [f64; 2],
}

impl Plane {
    fn through_corners(z: &[f32], width: usize, path: &Path) -> Result<Self> {
        let corner = |right, bottom| corner_depth(z, width, right, bottom, path);
        Ok(Self {
            top: [corner(false, false)?, corner(true, false)?],
            bottom: [corner(false, true)?, corner(true, true)?],
        })
    }

    /// Left end and slope of the plane in one row; `y` and the column run from 0 to 1.
    fn row(&self, y: f64) -> (f64, f64) {
        let at = |i: usize| self.top[i] + (self.bottom[i] - self.top[i]) * y;
        (at(0), at(1) - at(0))
    }
}

/// Mean over the valid pixels of the smallest corner patch (2, 4, 8 … up to a quarter of the
/// shorter side) that has one.
fn corner_depth(z: &[f32], width: usize, right: bool, bottom: bool, path: &Path) -> Result<f64> {
    let height = z.len() / width;
    let limit = (width.min(height) / 4).max(2);
    let mut side = 2;
    while side <= limit {
        let span = |far, length: usize| match far {
            true => length.saturating_sub(side)..length,
            false => 0..side.min(length),
        };
        let columns = span(right, width);
        let (mut sum, mut count) = (0.0, 0.0);
        for row in span(bottom, height) {
            for &z in &z[row * width..][columns.clone()] {
                sum += f64::from(z);
                count += f64::from(u8::from(z > 0.0));
            }
        }
        if count > 0.0 {
            return Ok(sum / count);
        }
        side *= 2;
    }
    let name = match (bottom, right) {
        (false, false) => "upper left",
        (false, true) => "upper right",
        (true, false) => "lower left",
        (true, true) => "lower right",
    };
    Err(Error::file(
        path,
        format!(
            "the {name} corner has no valid depth within {limit} pixels, so the background plane \
             is unknown; where the part fills the picture, use `--set depth.background=none`"
        ),
    ))
}

struct Foreground {
    /// 1 on the part, `[height, width]`.
    mask: Vec<u8>,
    /// Mean depth of the part, metres; 0 where there is none.
    mean: f32,
}

impl Foreground {
    fn new(z: &[f32], width: usize, plane: Option<Plane>, distance: f64) -> Self {
        let height = z.len() / width;
        let step = |length: usize| 1.0 / (length.max(2) - 1) as f64;
        let (dx, dy) = (step(width), step(height));
        let mut mask = vec![0u8; z.len()];
        // Sums by row, then added in order: the same bits for any number of threads.
        let sums: Vec<(f64, usize)> = mask
            .par_chunks_exact_mut(width)
            .zip(z.par_chunks_exact(width))
            .enumerate()
            .map(|(y, (mask, z))| {
                let row = plane.map(|plane| plane.row(y as f64 * dy));
                for (x, (mask, &z)) in mask.iter_mut().zip(z).enumerate() {
                    let stands_out = row.is_none_or(|(left, slope)| {
                        (left + slope * (x as f64 * dx) - f64::from(z)).abs() > distance
                    });
                    *mask = u8::from(stands_out & (z > 0.0));
                }
                let foreground = || mask.iter().zip(z).filter(|(m, _)| **m == 1);
                let sum = foreground().map(|(_, &z)| f64::from(z)).sum::<f64>();
                (sum, foreground().count())
            })
            .collect();
        let (sum, count) = sums
            .iter()
            .fold((0.0, 0), |(s, n), (sum, count)| (s + sum, n + count));
        let mean = match count {
            0 => 0.0,
            n => (sum / n as f64) as f32,
        };
        Self { mask, mean }
    }
}

/// Bilinear resize without antialiasing (PyTorch's `F.interpolate`, align_corners = false) of the
/// values at `from` (width, height) into `place` of a square of `size`; 0 outside of it.
fn bilinear(
    value: impl Fn(usize) -> f32 + Sync,
    from: (usize, usize),
    place: Placement,
    size: usize,
) -> Vec<f32> {
    let columns: Vec<_> = (0..place.width)
        .map(|x| source(x, from.0, place.width))
        .collect();
    let mut out = vec![0.0; size * size];
    out.par_chunks_exact_mut(size)
        .skip(place.y)
        .take(place.height)
        .enumerate()
        .for_each(|(y, out)| {
            let (y0, y1, fy) = source(y, from.1, place.height);
            let (row0, row1) = (y0 * from.0, y1 * from.0);
            for (out, &(x0, x1, fx)) in out[place.x..].iter_mut().zip(&columns) {
                let upper = value(row0 + x0) * (1.0 - fx) + value(row0 + x1) * fx;
                let lower = value(row1 + x0) * (1.0 - fx) + value(row1 + x1) * fx;
                *out = upper * (1.0 - fy) + lower * fy;
            }
        });
    out
}

/// The two input positions under output position `i` and the weight of the second.
fn source(i: usize, from: usize, to: usize) -> (usize, usize, f32) {
    let scale = from as f64 / to as f64;
    let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
    let first = (at as usize).min(from - 1);
    (first, (first + 1).min(from - 1), (at - first as f64) as f32)
}

/// Dilates a binary square `[size, size]` with a square of `side`, one axis after the other. As in
/// scipy's `binary_dilation` an even square has its centre at `side / 2`: pixel p covers
/// p − side/2 … p + side − 1 − side/2.
pub fn dilate(mask: &[u8], size: usize, side: usize) -> Vec<u8> {
    if side <= 1 {
        return mask.to_vec();
    }
    let (before, after) = (side / 2, side - 1 - side / 2);
    let covered = |p: usize| p.saturating_sub(before)..(p + after + 1).min(size);
    let mut rows = vec![0u8; mask.len()];
    rows.par_chunks_exact_mut(size)
        .zip(mask.par_chunks_exact(size))
        .for_each(|(out, row)| {
            for x in (0..size).filter(|&x| row[x] == 1) {
                out[covered(x)].fill(1);
            }
        });
    let mut out = vec![0u8; mask.len()];
    out.par_chunks_exact_mut(size)
        .enumerate()
        .for_each(|(y, out)| {
            // The rows whose pixels reach row y: the square mirrored.
            let sources = y.saturating_sub(after)..(y + before + 1).min(size);
            for row in rows[sources.start * size..sources.end * size].chunks_exact(size) {
                for (out, &pixel) in out.iter_mut().zip(row) {
                    *out |= pixel;
                }
            }
        });
    out
}

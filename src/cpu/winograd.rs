//! 3×3 convolution with stride 1 by Winograd's F(4×4, 3×3): 36 products per 16 outputs instead of 144
//! (Lavin & Gray 2016). A tile d `[6,6]` becomes V = Bᵀ·d·B, weights g `[3,3]` become U = G·g·Gᵀ, and
//! y `[4,4]` = Aᵀ·(Σ_ci U ∘ V)·A: 36 matrix products over channels.
//!
//! The points are 0, ±3/4, ±3/2, ∞ instead of the usual 0, ±1, ±2, ∞: Bᵀ and Aᵀ stay exact in f32 and
//! the error is half as large (6e-7 with 128 channels, 1.1e-6 with 1024, against 2e-7 and 3e-7 of
//! plain sums).

use super::activation::Activation;
use super::conv2d::{Params, add_up};
use super::matmul::{View, matmul};
use super::vectorised;
use crate::kernel::variant;
use rayon::prelude::*;
use std::ops::{Add, Mul, Sub};

/// Outputs and inputs along a side of a tile.
const OUT: usize = 4;
const IN: usize = 6;
const POINTS: usize = IN * IN;
/// Tiles worked on at once: enough rows for a matrix product, few enough for the cache.
const AT_ONCE: usize = 72;
/// Below this many tiles the transformed weights do not pay.
const FEWEST: usize = 64;
const NARROWEST: u32 = 16;

/// G: polynomials of degree 2 at the points, over the product of distances to the other points.
const G: [[f64; 3]; IN] = {
    const A: f64 = 0.75;
    const B: f64 = 1.5;
    const NEAR: f64 = 1.0 / (2.0 * A * A * (A * A - B * B));
    const FAR: f64 = 1.0 / (2.0 * B * B * (B * B - A * A));
    [
        [1.0 / (A * A * B * B), 0.0, 0.0],
        [NEAR, NEAR * A, NEAR * A * A],
        [NEAR, -NEAR * A, NEAR * A * A],
        [FAR, FAR * B, FAR * B * B],
        [FAR, -FAR * B, FAR * B * B],
        [0.0, 0.0, 1.0],
    ]
};

const LANES: usize = 16;

/// Some channels of one pixel.
#[derive(Clone, Copy)]
struct Lanes([f32; LANES]);

impl Lanes {
    const ZERO: Self = Self([0.0; LANES]);

    #[inline(always)]
    fn load(row: &[f32], from: usize) -> Self {
        let mut lanes = Self::ZERO;
        match row.get(from..from + LANES) {
            Some(whole) => lanes.0.copy_from_slice(whole),
            None => lanes.0[..row.len() - from].copy_from_slice(&row[from..]),
        }
        lanes
    }

    #[inline(always)]
    fn store(self, row: &mut [f32], from: usize) {
        let rest = row.len() - from;
        match row.get_mut(from..from + LANES) {
            Some(whole) => whole.copy_from_slice(&self.0),
            None => row[from..].copy_from_slice(&self.0[..rest]),
        }
    }
}

macro_rules! lanewise {
    ($trait:ident, $method:ident, $op:tt) => {
        impl $trait for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $method(mut self, other: Self) -> Self {
                for i in 0..LANES {
                    self.0[i] $op other.0[i];
                }
                self
            }
        }
    };
}
lanewise!(Add, add, +=);
lanewise!(Sub, sub, -=);

impl Mul<f32> for Lanes {
    type Output = Self;
    #[inline(always)]
    fn mul(mut self, factor: f32) -> Self {
        for i in 0..LANES {
            self.0[i] *= factor;
        }
        self
    }
}

/// Bᵀ·d
#[inline(always)]
fn input(d: [Lanes; IN]) -> [Lanes; IN] {
    let (even1, odd1) = (d[4] - d[2] * 2.25, d[3] * 0.75 - d[1] * 1.6875);
    let (even2, odd2) = (d[4] - d[2] * 0.5625, d[3] * 1.5 - d[1] * 0.84375);
    [
        d[0] * 1.265625 - d[2] * 2.8125 + d[4],
        even1 + odd1,
        even1 - odd1,
        even2 + odd2,
        even2 - odd2,
        d[1] * 1.265625 - d[3] * 2.8125 + d[5],
    ]
}

/// Aᵀ·m
#[inline(always)]
fn output(m: [Lanes; IN]) -> [Lanes; OUT] {
    let (sum1, dif1) = (m[1] + m[2], m[1] - m[2]);
    let (sum2, dif2) = (m[3] + m[4], m[3] - m[4]);
    [
        m[0] + sum1 + sum2,
        dif1 * 0.75 + dif2 * 1.5,
        sum1 * 0.5625 + sum2 * 2.25,
        dif1 * 0.421875 + dif2 * 3.375 + m[5],
    ]
}

/// A·y, which takes a gradient of the output back through Aᵀ.
#[inline(always)]
fn output_back(y: [Lanes; OUT]) -> [Lanes; IN] {
    let (even1, odd1) = (y[0] + y[2] * 0.5625, y[1] * 0.75 + y[3] * 0.421875);
    let (even2, odd2) = (y[0] + y[2] * 2.25, y[1] * 1.5 + y[3] * 3.375);
    [
        y[0],
        even1 + odd1,
        even1 - odd1,
        even2 + odd2,
        even2 - odd2,
        y[3],
    ]
}

/// Rows first, then columns.
#[inline(always)]
fn both<const I: usize, const O: usize>(
    x: [[Lanes; I]; I],
    f: impl Fn([Lanes; I]) -> [Lanes; O],
) -> [[Lanes; O]; O] {
    let mut rows = [[Lanes::ZERO; O]; I];
    for i in 0..I {
        rows[i] = f(x[i]);
    }
    let mut out = [[Lanes::ZERO; O]; O];
    for j in 0..O {
        let mut column = [Lanes::ZERO; I];
        for i in 0..I {
            column[i] = rows[i][j];
        }
        let column = f(column);
        for i in 0..O {
            out[i][j] = column[i];
        }
    }
    out
}

/// Is it 3×3 with stride 1, and large enough to pay?
pub fn suits(params: &Params) -> bool {
    let square = params.kh == 3 && params.kw == 3 && params.stride == 1;
    // More padding than the kernel reaches over would turn into less than none.
    let padded = params.top.max(params.left) < 3;
    let wide = params.c_in.min(params.c_out) >= NARROWEST;
    square && padded && wide && Tiles::of(params).count() >= FEWEST
}

/// The tiles of an output, row by row.
#[derive(Clone, Copy)]
struct Tiles<'a> {
    params: &'a Params,
    down: usize,
    across: usize,
}

/// Some rows of tiles: `first` counts over all pictures.
#[derive(Clone, Copy)]
struct Band {
    first: usize,
    rows: usize,
}

impl<'a> Tiles<'a> {
    fn of(params: &'a Params) -> Self {
        Self {
            params,
            down: (params.out_h as usize).div_ceil(OUT),
            across: (params.out_w as usize).div_ceil(OUT),
        }
    }

    fn rows(&self) -> usize {
        self.params.n as usize * self.down
    }

    fn count(&self) -> usize {
        self.rows() * self.across
    }

    /// Bands of about [`AT_ONCE`] tiles: by geometry alone, so that results do not depend on how many
    /// threads there are.
    fn bands(&self) -> Vec<Band> {
        let size = (AT_ONCE / self.across).max(1);
        let starts = (0..self.rows()).step_by(size);
        let band = |first| Band {
            first,
            rows: size.min(self.rows() - first),
        };
        starts.map(band).collect()
    }

    /// Picture, row and column of the upper left output of each tile of a band.
    fn places(&self, band: Band) -> impl Iterator<Item = [usize; 3]> {
        let (down, across) = (self.down, self.across);
        let rows = band.first..band.first + band.rows;
        rows.flat_map(move |row| {
            (0..across).map(move |column| [row / down, row % down * OUT, column * OUT])
        })
    }

    /// Where in x the pixel (i, j) under a tile begins; `None` in zero padding.
    #[inline(always)]
    fn source(&self, [n, oy, ox]: [usize; 3], i: usize, j: usize) -> Option<usize> {
        let p = self.params;
        let y = p.source(oy as u32, i as u32, p.top, p.h)?;
        let x = p.source(ox as u32, j as u32, p.left, p.w)?;
        Some(((n * p.h as usize + y) * p.w as usize + x) * p.c_in as usize)
    }

    /// Where in y the output (i, j) of a tile begins; `None` beyond the border.
    #[inline(always)]
    fn target(&self, [n, oy, ox]: [usize; 3], i: usize, j: usize) -> Option<usize> {
        let p = self.params;
        let (h, w) = (p.out_h as usize, p.out_w as usize);
        let inside = oy + i < h && ox + j < w;
        inside.then(|| ((n * h + oy + i) * w + ox + j) * p.c_out as usize)
    }

    /// Tiles of `source` `[·,channels]` as `f` transforms them, `[36,tiles,channels]`.
    #[inline(always)]
    fn gather<const I: usize>(
        &self,
        band: Band,
        (source, channels): (&[f32], usize),
        at: impl Fn([usize; 3], usize, usize) -> Option<usize> + Sync,
        f: impl Fn([Lanes; I]) -> [Lanes; IN] + Sync,
    ) -> Vec<f32> {
        let tiles = band.rows * self.across;
        let mut out = vec![0.0; POINTS * tiles * channels];
        vectorised(
            #[inline(always)]
            || {
                for (tile, place) in self.places(band).enumerate() {
                    let mut from = [[None; I]; I];
                    for (i, row) in from.iter_mut().enumerate() {
                        for (j, from) in row.iter_mut().enumerate() {
                            *from = at(place, i, j).map(|at| &source[at..][..channels]);
                        }
                    }
                    for c in (0..channels).step_by(LANES) {
                        let mut d = [[Lanes::ZERO; I]; I];
                        for i in 0..I {
                            for j in 0..I {
                                if let Some(row) = from[i][j] {
                                    d[i][j] = Lanes::load(row, c);
                                }
                            }
                        }
                        let transformed = both(d, &f);
                        for (point, lanes) in transformed.iter().flatten().enumerate() {
                            let row = (point * tiles + tile) * channels;
                            lanes.store(&mut out[row..row + channels], c);
                        }
                    }
                }
            },
        );
        out
    }

    /// V of a band.
    fn inputs(&self, band: Band, x: &[f32]) -> Vec<f32> {
        let at = |place, i, j| self.source(place, i, j);
        self.gather(band, (x, self.params.c_in as usize), at, input)
    }
}

/// y = f(x ∗ weight + bias) (+ residual), as `conv2d::forward`. `turned` takes the weights' taps from
/// the other end and swaps their channels, `[3,3,c_out,c_in]`, as the gradient of the input needs it.
pub fn forward(
    x: &[f32],
    weight: &[f32],
    turned: bool,
    bias: &[f32],
    residual: Option<&[f32]>,
    f: Activation,
    params: &Params,
) -> Vec<f32> {
    variant("winograd");
    let tiles = Tiles::of(params);
    let (c_in, c_out) = (params.c_in as usize, params.c_out as usize);
    let weights = transform_weights(weight, turned);
    let row = params.out_w as usize * c_out;
    let mut y = vec![0.0; params.n as usize * params.out_h as usize * row];
    let mut pieces = Vec::new();
    let mut rest = &mut y[..];
    for band in tiles.bands() {
        let height = |tile_row: usize| OUT.min(params.out_h as usize - tile_row % tiles.down * OUT);
        let rows: usize = (band.first..band.first + band.rows).map(height).sum();
        let (piece, others) = rest.split_at_mut(rows * row);
        pieces.push((band, piece));
        rest = others;
    }
    pieces.into_par_iter().for_each(|(band, y)| {
        let count = band.rows * tiles.across;
        let v = tiles.inputs(band, x);
        let mut m = vec![0.0; POINTS * count * c_out];
        for (point, m) in m.chunks_exact_mut(count * c_out).enumerate() {
            let u = &weights[point * c_in * c_out..][..c_in * c_out];
            let u = match turned {
                true => View::rows(u, c_in).t(),
                false => View::rows(u, c_out),
            };
            let v = View::rows(&v[point * count * c_in..], c_in);
            matmul([count, c_out, c_in], v, u, m, false);
        }
        let first = [band.first / tiles.down, band.first % tiles.down * OUT, 0];
        let start = tiles.target(first, 0, 0).unwrap_or(0);
        vectorised(
            #[inline(always)]
            || {
                for (tile, place) in tiles.places(band).enumerate() {
                    for c in (0..c_out).step_by(LANES) {
                        let mut sums = [[Lanes::ZERO; IN]; IN];
                        for (point, lanes) in sums.iter_mut().flatten().enumerate() {
                            let row = (point * count + tile) * c_out;
                            *lanes = Lanes::load(&m[row..row + c_out], c);
                        }
                        let bias = Lanes::load(bias, c);
                        let out = both(sums, output);
                        for (i, row) in out.iter().enumerate() {
                            for (j, &lanes) in row.iter().enumerate() {
                                let Some(at) = tiles.target(place, i, j) else {
                                    continue;
                                };
                                let mut lanes = lanes + bias;
                                f.apply(&mut lanes.0);
                                if let Some(residual) = residual {
                                    lanes = lanes + Lanes::load(&residual[at..at + c_out], c);
                                }
                                lanes.store(&mut y[at - start..][..c_out], c);
                            }
                        }
                    }
                }
            },
        );
    });
    y
}

/// U = G·g·Gᵀ, `[36, c_in·c_out]`; `turned` from the other end.
fn transform_weights(weight: &[f32], turned: bool) -> Vec<f32> {
    let size = weight.len() / 9;
    let mut u = vec![0.0; POINTS * size];
    u.par_chunks_mut(size).enumerate().for_each(|(point, u)| {
        let taps = (0..9).map(|tap| {
            let from = if turned { 8 - tap } else { tap };
            (coefficient(point, tap), &weight[from * size..][..size])
        });
        add_up(taps, u);
    });
    u
}

/// What tap `tap` counts in U at `point`.
fn coefficient(point: usize, tap: usize) -> f32 {
    (G[point / IN][tap / 3] * G[point % IN][tap % 3]) as f32
}

/// dL/dweight `[3,3,c_in,c_out]`: dU = Vᵀ·(A·dy·Aᵀ) summed over tiles, then Gᵀ·dU·G.
pub fn backward_weight(x: &[f32], grad: &[f32], params: &Params) -> Vec<f32> {
    variant("winograd");
    let tiles = Tiles::of(params);
    let (c_in, c_out) = (params.c_in as usize, params.c_out as usize);
    let size = c_in * c_out;
    let bands: Vec<(usize, Vec<f32>, Vec<f32>)> = (tiles.bands().into_par_iter())
        .map(|band| {
            let at = |place, i, j| tiles.target(place, i, j);
            let dm = tiles.gather(band, (grad, c_out), at, output_back);
            (band.rows * tiles.across, tiles.inputs(band, x), dm)
        })
        .collect();
    let mut du = vec![0.0; POINTS * size];
    du.par_chunks_mut(size).enumerate().for_each(|(point, du)| {
        for (i, (count, v, dm)) in bands.iter().enumerate() {
            let v = View::rows(&v[point * count * c_in..], c_in).t();
            let dm = View::rows(&dm[point * count * c_out..], c_out);
            matmul([c_in, c_out, *count], v, dm, du, i > 0);
        }
    });
    let mut dw = vec![0.0; 9 * size];
    dw.par_chunks_mut(size).enumerate().for_each(|(tap, dw)| {
        let points = (0..POINTS).map(|p| (coefficient(p, tap), &du[p * size..][..size]));
        add_up(points, dw);
    });
    dw
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::conv2d;

    fn distance(found: &[f32], expected: &[f32]) -> f64 {
        assert_eq!(found.len(), expected.len());
        let square = |x: f32| f64::from(x).powi(2);
        let off: f64 = found.iter().zip(expected).map(|(f, e)| square(f - e)).sum();
        (off / expected.iter().map(|&e| square(e)).sum::<f64>()).sqrt()
    }

    #[test]
    fn it_agrees_with_the_plain_convolution_and_its_gradients() {
        for (n, h, w, c_in, c_out, top, left, replicate) in [
            (2, 33, 35, 17, 35, 1, 1, 0),
            (2, 32, 34, 33, 16, 1, 1, 1),
            (1, 41, 38, 20, 48, 0, 2, 0),
            (3, 24, 29, 130, 67, 2, 0, 0),
        ] {
            let after = 2 - top;
            let params = Params {
                n,
                h,
                w,
                c_in,
                out_h: h + top + after - 2,
                out_w: w,
                c_out,
                kh: 3,
                kw: 3,
                stride: 1,
                top,
                left,
                replicate,
                activation: Activation::LeakyRelu(0.2).kind(),
                slope: 0.2,
                residual: 1,
            };
            assert!(suits(&params));
            let mut state = u64::from(c_in);
            // A linear congruential generator: uniform in ±1.
            let mut draw = |count: u32| -> Vec<f32> {
                let mut next = || {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 40) as f32 / (1 << 23) as f32 - 1.0
                };
                (0..count).map(|_| next()).collect()
            };
            let (x, weight) = (draw(n * h * w * c_in), draw(9 * c_in * c_out));
            let (bias, grad) = (draw(c_out), draw(n * h * w * c_out));
            let residual = Some(&grad[..]);
            let f = Activation::LeakyRelu(0.2);
            let y = forward(&x, &weight, false, &bias, residual, f, &params);
            let plain = conv2d::unfolded(&x, &weight, &bias, residual, f, &params);
            let mut errors = vec![distance(&y, &plain)];
            let dx = conv2d::backward_input(&grad, &weight, &params);
            errors.push(distance(&dx, &conv2d::folded(&grad, &weight, &params)));
            let dw = backward_weight(&x, &grad, &params);
            let plain = conv2d::unfolded_weight_gradient(&x, &grad, &params);
            errors.push(distance(&dw, &plain));
            assert!(errors.iter().all(|e| *e < 3e-6), "{errors:?}");
        }
    }
}

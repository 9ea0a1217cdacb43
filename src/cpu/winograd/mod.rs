//! Convolution with stride 1 by Winograd's minimal filtering (Lavin & Gray 2016): F(4×4, 3×3) makes 16
//! outputs from 36 products instead of 144, F(2×2, 5×5) 4 from 36 instead of 100. A tile d `[6,6]`
//! becomes V = Bᵀ·d·B, weights g become U = G·g·Gᵀ, and y = Aᵀ·(Σ_ci U ∘ V)·A: 36 matrix products over
//! channels. U is made where it is used, a block at a time in the cache: it would be four times as large
//! as the weights.
//!
//! The points are 0, ±3/4, ±3/2, ∞ instead of the usual 0, ±1, ±2, ∞: Bᵀ and Aᵀ stay exact in f32 and
//! the error is half as large (6e-7 with 128 channels, 1.1e-6 with 1024, against 2e-7 and 3e-7 of
//! plain sums).

mod gradient;
mod tiles;
mod transform;

pub use gradient::backward_weight;

use super::activation::Activation;
use super::conv2d::Params;
use super::lanes::{Kernel, Lanes, load_row, prefetch, run, store_row};
use super::matmul::{PANEL, Shared, Tiles as Product};
use super::pool::{give, take};
use crate::kernel::variant;
use rayon::prelude::*;
use tiles::{Tiles, Transformed};
use transform::{IN, POINTS, both, output, weights};

/// Channels of the input that are worked on at once.
const DEPTH: usize = 64;
/// A line of the cache between what belongs to one point and to the next: a multiple of 4 KiB apart,
/// they would all fall on the same few lines, and are read and written side by side.
const GAP: usize = 16;
/// Between the taps or points of a block of weights.
const APART: usize = DEPTH * PANEL + GAP;
/// Tiles that a core works on at once, twice as many where all do: enough rows for a matrix product, few enough for the
/// caches.
const AT_ONCE: usize = 72;
/// Channels of the input with which V of so many tiles stays in the caches of a core.
const FEW: u32 = 256;
/// Channels in times out with which it pays (measured): the weights are transformed twice as often.
const FEW_WEIGHTS: u32 = 64 << 10;
/// With fewer tiles or channels the transforms do not pay.
const FEWEST: usize = 9;
const NARROWEST: u32 = 16;

/// Is it 3×3 or 5×5 with stride 1, and large enough to pay?
pub fn suits(params: &Params) -> bool {
    let square = params.kh == params.kw && matches!(params.kh, 3 | 5) && params.stride == 1;
    // More padding than the kernel reaches over would turn into less than none.
    let padded = params.top.max(params.left) < params.kh;
    let wide = params.c_in.min(params.c_out) >= NARROWEST;
    square && padded && wide && Tiles::of(params).count() >= FEWEST
}

/// Who works on a chunk of tiles.
#[derive(Clone, Copy)]
enum Cores {
    /// One core, from V to y: V stays in its caches.
    Apart,
    /// All of them, on tiles and then on panels: where there are few chunks, and where V is too large for that.
    Together,
}

impl Cores {
    /// Fewest chunks for a task of its own.
    fn fewest_chunks(self) -> usize {
        match self {
            Self::Apart => 1,
            Self::Together => usize::MAX,
        }
    }

    /// Fewest tiles or panels of a chunk for one; `each` where they are shared.
    fn fewest(self, each: usize) -> usize {
        match self {
            Self::Apart => usize::MAX,
            Self::Together => each,
        }
    }
}

/// y = f(x ∗ weight + bias) (+ residual), as `conv2d::forward`. `turned` takes the weights' taps from
/// the other end and swaps their channels, `[k,k,c_out,c_in]`, as the gradient of the input needs it.
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
    let mut y = take((params.n * params.out_h * params.out_w * params.c_out) as usize);
    let to = Shared::new(&mut y);
    let chunks = tiles.count().div_ceil(AT_ONCE);
    let few = params.c_in <= FEW && params.c_in * params.c_out <= FEW_WEIGHTS;
    let (at_once, cores) = match few && chunks >= 2 * rayon::current_num_threads() {
        true => (AT_ONCE, Cores::Apart),
        false => (2 * AT_ONCE, Cores::Together),
    };
    // Whole panels are read where they lie.
    let copied =
        (turned || padded(params) > params.c_out as usize).then(|| panels(weight, turned, params));
    let weight = copied.as_deref().unwrap_or(weight);
    (0..tiles.count().div_ceil(at_once))
        .into_par_iter()
        .with_min_len(cores.fewest_chunks())
        .for_each(|chunk| {
            let first = chunk * at_once;
            let range = first..(first + at_once).min(tiles.count());
            let v = Transformed::input(&tiles, range, x, 0..params.c_in as usize, cores);
            (0..padded(params) / PANEL)
                .into_par_iter()
                .with_min_len(cores.fewest(1))
                .for_each(|panel| {
                    let m = products(&v, weight, panel, params);
                    run(Finish {
                        tiles: &tiles,
                        first,
                        m: &m,
                        count: v.tiles,
                        panel,
                        bias,
                        residual,
                        f,
                        y: to.get(),
                    });
                    give(m);
                });
            give(v.data);
        });
    copied.into_iter().for_each(give);
    y
}

/// Channels of the output, up to a whole panel.
fn padded(params: &Params) -> usize {
    (params.c_out as usize).next_multiple_of(PANEL)
}

/// Between the points of M of so many tiles.
fn apart(tiles: usize) -> usize {
    tiles * PANEL + GAP
}

/// M = Σ_ci U ∘ V of a panel of output channels, `[36][tiles][32]` with a gap after each point.
fn products(v: &Transformed, weight: &[f32], panel: usize, params: &Params) -> Vec<f32> {
    let (c_in, width) = (params.c_in as usize, padded(params));
    let mut m = take(POINTS * apart(v.tiles));
    let mut u = take(POINTS * APART);
    for (block, from) in (0..c_in).step_by(DEPTH).enumerate() {
        let depth = DEPTH.min(c_in - from);
        run(Weights {
            g: &weight[from * width + panel * PANEL..],
            between: c_in * width,
            row: width,
            u: &mut u,
            depth,
            taps: params.kh as usize,
        });
        for point in 0..POINTS {
            run(Product {
                a: v.at(block, point),
                row: DEPTH,
                step: 1,
                rows: v.tiles,
                k: depth,
                b: u[point * APART..].as_ptr(),
                panel: 0,
                out: m[point * apart(v.tiles)..].as_mut_ptr(),
                stride: PANEL,
                columns: PANEL,
                add: block > 0,
                epilogue: None,
            });
        }
    }
    give(u);
    m
}

/// The weights in whole panels, `[k,k,c_in,c_out up to a panel]`, filled up with zeros; see [`forward`] for `turned`.
fn panels(weight: &[f32], turned: bool, params: &Params) -> Vec<f32> {
    let (c_in, c_out) = (params.c_in as usize, params.c_out as usize);
    let (taps, width) = ((params.kh * params.kw) as usize, padded(params));
    let mut data = take(taps * c_in * width);
    data.par_chunks_exact_mut(c_in * width)
        .enumerate()
        .for_each(|(tap, to)| match turned {
            true => {
                let from = &weight[(taps - 1 - tap) * c_in * c_out..][..c_in * c_out];
                transpose(from, c_in, to, width);
            }
            false => {
                let from = weight[tap * c_in * c_out..].chunks_exact(c_out);
                for (to, from) in to.chunks_exact_mut(width).zip(from) {
                    to[..c_out].copy_from_slice(from);
                    to[c_out..].fill(0.0);
                }
            }
        });
    data
}

/// Rows of `from` `[_,columns]` as columns of `to` `[columns,width]`, filled up with zeros: in squares, as rows that
/// lie a multiple of 4 KiB apart fall on the same lines of the cache.
fn transpose(from: &[f32], columns: usize, to: &mut [f32], width: usize) {
    const SIDE: usize = 16;
    for (down, to) in to.chunks_mut(SIDE * width).enumerate() {
        for (across, from) in from.chunks(SIDE * columns).enumerate() {
            let mut square = [[0.0; SIDE]; SIDE];
            for (j, row) in from.chunks_exact(columns).enumerate() {
                let row = row[down * SIDE..].iter();
                square.iter_mut().zip(row).for_each(|(to, g)| to[j] = *g);
            }
            for (to, row) in to.chunks_exact_mut(width).zip(&square) {
                to[across * SIDE..][..SIDE].copy_from_slice(row);
            }
        }
        let filled = (from.len() / columns).next_multiple_of(SIDE);
        for to in to.chunks_exact_mut(width) {
            to[filled..].fill(0.0);
        }
    }
}

/// U = G·g·Gᵀ of a block: g `[taps²][depth][32]`, taps `between` and rows `row` from each other; u
/// `[36][64][32]`, [`APART`].
struct Weights<'a> {
    g: &'a [f32],
    between: usize,
    row: usize,
    u: &'a mut [f32],
    depth: usize,
    taps: usize,
}

impl Kernel for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        match self.taps {
            3 => self.all::<V, 3>(),
            _ => self.all::<V, 5>(),
        }
    }
}

impl Weights<'_> {
    #[inline(always)]
    fn all<V: Lanes, const T: usize>(self) {
        let last = (T * T - 1) * self.between + (self.depth - 1) * self.row;
        assert!(self.g.len() >= last + PANEL && self.u.len() >= POINTS * APART);
        assert!(self.depth <= DEPTH);
        for at in (0..self.depth * PANEL).step_by(V::N) {
            let from = at / PANEL * self.row + at % PANEL;
            // Rows and taps lie pages apart, where the machine foresees nothing.
            for tap in 0..T * T {
                let later = tap * self.between + from + 2 * self.row;
                prefetch(self.g.as_ptr().wrapping_add(later));
            }
            both(
                #[inline(always)]
                |i| {
                    let mut g = [V::splat(0.0); T];
                    for (j, g) in g.iter_mut().enumerate() {
                        let tap = (i * T + j) * self.between;
                        // SAFETY: asserted above; a panel is a multiple of any vector.
                        *g = unsafe { V::load(self.g.as_ptr().add(tap + from)) };
                    }
                    g
                },
                #[inline(always)]
                |g| weights(g),
                #[inline(always)]
                |j, column| {
                    for (i, u) in column.iter().enumerate() {
                        let point = (i * IN + j) * APART;
                        // SAFETY: as above.
                        unsafe { u.store(self.u.as_mut_ptr().add(point + at)) };
                    }
                },
            );
        }
    }
}

/// y = Aᵀ·m·A of a panel, and the epilogue.
struct Finish<'a> {
    tiles: &'a Tiles<'a>,
    first: usize,
    m: &'a [f32],
    count: usize,
    panel: usize,
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    f: Activation,
    y: *mut f32,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        match self.tiles.side {
            4 => self.all::<V, 4>(),
            _ => self.all::<V, 2>(),
        }
    }
}

impl Finish<'_> {
    #[inline(always)]
    fn all<V: Lanes, const O: usize>(&self) {
        let first = self.panel * PANEL;
        let width = PANEL.min(self.bias.len() - first);
        for tile in 0..self.count {
            let targets = self.tiles.targets::<O>(self.first + tile);
            for c in (0..width).step_by(V::N) {
                let from = &self.m[tile * PANEL + c..][..(POINTS - 1) * apart(self.count) + V::N];
                let rest = V::N.min(width - c);
                let bias = &self.bias[first + c..][..rest];
                // SAFETY: the slice is that long.
                let [bias]: [V; 1] = unsafe { load_row(rest, bias.as_ptr()) };
                both(
                    #[inline(always)]
                    |i| {
                        let mut m = [V::splat(0.0); IN];
                        for (j, m) in m.iter_mut().enumerate() {
                            let point = (i * IN + j) * apart(self.count);
                            // SAFETY: the slice is that long.
                            *m = unsafe { V::load(from.as_ptr().add(point)) };
                        }
                        m
                    },
                    #[inline(always)]
                    |m| output::<V, O>(m),
                    #[inline(always)]
                    |j, column| {
                        for (i, sum) in column.iter().enumerate() {
                            let Some(at) = targets[i][j] else {
                                continue;
                            };
                            let at = at + first + c;
                            let mut y = self.f.of(sum.add(bias));
                            if let Some(residual) = self.residual {
                                let residual = &residual[at..][..rest];
                                // SAFETY: the slice is that long.
                                y = y.add(unsafe { load_row::<V, 1>(rest, residual.as_ptr()) }[0]);
                            }
                            // SAFETY: this panel of this pixel belongs to this task alone.
                            unsafe { store_row([y], rest, self.y.add(at)) };
                        }
                    },
                );
            }
        }
    }
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
        // How the work is shared depends on the number of threads.
        let two = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        two.expect("threads").install(compare);
    }

    fn compare() {
        for (k, n, h, w, c_in, c_out, top, left, replicate) in [
            (3, 5, 33, 35, 17, 35, 1, 1, 0), // chunks for each core
            (3, 2, 32, 34, 33, 16, 1, 1, 1),
            (3, 1, 41, 38, 20, 48, 0, 2, 0),
            (3, 3, 24, 29, 130, 67, 2, 0, 0),
            (3, 1, 11, 9, 18, 37, 1, 1, 0), // an odd number of tiles
            (3, 1, 12, 14, 262, 18, 1, 1, 0),
            (3, 1, 12, 15, 20, 260, 0, 1, 1),
            (5, 2, 23, 25, 19, 33, 2, 2, 1),
            (5, 1, 7, 6, 70, 65, 3, 1, 0),
        ] {
            let after = k - 1 - top;
            let params = Params {
                n,
                h,
                w,
                c_in,
                out_h: h + top + after + 1 - k,
                out_w: w,
                c_out,
                kh: k,
                kw: k,
                stride: 1,
                top,
                left,
                replicate,
                activation: Activation::LeakyRelu(0.2).kind(),
                slope: 0.2,
                residual: 1,
            };
            assert!(suits(&params));
            // Memory that is used again, from the smallest to the largest.
            (15..22).for_each(|log| give(vec![f32::NAN; 1 << log]));
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
            let (x, weight) = (draw(n * h * w * c_in), draw(k * k * c_in * c_out));
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

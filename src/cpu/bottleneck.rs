//! The two halves of an inverted bottleneck (MobileNetV2, EfficientNet) around its squeeze, without
//! writing the six times wider map to memory more than once: the rows that a depthwise kernel reads
//! are expanded just before, 32 channels at a time, into a ring that stays in the cache.

use super::activation::Activation;
use super::depthwise::Params;
use super::lanes::{Kernel, Lanes, load_row, run, store_row};
use super::matmul::{Epilogue, PANEL, Panels, Shared, Tiles, View};
use super::pool::{give, take};
use rayon::prelude::*;

/// Elements of y that no cache keeps until they are read: 16 MiB.
const LARGE: usize = 4 << 20;

/// A 1×1 convolution: weight `[c_in,c]`, bias `[c]`.
#[derive(Clone, Copy)]
pub struct Pointwise<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

/// (y, its mean over each picture, zeros where nobody wants it): y = f(depthwise(f(expand(x)))), or f(depthwise(x)) without
/// `expand`. x `[n,h,w,c_in]`, weight `[kh,kw,c]`, y `[n,out_h,out_w,c]`, mean `[n,c]`.
pub fn expand<const MEAN: bool>(
    x: &[f32],
    expand: Option<Pointwise>,
    weight: &[f32],
    bias: &[f32],
    f: Activation,
    params: &Params,
) -> (Vec<f32>, Vec<f32>) {
    let (n, c) = (params.n as usize, params.c as usize);
    let (out_h, pixels) = (
        params.out_h as usize,
        (params.out_h * params.out_w) as usize,
    );
    let groups = c.div_ceil(PANEL);
    // By geometry alone, so that the mean does not depend on the number of threads.
    let strips = (16 / (n * groups)).clamp(1, (out_h / (4 * params.kh as usize)).max(1));
    let panels = expand.map(|e| {
        let c_in = e.weight.len() / c;
        (
            Panels::pack([c_in, c], View::rows(e.weight, c), None),
            e.bias,
        )
    });
    let mut y = take(n * pixels * c);
    let large = y.len() > LARGE;
    let to = Shared::new(&mut y);
    let sums: Vec<[f64; PANEL]> = (0..n * groups * strips)
        .into_par_iter()
        .map(|task| {
            let (picture, group, strip) = (
                task / strips / groups,
                task / strips % groups,
                task % strips,
            );
            let rows = strip * out_h / strips..(strip + 1) * out_h / strips;
            let mut ring = Ring::new(x, panels.as_ref(), f, params, picture, group, rows.start);
            let kernel = ring.columns(weight, (params.kh * params.kw) as usize);
            let bias = ring.columns(bias, 1);
            let mut sums = [0.0; PANEL];
            for oy in rows {
                ring.reach(oy);
                let row = run(Row::<MEAN> {
                    ring: &ring,
                    oy,
                    kernel: &kernel,
                    bias: &bias,
                    y: to,
                    large,
                });
                sums.iter_mut()
                    .zip(row)
                    .for_each(|(s, r)| *s += f64::from(r));
            }
            give(ring.data);
            sums
        })
        .collect();
    let mut mean = vec![0.0; n * c];
    for (i, mean) in mean.iter_mut().enumerate() {
        let (picture, channel) = (i / c, i % c);
        let first = (picture * groups + channel / PANEL) * strips;
        let sum: f64 = sums[first..first + strips]
            .iter()
            .map(|s| s[channel % PANEL])
            .sum();
        *mean = (sum / pixels as f64) as f32;
    }
    (y, mean)
}

/// The last kh rows of some channels of the depthwise input of one picture, zeros around.
struct Ring<'a> {
    x: &'a [f32],
    expand: Option<&'a (Panels, &'a [f32])>,
    /// Of the expansion, for this group.
    bias: [f32; PANEL],
    f: Activation,
    params: &'a Params,
    picture: usize,
    group: usize,
    /// Of the group, up to 32.
    channels: usize,
    /// A row of zeros, then the ring's rows, `[1 + kh, width, 32]`.
    data: Vec<f32>,
    width: usize,
    /// Where the data begins on a cache line.
    offset: usize,
    /// The next row to be made.
    next: usize,
}

impl<'a> Ring<'a> {
    fn new(
        x: &'a [f32],
        expand: Option<&'a (Panels, &'a [f32])>,
        f: Activation,
        params: &'a Params,
        picture: usize,
        group: usize,
        first: usize,
    ) -> Self {
        let reached = (params.out_w - 1) * params.stride + params.kw;
        let width = (params.left + params.w).max(reached) as usize;
        let mut data = take((1 + params.kh as usize) * width * PANEL + 16);
        data.fill(0.0);
        let offset = data.as_ptr().align_offset(64).min(16);
        let next = (first * params.stride as usize).saturating_sub(params.top as usize);
        let mut bias = [0.0; PANEL];
        let channels = PANEL.min(params.c as usize - group * PANEL);
        if let Some((_, all)) = expand {
            bias[..channels].copy_from_slice(&all[group * PANEL..][..channels]);
        }
        Self {
            x,
            expand,
            bias,
            f,
            params,
            picture,
            group,
            channels,
            data,
            width,
            offset,
            next,
        }
    }

    /// This group's columns of a matrix of `rows` rows, filled up with zeros.
    fn columns(&self, matrix: &[f32], rows: usize) -> Vec<f32> {
        let (c, first) = (self.params.c as usize, self.group * PANEL);
        let mut out = vec![0.0; rows * PANEL];
        for (to, from) in out.chunks_exact_mut(PANEL).zip(matrix.chunks_exact(c)) {
            to[..self.channels].copy_from_slice(&from[first..][..self.channels]);
        }
        out
    }

    /// Where a row of the input begins; the row of zeros outside of it.
    #[inline(always)]
    fn row(&self, oy: usize, ky: usize) -> *const f32 {
        let p = self.params;
        let at = (oy * p.stride as usize + ky).wrapping_sub(p.top as usize);
        let slot = if at < p.h as usize {
            1 + at % p.kh as usize
        } else {
            0
        };
        self.data[self.offset + slot * self.width * PANEL..].as_ptr()
    }

    /// Makes the rows that output row `oy` reads.
    fn reach(&mut self, oy: usize) {
        let p = self.params;
        let end = (oy * p.stride as usize + p.kh as usize).saturating_sub(p.top as usize);
        while self.next < end.min(p.h as usize) {
            let (w, left) = (p.w as usize, p.left as usize);
            let slot = 1 + self.next % p.kh as usize;
            let at = self.offset + (slot * self.width + left) * PANEL;
            let pixel = (self.picture * p.h as usize + self.next) * w;
            self.next += 1;
            let to = &mut self.data[at..at + w * PANEL];
            let first = self.group * PANEL;
            let Some((panels, _)) = self.expand else {
                let c = p.c as usize;
                let from = self.x[pixel * c..].chunks_exact(c);
                for (to, from) in to.chunks_exact_mut(PANEL).zip(from) {
                    to[..self.channels].copy_from_slice(&from[first..][..self.channels]);
                }
                continue;
            };
            let c_in = panels.depth();
            run(Tiles {
                a: self.x[pixel * c_in..(pixel + w) * c_in].as_ptr(),
                row: c_in,
                step: 1,
                rows: w,
                k: c_in,
                b: panels.panel(self.group).as_ptr(),
                panel: 0,
                out: to.as_mut_ptr(),
                stride: PANEL,
                columns: self.channels,
                add: false,
                epilogue: Some(Epilogue {
                    bias: &self.bias,
                    f: self.f,
                    residual: None,
                }),
            });
        }
    }
}

/// One output row of a group of channels; gives its sums.
struct Row<'a, const MEAN: bool> {
    ring: &'a Ring<'a>,
    oy: usize,
    kernel: &'a [f32],
    bias: &'a [f32],
    y: Shared,
    large: bool,
}

impl<const MEAN: bool> Kernel for Row<'_, MEAN> {
    type Output = [f32; PANEL];

    #[inline(always)]
    fn run<V: Lanes>(self) -> [f32; PANEL] {
        let mut sums = [0.0; PANEL];
        for lane in (0..self.ring.channels).step_by(2 * V::N) {
            let width = self.ring.channels - lane;
            // Pixels side by side: their sums and the weights fill the registers.
            let sums = &mut sums[lane..];
            match width <= V::N {
                true => self.part::<V, 1, 12>(lane, width, sums),
                false => self.part::<V, 2, 6>(lane, width, sums),
            }
        }
        if self.large {
            V::fence();
        }
        sums
    }
}

impl<const MEAN: bool> Row<'_, MEAN> {
    /// `width` channels from `lane` on, in `W` vectors, `P` pixels at a time.
    #[inline(always)]
    fn part<V: Lanes, const W: usize, const P: usize>(
        &self,
        lane: usize,
        width: usize,
        sums: &mut [f32],
    ) {
        let mut sum = [V::splat(0.0); W];
        let out_w = self.ring.params.out_w as usize;
        let whole = out_w / P * P;
        for ox in (0..whole).step_by(P) {
            self.pixels::<V, W, P>(ox, lane, width, &mut sum);
        }
        for ox in whole..out_w {
            self.pixels::<V, W, 1>(ox, lane, width, &mut sum);
        }
        // SAFETY: a group is a multiple of two vectors.
        unsafe { store_row(sum, W * V::N, sums.as_mut_ptr()) };
    }

    #[inline(always)]
    fn pixels<V: Lanes, const W: usize, const P: usize>(
        &self,
        ox: usize,
        lane: usize,
        width: usize,
        sum: &mut [V; W],
    ) {
        let p = self.ring.params;
        let (c, stride) = (p.c as usize, p.stride as usize);
        // SAFETY: a ring's row holds every column that a tap reaches; kernel and bias are filled up;
        // this group of this row of y belongs to this task alone.
        unsafe {
            let bias: [V; W] = load_row(W * V::N, self.bias.as_ptr().add(lane));
            let mut acc = [bias; P];
            for ky in 0..p.kh as usize {
                let row = self.ring.row(self.oy, ky).add(ox * stride * PANEL + lane);
                for kx in 0..p.kw as usize {
                    let tap = ky * p.kw as usize + kx;
                    let weight: [V; W] =
                        load_row(W * V::N, self.kernel.as_ptr().add(tap * PANEL + lane));
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let x: [V; W] = load_row(W * V::N, row.add((i * stride + kx) * PANEL));
                        for (w, acc) in acc.iter_mut().enumerate() {
                            *acc = x[w].mul_add(weight[w], *acc);
                        }
                    }
                }
            }
            let row = (self.ring.picture * p.out_h as usize + self.oy) * p.out_w as usize;
            // No closures: they would not be inlined into the wide function.
            for (i, mut y) in acc.into_iter().enumerate() {
                for (y, sum) in y.iter_mut().zip(&mut *sum) {
                    *y = self.ring.f.of(*y);
                    if MEAN {
                        *sum = sum.add(*y);
                    }
                }
                let to = self
                    .y
                    .get()
                    .add((row + ox + i) * c + self.ring.group * PANEL + lane);
                if self.large && width >= W * V::N {
                    for (w, y) in y.into_iter().enumerate() {
                        y.stream(to.add(w * V::N));
                    }
                } else {
                    store_row(y, width, to);
                }
            }
        }
    }
}

/// y = (x·gate) · weight + bias (+ residual): the gate of each picture multiplies the weights, which
/// are fewer than the pixels. x `[n,pixels,c]`, gate `[n,c]`, y `[n,pixels,c_out]`.
pub fn project(
    x: &[f32],
    gate: &[f32],
    project: Pointwise,
    residual: Option<&[f32]>,
    n: usize,
) -> Vec<f32> {
    let (c, c_out) = (gate.len() / n, project.bias.len());
    let pixels = x.len() / n / c;
    let mut y = take(n * pixels * c_out);
    for (picture, y) in y.chunks_exact_mut(pixels * c_out).enumerate() {
        let gate = &gate[picture * c..][..c];
        let panels = Panels::pack([c, c_out], View::rows(project.weight, c_out), Some(gate));
        let epilogue = Epilogue {
            bias: project.bias,
            f: Activation::Identity,
            residual: residual.map(|r| &r[picture * pixels * c_out..][..y.len()]),
        };
        let x = View::rows(&x[picture * pixels * c..], c);
        panels.multiply(pixels, x, y, false, Some(epilogue));
    }
    y
}

//! The two halves of an inverted bottleneck (MobileNetV2, EfficientNet) around its squeeze, without
//! writing the six times wider map to memory more than once: the rows that a depthwise kernel reads
//! are expanded just before, 32 channels at a time, into a ring that stays in the cache.

use super::activation::Activation;
use super::depthwise::Params;
use super::lanes::{Kernel, Lanes, run};
use super::matmul::{Epilogue, PANEL, Panels, Shared, Tiles, View};
use super::pool::{give, take};
use rayon::prelude::*;

/// A 1×1 convolution: weight `[c_in,c]`, bias `[c]`.
#[derive(Clone, Copy)]
pub struct Pointwise<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

/// (y, its mean over each picture): y = f(depthwise(f(expand(x)))), or f(depthwise(x)) without
/// `expand`. x `[n,h,w,c_in]`, weight `[kh,kw,c]`, y `[n,out_h,out_w,c]`, mean `[n,c]`.
pub fn expand(
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
            let kernel = ring.channels(weight, (params.kh * params.kw) as usize);
            let bias = ring.channels(bias, 1);
            let mut sums = [0.0; PANEL];
            for oy in rows {
                ring.reach(oy);
                let row = run(Row {
                    ring: &ring,
                    oy,
                    kernel: &kernel,
                    bias: &bias,
                    y: to,
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
        if let Some((_, all)) = expand {
            let part = &all[group * PANEL..all.len().min(group * PANEL + PANEL)];
            bias[..part.len()].copy_from_slice(part);
        }
        Self {
            x,
            expand,
            bias,
            f,
            params,
            picture,
            group,
            data,
            width,
            offset,
            next,
        }
    }

    /// This group's columns of a matrix of `rows` rows, filled up with zeros.
    fn channels(&self, matrix: &[f32], rows: usize) -> Vec<f32> {
        let (c, first) = (self.params.c as usize, self.group * PANEL);
        let mut out = vec![0.0; rows * PANEL];
        for (to, from) in out.chunks_exact_mut(PANEL).zip(matrix.chunks_exact(c)) {
            let part = &from[first..c.min(first + PANEL)];
            to[..part.len()].copy_from_slice(part);
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
                let width = PANEL.min(c - first);
                for (to, from) in to
                    .chunks_exact_mut(PANEL)
                    .zip(self.x[pixel * c..].chunks_exact(c))
                {
                    to[..width].copy_from_slice(&from[first..first + width]);
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
                columns: PANEL,
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
struct Row<'a> {
    ring: &'a Ring<'a>,
    oy: usize,
    kernel: &'a [f32],
    bias: &'a [f32],
    y: Shared,
}

impl Kernel for Row<'_> {
    type Output = [f32; PANEL];

    #[inline(always)]
    fn run<V: Lanes>(self) -> [f32; PANEL] {
        /// Pixels side by side: their sums and two vectors of weights fill the registers.
        const PIXELS: usize = 6;
        let mut sums = [0.0; PANEL];
        let out_w = self.ring.params.out_w as usize;
        for lane in (0..PANEL).step_by(2 * V::N) {
            let mut sum = [V::splat(0.0); 2];
            let whole = out_w / PIXELS * PIXELS;
            for ox in (0..whole).step_by(PIXELS) {
                self.pixels::<V, PIXELS>(ox, lane, &mut sum);
            }
            for ox in whole..out_w {
                self.pixels::<V, 1>(ox, lane, &mut sum);
            }
            // SAFETY: a group is a multiple of two vectors.
            unsafe {
                sum[0].store(sums.as_mut_ptr().add(lane));
                sum[1].store(sums.as_mut_ptr().add(lane + V::N));
            }
        }
        sums
    }
}

/// # Safety
/// Two vectors can be read.
#[inline(always)]
unsafe fn pair<V: Lanes>(from: *const f32) -> [V; 2] {
    // SAFETY: the caller's.
    unsafe { [V::load(from), V::load(from.add(V::N))] }
}

impl Row<'_> {
    #[inline(always)]
    fn pixels<V: Lanes, const P: usize>(&self, ox: usize, lane: usize, sum: &mut [V; 2]) {
        let p = self.ring.params;
        let (c, stride) = (p.c as usize, p.stride as usize);
        let first = self.ring.group * PANEL + lane;
        // SAFETY: a ring's row holds every column that a tap reaches; kernel and bias are filled up;
        // this group of this row of y belongs to this task alone.
        unsafe {
            let mut acc = [pair::<V>(self.bias.as_ptr().add(lane)); P];
            for ky in 0..p.kh as usize {
                let row = self.ring.row(self.oy, ky).add(ox * stride * PANEL + lane);
                for kx in 0..p.kw as usize {
                    let tap = ky * p.kw as usize + kx;
                    let w = pair::<V>(self.kernel.as_ptr().add(tap * PANEL + lane));
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let x = pair::<V>(row.add((i * stride + kx) * PANEL));
                        *acc = [x[0].mul_add(w[0], acc[0]), x[1].mul_add(w[1], acc[1])];
                    }
                }
            }
            let row = (self.ring.picture * p.out_h as usize + self.oy) * p.out_w as usize;
            for (i, acc) in acc.iter().enumerate() {
                let y = [self.ring.f.of(acc[0]), self.ring.f.of(acc[1])];
                *sum = [sum[0].add(y[0]), sum[1].add(y[1])];
                let to = self.y.get().add((row + ox + i) * c + first);
                if first + 2 * V::N <= c {
                    y[0].store(to);
                    y[1].store(to.add(V::N));
                } else {
                    let mut part = [0.0; PANEL];
                    y[0].store(part.as_mut_ptr());
                    y[1].store(part.as_mut_ptr().add(V::N));
                    std::ptr::copy_nonoverlapping(part.as_ptr(), to, c.saturating_sub(first));
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

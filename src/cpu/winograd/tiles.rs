//! The tiles that cover a map, and their transformed pixels.

use super::transform::{IN, POINTS, both, input, output_back};
use super::{Cores, DEPTH, GAP};
use crate::cpu::conv2d::Params;
use crate::cpu::lanes::{Kernel, Lanes, load_row, run};
use crate::cpu::matmul::{PANEL, Shared};
use crate::cpu::pool::take;
use rayon::prelude::*;
use std::ops::Range;

/// The tiles of an output, row by row, over all pictures.
#[derive(Clone, Copy)]
pub(super) struct Tiles<'a> {
    params: &'a Params,
    /// Outputs along a side.
    pub(super) side: usize,
    down: usize,
    across: usize,
}

impl<'a> Tiles<'a> {
    pub(super) fn of(params: &'a Params) -> Self {
        let side = IN + 1 - params.kh as usize;
        Self {
            params,
            side,
            down: (params.out_h as usize).div_ceil(side),
            across: (params.out_w as usize).div_ceil(side),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.params.n as usize * self.down * self.across
    }

    /// Picture, row and column of the upper left output.
    fn place(&self, tile: usize) -> [usize; 3] {
        let (row, column) = (tile / self.across, tile % self.across);
        [
            row / self.down,
            row % self.down * self.side,
            column * self.side,
        ]
    }

    /// Where in x the pixels under a tile begin; `None` in zero padding.
    fn sources<const I: usize>(&self, tile: usize) -> [[Option<usize>; I]; I] {
        let ([n, oy, ox], p) = (self.place(tile), self.params);
        let row = |i| p.source(oy as u32, i as u32, p.top, p.h);
        let column = |j| p.source(ox as u32, j as u32, p.left, p.w);
        let columns: [Option<usize>; I] = std::array::from_fn(column);
        std::array::from_fn(|i| {
            let first = row(i).map(|y| (n * p.h as usize + y) * p.w as usize);
            columns.map(|x| Some((first? + x?) * p.c_in as usize))
        })
    }

    /// Where in y the outputs of a tile begin; `None` beyond the border.
    pub(super) fn targets<const O: usize>(&self, tile: usize) -> [[Option<usize>; O]; O] {
        let ([n, oy, ox], p) = (self.place(tile), self.params);
        let (h, w, c) = (p.out_h as usize, p.out_w as usize, p.c_out as usize);
        std::array::from_fn(|i| {
            let first = ((n * h + oy + i) * w + ox) * c;
            std::array::from_fn(|j| (oy + i < h && ox + j < w).then_some(first + j * c))
        })
    }
}

/// Tiles `tiles` of some channels, transformed: `[channels/block][36][tiles][block]`, with a gap after each
/// point, rows filled up with whatever was there.
pub(super) struct Transformed {
    pub(super) data: Vec<f32>,
    pub(super) tiles: usize,
    /// Between points.
    apart: usize,
}

impl Transformed {
    /// V of the input, blocks of [`DEPTH`].
    pub(super) fn input(
        tiles: &Tiles,
        range: Range<usize>,
        x: &[f32],
        channels: Range<usize>,
        cores: Cores,
    ) -> Self {
        Self::new(tiles, range, x, channels, Side::Input, cores)
    }

    /// A·dy·Aᵀ of the gradient, blocks of [`PANEL`].
    pub(super) fn gradient(
        tiles: &Tiles,
        range: Range<usize>,
        grad: &[f32],
        channels: Range<usize>,
        cores: Cores,
    ) -> Self {
        Self::new(tiles, range, grad, channels, Side::Gradient, cores)
    }

    fn new(
        tiles: &Tiles,
        range: Range<usize>,
        source: &[f32],
        channels: Range<usize>,
        side: Side,
        cores: Cores,
    ) -> Self {
        let block = side.block();
        let apart = range.len() * block + GAP;
        let mut data = take(channels.len().div_ceil(block) * POINTS * apart);
        let to = Shared::new(&mut data);
        let zeros = vec![0.0; channels.end];
        range
            .clone()
            .into_par_iter()
            .with_min_len(cores.fewest(4))
            .for_each(|tile| {
                run(Gather {
                    tiles,
                    tile,
                    source,
                    zeros: &zeros,
                    channels: channels.clone(),
                    side,
                    to: to.get(),
                    row: tile - range.start,
                    apart,
                });
            });
        Self {
            data,
            tiles: range.len(),
            apart,
        }
    }

    /// Between the blocks of channels.
    pub(super) fn block(&self) -> usize {
        POINTS * self.apart
    }

    /// Rows `[tiles][block]` of a channel block at a point; the next block's are [`Self::block`] further on.
    pub(super) fn at(&self, block: usize, point: usize) -> *const f32 {
        self.data[block * self.block() + point * self.apart..].as_ptr()
    }
}

#[derive(Clone, Copy)]
enum Side {
    Input,
    Gradient,
}

impl Side {
    /// Channels side by side.
    fn block(self) -> usize {
        match self {
            Self::Input => DEPTH,
            Self::Gradient => PANEL,
        }
    }
}

/// Transforms one tile.
struct Gather<'a> {
    tiles: &'a Tiles<'a>,
    tile: usize,
    source: &'a [f32],
    /// Padding.
    zeros: &'a [f32],
    channels: Range<usize>,
    side: Side,
    to: *mut f32,
    row: usize,
    apart: usize,
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        match (self.side, self.tiles.side) {
            (Side::Input, _) => self.all::<V, IN>(
                #[inline(always)]
                |d| input(d),
            ),
            (Side::Gradient, 4) => self.all::<V, 4>(
                #[inline(always)]
                |y| output_back(y),
            ),
            (Side::Gradient, _) => self.all::<V, 2>(
                #[inline(always)]
                |y| output_back(y),
            ),
        }
    }
}

impl Gather<'_> {
    #[inline(always)]
    fn all<V: Lanes, const I: usize>(&self, f: impl Fn([V; I]) -> [V; IN] + Copy) {
        let from: [[Option<usize>; I]; I] = match self.side {
            Side::Input => self.tiles.sources(self.tile),
            Side::Gradient => self.tiles.targets(self.tile),
        };
        let end = self.channels.end;
        let fits = |at: &usize| at + end <= self.source.len();
        assert!(from.iter().flatten().flatten().all(fits) && self.zeros.len() >= end);
        let mut pixels = [[self.zeros.as_ptr(); I]; I];
        for (pixel, at) in pixels.iter_mut().flatten().zip(from.iter().flatten()) {
            if let Some(at) = *at {
                *pixel = self.source[at..].as_ptr();
            }
        }
        for c in self.channels.clone().step_by(V::N) {
            let (block, row) = (self.side.block(), c - self.channels.start);
            let first = row / block * POINTS * self.apart + self.row * block + row % block;
            both(
                #[inline(always)]
                |i| {
                    let mut d = [V::splat(0.0); I];
                    for (d, pixel) in d.iter_mut().zip(pixels[i]) {
                        // SAFETY: asserted above.
                        [*d] = unsafe { load_row(end - c, pixel.add(c)) };
                    }
                    d
                },
                f,
                #[inline(always)]
                |j, column| {
                    for (i, v) in column.iter().enumerate() {
                        let point = (i * IN + j) * self.apart;
                        // SAFETY: the row belongs to this tile alone; a block is a multiple of any vector.
                        unsafe { v.store(self.to.add(first + point)) };
                    }
                },
            );
        }
    }
}

//! The tiles that cover a map, and their transformed pixels.

use super::transform::{IN, POINTS, both, input, output_back};
use super::{DEPTH, GAP};
use crate::cpu::conv2d::Params;
use crate::cpu::lanes::{Kernel, Lanes, run};
use crate::cpu::matmul::{PANEL, Shared};
use crate::cpu::pool::take;
use rayon::prelude::*;

/// The tiles of an output, row by row, over all pictures.
#[derive(Clone, Copy)]
pub(super) struct Tiles<'a> {
    pub(super) params: &'a Params,
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
    #[inline(always)]
    pub(super) fn place(&self, tile: usize) -> [usize; 3] {
        let (row, column) = (tile / self.across, tile % self.across);
        [
            row / self.down,
            row % self.down * self.side,
            column * self.side,
        ]
    }

    /// Where in x the pixel (i, j) under a tile begins; `None` in zero padding.
    #[inline(always)]
    pub(super) fn source(&self, tile: usize, i: usize, j: usize) -> Option<usize> {
        let ([n, oy, ox], p) = (self.place(tile), self.params);
        let y = p.source(oy as u32, i as u32, p.top, p.h)?;
        let x = p.source(ox as u32, j as u32, p.left, p.w)?;
        Some(((n * p.h as usize + y) * p.w as usize + x) * p.c_in as usize)
    }

    /// Where in y the output (i, j) of a tile begins; `None` beyond the border.
    #[inline(always)]
    pub(super) fn target(&self, tile: usize, i: usize, j: usize) -> Option<usize> {
        let ([n, oy, ox], p) = (self.place(tile), self.params);
        let (h, w) = (p.out_h as usize, p.out_w as usize);
        let inside = oy + i < h && ox + j < w;
        inside.then(|| ((n * h + oy + i) * w + ox + j) * p.c_out as usize)
    }
}

/// Tiles `tiles` of some pixels, transformed: `[channels/block][36][tiles][block]`, with a gap after each
/// point, rows filled up with whatever was there.
pub(super) struct Transformed {
    pub(super) data: Vec<f32>,
    pub(super) tiles: usize,
    /// Between points.
    apart: usize,
}

impl Transformed {
    /// V of the input, blocks of [`DEPTH`].
    pub(super) fn input(tiles: &Tiles, range: std::ops::Range<usize>, x: &[f32]) -> Self {
        Self::new(
            tiles,
            range,
            x,
            tiles.params.c_in as usize,
            DEPTH,
            Side::Input,
        )
    }

    /// A·dy·Aᵀ of the gradient, blocks of [`PANEL`].
    pub(super) fn gradient(tiles: &Tiles, grad: &[f32]) -> Self {
        let c = tiles.params.c_out as usize;
        Self::new(tiles, 0..tiles.count(), grad, c, PANEL, Side::Gradient)
    }

    fn new(
        tiles: &Tiles,
        range: std::ops::Range<usize>,
        source: &[f32],
        channels: usize,
        block: usize,
        side: Side,
    ) -> Self {
        let count = range.len();
        let apart = count * block + GAP;
        let mut data = take(channels.div_ceil(block) * POINTS * apart);
        let to = Shared::new(&mut data);
        range
            .clone()
            .into_par_iter()
            .with_min_len(4)
            .for_each(|tile| {
                run(Gather {
                    tiles,
                    tile,
                    source,
                    channels,
                    block,
                    side,
                    to: to.get(),
                    row: tile - range.start,
                    apart,
                });
            });
        Self {
            data,
            tiles: count,
            apart,
        }
    }

    /// Rows `[tiles][block]` of a channel block at a point.
    pub(super) fn at(&self, block: usize, point: usize) -> *const f32 {
        self.data[(block * POINTS + point) * self.apart..][..self.apart].as_ptr()
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Input,
    Gradient,
}

/// Transforms one tile.
pub(super) struct Gather<'a> {
    tiles: &'a Tiles<'a>,
    tile: usize,
    source: &'a [f32],
    channels: usize,
    block: usize,
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
        let mut from = [[None; I]; I];
        for (i, row) in from.iter_mut().enumerate() {
            for (j, from) in row.iter_mut().enumerate() {
                let at = match self.side {
                    Side::Input => self.tiles.source(self.tile, i, j),
                    Side::Gradient => self.tiles.target(self.tile, i, j),
                };
                *from = at.map(|at| &self.source[at..][..self.channels]);
            }
        }
        for c in (0..self.channels).step_by(V::N) {
            let mut d = [[V::splat(0.0); I]; I];
            for i in 0..I {
                for j in 0..I {
                    if let Some(row) = from[i][j] {
                        d[i][j] = load_part(&row[c..]);
                    }
                }
            }
            let (block, lane) = (c / self.block, c % self.block);
            for (point, v) in both(d, f).iter().flatten().enumerate() {
                let at = (block * POINTS + point) * self.apart + self.row * self.block + lane;
                // SAFETY: the row belongs to this tile alone; a block is a multiple of any vector.
                unsafe { v.store(self.to.add(at)) };
            }
        }
    }
}

/// The first lanes of a row, zeros behind its end.
#[inline(always)]
pub(super) fn load_part<V: Lanes>(row: &[f32]) -> V {
    if row.len() >= V::N {
        // SAFETY: the row is long enough.
        return unsafe { V::load(row.as_ptr()) };
    }
    let mut part = [0.0; 16];
    part[..row.len()].copy_from_slice(row);
    // SAFETY: no vector is longer than 16.
    unsafe { V::load(part.as_ptr()) }
}

#[inline(always)]
pub(super) fn store_part<V: Lanes>(v: V, row: &mut [f32]) {
    if row.len() >= V::N {
        // SAFETY: the row is long enough.
        return unsafe { v.store(row.as_mut_ptr()) };
    }
    let mut part = [0.0; 16];
    // SAFETY: no vector is longer than 16.
    unsafe { v.store(part.as_mut_ptr()) };
    row.copy_from_slice(&part[..row.len()]);
}

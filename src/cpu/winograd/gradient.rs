//! The gradient of the weights.

use super::tiles::{Tiles, Transformed};
use super::transform::{IN, POINTS, g};
use super::{AT_ONCE, Cores, DEPTH};
use crate::cpu::conv2d::Params;
use crate::cpu::lanes::run;
use crate::cpu::matmul::{PANEL, Shared, Tiles as Product};
use crate::cpu::pool::{give, take};
use crate::cpu::vectorised;
use crate::kernel::variant;
use rayon::prelude::*;

/// How often V or dM may be made anew, so that what a task needs stays in its core's caches.
const OFTEN: usize = 4;
/// Channels of the gradient that are worked on at once.
const WIDE: usize = 2 * PANEL;

/// dL/dweight `[k,k,c_in,c_out]`: dU = Vᵀ·(A·dy·Aᵀ) summed over tiles, then Gᵀ·dU·G.
pub fn backward_weight(x: &[f32], grad: &[f32], params: &Params) -> Vec<f32> {
    variant("winograd");
    let tiles = Tiles::of(params);
    let (c_in, c_out) = (params.c_in as usize, params.c_out as usize);
    let taps = params.kh as usize;
    let mut dw = take(taps * taps * c_in * c_out);
    let to = Shared::new(&mut dw);
    let (blocks, threads) = (c_in.div_ceil(DEPTH), rayon::current_num_threads());
    let width = match blocks * c_out.div_ceil(WIDE) < threads {
        true => PANEL,
        false => WIDE,
    };
    let groups = c_out.div_ceil(width);
    // Made once for all tasks where each would make them too often, and where there are few tasks to do it.
    let whole = (blocks.max(groups) > OFTEN || blocks * groups < 2 * threads).then(|| {
        let (all, cores) = (0..tiles.count(), Cores::Together);
        let v = Transformed::input(&tiles, all.clone(), x, 0..c_in, cores);
        (v, Transformed::gradient(&tiles, all, grad, 0..c_out, cores))
    });
    // Blocks of V begin at multiples of `DEPTH`; a task's own rows are as many as the next's, in whole vectors of 8.
    let height = match whole {
        Some(_) => DEPTH,
        None => c_in.div_ceil(blocks).next_multiple_of(8),
    };
    (0..blocks * groups).into_par_iter().for_each(|task| {
        let (block, group) = (task / groups, task % groups);
        let rows = block * height..c_in.min(block * height + height);
        let columns = group * width..c_out.min(group * width + width);
        let mut du = take(POINTS * DEPTH * WIDE);
        let size = [rows.len(), columns.len()];
        match &whole {
            Some((v, dm)) => add_products(
                (v, block),
                (dm, group * width / PANEL),
                size,
                false,
                &mut du,
            ),
            None => {
                for first in (0..tiles.count()).step_by(AT_ONCE) {
                    let range = first..(first + AT_ONCE).min(tiles.count());
                    let cores = Cores::Apart;
                    let v = Transformed::input(&tiles, range.clone(), x, rows.clone(), cores);
                    let dm = Transformed::gradient(&tiles, range, grad, columns.clone(), cores);
                    add_products((&v, 0), (&dm, 0), size, first > 0, &mut du);
                    give(v.data);
                    give(dm.data);
                }
            }
        }
        let mut sum = [0.0; DEPTH * WIDE];
        for tap in 0..taps * taps {
            let coefficient = |p: usize| g(p / IN, tap / taps, taps) * g(p % IN, tap % taps, taps);
            let points = du.chunks_exact(DEPTH * WIDE).enumerate();
            add_up(points.map(|(p, du)| (coefficient(p) as f32, du)), &mut sum);
            for (i, sum) in rows.clone().zip(sum.chunks_exact(WIDE)) {
                let at = (tap * c_in + i) * c_out + columns.start;
                // SAFETY: these rows and columns belong to this task alone.
                let row =
                    unsafe { std::slice::from_raw_parts_mut(to.get().add(at), columns.len()) };
                row.copy_from_slice(&sum[..row.len()]);
            }
        }
        give(du);
    });
    if let Some((v, dm)) = whole {
        give(v.data);
        give(dm.data);
    }
    dw
}

/// dU (+)= Vᵀ·dM `[36][64][64]`, of a block of V and the panels from one of dM on.
fn add_products(
    (v, block): (&Transformed, usize),
    (dm, panel): (&Transformed, usize),
    [rows, columns]: [usize; 2],
    add: bool,
    du: &mut [f32],
) {
    for (point, du) in du.chunks_exact_mut(DEPTH * WIDE).enumerate() {
        run(Product {
            a: v.at(block, point),
            row: 1,
            step: DEPTH,
            rows,
            k: v.tiles,
            b: dm.at(panel, point),
            panel: dm.block(),
            out: du.as_mut_ptr(),
            stride: WIDE,
            columns: columns.next_multiple_of(PANEL),
            add,
            epilogue: None,
        });
    }
}

/// out = Σ factor · row, rows as long as `out`.
fn add_up<'a>(rows: impl Iterator<Item = (f32, &'a [f32])>, out: &mut [f32]) {
    out.fill(0.0);
    vectorised(
        #[inline(always)]
        || {
            for (factor, row) in rows.filter(|(factor, _)| *factor != 0.0) {
                out.iter_mut().zip(row).for_each(|(o, r)| *o += factor * r);
            }
        },
    );
}

//! 3×3 convolutions by Winograd's F(2×2, 3×3) and F(4×4, 3×3); see `shaders/conv2d/winograd.wgsl`.

use super::tiles::{self, Operands, Tile, product};
use crate::Result;
use crate::gpu::{Buffer, Gpu, Pass};
use crate::ops::Activation;
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

pub(super) mod gradient;

const NAME: &str = "conv2d/winograd";
pub(super) const SHADER: &str = include_str!("../../../shaders/conv2d/winograd.wgsl");

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Params {
    h: u32,
    w: u32,
    groups_in: u32,
    out_h: u32,
    out_w: u32,
    groups_out: u32,
    top: i32,
    left: i32,
    replicate: u32,
    activation: u32,
    slope: f32,
    bias: u32,
    residual: u32,
    /// The first tile of this launch, and how many.
    first: u32,
    tiles: u32,
    c_in: u32,
    c_out: u32,
    block: u32,
    turned: u32,
}

impl Params {
    /// All tiles at once, for the kernels that do not read weights; nothing follows the sum.
    fn new(p: &tiles::Params, side: u32) -> Self {
        Self {
            h: p.h,
            w: p.w,
            groups_in: p.groups_in,
            out_h: p.out_h,
            out_w: p.out_w,
            groups_out: p.groups_out,
            top: p.top,
            left: p.left,
            replicate: p.replicate,
            activation: Activation::Identity.kind(),
            slope: 0.0,
            bias: 0,
            residual: 0,
            first: 0,
            tiles: p.rows / p.out_h / p.out_w * p.out_h.div_ceil(side) * p.out_w.div_ceil(side),
            c_in: 4 * p.groups_in,
            c_out: 4 * p.groups_out,
            block: 0,
            turned: 0,
        }
    }
}

/// 3×3, stride 1, and the transformed weights fit a binding.
pub(super) fn suits(gpu: &Gpu, (side, tile): (u32, &Tile), p: &tiles::Params) -> bool {
    let weights = (side + 2).pow(2) * (4 * p.groups_out).next_multiple_of(tile.channels);
    let fits = (weights * p.groups_in) as usize * 4 <= gpu.max_elements();
    [p.kh, p.kw, p.stride, p.dilation] == [3, 3, 1, 1] && fits
}

/// Is F(2×2) on matrix units worth its transforms? Measured on an H100: with 1024 channels on both sides
/// 1.6 times as fast for 8 pictures of 24², as fast for one.
pub(super) fn pays_on_matrices(pixels: u32, groups_in: u32, groups_out: u32) -> bool {
    pixels >= 2048 && groups_in >= 128 && groups_out >= 128
}

/// What makes the products on hardware: the larger tile, unless much of it would lie beyond the last
/// tile of the picture or the last channel; in f16 matrix units, for F(2×2), whose numbers it can keep.
pub(super) fn tile(gpu: &Gpu, side: u32, p: &tiles::Params) -> Tile {
    if side == 2 && gpu.is_half() && gpu.report().matrix_side(true).is_some() {
        return Tile::matrix(gpu);
    }
    let rows = Params::new(p, side).tiles;
    let area = |edge: u32| rows.next_multiple_of(edge) * (4 * p.groups_out).next_multiple_of(edge);
    Tile::shared(if area(128) <= area(64) / 8 * 9 {
        128
    } else {
        64
    })
}

fn pass<'a>(gpu: &'a Gpu, entry: &'static str, side: u32) -> Pass<'a> {
    let pass = gpu.pass(NAME, SHADER).entry(entry);
    pass.constant("TILE", side.into())
}

/// As [`product`], from weights that are not packed: `[3,3,c_in,c_out]`, or `[3,3,c_out,c_in]` with the
/// taps from the other end where `turned`. `side` is 2 or 4 outputs.
pub(super) fn convolution(
    gpu: &Arc<Gpu>,
    (side, tile): (u32, &Tile),
    operands: &Operands,
    [c_in, c_out]: [u32; 2],
    turned: bool,
    p: &tiles::Params,
) -> Result<Buffer> {
    let points = (side + 2).pow(2);
    let whole = Params::new(p, side);
    let all = whole.tiles;
    let widest = 4 * p.groups_in.max(p.groups_out) * points;
    let at_once = (gpu.max_elements() as u32 / widest).clamp(1, all);
    let params = Params {
        activation: operands.activation,
        slope: operands.slope,
        bias: operands.bias.is_some().into(),
        residual: operands.residual.is_some().into(),
        tiles: at_once,
        c_in,
        c_out,
        block: tile.channels,
        turned: turned.into(),
        ..whole
    };
    let pass = |entry| pass(gpu, entry, side);
    let form = match (side, turned) {
        (2, false) => "winograd2",
        (2, true) => "winograd2 turned",
        (_, false) => "winograd4",
        (_, true) => "winograd4 turned",
    };
    let u = operands.weight.derived((form, tile.channels), || {
        let groups = c_out.next_multiple_of(tile.channels) * p.groups_in;
        let u = tile.room(gpu, (points * groups * 4) as usize)?;
        let pass = pass("weights").read(operands.weight).write(&u);
        pass.params(&params).run(groups as usize)?;
        Ok(u)
    })?;

    let y = gpu.alloc((4 * p.rows * p.groups_out) as usize)?;
    for first in (0..all).step_by(at_once as usize) {
        let count = at_once.min(all - first);
        let params = Params {
            first,
            tiles: count,
            ..params
        };
        let v = tile.room(gpu, (4 * points * count * p.groups_in) as usize)?;
        let from = pass("input").read(operands.x).write(&v).params(&params);
        from.run((count * p.groups_in) as usize)?;
        let over_channels = tiles::Params {
            rows: count,
            h: 1,
            w: count,
            out_h: 1,
            out_w: count,
            kh: 1,
            kw: 1,
            top: 0,
            left: 0,
            replicate: 0,
            steps: p.groups_in,
            batched: c_out.div_ceil(tile.channels),
            ..*p
        };
        let bare = Operands::bare(&v, &u);
        let m = product(gpu, tile, &bare, points, &over_channels)?;
        pass("output")
            .read(&m)
            .read(operands.bias.unwrap_or(&m))
            .read(operands.residual.unwrap_or(&m))
            .write(&y)
            .params(&params)
            .run((count * p.groups_out) as usize)?;
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::super::plain;
    use super::super::tuner::{distance, noise};
    use super::*;
    use crate::cpu::conv2d::Params as Geometry;
    use crate::gpu::{self, Options};

    #[test]
    fn products_on_matrix_units_give_the_same() {
        for (half, tolerance) in [(false, 1e-6), (true, 1e-3)] {
            let options = Options {
                poison: true,
                half,
                ..Options::default()
            };
            let gpu = gpu::open(0, &options).expect("an adapter");
            // Neither channels nor tiles fill a matrix.
            let p = Geometry {
                n: 3,
                h: 7,
                w: 9,
                c_in: 44,
                out_h: 7,
                out_w: 8,
                c_out: 68,
                kh: 3,
                kw: 3,
                stride: 1,
                top: 1,
                left: 1,
                replicate: 1,
                activation: Activation::Silu.kind(),
                slope: 0.0,
                residual: 1,
            };
            let upload = |len: u32| gpu.upload(&noise(len)).expect("room");
            let (x, weight) = (upload(3 * 7 * 9 * 44), upload(9 * 44 * 68));
            let (bias, residual) = (upload(68), upload(3 * 7 * 8 * 68));
            let expected = plain::forward(&gpu, [&x, &weight, &bias], Some(&residual), &p);
            let operands = Operands {
                x: &x,
                weight: &weight,
                bias: Some(&bias),
                residual: Some(&residual),
                activation: p.activation,
                slope: p.slope,
            };
            let tile = Tile::emulated();
            // Matrix units have no f32 where the GPU is in f16.
            assert_eq!(tile.room(&gpu, 4).unwrap().is_half(), half);
            let params = tiles::Params::forward(&p);
            let y = convolution(&gpu, (2, &tile), &operands, [44, 68], false, &params);
            let [found, expected] = [y, expected].map(|y| gpu.read(&y.unwrap()).unwrap());
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            let error = distance(&found, &expected);
            assert!(error < tolerance, "{half}: {error:e}");
        }
    }
}

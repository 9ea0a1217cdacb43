//! The gradient of 3×3 weights by Winograd: a product per point instead of one per tap, over tiles
//! instead of pixels, 36 to 9·16.

use super::{Params, pass};
use crate::Result;
use crate::cpu::conv2d::Params as Geometry;
use crate::gpu::{Buffer, Gpu};
use crate::ops::conv2d::gradient::Product;
use crate::ops::conv2d::pack::{self, Wide};
use crate::ops::conv2d::tiles::{self, ENOUGH};
use std::sync::Arc;

/// 3×3, stride 1, and what is made on the way fits a binding.
pub fn suits(gpu: &Gpu, side: u32, p: &Geometry) -> bool {
    let params = params(side, p);
    let [tiles, groups_in, groups_out] =
        [params.tiles, params.groups_in, params.groups_out].map(|size| size as usize);
    let largest = (tiles * groups_in.max(groups_out)).max(4 * groups_in * groups_out);
    let fits = 4 * largest * points(side) as usize <= gpu.max_elements();
    [p.kh, p.kw, p.stride] == [3, 3, 1] && fits
}

/// Is F(4×4, 3×3) what should be fastest? In f16 the products of matrix units are not worth saving.
pub fn pays(gpu: &Gpu, p: &Geometry) -> bool {
    gpu.report().hardware && !gpu.is_half() && is_large(p)
}

/// Enough tiles and channels to outweigh the transforms, and enough products to keep a device busy: their
/// sums are not in slices.
fn is_large(p: &Geometry) -> bool {
    let workgroups = points(4) * p.c_in.div_ceil(64) * p.c_out.div_ceil(64);
    let enough = params(4, p).tiles >= 64 && workgroups >= ENOUGH / 2;
    enough && p.c_in.min(p.c_out) >= 64
}

/// dL/dweight `[3,3,c_in,c_out]`, f32, from tiles of `side` × `side` outputs, 2 or 4.
pub fn weight(
    gpu: &Arc<Gpu>,
    [x, grad]: [&Buffer; 2],
    (side, product): (u32, Product),
    p: &Geometry,
) -> Result<Buffer> {
    let params = params(side, p);
    let (points, tiles) = (points(side), params.tiles);
    let [groups_in, groups_out] = [params.groups_in, params.groups_out];
    let transformed = |entry, rows: &Buffer, channels: u32| {
        let rows = Wide::of(gpu, rows, channels)?;
        let groups = (tiles * channels.div_ceil(4)) as usize;
        let to = product.room(gpu, 4 * points as usize * groups)?;
        let pass = pass(gpu, entry, side).read(rows.buffer()).write(&to);
        pass.params(&params).run(groups)?;
        Ok(to)
    };
    let v = transformed("input", x, p.c_in)?;
    let d = transformed("gradient", grad, p.c_out)?;
    let groups = [groups_in, groups_out];
    let sums = product.matrices(gpu, [&v, &d], [points, tiles], groups)?;
    drop((v, d));
    let groups = (p.c_in * groups_out) as usize;
    let dw = gpu.alloc_f32(9 * 4 * groups)?;
    let pass = pass(gpu, "weights_gradient", side).read(&sums).write(&dw);
    pass.params(&params).run(groups)?;
    pack::narrow(gpu, dw, p.c_out)
}

fn points(side: u32) -> u32 {
    (side + 2).pow(2)
}

fn params(side: u32, p: &Geometry) -> Params {
    Params {
        c_in: p.c_in,
        ..Params::new(&tiles::Params::forward(p), side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{self, Options};
    use crate::ops::conv2d::plain;
    use crate::ops::conv2d::tuner::{distance, noise};

    /// Neither channels nor maps fill the tiles; a side wide enough for the larger tile.
    fn geometry(replicate: u32) -> Geometry {
        Geometry {
            n: 2,
            h: 9,
            w: 7,
            c_in: 133,
            out_h: 9,
            out_w: 6,
            c_out: 146,
            kh: 3,
            kw: 3,
            stride: 1,
            top: 1,
            left: 0,
            replicate,
            activation: 0,
            slope: 0.0,
            residual: 0,
        }
    }

    #[test]
    fn it_is_what_the_formula_says_with_every_product() {
        for half in [false, true] {
            let options = Options {
                poison: true,
                half,
                ..Options::default()
            };
            let gpu = gpu::open(0, &options).expect("an adapter");
            let upload = |len: u32| gpu.upload(&noise(len)).expect("room");
            for replicate in [0, 1] {
                let p = geometry(replicate);
                let x = upload(p.n * p.h * p.w * p.c_in);
                let grad = upload(p.n * p.out_h * p.out_w * p.c_out);
                let [expected, _] = plain::backward_weight(&gpu, [&x, &grad], &p).unwrap();
                let expected = gpu.read(&expected).unwrap();
                let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
                let products = [Product::Direct, Product::Tile64, Product::Tile128];
                let all = [2, 4]
                    .into_iter()
                    .flat_map(|side| products.map(|p| (side, p)));
                for (side, product) in all.chain([(2, Product::Emulated)]) {
                    let run = || {
                        assert!(suits(&gpu, side, &p));
                        let dw = weight(&gpu, [&x, &grad], (side, product), &p).unwrap();
                        gpu.read(&dw).unwrap()
                    };
                    let found = run();
                    assert_eq!(found.len(), expected.len());
                    let error = distance(&found, &expected);
                    let rounded = half && product == Product::Emulated;
                    let tolerance = if rounded { 1e-3 } else { 2e-6 };
                    assert!(error < tolerance, "{half} {side} {product:?}: {error:e}");
                    assert!(!rounded || error > 1e-5, "matrix units were given f32");
                    assert_eq!(found, run(), "not the same bits twice");
                }
            }
        }
    }

    #[test]
    fn small_ones_do_not_pay() {
        let p = |n, c_in, c_out| Geometry {
            n,
            c_in,
            c_out,
            ..geometry(0)
        };
        assert!(is_large(&p(11, 128, 128)) && is_large(&p(11, 1024, 64)));
        assert!(!is_large(&p(10, 128, 128))); // 60 tiles
        assert!(!is_large(&p(11, 1024, 63)) && !is_large(&p(11, 64, 64)));
    }
}

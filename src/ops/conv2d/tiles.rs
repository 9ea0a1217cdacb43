//! The tiled kernels: convolution as a matrix product over pixels, taps and channels.

use crate::Result;
use crate::cpu::conv2d::Params as Geometry;
use crate::gpu::{Buffer, Gpu};
use crate::ops::Activation;
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

pub(super) const DIRECT: &str = include_str!("../../../shaders/conv2d/direct.wgsl");
pub(super) const SHARED: &str = include_str!("../../../shaders/conv2d/shared.wgsl");
pub(super) const MATRIX: &str = include_str!("../../../shaders/conv2d/matrix.wgsl");

/// Workgroups that keep any device busy.
pub(super) const ENOUGH: u32 = 256;

/// A kernel that makes a block of the output in every workgroup.
pub(super) struct Tile {
    name: &'static str,
    shader: &'static str,
    /// Output pixels of a workgroup.
    pub pixels: u32,
    /// Output channels of a workgroup; weights are packed in blocks of so many.
    pub channels: u32,
    /// Can it only multiply numbers as the GPU keeps them, and not f32 in f16's stead?
    on_matrices: bool,
    constants: Vec<(&'static str, f64)>,
}

impl Tile {
    /// 24 pixels × 16 channels in the registers of a thread.
    pub fn direct(gpu: &Gpu) -> Self {
        Self {
            name: "conv2d/direct",
            shader: DIRECT,
            pixels: 24 * gpu.lanes(),
            channels: 16,
            on_matrices: false,
            constants: vec![("LANES", gpu.lanes().into())],
        }
    }

    /// `side` pixels × `side` channels, 64 or 128, in shared memory.
    pub fn shared(side: u32) -> Self {
        Self {
            name: "conv2d/shared",
            shader: SHARED,
            pixels: side,
            channels: side,
            on_matrices: false,
            constants: vec![
                ("SIDE", side.into()),
                ("THREADS", (side * side / 64).into()),
            ],
        }
    }

    /// 8 × 8 matrices on the matrix units of 8 subgroups: 64 pixels × 64 channels, or 128 × 128 where a matrix has 16 rows.
    pub fn matrix(gpu: &Gpu) -> Self {
        let side = 8 * gpu.report().matrix_side(gpu.is_half()).unwrap_or(8);
        Self {
            name: "conv2d/matrix",
            shader: MATRIX,
            pixels: side,
            channels: side,
            on_matrices: true,
            constants: Vec::new(),
        }
    }

    /// The same on an adapter without matrix units, with matrices of 4 × 4.
    #[cfg(test)]
    pub fn emulated() -> Self {
        Self {
            name: "conv2d/emulated",
            shader: super::emulated::matrix(4),
            pixels: 32,
            channels: 32,
            on_matrices: true,
            constants: Vec::new(),
        }
    }

    /// Room for operands that are made for it.
    pub fn room(&self, gpu: &Arc<Gpu>, len: usize) -> Result<Buffer> {
        match self.on_matrices {
            true => gpu.alloc(len),
            false => gpu.alloc_f32(len),
        }
    }

    /// Workgroups for an output of so many pixels and groups of channels.
    pub fn workgroups(&self, rows: u32, groups: u32) -> [u32; 2] {
        [
            rows.div_ceil(self.pixels),
            (4 * groups).div_ceil(self.channels),
        ]
    }
}

/// What a tiled kernel computes; channels in groups of 4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct Params {
    /// Output pixels of a slice.
    pub rows: u32,
    pub h: u32,
    pub w: u32,
    pub groups_in: u32,
    pub out_h: u32,
    pub out_w: u32,
    pub groups_out: u32,
    pub kh: u32,
    pub kw: u32,
    pub stride: u32,
    /// Only every so manyth row and column of the input is there: the gradient of a stride.
    pub dilation: u32,
    pub top: i32,
    pub left: i32,
    pub replicate: u32,
    /// Groups of input channels, over all taps, that a slice sums.
    pub steps: u32,
    /// 1: slices are parts of one sum.
    pub split: u32,
    /// Blocks of weights from a slice to the next; 0: all slices have the same weights.
    pub batched: u32,
}

impl Params {
    /// The forward pass.
    pub fn forward(p: &Geometry) -> Self {
        let groups_in = p.c_in.div_ceil(4);
        Self {
            rows: p.n * p.out_h * p.out_w,
            h: p.h,
            w: p.w,
            groups_in,
            out_h: p.out_h,
            out_w: p.out_w,
            groups_out: p.c_out.div_ceil(4),
            kh: p.kh,
            kw: p.kw,
            stride: p.stride,
            dilation: 1,
            top: p.top as i32,
            left: p.left as i32,
            replicate: p.replicate,
            steps: p.kh * p.kw * groups_in,
            split: 0,
            batched: 0,
        }
    }

    /// The gradient of the input (of the padded input where the border was repeated): a convolution of
    /// the output's gradient, with the taps from the other end.
    pub fn backward_input(p: &Geometry) -> Self {
        let before = |k: u32, padding: u32| match p.replicate {
            1 => k as i32 - 1,
            _ => k as i32 - 1 - padding as i32,
        };
        let [h, w] = match p.replicate {
            1 => padded(p),
            _ => [p.h, p.w],
        };
        let groups_in = p.c_out.div_ceil(4);
        Self {
            rows: p.n * h * w,
            h: p.out_h,
            w: p.out_w,
            groups_in,
            out_h: h,
            out_w: w,
            groups_out: p.c_in.div_ceil(4),
            stride: 1,
            dilation: p.stride,
            top: before(p.kh, p.top),
            left: before(p.kw, p.left),
            replicate: 0,
            steps: p.kh * p.kw * groups_in,
            ..Self::forward(p)
        }
    }

    /// About so many slices of the sum, and the steps of each: they begin where a step of any kernel does.
    pub fn slices_of(&self, slices: u32) -> (u32, u32) {
        let steps = self.steps.div_ceil(slices).next_multiple_of(8);
        (self.steps.div_ceil(steps), steps)
    }

    /// Can a tap fall outside of the input?
    fn masked(&self) -> bool {
        let inside = |out: u32, k: u32, before: i32, size: u32| {
            before <= 0 && ((out - 1) * self.stride + k) as i32 - before <= size as i32
        };
        let whole = inside(self.out_h, self.kh, self.top, self.h)
            && inside(self.out_w, self.kw, self.left, self.w);
        self.dilation > 1 || self.replicate == 0 && !whole
    }
}

/// Rows and columns of the padded picture that the taps reach.
pub(super) fn padded(p: &Geometry) -> [u32; 2] {
    [
        (p.out_h - 1) * p.stride + p.kh,
        (p.out_w - 1) * p.stride + p.kw,
    ]
}

/// What a product reads; all as wide as groups of 4 make them, the weights packed for the tile. And the
/// function that ends it, as `activate` in `shaders/prelude.wgsl` has it.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub x: &'a Buffer,
    pub weight: &'a Buffer,
    pub bias: Option<&'a Buffer>,
    pub residual: Option<&'a Buffer>,
    pub activation: u32,
    pub slope: f32,
}

impl<'a> Operands<'a> {
    /// Of a product that nothing follows.
    pub fn bare(x: &'a Buffer, weight: &'a Buffer) -> Self {
        Self {
            x,
            weight,
            bias: None,
            residual: None,
            activation: Activation::Identity.kind(),
            slope: 0.0,
        }
    }
}

/// Runs the product in `slices` slices; y `[slices, rows, groups_out·4]`, in f32 where they are parts of
/// one sum or have weights of their own: a kernel finishes them.
pub(super) fn product(
    gpu: &Arc<Gpu>,
    tile: &Tile,
    operands: &Operands,
    slices: u32,
    params: &Params,
) -> Result<Buffer> {
    let len = (slices * params.rows * params.groups_out * 4) as usize;
    let y = match params.split == 1 || params.batched > 0 {
        true => gpu.alloc_f32(len)?,
        false => gpu.alloc_like(operands.x, len)?,
    };
    let mut pass = gpu.pass(tile.name, tile.shader);
    for &(name, value) in &tile.constants {
        pass = pass.constant(name, value);
    }
    let [across, down] = tile.workgroups(params.rows, params.groups_out);
    let flag = |set: bool| f64::from(u8::from(set));
    pass.constant("ACTIVATION", operands.activation.into())
        .constant("SLOPE", operands.slope.into())
        .constant("BIAS", flag(operands.bias.is_some()))
        .constant("RESIDUAL", flag(operands.residual.is_some()))
        .constant("MASKED", flag(params.masked()))
        .constant("DILATED", flag(params.dilation > 1))
        .read(operands.x)
        .read(operands.weight)
        .read(operands.bias.unwrap_or(operands.weight))
        .read(operands.residual.unwrap_or(operands.weight))
        .write(&y)
        .params(params)
        .groups([across, down, slices])?;
    Ok(y)
}

/// A sum over steps in slices `[slices, rows, groups_out·4]`, without what follows it: for few outputs.
pub(in crate::ops) struct Partial {
    pub sums: Buffer,
    pub slices: u32,
}

/// The same with the sum over steps in about so many slices.
pub(super) fn split(
    gpu: &Arc<Gpu>,
    tile: &Tile,
    operands: &Operands,
    slices: u32,
    params: &Params,
) -> Result<Partial> {
    let (slices, steps) = params.slices_of(slices);
    let raw = Params {
        steps,
        split: 1,
        ..*params
    };
    let bare = Operands::bare(operands.x, operands.weight);
    let sums = product(gpu, tile, &bare, slices, &raw)?;
    Ok(Partial { sums, slices })
}

#[cfg(test)]
mod tests {
    use super::super::{pack, sum, tuner};
    use super::*;
    use crate::gpu::{self, Options};

    #[test]
    fn the_kernel_for_matrix_units_computes_the_same() {
        for (half, tolerance) in [(false, 1e-6), (true, 1e-3)] {
            let options = Options {
                poison: true,
                half,
                ..Options::default()
            };
            let gpu = gpu::open(0, &options).unwrap();
            // Neither the pixels nor the channels nor the steps fill the tiles.
            let geometry = Geometry {
                n: 2,
                h: 9,
                w: 7,
                c_in: 12,
                out_h: 5,
                out_w: 4,
                c_out: 76,
                kh: 3,
                kw: 3,
                stride: 2,
                top: 1,
                left: 1,
                replicate: 0,
                activation: Activation::Silu.kind(),
                slope: 0.0,
                residual: 1,
            };
            let params = Params::forward(&geometry);
            let noise = |len: u32| gpu.upload(&tuner::noise(len)).unwrap();
            let x = noise(2 * 9 * 7 * 12);
            let weight = noise(9 * 12 * 76);
            let bias = noise(76);
            let residual = noise(2 * 5 * 4 * 76);
            let run = |tile: &Tile, in_slices: bool| {
                let packed =
                    pack::weights(&gpu, &weight, [9, 12, 76], tile.channels, false).unwrap();
                let operands = Operands {
                    x: &x,
                    weight: &packed,
                    bias: Some(&bias),
                    residual: Some(&residual),
                    activation: geometry.activation,
                    slope: geometry.slope,
                };
                let y = match in_slices {
                    false => product(&gpu, tile, &operands, 1, &params).unwrap(),
                    true => {
                        let partial = split(&gpu, tile, &operands, 3, &params).unwrap();
                        assert!(partial.slices > 1);
                        sum::finish(&gpu, &partial, &operands, &params).unwrap()
                    }
                };
                gpu.read(&y).unwrap()
            };
            let expected = run(&Tile::direct(&gpu), false);
            for in_slices in [false, true] {
                let found = run(&Tile::emulated(), in_slices);
                assert_eq!(found.len(), expected.len());
                for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
                    assert!(
                        (f - e).abs() <= tolerance * (1.0 + e.abs()),
                        "{half} {i}: {f} not {e}"
                    );
                }
            }
        }
    }
}

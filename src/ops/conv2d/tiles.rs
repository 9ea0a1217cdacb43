//! The tiled kernels: convolution as a matrix product over pixels, taps and channels.

use super::pack::{self, Wide};
use crate::Result;
use crate::cpu::conv2d::Params as Geometry;
use crate::gpu::{Buffer, Gpu};
use crate::ops::Activation;
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

/// A kernel that makes a block of the output in every workgroup.
pub(super) struct Tile {
    pub name: &'static str,
    pub shader: &'static str,
    /// Output pixels of a workgroup.
    pub pixels: u32,
    /// Output channels of a workgroup; weights are packed in blocks of so many.
    pub channels: u32,
    pub constants: Vec<(&'static str, f64)>,
}

impl Tile {
    /// 24 pixels × 16 channels in the registers of a thread.
    pub fn direct(gpu: &Gpu) -> Self {
        Self {
            name: "conv2d/direct",
            shader: include_str!("../../../shaders/conv2d/direct.wgsl"),
            pixels: 24 * gpu.lanes(),
            channels: 16,
            constants: vec![("LANES", gpu.lanes().into())],
        }
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
    pub activation: u32,
    pub slope: f32,
    pub bias: u32,
    pub residual: u32,
    /// Groups of input channels, over all taps, that a slice sums.
    pub steps: u32,
    /// 1: slices are parts of one sum.
    pub split: u32,
    /// Blocks of weights from a slice to the next; 0: all slices have the same weights.
    pub batched: u32,
}

impl Params {
    /// The forward pass, its output finished.
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
            activation: p.activation,
            slope: p.slope,
            bias: 1,
            residual: p.residual,
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
            activation: Activation::Identity.kind(),
            bias: 0,
            residual: 0,
            steps: p.kh * p.kw * groups_in,
            ..Self::forward(p)
        }
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

/// What a product reads; all as wide as groups of 4 make them, the weights packed for the tile.
pub(super) struct Operands<'a> {
    pub x: &'a Buffer,
    pub weight: &'a Buffer,
    pub bias: Option<&'a Buffer>,
    pub residual: Option<&'a Buffer>,
}

/// Runs the product in `slices` slices; y `[slices, rows, groups_out·4]`.
pub(super) fn product(
    gpu: &Arc<Gpu>,
    tile: &Tile,
    operands: &Operands,
    slices: u32,
    params: &Params,
) -> Result<Buffer> {
    let y = gpu.alloc((slices * params.rows * params.groups_out * 4) as usize)?;
    let mut pass = gpu.pass(tile.name, tile.shader);
    for &(name, value) in &tile.constants {
        pass = pass.constant(name, value);
    }
    pass.constant("MASKED", f64::from(u8::from(params.masked())))
        .read(operands.x)
        .read(operands.weight)
        .read(operands.bias.unwrap_or(operands.weight))
        .read(operands.residual.unwrap_or(operands.weight))
        .write(&y)
        .params(params)
        .groups([
            params.rows.div_ceil(tile.pixels),
            (4 * params.groups_out).div_ceil(tile.channels),
            slices,
        ])?;
    Ok(y)
}

/// y = f(x ∗ weight + bias) (+ residual), or the gradient of the input where `turned`.
pub(super) fn convolution(
    gpu: &Arc<Gpu>,
    tile: &Tile,
    [x, weight]: [&Buffer; 2],
    [bias, residual]: [Option<&Buffer>; 2],
    turned: bool,
    p: &Geometry,
) -> Result<Buffer> {
    let (params, [c_in, c_out]) = match turned {
        false => (Params::forward(p), [p.c_in, p.c_out]),
        true => (Params::backward_input(p), [p.c_out, p.c_in]),
    };
    let x = Wide::of(gpu, x, c_in)?;
    let bias = bias.map(|b| Wide::kept(gpu, b, c_out)).transpose()?;
    let residual = residual.map(|r| Wide::of(gpu, r, c_out)).transpose()?;
    let packed = pack::weights(
        gpu,
        weight,
        [p.kh * p.kw, c_in, c_out],
        tile.channels,
        turned,
    )?;
    let operands = Operands {
        x: x.buffer(),
        weight: &packed,
        bias: bias.as_ref().map(Wide::buffer),
        residual: residual.as_ref().map(Wide::buffer),
    };
    let y = product(gpu, tile, &operands, 1, &params)?;
    pack::narrow(gpu, y, c_out)
}

//! Depthwise convolution with bias and activation; the extractor is frozen, so it has no gradient.

use super::bands::Windows;
use super::conv2d::{Conv2d, Variant};
use super::{Cost, kernel, refuse_gradient};
use crate::cpu::depthwise::{self as cpu, Params};
use crate::gpu::Gpu;
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "depthwise";
const SHADER: &str = include_str!("../../shaders/depthwise.wgsl");

/// y = f(x ∗ weight + bias), every channel by itself (`torch.nn.functional.conv2d` with
/// `groups = C`).
///
/// x `[N,H,W,C]`, weight `[kh,kw,C]`, bias `[C]`, y `[N,oH,oW,C]`; zero padding.
///
/// # Errors
/// [`Error::Shape`] when they do not fit, for replicate padding, or when a gradient is wanted.
pub fn depthwise(tape: &Tape, x: &Var, weight: &Var, bias: &Var, conv: Conv2d) -> Result<Var> {
    refuse_gradient(NAME, tape, &[x, weight, bias])?;
    let [xt, wt, bt] = [x, weight, bias].map(Var::tensor);
    let (params, shape) = params(xt.shape(), wt.shape(), bt.shape(), conv)?;
    let windows = Windows {
        x,
        residual: None,
        rows: params.kh as usize,
        conv,
        widest: params.c as usize,
    };
    let in_bands = windows.in_bands(tape, shape, |band| {
        depthwise(tape, &band.x, weight, bias, band.conv)
    })?;
    if let Some(y) = in_bands {
        return Ok(y);
    }
    let [x, weight, bias] = [xt, wt, bt];
    let shapes = [x.shape(), weight.shape(), shape];
    let cost = cost(x.shape(), weight.shape(), shape);
    let _kernel = kernel(NAME, "forward", &shapes, cost);
    let y = match same_device(NAME, &[x, weight, bias])? {
        Device::Cpu => {
            let y = cpu::forward(
                x.host(),
                weight.host(),
                bias.host(),
                conv.activation,
                &params,
            );
            Tensor::host_tensor(shape, y)
        }
        Device::Gpu(gpu) => {
            let y = gpu.alloc(shape.len())?;
            let [n, out_h, out_w, c] = shape.nhwc(NAME)?;
            let f = conv.activation;
            let pass = gpu
                .pass(NAME, SHADER)
                .constant("ACTIVATION", f.kind().into());
            let pass = pass.constant("SLOPE", f.slope().into()).read(x.buffer());
            let pass = pass.read(weight.buffer()).read(bias.buffer()).write(&y);
            let pass = pass.params(&params);
            if is_direct(gpu) {
                crate::kernel::variant(Variant::Direct.name());
                let lanes = gpu.lanes();
                let tiles = n * out_h.div_ceil(4) * out_w.div_ceil(8);
                let pass = pass.entry("direct").constant("LANES", lanes.into());
                pass.folded(c * tiles.div_ceil(lanes as usize))?;
            } else if c % 4 == 0 {
                pass.run(n * out_h * out_w.div_ceil(4) * c / 4)?;
            } else {
                pass.entry("narrow").run(shape.len())?;
            }
            Tensor::gpu_tensor(gpu, shape, y)
        }
    };
    Ok(tape.constant(&y))
}

/// As with [`conv2d`](mod@super::conv2d): tiles in registers for software adapters, and where asked for.
fn is_direct(gpu: &Gpu) -> bool {
    match gpu.variant().and_then(Variant::parse) {
        Some((Variant::Plain, _)) => false,
        Some((Variant::Direct, _)) => true,
        _ => !gpu.report().hardware,
    }
}

/// What the kernels are told, and the shape of y.
pub(super) fn params(
    x: Shape,
    weight: Shape,
    bias: Shape,
    conv: Conv2d,
) -> Result<(Params, Shape)> {
    let [n, h, w, c] = x.nhwc(NAME)?;
    let misfit = || {
        let expected = format!("x [N,H,W,C], weight [kh,kw,{c}], bias [{c}], zero padding");
        let found = format!("{x}, {weight}, {bias}, {conv:?}");
        Error::shape(NAME, expected, found)
    };
    let &[kh, kw, channels] = weight.dims() else {
        return Err(misfit());
    };
    let fits =
        channels == c && bias == Shape::from([c]) && !conv.padding.replicate && !x.is_empty();
    let [out_h, out_w] = conv
        .output(h, w, kh, kw)
        .filter(|_| fits)
        .ok_or_else(misfit)?;
    let params = Params {
        n: n as u32,
        h: h as u32,
        w: w as u32,
        c: c as u32,
        out_h: out_h as u32,
        out_w: out_w as u32,
        kh: kh as u32,
        kw: kw as u32,
        stride: conv.stride as u32,
        top: conv.padding.top as u32,
        left: conv.padding.left as u32,
    };
    Ok((params, Shape::from([n, out_h, out_w, c])))
}

pub fn cost(x: Shape, weight: Shape, y: Shape) -> Cost {
    let taps = weight.len() / weight.channels();
    Cost::new(2 * y.len() * taps, x.len() + weight.len() + y.len())
}

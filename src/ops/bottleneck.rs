//! The two halves of an inverted bottleneck around its squeeze. On the CPU each is one kernel; on a GPU
//! they are the operators that they are made of, the expanded map in bands where it is more than a kernel
//! can see. The extractor is frozen, so there is no gradient.

use super::bands::Windows;
use super::conv2d::{self, Conv2d, conv2d};
use super::depthwise::{self, depthwise};
use super::mean::mean;
use super::scale::scale;
use super::{kernel, refuse_gradient};
use crate::cpu::bottleneck::{self as cpu, Pointwise};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "bottleneck";

/// From so many pixels for each channel of a projection's output on, a GPU multiplies the gate into the weights,
/// which are then packed anew for every picture, and not into the map.
const PAYS: usize = 4;

/// A convolution's weight and bias.
pub type Layer<'a> = [&'a Var; 2];

/// y = f(depthwise(f(expand(x)))), or f(depthwise(x)) without `expand`; f is `conv.activation`, stride and
/// padding are the depthwise convolution's.
///
/// x `[N,H,W,C_in]`, expand `[1,1,C_in,C]`, depthwise `[kh,kw,C]`, y `[N,oH,oW,C]`.
///
/// # Errors
/// As [`conv2d()`] and [`depthwise()`]; [`Error::Shape`] when a gradient is wanted.
pub fn expand(
    tape: &Tape,
    x: &Var,
    expand: Option<Layer>,
    depthwise: Layer,
    conv: Conv2d,
) -> Result<Var> {
    let (y, _) = widen::<false>(tape, x, expand, depthwise, conv)?;
    Ok(y)
}

/// [`expand`], and the mean of y over H and W, `[N,1,1,C]`, which squeeze-and-excite begins with.
///
/// # Errors
/// As [`expand`].
pub fn expand_with_mean(
    tape: &Tape,
    x: &Var,
    expand: Option<Layer>,
    depthwise: Layer,
    conv: Conv2d,
) -> Result<(Var, Var)> {
    let (y, means) = widen::<true>(tape, x, expand, depthwise, conv)?;
    let mean = match means {
        Some(mean) => mean,
        None => mean(tape, &y)?,
    };
    Ok((y, mean))
}

/// y, and its mean where it was wanted and came without a kernel of its own.
fn widen<const MEAN: bool>(
    tape: &Tape,
    x: &Var,
    expand: Option<Layer>,
    [weight, bias]: Layer,
    conv: Conv2d,
) -> Result<(Var, Option<Var>)> {
    let layer = expand.unwrap_or([weight, bias]);
    refuse_gradient(NAME, tape, &[x, layer[0], layer[1], weight, bias])?;
    let all = [x, layer[0], layer[1], weight, bias].map(Var::tensor);
    let is_cpu = matches!(same_device(NAME, &all)?, Device::Cpu);
    let xt = x.tensor();
    let [n, h, w, c_in] = xt.shape().nhwc(NAME)?;
    let c = bias.tensor().shape().len();
    if let Some([weight, bias]) = expand
        && (weight.tensor().shape() != Shape::from([1, 1, c_in, c])
            || bias.tensor().shape() != Shape::from([c]))
    {
        let found = format!("{}, {}", weight.tensor().shape(), bias.tensor().shape());
        return Err(Error::shape(
            NAME,
            format!("expand [1, 1, {c_in}, {c}], [{c}]"),
            found,
        ));
    }
    let wide = Shape::from([n, h, w, if expand.is_some() { c } else { c_in }]);
    let [wt, bt] = [weight, bias].map(|v| v.tensor().shape());
    let (params, shape) = depthwise::params(wide, wt, bt, conv)?;
    if !is_cpu {
        let y = on_gpu(tape, x, expand, [weight, bias], conv, shape)?;
        return Ok((y, None));
    }
    let [weight, bias] = [weight, bias].map(Var::tensor);
    let mut cost = depthwise::cost(wide, weight.shape(), shape);
    if let Some([weight, _]) = expand {
        cost = cost + conv2d::cost(xt.shape(), weight.tensor().shape(), wide);
        // The wide map stays in the cache.
        cost.bytes -= 8 * wide.len() as u64;
    }
    let _kernel = kernel(NAME, "expand", &[xt.shape(), weight.shape(), shape], cost);
    let expand = expand.map(|[weight, bias]| Pointwise {
        weight: weight.tensor().host(),
        bias: bias.tensor().host(),
    });
    let (y, mean) = cpu::expand::<MEAN>(
        xt.host(),
        expand,
        weight.host(),
        bias.host(),
        conv.activation,
        &params,
    );
    let y = tape.constant(&Tensor::host_tensor(shape, y));
    let mean = MEAN.then(|| tape.constant(&Tensor::host_tensor([n, 1, 1, c], mean)));
    Ok((y, mean))
}

/// y of [`expand`], of shape `y`.
fn on_gpu(
    tape: &Tape,
    x: &Var,
    expand: Option<Layer>,
    [weight, bias]: Layer,
    conv: Conv2d,
    y: Shape,
) -> Result<Var> {
    let Some(expand) = expand else {
        return depthwise(tape, x, weight, bias, conv);
    };
    let run = |x: &Var, conv: Conv2d| {
        let pointwise = Conv2d {
            stride: 1,
            padding: Default::default(),
            ..conv
        };
        let wide = conv2d(tape, x, expand[0], expand[1], None, pointwise)?;
        depthwise(tape, &wide, weight, bias, conv)
    };
    let windows = Windows {
        x,
        residual: None,
        rows: weight.tensor().shape().dims()[0],
        conv,
        widest: y.channels(),
    };
    match windows.in_bands(tape, y, |band| run(&band.x, band.conv))? {
        Some(y) => Ok(y),
        None => run(x, conv),
    }
}

/// y = (x·gate) ∗ weight + bias (+ residual), 1×1.
///
/// x `[N,H,W,C]`, gate `[N,1,1,C]`, weight `[1,1,C,C_out]`, y and residual `[N,H,W,C_out]`.
///
/// # Errors
/// As [`scale()`] and [`conv2d()`]; [`Error::Shape`] when a gradient is wanted.
pub fn project(
    tape: &Tape,
    x: &Var,
    gate: &Var,
    [weight, bias]: Layer,
    residual: Option<&Var>,
) -> Result<Var> {
    let inputs = [x, gate, weight, bias, residual.unwrap_or(x)];
    refuse_gradient(NAME, tape, &inputs)?;
    let tensors = inputs.map(Var::tensor);
    let is_cpu = matches!(same_device(NAME, &tensors)?, Device::Cpu);
    let [n, h, w, c] = x.tensor().shape().nhwc(NAME)?;
    let c_out = bias.tensor().shape().len();
    let shape = Shape::from([n, h, w, c_out]);
    let fits = gate.tensor().shape() == Shape::from([n, 1, 1, c])
        && weight.tensor().shape() == Shape::from([1, 1, c, c_out])
        && residual.is_none_or(|r| r.tensor().shape() == shape)
        && !shape.is_empty()
        && c > 0;
    if !fits {
        let expected =
            format!("gate [{n}, 1, 1, {c}], weight [1, 1, {c}, {c_out}], residual {shape}");
        let found = tensors[1..]
            .iter()
            .map(|t| t.shape().to_string())
            .collect::<Vec<_>>();
        return Err(Error::shape(NAME, expected, found.join(", ")));
    }
    let shapes = [x.tensor().shape(), weight.tensor().shape(), shape];
    if !is_cpu {
        let conv = Conv2d::new(Default::default());
        // In f16 the gate of a picture must begin a word, and its part of y.
        let odd = n > 1 && (c % 2 == 1 || c_out % 2 == 1);
        if h * w < PAYS * c_out || odd {
            let scaled = scale(tape, x, gate)?;
            return conv2d(tape, &scaled, weight, bias, residual, conv);
        }
        let gated = |x: &Var, picture: usize, residual: Option<&Var>| {
            // A row of the weights for each channel is a picture to `scale`.
            let rows = tape.constant(&weight.tensor().reshape([c, c_out, 1, 1])?);
            let gate = match n {
                1 => gate.tensor().clone(),
                _ => gate.tensor().rows(picture, 0..1)?,
            };
            let gate = tape.constant(&gate.reshape([c, 1, 1, 1])?);
            let weight = scale(tape, &rows, &gate)?.tensor().reshape(shapes[1])?;
            conv2d(tape, x, &tape.constant(&weight), bias, residual, conv)
        };
        if n == 1 {
            return gated(x, 0, residual);
        }
        let windows = Windows {
            x,
            residual,
            rows: 1,
            conv,
            widest: c,
        };
        return windows.by_picture(tape, shape, |band| {
            gated(&band.x, band.picture, band.residual.as_ref())
        });
    }
    let cost = conv2d::cost(shapes[0], shapes[1], shape);
    let _kernel = kernel(NAME, "project", &shapes, cost);
    let layer = Pointwise {
        weight: weight.tensor().host(),
        bias: bias.tensor().host(),
    };
    let residual = residual.map(|r| r.tensor().host());
    let y = cpu::project(x.tensor().host(), gate.tensor().host(), layer, residual, n);
    Ok(tape.constant(&Tensor::host_tensor(shape, y)))
}

//! The two halves of an inverted bottleneck around its squeeze. On the CPU each is one kernel; on a GPU
//! they are the operators that they are made of. The extractor is frozen, so there is no gradient.

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

/// A convolution's weight and bias.
pub type Layer<'a> = [&'a Var; 2];

/// (y, its mean over H and W): y = f(depthwise(f(expand(x)))), or f(depthwise(x)) without `expand`;
/// f is `conv.activation`, stride and padding are the depthwise convolution's.
///
/// x `[N,H,W,C_in]`, expand `[1,1,C_in,C]`, depthwise `[kh,kw,C]`, y `[N,oH,oW,C]`, mean `[N,1,1,C]`.
///
/// # Errors
/// As [`conv2d()`] and [`depthwise()`]; [`Error::Shape`] when a gradient is wanted.
pub fn expand(
    tape: &Tape,
    x: &Var,
    expand: Option<Layer>,
    [weight, bias]: Layer,
    conv: Conv2d,
) -> Result<(Var, Var)> {
    let layer = expand.unwrap_or([weight, bias]);
    refuse_gradient(NAME, tape, &[x, layer[0], layer[1], weight, bias])?;
    let all = [x, layer[0], layer[1], weight, bias].map(Var::tensor);
    let Device::Cpu = same_device(NAME, &all)? else {
        let wide = match expand {
            Some([weight, bias]) => {
                let pointwise = Conv2d {
                    stride: 1,
                    padding: Default::default(),
                    ..conv
                };
                conv2d(tape, x, weight, bias, None, pointwise)?
            }
            None => x.clone(),
        };
        let y = depthwise(tape, &wide, weight, bias, conv)?;
        let mean = mean(tape, &y)?;
        return Ok((y, mean));
    };
    let [xt, weight, bias] = [x, weight, bias].map(Var::tensor);
    let [n, h, w, c_in] = xt.shape().nhwc(NAME)?;
    let c = bias.shape().len();
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
    let (params, shape) = depthwise::params(wide, weight.shape(), bias.shape(), conv)?;
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
    let (y, mean) = cpu::expand(
        xt.host(),
        expand,
        weight.host(),
        bias.host(),
        conv.activation,
        &params,
    );
    Ok((
        tape.constant(&Tensor::host_tensor(shape, y)),
        tape.constant(&Tensor::host_tensor([n, 1, 1, c], mean)),
    ))
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
    let Device::Cpu = same_device(NAME, &tensors)? else {
        let scaled = scale(tape, x, gate)?;
        return conv2d(
            tape,
            &scaled,
            weight,
            bias,
            residual,
            Conv2d::new(Default::default()),
        );
    };
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

//! Convolution with bias, activation and residual in one launch.

use super::bands::Windows;
use super::{Activation, Cost, kernel};
use crate::cpu::conv2d::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

mod call;
#[cfg(test)]
mod emulated;
mod gradient;
mod pack;
mod plain;
mod plan;
mod sample;
mod sum;
mod tiles;
mod tuner;
mod variant;
mod weight;
mod winograd;

pub(super) use tiles::Partial;
pub use variant::Variant;

const NAME: &str = "conv2d";

/// Rows and columns added around the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Padding {
    pub top: usize,
    pub bottom: usize,
    pub left: usize,
    pub right: usize,
    /// The border is repeated; otherwise zeros.
    pub replicate: bool,
}

impl Padding {
    /// `p` zeros on every side.
    pub fn zeros(p: usize) -> Self {
        Self {
            top: p,
            bottom: p,
            left: p,
            right: p,
            replicate: false,
        }
    }

    /// The border repeated `p` times on every side.
    pub fn replicate(p: usize) -> Self {
        Self {
            replicate: true,
            ..Self::zeros(p)
        }
    }

    /// (before, after), the same for rows and columns.
    pub fn asymmetric(before: usize, after: usize) -> Self {
        Self {
            top: before,
            bottom: after,
            left: before,
            right: after,
            replicate: false,
        }
    }
}

/// What a convolution does beside its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2d {
    pub stride: usize,
    pub padding: Padding,
    pub activation: Activation,
}

impl Conv2d {
    /// Stride 1, no activation.
    pub fn new(padding: Padding) -> Self {
        Self {
            stride: 1,
            padding,
            activation: Activation::Identity,
        }
    }

    /// Rows and columns of the output for kernel `[kh,kw]`; `None` where the kernel does not fit.
    pub(super) fn output(&self, h: usize, w: usize, kh: usize, kw: usize) -> Option<[usize; 2]> {
        let p = self.padding;
        let along = |size: usize, pad: usize, k: usize| {
            (size + pad)
                .checked_sub(k)
                .map(|room| room / self.stride + 1)
        };
        (self.stride > 0).then_some(())?;
        Some([
            along(h, p.top + p.bottom, kh)?,
            along(w, p.left + p.right, kw)?,
        ])
    }

    fn params(&self, x: Shape, weight: Shape, residual: bool) -> Result<Params> {
        let [n, h, w, c_in] = x.nhwc(NAME)?;
        let [kh, kw, of, c_out] = weight.nhwc(NAME)?;
        let output = self
            .output(h, w, kh, kw)
            .filter(|_| of == c_in && !x.is_empty());
        let [out_h, out_w] = output.ok_or_else(|| {
            let expected = format!(
                "x [N,H,W,{of}] at least as large as the kernel {weight}, stride 1 or more"
            );
            Error::shape(NAME, expected, format!("x {x}, {self:?}"))
        })?;
        Ok(Params {
            n: n as u32,
            h: h as u32,
            w: w as u32,
            c_in: c_in as u32,
            out_h: out_h as u32,
            out_w: out_w as u32,
            c_out: c_out as u32,
            kh: kh as u32,
            kw: kw as u32,
            stride: self.stride as u32,
            top: self.padding.top as u32,
            left: self.padding.left as u32,
            replicate: self.padding.replicate as u32,
            activation: self.activation.kind(),
            slope: self.activation.slope(),
            residual: residual as u32,
        })
    }
}

/// y = f(x ∗ weight + bias) + residual (`torch.nn.functional.conv2d`, the activation before the
/// addition).
///
/// x `[N,H,W,C_in]`, weight `[kh,kw,C_in,C_out]`, bias `[C_out]`, residual and y `[N,oH,oW,C_out]`.
///
/// # Errors
/// [`Error::Shape`] when they do not fit, or when a gradient is wanted through SiLU, sigmoid, or an
/// activation followed by a residual: the input of the activation is not kept.
pub fn conv2d(
    tape: &Tape,
    x: &Var,
    weight: &Var,
    bias: &Var,
    residual: Option<&Var>,
    conv: Conv2d,
) -> Result<Var> {
    let (xt, wt, bt) = (x.tensor().clone(), weight.tensor().clone(), bias.tensor());
    let params = conv.params(xt.shape(), wt.shape(), residual.is_some())?;
    let windows = Windows {
        x,
        residual,
        rows: params.kh as usize,
        conv,
        widest: params.c_in as usize,
    };
    let in_bands = windows.in_bands(tape, output(&params), |band| {
        conv2d(
            tape,
            &band.x,
            weight,
            bias,
            band.residual.as_ref(),
            band.conv,
        )
    })?;
    if let Some(y) = in_bands {
        return Ok(y);
    }
    let y = forward(
        &xt,
        &wt,
        bt,
        residual.map(Var::tensor),
        conv.activation,
        &params,
    )?;

    let none = tape.constant(bt);
    let inputs = [x, weight, bias, residual.unwrap_or(&none)];
    let f = conv.activation;
    let differentiable = match f {
        Activation::Identity => true,
        Activation::LeakyRelu(slope) => slope >= 0.0 && residual.is_none(),
        Activation::Relu | Activation::Relu6 => residual.is_none(),
        Activation::Silu | Activation::Sigmoid => false,
    };
    if !differentiable && tape.is_training() && inputs.iter().any(|v| v.is_recorded()) {
        let expected =
            "identity, or ReLU, leaky ReLU or ReLU6 without residual, where a gradient is wanted";
        return Err(Error::shape(
            NAME,
            expected,
            format!("{f:?}, residual {}", residual.is_some()),
        ));
    }
    let output = y.clone();
    let wanted = inputs.map(Var::is_recorded);
    let [y] = tape.record(NAME, inputs, [y], move |[grad]| {
        let Some(arrived) = grad else {
            return Ok([None, None, None, None]);
        };
        // The sign of y is the sign of what went into a leaky ReLU; ReLU6's slope is 1 where y is between 0 and 6.
        let grad = match f {
            Activation::Identity => arrived.clone(),
            _ => super::activation::backward(&output, &arrived, f)?,
        };
        let dx = if wanted[0] {
            Some(backward_input(&grad, &wt, xt.shape(), &params)?)
        } else {
            None
        };
        let (dw, db) = if wanted[1] || wanted[2] {
            let (dw, db) = backward_weight(&xt, &grad, wt.shape(), &params)?;
            (Some(dw), Some(db))
        } else {
            (None, None)
        };
        Ok([dx, dw, db, wanted[3].then_some(arrived)])
    });
    Ok(y)
}

/// x ∗ weight as sums in slices, and its shape, for a kernel that adds them up on the way; `None` where the
/// convolution is not made so. Without bias, activation and gradient.
pub(super) fn partial(
    x: &Tensor,
    weight: &Tensor,
    conv: Conv2d,
) -> Result<Option<(Partial, Shape)>> {
    let p = conv.params(x.shape(), weight.shape(), false)?;
    match same_device(NAME, &[x, weight])? {
        Device::Gpu(gpu) if call::is_split(gpu, &p)? => {
            let y = output(&p);
            let shapes = [x.shape(), weight.shape(), y];
            let cost = cost(x.shape(), weight.shape(), y);
            let _kernel = kernel(NAME, "forward", &shapes, cost);
            let partial = call::partial(gpu, [x, weight].map(Tensor::buffer), &p)?;
            Ok(Some((partial, y)))
        }
        _ => Ok(None),
    }
}

fn output(p: &Params) -> Shape {
    Shape::from([p.n, p.out_h, p.out_w, p.c_out].map(|size| size as usize))
}

fn forward(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    residual: Option<&Tensor>,
    f: Activation,
    p: &Params,
) -> Result<Tensor> {
    let shape = output(p);
    if bias.shape() != Shape::from([p.c_out as usize]) {
        return Err(Error::shape(
            NAME,
            format!("a bias [{}]", p.c_out),
            bias.shape().to_string(),
        ));
    }
    if let Some(residual) = residual.filter(|r| r.shape() != shape) {
        return Err(Error::shape(
            NAME,
            format!("a residual {shape}"),
            residual.shape().to_string(),
        ));
    }
    let shapes = [x.shape(), weight.shape(), shape];
    let added = residual.map_or(0, |r| r.shape().len());
    let cost = cost(x.shape(), weight.shape(), shape) + Cost::new(added, added);
    let _kernel = kernel(NAME, "forward", &shapes, cost);
    match same_device(NAME, &[x, weight, bias, residual.unwrap_or(x)])? {
        Device::Cpu => {
            let y = cpu::forward(
                x.host(),
                weight.host(),
                bias.host(),
                residual.map(Tensor::host),
                f,
                p,
            );
            Ok(Tensor::host_tensor(shape, y))
        }
        Device::Gpu(gpu) => {
            let inputs = [x, weight, bias].map(Tensor::buffer);
            let y = call::forward(gpu, inputs, residual.map(Tensor::buffer), p)?;
            Ok(Tensor::gpu_tensor(gpu, shape, y))
        }
    }
}

fn backward_input(grad: &Tensor, weight: &Tensor, x: Shape, p: &Params) -> Result<Tensor> {
    let shapes = [x, weight.shape(), grad.shape()];
    let cost = cost(x, weight.shape(), grad.shape());
    let _kernel = kernel(NAME, "backward_input", &shapes, cost);
    match same_device(NAME, &[grad, weight])? {
        Device::Cpu => Ok(Tensor::host_tensor(
            x,
            cpu::backward_input(grad.host(), weight.host(), p),
        )),
        Device::Gpu(gpu) => {
            let dx = call::backward_input(gpu, [grad, weight].map(Tensor::buffer), p)?;
            Ok(Tensor::gpu_tensor(gpu, x, dx))
        }
    }
}

fn backward_weight(
    x: &Tensor,
    grad: &Tensor,
    weight: Shape,
    p: &Params,
) -> Result<(Tensor, Tensor)> {
    let bias = Shape::from([p.c_out as usize]);
    let shapes = [x.shape(), weight, grad.shape()];
    let flops = cost(x.shape(), weight, grad.shape()).flops as usize;
    let cost = Cost::new(flops, x.shape().len() + grad.shape().len()) + Cost::exact(weight.len());
    let _kernel = kernel(NAME, "backward_weight", &shapes, cost);
    match same_device(NAME, &[x, grad])? {
        Device::Cpu => {
            let (dw, db) = cpu::backward_weight(x.host(), grad.host(), p);
            Ok((
                Tensor::host_tensor(weight, dw),
                Tensor::host_tensor(bias, db),
            ))
        }
        Device::Gpu(gpu) => {
            let [dw, db] = weight::backward(gpu, [x, grad].map(Tensor::buffer), p)?;
            Ok((
                Tensor::gpu_tensor(gpu, weight, dw),
                Tensor::gpu_tensor(gpu, bias, db),
            ))
        }
    }
}

/// Of each of the three passes: they read two of these tensors and write the third.
pub fn cost(x: Shape, weight: Shape, y: Shape) -> Cost {
    let taps = weight.len() / weight.channels();
    Cost::new(2 * y.len() * taps, x.len() + weight.len() + y.len())
}

//! Building an extractor: from published weights, or seeded where there are none.

use super::lookalike::lookalikes;
use super::names::{ConvNames, Scheme};
use super::{Backbone, Block, BlockSpec, EfficientNet, Layer, Padding};
use crate::nn::layers::Conv;
use crate::nn::random::named_tensor;
use crate::nn::weights::{Array, Weights};
use crate::ops::Activation;
use crate::tensor::{Device, Tensor};
use crate::{Error, Result};
use std::collections::BTreeSet;

/// Where the parameters of one convolution come from.
trait Source {
    /// Weight `[kh,kw,C_in,C_out]` or depthwise `[kh,kw,C]`, and bias, batch norm folded in.
    fn conv(
        &mut self,
        names: &ConvNames,
        kernel: usize,
        c_in: usize,
        c_out: usize,
        depthwise: bool,
    ) -> Result<Conv>;

    /// A 1×1 convolution with a bias and no batch norm.
    fn linear(&mut self, name: &str, c_in: usize, c_out: usize) -> Result<Conv>;
}

impl EfficientNet {
    /// Folds published weights into an extractor. The naming scheme is recognised; the padding goes
    /// with it unless `padding` says otherwise.
    ///
    /// # Errors
    /// [`Error::File`] naming the tensor that is missing, extra or wrongly shaped.
    pub fn load(
        device: &Device,
        backbone: Backbone,
        weights: &Weights,
        padding: Option<Padding>,
    ) -> Result<Self> {
        let scheme = Scheme::recognise(&weights.tensors).ok_or_else(|| {
            let first: Vec<&str> = weights.tensors.keys().take(3).map(String::as_str).collect();
            let message = format!(
                "holds no EfficientNet that is known: neither stem nor first block is named as in timm, \
                 torchvision, efficientnet_pytorch or Keras; its tensors begin {first:?}"
            );
            Error::file(&weights.path, message)
        })?;
        let epsilon = scheme.epsilon(&backbone.name);
        let mut source = Published {
            device,
            weights,
            epsilon,
            used: BTreeSet::new(),
            backbone: &backbone,
        };
        let (stem, blocks) = build(&backbone, scheme, &mut source)?;
        let last = backbone.blocks.len() - 1;
        let extra = weights.tensors.keys().find(|name| {
            !source.used.contains(*name)
                && !scheme.is_known_extra(name, &backbone.blocks[last], last)
        });
        if let Some(extra) = extra {
            let message = format!(
                "tensor `{extra}` does not belong to {}{}",
                backbone.name,
                expected_network(weights, &backbone)
            );
            return Err(Error::file(&weights.path, message));
        }
        let padding = padding.unwrap_or(scheme.padding());
        Ok(Self {
            padding,
            stem,
            blocks,
            backbone,
        })
    }

    /// Random weights that follow from `seed`; to be calibrated on pictures before use
    /// ([`EfficientNet::calibrate`]).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn seeded(
        device: &Device,
        backbone: Backbone,
        padding: Option<Padding>,
        seed: u64,
    ) -> Result<Self> {
        let (stem, blocks) = build(&backbone, Scheme::Timm, &mut Seeded { device, seed })?;
        Ok(Self {
            padding: padding.unwrap_or(Padding::Same),
            stem,
            blocks,
            backbone,
        })
    }

    /// To be overwritten.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn zeros(device: &Device, backbone: Backbone, padding: Padding) -> Result<Self> {
        let (stem, blocks) = build(&backbone, Scheme::Timm, &mut Zeros { device })?;
        Ok(Self {
            padding,
            stem,
            blocks,
            backbone,
        })
    }
}

fn build(
    backbone: &Backbone,
    scheme: Scheme,
    source: &mut dyn Source,
) -> Result<(Layer, Vec<Block>)> {
    let conv = source.conv(&scheme.stem(), 3, 3, backbone.stem, false)?;
    let stem = Layer {
        conv,
        depthwise: false,
        kernel: 3,
        stride: 2,
    };
    let blocks = backbone.blocks.iter().enumerate();
    let blocks = blocks
        .map(|(i, spec)| block(i, spec, backbone.activation, scheme, source))
        .collect::<Result<_>>()?;
    Ok((stem, blocks))
}

fn block(
    index: usize,
    spec: &BlockSpec,
    activation: Activation,
    scheme: Scheme,
    source: &mut dyn Source,
) -> Result<Block> {
    let names = scheme.block(index, spec);
    let (k, stride, hidden) = (spec.kernel, spec.stride, spec.hidden());
    let mut layer = |names: &ConvNames, kernel, stride, c_in, c_out, depthwise| {
        let conv = source.conv(names, kernel, c_in, c_out, depthwise)?;
        Ok(Layer {
            conv,
            depthwise,
            kernel,
            stride,
        })
    };
    let (mut expand, mut depthwise, mut project) = (None, None, None);
    if spec.fused && spec.expand == 1 {
        expand = Some(layer(
            &names.project,
            k,
            stride,
            spec.c_in,
            spec.c_out,
            false,
        )?);
    } else {
        if spec.fused {
            expand = Some(layer(&names.expand, k, stride, spec.c_in, hidden, false)?);
        } else {
            if spec.expand != 1 {
                expand = Some(layer(&names.expand, 1, 1, spec.c_in, hidden, false)?);
            }
            depthwise = Some(layer(&names.depthwise, k, stride, hidden, hidden, true)?);
        }
        project = Some(layer(&names.project, 1, 1, hidden, spec.c_out, false)?);
    }
    let squeeze = match spec.squeeze() {
        Some(width) => Some([
            source.linear(&names.se_reduce, hidden, width)?,
            source.linear(&names.se_expand, width, hidden)?,
        ]),
        None => None,
    };
    Ok(Block {
        spec: *spec,
        activation,
        expand,
        depthwise,
        squeeze,
        project,
    })
}

struct Published<'a> {
    device: &'a Device,
    weights: &'a Weights,
    epsilon: f64,
    used: BTreeSet<String>,
    backbone: &'a Backbone,
}

/// What the file holds instead of `wanted`, and what to do, to end a message with.
fn expected_network(weights: &Weights, wanted: &Backbone) -> String {
    let wanted_name = &wanted.name;
    let whole = format!("; expected weights of {wanted_name}, whole");
    let Some((scheme, alike)) = lookalikes(&weights.tensors) else {
        return whole;
    };
    // A whole network is no other one's beginning; a cut one may be several's.
    let is_whole = |network: &&Backbone| network.blocks.len() == network.all_blocks;
    let found = match (alike.iter().find(is_whole), &alike[..]) {
        (Some(found), _) => found,
        (None, [found]) => found,
        _ => return whole,
    };
    let (name, last) = (&found.name, found.blocks.len() - 1);
    match (name == wanted_name, is_whole(&found)) {
        (false, true) => format!(
            "; the file looks like {name} ({scheme} names): use `--set backbone.name={name}`, or \
             weights of {wanted_name}"
        ),
        (false, false) => format!(
            "; the file looks like {name} to block {last} ({scheme} names): use \
             `--set backbone.name={name} --set backbone.tap={last}`, or weights of {wanted_name}"
        ),
        (true, false) if last + 1 < wanted.blocks.len() => format!(
            "; the file ends with block {last}: use `--set backbone.tap={last}`, or weights of \
             {wanted_name}, whole"
        ),
        (true, _) => whole,
    }
}

impl Published<'_> {
    fn take(&mut self, name: String, shape: &[usize]) -> Result<&Array> {
        let Some(array) = self.weights.tensors.get(&name) else {
            let message = format!(
                "tensor `{name}` of {} is missing{}",
                self.backbone.name,
                expected_network(self.weights, self.backbone)
            );
            return Err(Error::file(&self.weights.path, message));
        };
        if array.shape != shape {
            let message = format!(
                "tensor `{name}` is {:?}, not {shape:?} as in {}{}",
                array.shape,
                self.backbone.name,
                expected_network(self.weights, self.backbone)
            );
            return Err(Error::file(&self.weights.path, message));
        }
        self.used.insert(name);
        Ok(array)
    }
}

/// PyTorch's `[C_out,C_in,kh,kw]` as `[kh,kw,C_in,C_out]`.
fn to_hwio(array: &Array) -> Vec<f32> {
    let [c_out, c_in, kh, kw] = [0, 1, 2, 3].map(|i| array.shape[i]);
    let mut data = Vec::with_capacity(array.data.len());
    for tap in 0..kh * kw {
        for ci in 0..c_in {
            data.extend((0..c_out).map(|co| array.data[(co * c_in + ci) * kh * kw + tap]));
        }
    }
    data
}

impl Source for Published<'_> {
    fn conv(
        &mut self,
        names: &ConvNames,
        kernel: usize,
        c_in: usize,
        c_out: usize,
        depthwise: bool,
    ) -> Result<Conv> {
        let (conv, norm) = names;
        let fan = if depthwise { 1 } else { c_in };
        let mut weight =
            to_hwio(self.take(format!("{conv}.weight"), &[c_out, fan, kernel, kernel])?);
        let mut statistic = |part: &str| {
            self.take(format!("{norm}.{part}"), &[c_out])
                .map(|a| a.data.clone())
        };
        let (gain, shift) = (statistic("weight")?, statistic("bias")?);
        let (mean, var) = (statistic("running_mean")?, statistic("running_var")?);
        if var.iter().any(|&v| v < 0.0) {
            let message =
                format!("tensor `{norm}.running_var` is a variance and has values below 0");
            return Err(Error::file(&self.weights.path, message));
        }
        let scale: Vec<f64> = gain
            .iter()
            .zip(&var)
            .map(|(&g, &v)| g as f64 / (v as f64 + self.epsilon).sqrt())
            .collect();
        for row in weight.chunks_exact_mut(c_out) {
            row.iter_mut()
                .zip(&scale)
                .for_each(|(w, s)| *w = (*w as f64 * s) as f32);
        }
        let bias = (0..c_out)
            .map(|c| (shift[c] as f64 - mean[c] as f64 * scale[c]) as f32)
            .collect();
        conv_on(self.device, weight, bias, kernel, c_in, depthwise)
    }

    fn linear(&mut self, name: &str, c_in: usize, c_out: usize) -> Result<Conv> {
        let weight = to_hwio(self.take(format!("{name}.weight"), &[c_out, c_in, 1, 1])?);
        let bias = self.take(format!("{name}.bias"), &[c_out])?.data.clone();
        conv_on(self.device, weight, bias, 1, c_in, false)
    }
}

fn conv_on(
    device: &Device,
    weight: Vec<f32>,
    bias: Vec<f32>,
    k: usize,
    c_in: usize,
    depthwise: bool,
) -> Result<Conv> {
    let c_out = bias.len();
    let weight = match depthwise {
        true => Tensor::parameter(device, [k, k, c_out], weight)?,
        false => Tensor::parameter(device, [k, k, c_in, c_out], weight)?,
    };
    Ok(Conv {
        weight,
        bias: Tensor::parameter(device, [c_out], bias)?,
    })
}

struct Zeros<'a> {
    device: &'a Device,
}

impl Source for Zeros<'_> {
    fn conv(
        &mut self,
        _: &ConvNames,
        k: usize,
        c_in: usize,
        c_out: usize,
        depthwise: bool,
    ) -> Result<Conv> {
        match depthwise {
            true => Conv::zeros(self.device, [k, k, c_out]),
            false => Conv::zeros(self.device, [k, k, c_in, c_out]),
        }
    }

    fn linear(&mut self, _: &str, c_in: usize, c_out: usize) -> Result<Conv> {
        Conv::zeros(self.device, [1, 1, c_in, c_out])
    }
}

struct Seeded<'a> {
    device: &'a Device,
    seed: u64,
}

impl Source for Seeded<'_> {
    fn conv(
        &mut self,
        names: &ConvNames,
        kernel: usize,
        c_in: usize,
        c_out: usize,
        depthwise: bool,
    ) -> Result<Conv> {
        let fan_in = kernel * kernel * if depthwise { 1 } else { c_in };
        let bound = (6.0 / fan_in as f64).sqrt();
        let weight = named_tensor(&names.0, fan_in * c_out, bound, self.seed);
        conv_on(
            self.device,
            weight,
            vec![0.0; c_out],
            kernel,
            c_in,
            depthwise,
        )
    }

    fn linear(&mut self, name: &str, c_in: usize, c_out: usize) -> Result<Conv> {
        let weight = named_tensor(name, c_in * c_out, (6.0 / c_in as f64).sqrt(), self.seed);
        conv_on(self.device, weight, vec![0.0; c_out], 1, c_in, false)
    }
}

//! The frozen extractor: an EfficientNet up to a tap, batch norms folded at load.

mod load;
mod lookalike;
mod names;
mod normalisation;
mod padding;
mod table;

pub use lookalike::{lookalike, lookalikes};
pub use names::Scheme;
pub use normalisation::Normalisation;
pub use padding::{Padding, PaddingPlan};
pub use table::{Backbone, BlockSpec, names as backbone_names};

use crate::nn::layers::{Conv, Parameters};
use crate::ops::concat::concat;
use crate::ops::conv2d::{Conv2d, Padding as ConvPadding, conv2d};
use crate::ops::resize::{Filter, resize};
use crate::ops::{
    Activation, bottleneck, depthwise::depthwise, excite::excite, mean::mean, scale::scale,
};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Tensor};
use crate::{Error, Result};

/// A convolution with its batch norm folded in.
#[derive(Clone, Debug)]
struct Layer {
    conv: Conv,
    depthwise: bool,
    kernel: usize,
    stride: usize,
}

#[derive(Clone, Debug)]
struct Block {
    spec: BlockSpec,
    activation: Activation,
    expand: Option<Layer>,
    depthwise: Option<Layer>,
    /// Reduce and expand, 1×1.
    squeeze: Option<[Conv; 2]>,
    /// Absent where a fused block does not expand: its one convolution is `expand`.
    project: Option<Layer>,
}

/// Pictures `[N,H,W,3]` → features `[N,H/s,W/s,C]`.
#[derive(Clone, Debug)]
pub struct EfficientNet {
    backbone: Backbone,
    padding: Padding,
    stem: Layer,
    blocks: Vec<Block>,
}

/// What a walk does at a layer: input, layer, padding, activation, residual → output.
type Visit<'a> = dyn FnMut(&Layer, &Var, ConvPadding, Activation, Option<&Var>) -> Result<Var> + 'a;

impl Layer {
    fn run(
        &self,
        tape: &Tape,
        x: &Var,
        padding: ConvPadding,
        f: Activation,
        residual: Option<&Var>,
    ) -> Result<Var> {
        let conv = self.options(padding, f);
        let [weight, bias] = self.constants(tape);
        if self.depthwise {
            depthwise(tape, x, &weight, &bias, conv)
        } else {
            conv2d(tape, x, &weight, &bias, residual, conv)
        }
    }

    fn options(&self, padding: ConvPadding, activation: Activation) -> Conv2d {
        Conv2d {
            stride: self.stride,
            padding,
            activation,
        }
    }

    fn constants(&self, tape: &Tape) -> [Var; 2] {
        [&self.conv.weight, &self.conv.bias].map(|t| tape.constant(t))
    }
}

impl EfficientNet {
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    pub fn padding(&self) -> Padding {
        self.padding
    }

    /// Every folded convolution, as they are saved with a model.
    pub fn parameters(&mut self) -> Parameters<'_> {
        let mut list = Parameters::new();
        self.stem.conv.parameters("stem", &mut list);
        for (i, block) in self.blocks.iter_mut().enumerate() {
            let layers = [
                ("expand", &mut block.expand),
                ("depthwise", &mut block.depthwise),
                ("project", &mut block.project),
            ];
            for (name, layer) in layers {
                if let Some(layer) = layer {
                    layer
                        .conv
                        .parameters(&format!("blocks.{i}.{name}"), &mut list);
                }
            }
            if let Some([reduce, expand]) = &mut block.squeeze {
                reduce.parameters(&format!("blocks.{i}.squeeze"), &mut list);
                expand.parameters(&format!("blocks.{i}.excite"), &mut list);
            }
        }
        list
    }

    /// Features at the tap.
    ///
    /// # Errors
    /// As the operators.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [n, h, w, c] = x.shape().nhwc("efficientnet")?;
        let most = self.pictures_at_once(x.device(), h, w);
        if n <= most {
            return self.at_once(x);
        }
        let mut features = Vec::new();
        for part in x.to_vec()?.chunks(most * h * w * c) {
            let pictures = part.len() / (h * w * c);
            let part = Tensor::new(x.device(), [pictures, h, w, c], part.to_vec())?;
            features.extend(self.at_once(&part)?.to_vec()?);
        }
        let [h, w] = [h, w].map(|side| side.div_ceil(self.backbone.stride()));
        Tensor::new(x.device(), [n, h, w, self.backbone.channels()], features)
    }

    /// How many pictures of this size go through before a tensor is too large for a kernel to see.
    fn pictures_at_once(&self, device: &Device, h: usize, w: usize) -> usize {
        match device {
            Device::Cpu => usize::MAX,
            Device::Gpu(gpu) => {
                (gpu.max_elements() / self.backbone.largest_activation(h, w)).max(1)
            }
        }
    }

    fn at_once(&self, x: &Tensor) -> Result<Tensor> {
        let mut maps = Vec::new();
        self.taps(x, |block, map| {
            maps.extend(
                block
                    .filter(|b| self.backbone.taps.contains(b))
                    .map(|_| map.clone()),
            );
            Ok(())
        })?;
        joined(&maps)
    }

    /// Calls `seen` with the output of the stem (`None`) and of every block (its index).
    ///
    /// # Errors
    /// As the operators and `seen`.
    pub fn taps(
        &self,
        x: &Tensor,
        seen: impl FnMut(Option<usize>, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let tape = Tape::inference();
        self.walk(&tape, x, None, seen)
    }

    /// Layer by layer through `visit`, or by fused bottlenecks where it is `None`.
    fn walk(
        &self,
        tape: &Tape,
        x: &Tensor,
        mut visit: Option<&mut Visit>,
        mut seen: impl FnMut(Option<usize>, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let [_, h, w, _] = x.shape().nhwc("efficientnet")?;
        let mut plan = PaddingPlan::new(self.padding, &self.backbone, h, w);
        let padding = plan.next(self.stem.kernel, self.stem.stride);
        let x = tape.constant(x);
        let f = self.backbone.activation;
        let mut x = match &mut visit {
            Some(visit) => visit(&self.stem, &x, padding, f, None)?,
            None => self.stem.run(tape, &x, padding, f, None)?,
        };
        seen(None, x.tensor())?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = match &mut visit {
                Some(visit) => block.walk(tape, &x, &mut plan, *visit)?,
                None => block.run(tape, &x, &mut plan)?,
            };
            seen(Some(i), x.tensor())?;
        }
        Ok(())
    }

    /// The same network on another device.
    ///
    /// # Errors
    /// As [`Tensor::parameter`] and [`Tensor::unrounded`].
    pub fn on(mut self, device: &Device) -> Result<Self> {
        for (_, tensor) in self.parameters() {
            *tensor = Tensor::parameter(device, tensor.shape(), tensor.unrounded()?)?;
        }
        Ok(self)
    }

    /// Scales every convolution so that its output has mean 0 and variance 1 over `x`: the batch
    /// norm statistics of a seeded network. A plainly random network loses its signal with depth.
    ///
    /// # Errors
    /// As the operators.
    pub fn calibrate(&mut self, x: &Tensor) -> Result<()> {
        let tape = Tape::inference();
        let mut calibrated = Vec::new();
        let mut visit = |layer: &Layer,
                         x: &Var,
                         padding: ConvPadding,
                         f: Activation,
                         residual: Option<&Var>| {
            let raw = layer.run(&tape, x, padding, Activation::Identity, None)?;
            let layer = layer.normalised(raw.tensor())?;
            let y = layer.run(&tape, x, padding, f, residual);
            calibrated.push(layer);
            y
        };
        self.walk(&tape, x, Some(&mut visit), |_, _| Ok(()))?;
        let mut calibrated = calibrated.into_iter();
        let blocks = self.blocks.iter_mut();
        let layers =
            blocks.flat_map(|b| [b.expand.as_mut(), b.depthwise.as_mut(), b.project.as_mut()]);
        for layer in std::iter::once(Some(&mut self.stem))
            .chain(layers)
            .flatten()
        {
            if let Some(new) = calibrated.next() {
                *layer = new;
            }
        }
        Ok(())
    }
}

/// Maps one behind the other along channels, each at the size of the first, which they are stretched to bilinearly.
fn joined(maps: &[Tensor]) -> Result<Tensor> {
    let missing = || Error::shape("efficientnet", "one tap or more", "none");
    let (first, others) = maps.split_first().ok_or_else(missing)?;
    let [_, h, w, _] = first.shape().nhwc("efficientnet")?;
    let tape = Tape::inference();
    let mut all = tape.constant(first);
    for map in others {
        let map = resize(&tape, &tape.constant(map), [h, w], Filter::Bilinear)?;
        all = concat(&tape, &all, &map)?;
    }
    Ok(all.tensor().clone())
}

impl Layer {
    /// The layer with the statistics of its output `y` folded in.
    fn normalised(&self, y: &Tensor) -> Result<Self> {
        let channels = y.shape().channels();
        let values = y.to_vec()?;
        let rows = (values.len() / channels) as f64;
        let mut means = vec![0.0; channels];
        let mut squares = vec![0.0; channels];
        for row in values.chunks_exact(channels) {
            for (c, &v) in row.iter().enumerate() {
                means[c] += v as f64 / rows;
                squares[c] += v as f64 * v as f64 / rows;
            }
        }
        let scale: Vec<f64> = means
            .iter()
            .zip(&squares)
            .map(|(m, s)| 1.0 / ((s - m * m).max(0.0) + 1e-3).sqrt())
            .collect();
        let mut weight = self.conv.weight.unrounded()?;
        for row in weight.chunks_exact_mut(channels) {
            row.iter_mut()
                .zip(&scale)
                .for_each(|(w, s)| *w = (*w as f64 * s) as f32);
        }
        let mut bias = self.conv.bias.unrounded()?;
        for (c, b) in bias.iter_mut().enumerate() {
            *b = ((*b as f64 - means[c]) * scale[c]) as f32;
        }
        let device: &Device = self.conv.weight.device();
        let conv = Conv {
            weight: Tensor::parameter(device, self.conv.weight.shape(), weight)?,
            bias: Tensor::parameter(device, self.conv.bias.shape(), bias)?,
        };
        Ok(Self {
            conv,
            ..self.clone()
        })
    }
}

/// The gate of squeeze-and-excite from the means of channels `[N,1,1,C]`.
fn gate(tape: &Tape, squeeze: &[Conv; 2], mean: &Var) -> Result<Var> {
    let [reduce, expand] = squeeze.each_ref().map(|conv| [&conv.weight, &conv.bias]);
    excite(tape, mean, reduce, expand)
}

impl Block {
    fn run(&self, tape: &Tape, x: &Var, plan: &mut PaddingPlan) -> Result<Var> {
        let (Some(depthwise), Some(project)) = (&self.depthwise, &self.project) else {
            let mut visit = |layer: &Layer,
                             x: &Var,
                             padding: ConvPadding,
                             f: Activation,
                             residual: Option<&Var>| {
                layer.run(tape, x, padding, f, residual)
            };
            return self.walk(tape, x, plan, &mut visit);
        };
        let expand = self.expand.as_ref().map(|expand| {
            plan.next(expand.kernel, expand.stride);
            expand.constants(tape)
        });
        let expand = expand.as_ref().map(|[weight, bias]| [weight, bias]);
        let padding = plan.next(depthwise.kernel, depthwise.stride);
        let options = depthwise.options(padding, self.activation);
        let [weight, bias] = &depthwise.constants(tape);
        let residual = self.spec.residual().then_some(x);
        let Some(squeeze) = &self.squeeze else {
            let y = bottleneck::expand(tape, x, expand, [weight, bias], options)?;
            let linear = Activation::Identity;
            return project.run(tape, &y, ConvPadding::default(), linear, residual);
        };
        let (y, mean) = bottleneck::expand_with_mean(tape, x, expand, [weight, bias], options)?;
        let gate = gate(tape, squeeze, &mean)?;
        let [weight, bias] = &project.constants(tape);
        bottleneck::project(tape, &y, &gate, [weight, bias], residual)
    }

    fn walk(
        &self,
        tape: &Tape,
        input: &Var,
        plan: &mut PaddingPlan,
        visit: &mut Visit,
    ) -> Result<Var> {
        let residual = self.spec.residual().then_some(input);
        let mut x = input.clone();
        if let Some(expand) = &self.expand {
            let padding = plan.next(expand.kernel, expand.stride);
            // The one convolution of a fused block that does not expand ends it.
            let last = residual.filter(|_| self.project.is_none());
            x = visit(expand, &x, padding, self.activation, last)?;
        }
        if let Some(depthwise) = &self.depthwise {
            let padding = plan.next(depthwise.kernel, depthwise.stride);
            x = visit(depthwise, &x, padding, self.activation, None)?;
        }
        if let Some(squeeze) = &self.squeeze {
            let gate = gate(tape, squeeze, &mean(tape, &x)?)?;
            x = scale(tape, &x, &gate)?;
        }
        if let Some(project) = &self.project {
            x = visit(
                project,
                &x,
                ConvPadding::default(),
                Activation::Identity,
                residual,
            )?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::random::Random;

    #[test]
    fn several_taps_are_joined_at_the_size_of_the_first() {
        let mut random = Random::new(8);
        let picture = (0..2 * 64 * 64 * 3)
            .map(|_| random.normal() as f32)
            .collect();
        let picture = Tensor::new(&Device::Cpu, [2, 64, 64, 3], picture).unwrap();
        let features = |taps: &[usize]| {
            let backbone = Backbone::tapped("efficientnet_b0", taps).unwrap();
            let (channels, stride) = (backbone.channels(), backbone.stride());
            let mut net = EfficientNet::seeded(&Device::Cpu, backbone, None, 1).unwrap();
            net.calibrate(&picture).unwrap();
            let map = net.forward(&picture).unwrap();
            assert_eq!(map.shape().dims(), [2, 64 / stride, 64 / stride, channels]);
            (map.to_vec().unwrap(), channels)
        };
        let ((fine, first), (coarse, second)) = (features(&[4]), features(&[10]));
        let (joined, channels) = features(&[4, 10]);
        assert_eq!((channels, first, second), (152, 40, 112));
        // 4 cells a side of stride 16 become 8: a cell's centre lies a quarter beside a coarse one's.
        let at = |n: usize, y: usize, x: usize, c: usize| {
            let place = |i: usize| {
                let at = (i as f32 + 0.5) / 2.0 - 0.5;
                let at = at.max(0.0);
                let low = at as usize;
                (low, (low + 1).min(3), at - low as f32)
            };
            let ((top, bottom, dy), (left, right, dx)) = (place(y), place(x));
            let value = |y: usize, x: usize| coarse[((n * 4 + y) * 4 + x) * second + c];
            let row = |y| (1.0 - dx) * value(y, left) + dx * value(y, right);
            (1.0 - dy) * row(top) + dy * row(bottom)
        };
        for (i, pixel) in joined.chunks(channels).enumerate() {
            assert_eq!(pixel[..first], fine[i * first..][..first]);
            let (n, y, x) = (i / 64, i / 8 % 8, i % 8);
            for (c, &found) in pixel[first..].iter().enumerate() {
                let expected = at(n, y, x, c);
                assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0));
            }
        }
    }

    #[test]
    fn taps_out_of_order_are_refused() {
        for taps in [&[][..], &[10, 4], &[4, 4], &[4, 99]] {
            let error = Backbone::tapped("efficientnet_b0", taps).unwrap_err();
            assert!(error.to_string().contains("backbone.tap"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}

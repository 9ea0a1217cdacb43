//! The weights of a backbone up to a tap, in astray's layouts, wherever they come from.

use super::padding::Padding;
use super::table::{Backbone, Block, Kind};
use crate::Result;
use crate::nn::random;
use crate::nn::weights::Array;

/// Frozen batch normalisation; each array is `[C]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    pub weight: Array,
    pub bias: Array,
    pub mean: Array,
    pub variance: Array,
}

/// A convolution without bias, `[kh,kw,C_in,C_out]` or depthwise `[kh,kw,C]`, and its batch normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvBn {
    pub weight: Array,
    pub bn: BatchNorm,
}

/// One convolution that computes what [`ConvBn`] does: weight in the same layout, bias `[C_out]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    pub weight: Array,
    pub bias: Array,
}

/// Squeeze-and-excite: weights of 1×1 convolutions `[C_in,C_out]`, biases `[C_out]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SqueezeExcite {
    pub reduce_weight: Array,
    pub reduce_bias: Array,
    pub expand_weight: Array,
    pub expand_bias: Array,
}

/// One block. SiLU follows `expand` and `depthwise`, nothing follows `project`. The single k×k
/// convolution of a fused block that does not widen is its `expand`: SiLU follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockWeights {
    pub expand: Option<ConvBn>,
    pub depthwise: Option<ConvBn>,
    pub se: Option<SqueezeExcite>,
    pub project: Option<ConvBn>,
}

/// Stem and blocks 0 to the tap.
#[derive(Clone, Debug, PartialEq)]
pub struct BackboneWeights {
    pub stem: ConvBn,
    pub blocks: Vec<BlockWeights>,
    /// The padding that these weights were trained with; the user may override it.
    pub padding: Padding,
    /// ε of the batch normalisation that these weights were trained with.
    pub bn_eps: f32,
    /// Tells these weights from others: the file's sha256, or "seeded NAME SEED".
    pub identity: String,
}

/// A layer of the network; the two last are those of squeeze-and-excite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Stem,
    Expand(Block),
    Depthwise(Block),
    Project(Block),
    SeReduce(Block),
    SeExpand(Block),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Weight,
    /// Of squeeze-and-excite.
    Bias,
    BnWeight,
    BnBias,
    BnMean,
    BnVariance,
}

/// One array that the network needs, with its shape in astray's layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    pub layer: Layer,
    pub role: Role,
    pub shape: Vec<usize>,
    /// Inputs that one output of the layer sees.
    pub fan_in: usize,
}

impl BackboneWeights {
    /// Builds the weights up to block `tap`, asking `fill` for each array.
    pub fn from_fn(
        backbone: &Backbone,
        tap: usize,
        fill: &mut dyn FnMut(&Slot) -> Result<Array>,
    ) -> Result<Self> {
        backbone.tap(tap)?;
        let stem = conv_bn(fill, Layer::Stem, &[3, 3, 3, backbone.stem_channels])?;
        let blocks = backbone.blocks();
        let blocks = blocks[..=tap].iter().map(|&b| block_weights(fill, b));
        Ok(Self {
            stem,
            blocks: blocks.collect::<Result<_>>()?,
            padding: backbone.padding,
            bn_eps: backbone.bn_eps,
            identity: String::new(),
        })
    }

    /// Random weights: convolutions uniform in ±sqrt(6 / fan_in), biases of squeeze-and-excite in
    /// ±1 / sqrt(fan_in), batch normalisation 1, 0, 0, 1. Their means and variances must be calibrated
    /// on images before use: without that the signal fades with depth.
    pub fn seeded(backbone: &Backbone, tap: usize, seed: u64) -> Result<Self> {
        let mut fill = |slot: &Slot| {
            let bound = match slot.role {
                Role::Weight => (6.0 / slot.fan_in as f64).sqrt(),
                Role::Bias => (1.0 / slot.fan_in as f64).sqrt(),
                Role::BnWeight | Role::BnVariance => return Ok(Array::filled(&slot.shape, 1.0)),
                Role::BnBias | Role::BnMean => return Ok(Array::filled(&slot.shape, 0.0)),
            };
            let name = super::names::Scheme::Timm.name(slot);
            let len = slot.shape.iter().product();
            Ok(Array {
                shape: slot.shape.clone(),
                data: random::named_tensor(&name, len, bound, seed),
            })
        };
        let mut weights = Self::from_fn(backbone, tap, &mut fill)?;
        weights.identity = format!("seeded {} {seed}", backbone.name);
        Ok(weights)
    }
}

/// Every array of the network up to block `tap`, in the order of computation.
pub fn slots(backbone: &Backbone, tap: usize) -> Result<Vec<Slot>> {
    let mut slots = Vec::new();
    BackboneWeights::from_fn(backbone, tap, &mut |slot| {
        slots.push(slot.clone());
        Ok(Array::filled(&[0], 0.0))
    })?;
    Ok(slots)
}

type Fill<'a> = dyn FnMut(&Slot) -> Result<Array> + 'a;

fn block_weights(fill: &mut Fill, b: Block) -> Result<BlockWeights> {
    let Block {
        kernel: k,
        inputs,
        expanded,
        outputs,
        ..
    } = b;
    let expand = match (b.kind, b.expands()) {
        (Kind::FusedMbConv, true) => Some([k, k, inputs, expanded]),
        (Kind::FusedMbConv, false) => Some([k, k, inputs, outputs]),
        (Kind::MbConv, true) => Some([1, 1, inputs, expanded]),
        (Kind::MbConv, false) => None,
    };
    let depthwise = (b.kind == Kind::MbConv).then_some([k, k, expanded]);
    let projects = b.kind == Kind::MbConv || b.expands();
    let project = projects.then_some([1, 1, expanded, outputs]);
    Ok(BlockWeights {
        expand: expand
            .map(|shape| conv_bn(fill, Layer::Expand(b), &shape))
            .transpose()?,
        depthwise: depthwise
            .map(|shape| conv_bn(fill, Layer::Depthwise(b), &shape))
            .transpose()?,
        se: b
            .squeezed
            .map(|squeezed| squeeze_excite(fill, b, squeezed))
            .transpose()?,
        project: project
            .map(|shape| conv_bn(fill, Layer::Project(b), &shape))
            .transpose()?,
    })
}

fn conv_bn(fill: &mut Fill, layer: Layer, shape: &[usize]) -> Result<ConvBn> {
    // Dense: all but the last axis. Depthwise [kh,kw,C]: likewise.
    let (channels, fan_in) = (
        shape[shape.len() - 1],
        shape[..shape.len() - 1].iter().product(),
    );
    let mut array = |role, shape: &[usize]| {
        fill(&Slot {
            layer,
            role,
            shape: shape.to_vec(),
            fan_in,
        })
    };
    Ok(ConvBn {
        weight: array(Role::Weight, shape)?,
        bn: BatchNorm {
            weight: array(Role::BnWeight, &[channels])?,
            bias: array(Role::BnBias, &[channels])?,
            mean: array(Role::BnMean, &[channels])?,
            variance: array(Role::BnVariance, &[channels])?,
        },
    })
}

fn squeeze_excite(fill: &mut Fill, b: Block, squeezed: usize) -> Result<SqueezeExcite> {
    let mut array = |layer, role, shape: &[usize], fan_in| {
        fill(&Slot {
            layer,
            role,
            shape: shape.to_vec(),
            fan_in,
        })
    };
    let (reduce, expand, wide) = (Layer::SeReduce(b), Layer::SeExpand(b), b.expanded);
    Ok(SqueezeExcite {
        reduce_weight: array(reduce, Role::Weight, &[wide, squeezed], wide)?,
        reduce_bias: array(reduce, Role::Bias, &[squeezed], wide)?,
        expand_weight: array(expand, Role::Weight, &[squeezed, wide], squeezed)?,
        expand_bias: array(expand, Role::Bias, &[wide], squeezed)?,
    })
}

impl ConvBn {
    /// Folds y = weight·(conv(x) − mean) / sqrt(variance + eps) + bias into one convolution, in f64.
    pub fn fold(&self, eps: f32) -> Folded {
        let BatchNorm {
            weight,
            bias,
            mean,
            variance,
        } = &self.bn;
        let scales: Vec<f64> = std::iter::zip(&weight.data, &variance.data)
            .map(|(&weight, &variance)| {
                f64::from(weight) / (f64::from(variance) + f64::from(eps)).sqrt()
            })
            .collect();
        // Output channels are the last axis of both layouts.
        let folded = std::iter::zip(&self.weight.data, scales.iter().cycle())
            .map(|(&value, scale)| (f64::from(value) * scale) as f32)
            .collect();
        let shifts = std::iter::zip(&bias.data, &mean.data)
            .zip(&scales)
            .map(|((&bias, &mean), scale)| (f64::from(bias) - f64::from(mean) * scale) as f32)
            .collect();
        Folded {
            weight: Array {
                shape: self.weight.shape.clone(),
                data: folded,
            },
            bias: Array {
                shape: bias.shape.clone(),
                data: shifts,
            },
        }
    }
}

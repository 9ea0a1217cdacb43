//! The names under which others store the weights, and loading by them.

use std::collections::BTreeMap;

use super::padding::Padding;
use super::parameters::{BackboneWeights, Layer, Role, Slot, slots};
use super::table::{Backbone, Block, Kind};
use crate::nn::weights::{Array, Weights};
use crate::{Error, Result};

/// Who named the tensors. All of them store convolutions as `[C_out,C_in,kh,kw]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// lukemelas' efficientnet_pytorch: `_blocks.3._expand_conv.weight`.
    EfficientNetPytorch,
    /// torchvision: `features.2.0.block.0.0.weight`.
    Torchvision,
    /// timm's `tf_efficientnet_*`: `blocks.1.0.conv_pw.weight`.
    Timm,
    /// Keras' layer names, PyTorch's tensor names: `block2a_expand_conv.weight`.
    Keras,
}

/// Loads the weights of `backbone` up to block `tap`; the naming is recognised.
///
/// Later blocks may be absent and the classifier and `num_batches_tracked` are ignored. Any other missing,
/// extra or wrongly shaped tensor is an error that names it, and the network that the file looks like.
pub fn load(mut weights: Weights, backbone: &Backbone, tap: usize) -> Result<BackboneWeights> {
    backbone.tap(tap)?;
    let Some(scheme) = Scheme::recognise(&weights) else {
        return Err(unknown_names(&weights));
    };
    if let Err(message) = check(&weights, scheme, backbone, tap) {
        let hint = match looks_like(&weights, scheme, backbone) {
            Some(other) => format!(
                "; these look like the weights of {other}, but {} was asked for",
                backbone.name
            ),
            None => format!(
                "; expected {} up to block {tap}, named as {scheme} does",
                backbone.name
            ),
        };
        return Err(Error::file(&weights.path, message + &hint));
    }
    let identity = weights.sha256().to_string();
    let mut loaded = BackboneWeights::from_fn(backbone, tap, &mut |slot| {
        let name = scheme.name(slot);
        let array = weights.take(&name, &stored_shape(slot))?;
        if slot.role == Role::BnVariance && array.data.iter().any(|&variance| variance < 0.0) {
            let message = format!("tensor {name} is a variance and has negative elements");
            return Err(Error::file(&weights.path, message));
        }
        Ok(from_stored(slot, array))
    })?;
    loaded.padding = scheme.padding();
    loaded.bn_eps = scheme.bn_eps(backbone);
    loaded.identity = identity;
    Ok(loaded)
}

impl Scheme {
    pub const ALL: [Self; 4] = [
        Self::EfficientNetPytorch,
        Self::Torchvision,
        Self::Timm,
        Self::Keras,
    ];

    /// The scheme that most names follow; None where no name follows any.
    pub fn recognise(weights: &Weights) -> Option<Self> {
        let followers = |scheme: &Self| {
            let starts = |name: &&String| scheme.starts().iter().any(|s| name.starts_with(s));
            weights.tensors.keys().filter(starts).count()
        };
        let best = Self::ALL.into_iter().max_by_key(followers)?;
        (followers(&best) > 0).then_some(best)
    }

    fn starts(self) -> &'static [&'static str] {
        match self {
            Self::EfficientNetPytorch => &["_conv_stem.", "_blocks."],
            Self::Torchvision => &["features."],
            Self::Timm => &["conv_stem.", "blocks."],
            Self::Keras => &["stem_conv.", "block1a_", "block2a_", "block4a_", "block6a_"],
        }
    }

    /// The padding that goes with the weights (spec section 2).
    pub fn padding(self) -> Padding {
        match self {
            Self::Torchvision => Padding::Symmetric,
            Self::EfficientNetPytorch | Self::Timm | Self::Keras => Padding::Same,
        }
    }

    /// ε that goes with the weights: torchvision has PyTorch's default in B0 to B4, everyone else 1e-3.
    pub fn bn_eps(self, backbone: &Backbone) -> f32 {
        let small = ["b0", "b1", "b2", "b3", "b4"];
        let small = small.iter().any(|size| backbone.name.ends_with(size));
        match self {
            Self::Torchvision if small => 1e-5,
            _ => backbone.bn_eps,
        }
    }

    /// What comes after the last block and is not needed.
    fn is_head(self, name: &str, backbone: &Backbone) -> bool {
        let last = format!("features.{}.", backbone.stages.len() + 1);
        let heads: &[&str] = match self {
            Self::EfficientNetPytorch => &["_conv_head.", "_bn1.", "_fc."],
            Self::Torchvision => &["classifier.", &last],
            Self::Timm => &["conv_head.", "bn2.", "classifier."],
            Self::Keras => &["top_conv.", "top_bn.", "predictions."],
        };
        heads.iter().any(|head| name.starts_with(head))
    }

    /// The name of a tensor.
    pub fn name(self, slot: &Slot) -> String {
        let (conv, norm) = match self {
            Self::EfficientNetPytorch => lukemelas(slot.layer),
            Self::Torchvision => torchvision(slot.layer),
            Self::Timm => timm(slot.layer),
            Self::Keras => keras(slot.layer),
        };
        match slot.role {
            Role::Weight => format!("{conv}.weight"),
            Role::Bias => format!("{conv}.bias"),
            Role::BnWeight => format!("{norm}.weight"),
            Role::BnBias => format!("{norm}.bias"),
            Role::BnMean => format!("{norm}.running_mean"),
            Role::BnVariance => format!("{norm}.running_var"),
        }
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::EfficientNetPytorch => "efficientnet_pytorch",
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
            Self::Keras => "Keras",
        })
    }
}

// Each scheme: (convolution, its batch normalisation).

fn lukemelas(layer: Layer) -> (String, String) {
    let of = |b: Block, conv: &str, norm: &str| {
        let block = format!("_blocks.{}", b.index);
        (format!("{block}.{conv}"), format!("{block}.{norm}"))
    };
    match layer {
        Layer::Stem => ("_conv_stem".into(), "_bn0".into()),
        Layer::Expand(b) => of(b, "_expand_conv", "_bn0"),
        Layer::Depthwise(b) => of(b, "_depthwise_conv", "_bn1"),
        Layer::SeReduce(b) => of(b, "_se_reduce", ""),
        Layer::SeExpand(b) => of(b, "_se_expand", ""),
        Layer::Project(b) => of(b, "_project_conv", "_bn2"),
    }
}

fn torchvision(layer: Layer) -> (String, String) {
    // A block is the sequence of the layers that it has.
    let of = |b: Block, place: usize| {
        let layer = format!("features.{}.{}.block.{place}", b.stage + 1, b.position);
        (format!("{layer}.0"), format!("{layer}.1"))
    };
    let se = |b: Block, part: &str| {
        let place = 1 + usize::from(b.expands());
        let layer = format!("features.{}.{}.block.{place}", b.stage + 1, b.position);
        (format!("{layer}.{part}"), String::new())
    };
    match layer {
        Layer::Stem => ("features.0.0".into(), "features.0.1".into()),
        Layer::Expand(b) => of(b, 0),
        Layer::Depthwise(b) => of(b, usize::from(b.expands())),
        Layer::SeReduce(b) => se(b, "fc1"),
        Layer::SeExpand(b) => se(b, "fc2"),
        Layer::Project(b) if b.kind == Kind::FusedMbConv => of(b, 1),
        Layer::Project(b) => of(b, 2 + usize::from(b.expands())),
    }
}

fn timm(layer: Layer) -> (String, String) {
    let of = |b: Block, conv: &str, norm: &str| {
        let block = format!("blocks.{}.{}", b.stage, b.position);
        (format!("{block}.{conv}"), format!("{block}.{norm}"))
    };
    let fused = |b: Block| b.kind == Kind::FusedMbConv;
    match layer {
        Layer::Stem => ("conv_stem".into(), "bn1".into()),
        Layer::Expand(b) if fused(b) && b.expands() => of(b, "conv_exp", "bn1"),
        Layer::Expand(b) if fused(b) => of(b, "conv", "bn1"),
        Layer::Expand(b) => of(b, "conv_pw", "bn1"),
        // Where nothing expands, everything after moves up by one.
        Layer::Depthwise(b) if b.expands() => of(b, "conv_dw", "bn2"),
        Layer::Depthwise(b) => of(b, "conv_dw", "bn1"),
        Layer::SeReduce(b) => of(b, "se.conv_reduce", ""),
        Layer::SeExpand(b) => of(b, "se.conv_expand", ""),
        Layer::Project(b) if fused(b) => of(b, "conv_pwl", "bn2"),
        Layer::Project(b) if b.expands() => of(b, "conv_pwl", "bn3"),
        Layer::Project(b) => of(b, "conv_pw", "bn2"),
    }
}

fn keras(layer: Layer) -> (String, String) {
    let of = |b: Block, conv: &str, norm: &str| {
        let letter = char::from(b'a' + (b.position % 26) as u8);
        let block = format!("block{}{letter}", b.stage + 1);
        (format!("{block}_{conv}"), format!("{block}_{norm}"))
    };
    match layer {
        Layer::Stem => ("stem_conv".into(), "stem_bn".into()),
        // Keras calls the only convolution of a fused block its projection.
        Layer::Expand(b) if b.expands() => of(b, "expand_conv", "expand_bn"),
        Layer::Expand(b) => of(b, "project_conv", "project_bn"),
        Layer::Depthwise(b) => of(b, "dwconv2", "bn"),
        Layer::SeReduce(b) => of(b, "se_reduce", ""),
        Layer::SeExpand(b) => of(b, "se_expand", ""),
        Layer::Project(b) => of(b, "project_conv", "project_bn"),
    }
}

/// The shape of a slot in the file: `[C_out,C_in,kh,kw]`, depthwise `[C,1,kh,kw]`.
fn stored_shape(slot: &Slot) -> Vec<usize> {
    match (slot.role, &slot.shape[..]) {
        (Role::Weight, &[kh, kw, inputs, outputs]) => vec![outputs, inputs, kh, kw],
        (Role::Weight, &[kh, kw, channels]) => vec![channels, 1, kh, kw],
        (Role::Weight, &[inputs, outputs]) => vec![outputs, inputs, 1, 1],
        _ => slot.shape.clone(),
    }
}

fn from_stored(slot: &Slot, array: Array) -> Array {
    match (slot.role, slot.shape.len()) {
        (Role::Weight, 4) => array.transposed(&[2, 3, 1, 0]),
        (Role::Weight, 3) => array.transposed(&[2, 3, 0]),
        (Role::Weight, 2) => array.transposed(&[1, 0]),
        _ => array,
    }
}

/// Whether the file holds `backbone`: everything up to block `tap`, nothing foreign, the right shapes.
fn check(
    weights: &Weights,
    scheme: Scheme,
    backbone: &Backbone,
    tap: usize,
) -> std::result::Result<(), String> {
    let all = slots(backbone, backbone.blocks().len() - 1).map_err(|error| error.to_string())?;
    let needed = slots(backbone, tap).map_err(|error| error.to_string())?;
    let known: BTreeMap<String, Vec<usize>> = all
        .iter()
        .map(|slot| (scheme.name(slot), stored_shape(slot)))
        .collect();
    for slot in &needed {
        let name = scheme.name(slot);
        if !weights.tensors.contains_key(&name) {
            return Err(format!("tensor {name} is missing"));
        }
    }
    for (name, array) in &weights.tensors {
        if name.ends_with(".num_batches_tracked") || scheme.is_head(name, backbone) {
            continue;
        }
        let Some(shape) = known.get(name) else {
            return Err(format!("tensor {name} does not belong to the network"));
        };
        if array.shape != *shape {
            let found = &array.shape;
            return Err(format!(
                "tensor {name} has shape {found:?}, expected {shape:?}"
            ));
        }
    }
    Ok(())
}

/// Another known network that the file holds, at least up to the default tap.
fn looks_like(weights: &Weights, scheme: Scheme, backbone: &Backbone) -> Option<&'static str> {
    Backbone::names()
        .into_iter()
        .filter(|&name| name != backbone.name)
        .find(|name| {
            let other = Backbone::by_name(name);
            other.is_ok_and(|other| check(weights, scheme, &other, other.default_tap()).is_ok())
        })
}

fn unknown_names(weights: &Weights) -> Error {
    let some: Vec<_> = weights.tensors.keys().take(3).cloned().collect();
    Error::file(
        &weights.path,
        format!(
            "not the weights of an EfficientNet: its tensors are named {}...; expected names like \
             _blocks.0._depthwise_conv.weight (efficientnet_pytorch), features.1.0.block.0.0.weight \
             (torchvision), blocks.0.0.conv_dw.weight (timm) or block1a_project_conv.weight (Keras)",
            some.join(", ")
        ),
    )
}

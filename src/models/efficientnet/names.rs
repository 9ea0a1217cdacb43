//! The four naming schemes of published weights, and which one a file uses.

use super::{BlockSpec, Padding};
use std::collections::BTreeMap;

/// Who named the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// timm's `tf_efficientnet_*`
    Timm,
    Torchvision,
    /// efficientnet_pytorch (lukemelas), and its copy for Lite networks
    EfficientNetPytorch,
    /// Keras' layer names with PyTorch's tensor names: the V2-B0 file
    Keras,
}

/// Convolution and batch norm of one layer, without `.weight` and the like.
pub type ConvNames = (String, String);

/// The names of one block.
pub struct BlockNames {
    pub expand: ConvNames,
    pub depthwise: ConvNames,
    pub project: ConvNames,
    pub se_reduce: String,
    pub se_expand: String,
}

/// The first block of every network that is known, as far as names depend on it.
const FIRST_BLOCK: BlockSpec = BlockSpec {
    stage: 0,
    index_in_stage: 0,
    fused: false,
    squeezed: true,
    expand: 1,
    c_in: 32,
    c_out: 16,
    kernel: 3,
    stride: 1,
};

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Timm => "timm",
            Self::Torchvision => "torchvision",
            Self::EfficientNetPytorch => "efficientnet_pytorch",
            Self::Keras => "Keras",
        })
    }
}

impl Scheme {
    pub const ALL: [Self; 4] = [
        Self::Timm,
        Self::Torchvision,
        Self::EfficientNetPytorch,
        Self::Keras,
    ];

    /// Recognises the scheme by the name of the stem, or, where that is missing, by the end of the
    /// first block: then the stem can be reported as missing.
    pub fn recognise<T>(tensors: &BTreeMap<String, T>) -> Option<Self> {
        let has = |conv: String| tensors.contains_key(&format!("{conv}.weight"));
        let by_stem = Self::ALL.into_iter().find(|scheme| has(scheme.stem().0));
        let by_block = |scheme: &Self| has(scheme.block(0, &FIRST_BLOCK).project.0);
        by_stem.or_else(|| Self::ALL.into_iter().find(by_block))
    }

    /// The padding that these weights were trained with.
    pub fn padding(self) -> Padding {
        match self {
            Self::Torchvision => Padding::Symmetric,
            _ => Padding::Same,
        }
    }

    /// Batch norm's ε: torchvision's B0 to B4 keep PyTorch's own.
    pub fn epsilon(self, backbone: &str) -> f64 {
        let small = ["b0", "b1", "b2", "b3", "b4"]
            .iter()
            .any(|v| backbone.ends_with(v));
        if self == Self::Torchvision && small {
            1e-5
        } else {
            1e-3
        }
    }

    pub fn stem(self) -> ConvNames {
        let (conv, norm) = match self {
            Self::Timm => ("conv_stem", "bn1"),
            Self::Torchvision => ("features.0.0", "features.0.1"),
            Self::EfficientNetPytorch => ("_conv_stem", "_bn0"),
            Self::Keras => ("stem_conv", "stem_bn"),
        };
        (conv.into(), norm.into())
    }

    /// The names of block `index`, counted over the whole network.
    pub fn block(self, index: usize, block: &BlockSpec) -> BlockNames {
        let pair = |prefix: &str, conv: &str, norm: &str| {
            (format!("{prefix}{conv}"), format!("{prefix}{norm}"))
        };
        let expands = block.expand != 1;
        match self {
            Self::Timm => {
                let p = format!("blocks.{}.{}.", block.stage, block.index_in_stage);
                let (depthwise, project) = match expands {
                    true => (pair(&p, "conv_dw", "bn2"), pair(&p, "conv_pwl", "bn3")),
                    false => (pair(&p, "conv_dw", "bn1"), pair(&p, "conv_pw", "bn2")),
                };
                BlockNames {
                    expand: pair(&p, "conv_pw", "bn1"),
                    depthwise,
                    project,
                    se_reduce: format!("{p}se.conv_reduce"),
                    se_expand: format!("{p}se.conv_expand"),
                }
            }
            Self::Torchvision => {
                let p = format!(
                    "features.{}.{}.block.",
                    block.stage + 1,
                    block.index_in_stage
                );
                let first = expands as usize;
                let layer = |i: usize| pair(&p, &format!("{i}.0"), &format!("{i}.1"));
                BlockNames {
                    expand: layer(0),
                    depthwise: layer(first),
                    project: layer(first + 2),
                    se_reduce: format!("{p}{}.fc1", first + 1),
                    se_expand: format!("{p}{}.fc2", first + 1),
                }
            }
            Self::EfficientNetPytorch => {
                let p = format!("_blocks.{index}.");
                BlockNames {
                    expand: pair(&p, "_expand_conv", "_bn0"),
                    depthwise: pair(&p, "_depthwise_conv", "_bn1"),
                    project: pair(&p, "_project_conv", "_bn2"),
                    se_reduce: format!("{p}_se_reduce"),
                    se_expand: format!("{p}_se_expand"),
                }
            }
            Self::Keras => {
                let letter = (b'a' + block.index_in_stage as u8) as char;
                let p = format!("block{}{letter}_", block.stage + 1);
                BlockNames {
                    expand: pair(&p, "expand_conv", "expand_bn"),
                    depthwise: pair(&p, "dwconv2", "bn"),
                    project: pair(&p, "project_conv", "project_bn"),
                    se_reduce: format!("{p}se_reduce"),
                    se_expand: format!("{p}se_expand"),
                }
            }
        }
    }

    /// May a tensor be there that is not needed: the classifier, blocks behind the tap, counters?
    pub fn is_known_extra(self, name: &str, last_block: &BlockSpec, index: usize) -> bool {
        if name.ends_with("num_batches_tracked") {
            return true;
        }
        let parts: Vec<&str> = name.split('.').collect();
        let behind = |stage: Option<usize>, block: Option<usize>| match (stage, block) {
            (Some(stage), Some(block)) => {
                (stage, block) > (last_block.stage, last_block.index_in_stage)
            }
            _ => false,
        };
        let number = |i: usize| parts.get(i).and_then(|p| p.parse::<usize>().ok());
        match self {
            Self::Timm => {
                ["conv_head", "bn2", "classifier"].contains(&parts[0])
                    || parts[0] == "blocks" && behind(number(1), number(2))
            }
            Self::Torchvision => {
                parts[0] == "classifier"
                    || parts[0] == "features"
                        && (number(1) == Some(8)
                            || behind(number(1).map(|s| s.wrapping_sub(1)), number(2)))
            }
            Self::EfficientNetPytorch => {
                ["_conv_head", "_bn1", "_fc"].contains(&parts[0])
                    || parts[0] == "_blocks" && number(1).is_some_and(|i| i > index)
            }
            Self::Keras => {
                let block = parts[0].strip_prefix("block").and_then(|rest| {
                    let mut chars = rest.chars();
                    let stage = chars.next()?.to_digit(10)? as usize;
                    Some((
                        stage.checked_sub(1)?,
                        (chars.next()? as usize).checked_sub('a' as usize)?,
                    ))
                });
                parts[0].starts_with("top_")
                    || parts[0].starts_with("head")
                    || parts[0].starts_with("predictions")
                    || block.is_some_and(|b| behind(Some(b.0), Some(b.1)))
            }
        }
    }
}

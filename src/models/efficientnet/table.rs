//! A backbone is a table of stages and a tap.

use super::padding::Padding;
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1×1 expand, depthwise, squeeze-and-excite, 1×1 project.
    MbConv,
    /// k×k expand, 1×1 project; where expand is 1, a single k×k convolution with activation.
    FusedMbConv,
}

/// Blocks of one width; only the first has the stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    pub kind: Kind,
    pub expand: usize,
    pub channels: usize,
    pub blocks: usize,
    pub stride: usize,
    pub kernel: usize,
}

/// One variant. The stem is a 3×3 convolution of stride 2.
#[derive(Clone, Debug, PartialEq)]
pub struct Backbone {
    pub name: &'static str,
    pub stem_channels: usize,
    pub stages: Vec<Stage>,
    /// ε and padding where neither the weight file's naming nor the user says otherwise.
    pub bn_eps: f32,
    pub padding: Padding,
    /// Side of the images it was designed for, in pixels; `Padding::Same456` believes in it.
    pub native_resolution: usize,
}

/// One block with its widths spelled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Counted from 0 over the whole network.
    pub index: usize,
    /// Stage, and position in it, from 0.
    pub stage: usize,
    pub position: usize,
    pub kind: Kind,
    pub inputs: usize,
    /// Width after the expansion.
    pub expanded: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    /// Width of squeeze-and-excite: max(1, inputs / 4), for MBConv only.
    pub squeezed: Option<usize>,
}

impl Block {
    /// Whether the block adds its input to its output.
    pub fn has_residual(&self) -> bool {
        self.stride == 1 && self.inputs == self.outputs
    }

    /// Whether an own convolution widens the input.
    pub fn expands(&self) -> bool {
        self.expanded != self.inputs
    }
}

/// Where features leave the network: after block `block`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    pub block: usize,
    pub channels: usize,
    /// Input pixels per feature pixel.
    pub stride: usize,
}

/// Name, width and depth multiplier, native resolution of V1 (Tan and Le 2019, table of the released code).
const V1: [(&str, f64, f64, usize); 8] = [
    ("efficientnet-b0", 1.0, 1.0, 224),
    ("efficientnet-b1", 1.0, 1.1, 240),
    ("efficientnet-b2", 1.1, 1.2, 260),
    ("efficientnet-b3", 1.2, 1.4, 300),
    ("efficientnet-b4", 1.4, 1.8, 380),
    ("efficientnet-b5", 1.6, 2.2, 456),
    ("efficientnet-b6", 1.8, 2.6, 528),
    ("efficientnet-b7", 2.0, 3.1, 600),
];
const V2_B0: &str = "efficientnetv2-b0";

/// Expand, channels, blocks, stride, kernel of B0.
const V1_STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
];
/// Fused, expand, channels, blocks, stride of V2-B0 (Keras `EfficientNetV2B0`); every kernel is 3.
const V2_B0_STAGES: [(bool, usize, usize, usize, usize); 6] = [
    (true, 1, 16, 1, 1),
    (true, 4, 32, 2, 2),
    (true, 4, 48, 2, 2),
    (false, 4, 96, 3, 2),
    (false, 6, 112, 5, 1),
    (false, 6, 192, 8, 2),
];

impl Backbone {
    /// Every name that [`Backbone::by_name`] knows.
    pub fn names() -> Vec<&'static str> {
        let v1 = V1.iter().map(|(name, ..)| *name);
        v1.chain([V2_B0]).collect()
    }

    /// "efficientnet-b0" to "efficientnet-b7", "efficientnetv2-b0". Another name is a usage error that
    /// suggests the nearest.
    pub fn by_name(name: &str) -> Result<Self> {
        if name == V2_B0 {
            return Ok(Self::v2_b0());
        }
        if let Some(&(name, width, depth, resolution)) = V1.iter().find(|(v1, ..)| *v1 == name) {
            return Ok(Self::v1(name, width, depth, resolution));
        }
        let names = Self::names();
        let nearest = names
            .iter()
            .min_by_key(|known| strsim::levenshtein(known, &name.to_lowercase()));
        Err(Error::usage(format!(
            "unknown backbone '{name}': did you mean '{}'? Known: {}",
            nearest.unwrap_or(&""),
            names.join(", ")
        )))
    }

    fn v1(name: &'static str, width: f64, depth: f64, native_resolution: usize) -> Self {
        let stage = |&(expand, channels, blocks, stride, kernel)| Stage {
            kind: Kind::MbConv,
            expand,
            channels: round_channels(channels, width),
            blocks: (blocks as f64 * depth).ceil() as usize,
            stride,
            kernel,
        };
        Self {
            name,
            stem_channels: round_channels(32, width),
            stages: V1_STAGES.iter().map(stage).collect(),
            bn_eps: 1e-3,
            padding: Padding::Same,
            native_resolution,
        }
    }

    fn v2_b0() -> Self {
        let stage = |&(fused, expand, channels, blocks, stride)| Stage {
            kind: if fused {
                Kind::FusedMbConv
            } else {
                Kind::MbConv
            },
            expand,
            channels,
            blocks,
            stride,
            kernel: 3,
        };
        Self {
            name: V2_B0,
            stem_channels: 32,
            stages: V2_B0_STAGES.iter().map(stage).collect(),
            bn_eps: 1e-3,
            padding: Padding::Same,
            native_resolution: 224,
        }
    }

    /// All blocks of the network, in order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut inputs = self.stem_channels;
        for (index, stage) in self.stages.iter().enumerate() {
            for position in 0..stage.blocks {
                blocks.push(Block {
                    index: blocks.len(),
                    stage: index,
                    position,
                    kind: stage.kind,
                    inputs,
                    expanded: inputs * stage.expand,
                    outputs: stage.channels,
                    kernel: stage.kernel,
                    stride: if position == 0 { stage.stride } else { 1 },
                    squeezed: (stage.kind == Kind::MbConv).then_some((inputs / 4).max(1)),
                });
                inputs = stage.channels;
            }
        }
        blocks
    }

    /// The last block of the sixth stage: 35 for B5, `block6h` for V2-B0.
    pub fn default_tap(&self) -> usize {
        let blocks = self.stages.iter().take(6).map(|stage| stage.blocks);
        blocks.sum::<usize>().saturating_sub(1)
    }

    /// The tap after block `block`. A usage error where the network has no such block.
    pub fn tap(&self, block: usize) -> Result<Tap> {
        let blocks = self.blocks();
        let Some(last) = blocks.get(block) else {
            return Err(Error::usage(format!(
                "{} has no block {block} to take features from; its blocks are 0 to {} (default {})",
                self.name,
                blocks.len() - 1,
                self.default_tap()
            )));
        };
        let strides = blocks[..=block].iter().map(|block| block.stride);
        Ok(Tap {
            block,
            channels: last.outputs,
            stride: 2 * strides.product::<usize>(),
        })
    }

    /// Trained parameters (running statistics not counted) from the stem to block `tap`.
    pub fn parameters(&self, tap: usize) -> usize {
        let conv_bn = |weights: usize, channels: usize| weights + 2 * channels;
        let blocks = self.blocks();
        let stem = conv_bn(27 * self.stem_channels, self.stem_channels);
        let of_block = |b: &Block| {
            let area = b.kernel * b.kernel;
            let project = conv_bn(b.expanded * b.outputs, b.outputs);
            match (b.kind, b.expands()) {
                (Kind::FusedMbConv, false) => conv_bn(area * b.inputs * b.outputs, b.outputs),
                (Kind::FusedMbConv, true) => {
                    conv_bn(area * b.inputs * b.expanded, b.expanded) + project
                }
                (Kind::MbConv, expands) => {
                    let expand = conv_bn(b.inputs * b.expanded, b.expanded);
                    let squeezed = b.squeezed.unwrap_or(0);
                    let excite = 2 * b.expanded * squeezed + b.expanded + squeezed;
                    let expand = if expands { expand } else { 0 };
                    expand + conv_bn(area * b.expanded, b.expanded) + excite + project
                }
            }
        };
        stem + blocks.iter().take(tap + 1).map(of_block).sum::<usize>()
    }

    /// Multiply-accumulates of the convolutions from the stem to block `tap` for one image of that size
    /// in pixels. Squeeze-and-excite (two 1×1 convolutions on one pixel) is counted, activations are not.
    pub fn macs(&self, tap: usize, padding: Padding, height: usize, width: usize) -> Result<u64> {
        let spatial = self.spatial(tap, padding, height, width)?;
        let mut macs = 27 * self.stem_channels * spatial[0].outputs();
        for (b, spatial) in self.blocks().iter().zip(&spatial[1..]) {
            let area = b.kernel * b.kernel;
            let (before, after) = (spatial.inputs(), spatial.outputs());
            macs += match (b.kind, b.expands()) {
                (Kind::FusedMbConv, false) => after * area * b.inputs * b.outputs,
                (Kind::FusedMbConv, true) => {
                    after * (area * b.inputs * b.expanded + b.expanded * b.outputs)
                }
                (Kind::MbConv, expands) => {
                    let expand = if expands {
                        before * b.inputs * b.expanded
                    } else {
                        0
                    };
                    let excite = 2 * b.expanded * b.squeezed.unwrap_or(0);
                    expand + after * (area * b.expanded + b.expanded * b.outputs) + excite
                }
            };
        }
        Ok(macs as u64)
    }
}

/// To a multiple of 8, never more than 10 % below (`round_filters` of the released code).
fn round_channels(channels: usize, width: f64) -> usize {
    let wanted = channels as f64 * width;
    let rounded = ((wanted + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * wanted {
        rounded + 8
    } else {
        rounded
    }
}

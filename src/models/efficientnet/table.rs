//! EfficientNets as data (Tan & Le 2019, 2021): a table of stages and where to tap it.

use crate::ops::conv2d;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How stride-2 convolutions pad, the trap of this model (spec section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// TensorFlow: the odd pixel at the bottom and right. timm's `tf_` models, V2.
    Same,
    /// k/2 on every side: torchvision.
    Symmetric,
    /// As `Same` for a picture of the backbone's native size, whatever the input: efficientnet_pytorch
    /// 0.7. The name is that of B5, whose native size is 456; see [`Backbone::native`].
    Same456,
}

/// Stages of equal blocks.
#[derive(Clone, Copy, Debug)]
struct Stage {
    /// The first convolution of a block is k×k instead of 1×1 + depthwise (V2's early stages).
    fused: bool,
    expand: usize,
    channels: usize,
    blocks: usize,
    stride: usize,
    kernel: usize,
}

/// One block, as built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockSpec {
    pub stage: usize,
    pub index_in_stage: usize,
    pub fused: bool,
    pub expand: usize,
    pub c_in: usize,
    pub c_out: usize,
    pub kernel: usize,
    pub stride: usize,
}

impl BlockSpec {
    /// Channels between the convolutions.
    pub fn hidden(&self) -> usize {
        self.c_in * self.expand
    }

    /// Width of the squeeze-and-excite, from the block's input; fused blocks have none.
    pub fn squeeze(&self) -> Option<usize> {
        (!self.fused).then(|| (self.c_in / 4).max(1))
    }

    /// Is the block's input added to its output?
    pub fn residual(&self) -> bool {
        self.stride == 1 && self.c_in == self.c_out
    }
}

/// A backbone up to its tap.
#[derive(Clone, Debug, PartialEq)]
pub struct Backbone {
    pub name: String,
    pub stem: usize,
    /// Blocks up to and including the tap.
    pub blocks: Vec<BlockSpec>,
    /// All blocks of the network; what lies behind the tap is not built.
    pub all_blocks: usize,
    /// Side of the pictures it was designed for.
    pub native: usize,
}

/// (expand, channels, blocks, stride, kernel) of B0.
const V1: [(usize, usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
];

/// Width and depth multipliers and native size of B0 to B7.
const VARIANTS: [(f64, f64, usize); 8] = [
    (1.0, 1.0, 224),
    (1.0, 1.1, 240),
    (1.1, 1.2, 260),
    (1.2, 1.4, 300),
    (1.4, 1.8, 380),
    (1.6, 2.2, 456),
    (1.8, 2.6, 528),
    (2.0, 3.1, 600),
];

/// (expand, channels, blocks, stride, kernel) of V2-B0; the first three stages are fused.
const V2_B0: [(usize, usize, usize, usize, usize); 6] = [
    (1, 16, 1, 1, 3),
    (4, 32, 2, 2, 3),
    (4, 48, 2, 2, 3),
    (4, 96, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 8, 2, 3),
];

/// Rounded to a multiple of 8, never down by more than a tenth.
fn round_channels(channels: usize, width: f64) -> usize {
    let scaled = channels as f64 * width;
    let rounded = ((scaled + 4.0) / 8.0).floor() * 8.0;
    let rounded = rounded.max(8.0);
    (if rounded < 0.9 * scaled {
        rounded + 8.0
    } else {
        rounded
    }) as usize
}

/// Every name that [`Backbone::new`] knows.
pub fn names() -> Vec<String> {
    let v1 = (0..VARIANTS.len()).map(|i| format!("efficientnet_b{i}"));
    v1.chain(["efficientnetv2_b0".to_string()]).collect()
}

impl Backbone {
    /// Elements of the largest tensor inside the network, for one picture.
    pub fn largest_activation(&self, h: usize, w: usize) -> usize {
        let half = |[h, w]: [usize; 2], stride| [h.div_ceil(stride), w.div_ceil(stride)];
        let mut size = half([h, w], 2);
        let mut largest = size[0] * size[1] * self.stem;
        for block in &self.blocks {
            // The depthwise convolution strides; in a fused block the expanding one does.
            let before = size;
            size = half(size, block.stride);
            let expanded = if block.fused { size } else { before };
            largest = largest.max(expanded[0] * expanded[1] * block.hidden());
        }
        largest
    }

    /// A backbone by name, tapped after block `tap` (0-based); by default after the sixth stage, at
    /// stride 32.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name or a tap behind the last block.
    pub fn new(name: &str, tap: Option<usize>) -> Result<Self> {
        let stage = |(expand, channels, blocks, stride, kernel), fused| Stage {
            fused,
            expand,
            channels,
            blocks,
            stride,
            kernel,
        };
        let variant = name
            .strip_prefix("efficientnet_b")
            .and_then(|n| n.parse::<usize>().ok());
        let (stem, stages, native): (usize, Vec<Stage>, usize) =
            match variant.and_then(|n| VARIANTS.get(n)) {
                Some(&(width, depth, native)) => {
                    let scale = |(expand, channels, blocks, stride, kernel): (
                        usize,
                        usize,
                        usize,
                        usize,
                        usize,
                    )| {
                        let blocks = (blocks as f64 * depth).ceil() as usize;
                        stage(
                            (
                                expand,
                                round_channels(channels, width),
                                blocks,
                                stride,
                                kernel,
                            ),
                            false,
                        )
                    };
                    (round_channels(32, width), V1.map(scale).into(), native)
                }
                None if name == "efficientnetv2_b0" => (
                    32,
                    V2_B0
                        .iter()
                        .enumerate()
                        .map(|(i, &s)| stage(s, i < 3))
                        .collect(),
                    224,
                ),
                None => {
                    let known = names();
                    let near = known.iter().max_by(|a, b| {
                        strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name))
                    });
                    let near = near
                        .map(|n| format!("; did you mean `{n}`?"))
                        .unwrap_or_default();
                    return Err(Error::usage(format!(
                        "no backbone `{name}`{near} Known: {}",
                        known.join(", ")
                    )));
                }
            };
        let mut blocks = Vec::new();
        let mut c_in = stem;
        for (stage, s) in stages.iter().enumerate() {
            for index_in_stage in 0..s.blocks {
                let stride = if index_in_stage == 0 { s.stride } else { 1 };
                blocks.push(BlockSpec {
                    stage,
                    index_in_stage,
                    fused: s.fused,
                    expand: s.expand,
                    c_in,
                    c_out: s.channels,
                    kernel: s.kernel,
                    stride,
                });
                c_in = s.channels;
            }
        }
        let all_blocks = blocks.len();
        let sixth = blocks.iter().filter(|b| b.stage < 6).count() - 1;
        let tap = tap.unwrap_or(sixth);
        if tap >= all_blocks {
            let message = format!(
                "backbone.tap = {tap}: {name} has blocks 0 to {}",
                all_blocks - 1
            );
            return Err(Error::usage(message));
        }
        blocks.truncate(tap + 1);
        Ok(Self {
            name: name.to_string(),
            stem,
            blocks,
            all_blocks,
            native,
        })
    }

    /// The network with all its blocks.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name.
    pub fn whole(name: &str) -> Result<Self> {
        let last = Self::new(name, None)?.all_blocks - 1;
        Self::new(name, Some(last))
    }

    /// Channels at the tap.
    pub fn channels(&self) -> usize {
        self.blocks.last().map_or(self.stem, |b| b.c_out)
    }

    /// Input pixels per feature pixel.
    pub fn stride(&self) -> usize {
        2 * self.blocks.iter().map(|b| b.stride).product::<usize>()
    }
}

/// Follows the picture's size through the network, which is what `same` padding depends on.
#[derive(Clone, Copy, Debug)]
pub struct PaddingPlan {
    padding: Padding,
    height: usize,
    width: usize,
}

impl PaddingPlan {
    /// For pictures of this size.
    pub fn new(padding: Padding, backbone: &Backbone, height: usize, width: usize) -> Self {
        let (height, width) = match padding {
            Padding::Same456 => (backbone.native, backbone.native),
            Padding::Same | Padding::Symmetric => (height, width),
        };
        Self {
            padding,
            height,
            width,
        }
    }

    /// The padding of the next convolution, whose output is the input of the one after it.
    pub fn next(&mut self, kernel: usize, stride: usize) -> conv2d::Padding {
        if self.padding == Padding::Symmetric {
            return conv2d::Padding::zeros(kernel / 2);
        }
        let along = |size: usize| {
            let total = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
            (total / 2, total - total / 2)
        };
        let ((top, bottom), (left, right)) = (along(self.height), along(self.width));
        self.height = self.height.div_ceil(stride);
        self.width = self.width.div_ceil(stride);
        conv2d::Padding {
            top,
            bottom,
            left,
            right,
            replicate: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b5_is_as_in_the_spec() {
        let b5 = Backbone::new("efficientnet_b5", None).unwrap();
        assert_eq!(
            (b5.stem, b5.blocks.len(), b5.channels(), b5.stride()),
            (48, 36, 304, 32)
        );
        let last_of_stage: Vec<usize> = (0..6)
            .map(|s| {
                b5.blocks
                    .iter()
                    .filter(|b| b.stage == s)
                    .map(|b| b.c_out)
                    .next_back()
                    .unwrap()
            })
            .collect();
        assert_eq!(last_of_stage, [24, 40, 64, 128, 176, 304]);
        let counts: Vec<usize> = (0..6)
            .map(|s| b5.blocks.iter().filter(|b| b.stage == s).count())
            .collect();
        assert_eq!(counts, [3, 5, 5, 7, 7, 9]);
        let v2 = Backbone::new("efficientnetv2_b0", None).unwrap();
        assert_eq!((v2.channels(), v2.stride()), (192, 32));
    }

    /// (before, after) of the stem and of the blocks with stride 2, for a picture of 768 pixels.
    fn stride_2_paddings(variant: usize, padding: Padding) -> Vec<(usize, usize)> {
        let backbone = Backbone::new(&format!("efficientnet_b{variant}"), None).unwrap();
        let mut plan = PaddingPlan::new(padding, &backbone, 768, 768);
        let mut found = vec![plan.next(3, 2)];
        for block in &backbone.blocks {
            let next = plan.next(block.kernel, block.stride);
            if block.stride == 2 {
                found.push(next);
            }
        }
        found.iter().map(|p| (p.top, p.bottom)).collect()
    }

    #[test]
    fn stride_2_paddings_are_as_in_the_spec() {
        for (padding, expected) in [
            (Padding::Same, [(0, 1), (0, 1), (1, 2), (0, 1), (1, 2)]),
            (Padding::Same456, [(0, 1), (0, 1), (1, 2), (1, 1), (2, 2)]),
            (Padding::Symmetric, [(1, 1), (1, 1), (2, 2), (1, 1), (2, 2)]),
        ] {
            assert_eq!(stride_2_paddings(5, padding), expected, "{padding:?}");
        }
    }

    /// `static_padding` of the layers of efficientnet_pytorch 0.7.1.
    #[test]
    fn same456_goes_with_the_variant() {
        for (variant, expected) in [
            [(0, 1), (0, 1), (1, 2), (0, 1), (1, 2)],
            [(0, 1), (0, 1), (1, 2), (0, 1), (2, 2)],
            [(0, 1), (0, 1), (2, 2), (1, 1), (2, 2)],
            [(0, 1), (0, 1), (2, 2), (0, 1), (2, 2)],
            [(0, 1), (0, 1), (2, 2), (0, 1), (1, 2)],
            [(0, 1), (0, 1), (1, 2), (1, 1), (2, 2)],
            [(0, 1), (0, 1), (1, 2), (0, 1), (2, 2)],
            [(0, 1), (0, 1), (1, 2), (1, 1), (1, 2)],
        ]
        .iter()
        .enumerate()
        {
            let found = stride_2_paddings(variant, Padding::Same456);
            assert_eq!(found, expected, "B{variant}");
        }
    }

    #[test]
    fn unknown_names_are_refused_with_a_suggestion() {
        let error = Backbone::new("efficientnet-b5", None).unwrap_err();
        assert!(error.to_string().contains("efficientnet_b5"), "{error}");
        assert_eq!(error.exit_code(), 2);
        assert!(Backbone::new("efficientnet_b0", Some(16)).is_err());
    }
}

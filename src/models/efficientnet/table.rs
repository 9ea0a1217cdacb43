//! EfficientNets as data (Tan & Le 2019, 2021): a table of stages and where to tap it.

use super::normalisation::Normalisation;
use crate::ops::Activation;
use crate::{Error, Result};

/// One block, as built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockSpec {
    pub stage: usize,
    pub index_in_stage: usize,
    /// The first convolution is k×k instead of 1×1 + depthwise (V2's early stages).
    pub fused: bool,
    /// Has it squeeze-and-excite?
    pub squeezed: bool,
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

    /// Width of the squeeze-and-excite, from the block's input.
    pub fn squeeze(&self) -> Option<usize> {
        self.squeezed.then(|| (self.c_in / 4).max(1))
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
    /// Blocks up to and including the last tap.
    pub blocks: Vec<BlockSpec>,
    /// The blocks whose outputs are the features, ascending. Those of several are joined along channels at the
    /// size of the first, which is the largest.
    pub taps: Vec<usize>,
    /// All blocks of the network; what lies behind the tap is not built.
    pub all_blocks: usize,
    /// Side of the pictures it was designed for.
    pub native: usize,
    /// After every convolution but a block's last.
    pub activation: Activation,
    /// Of the pixels that it was trained on.
    pub normalisation: Normalisation,
}

/// Stages of equal blocks: (expand, channels, blocks, stride, kernel).
type Stage = (usize, usize, usize, usize, usize);

/// Networks of one table that differ in width and depth.
struct Family {
    /// Their names, without the number.
    name: &'static str,
    /// Of the smallest one.
    stages: &'static [Stage],
    /// How many stages are of fused blocks.
    fused: usize,
    /// Width and depth multipliers, native size.
    variants: &'static [(f64, f64, usize)],
    /// Are the stem's width and the first and last stage's depth scaled, too?
    scales_ends: bool,
    /// Have blocks that are not fused squeeze-and-excite?
    squeezed: bool,
    activation: Activation,
    normalisation: Normalisation,
}

/// Stages of B0.
const V1: [Stage; 7] = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
];

const FAMILIES: [Family; 3] = [
    Family {
        name: "efficientnet_b",
        stages: &V1,
        fused: 0,
        variants: &[
            (1.0, 1.0, 224),
            (1.0, 1.1, 240),
            (1.1, 1.2, 260),
            (1.2, 1.4, 300),
            (1.4, 1.8, 380),
            (1.6, 2.2, 456),
            (1.8, 2.6, 528),
            (2.0, 3.1, 600),
        ],
        scales_ends: true,
        squeezed: true,
        activation: Activation::Silu,
        normalisation: Normalisation::IMAGENET,
    },
    Family {
        name: "efficientnetv2_b",
        stages: &[
            (1, 16, 1, 1, 3),
            (4, 32, 2, 2, 3),
            (4, 48, 2, 2, 3),
            (4, 96, 3, 2, 3),
            (6, 112, 5, 1, 3),
            (6, 192, 8, 2, 3),
        ],
        fused: 3,
        variants: &[(1.0, 1.0, 224)],
        scales_ends: true,
        squeezed: true,
        activation: Activation::Silu,
        normalisation: Normalisation::IMAGENET,
    },
    // The authors' efficientnet_lite_builder.py; efficientnet_lite_pytorch 0.1.0, utils.py.
    Family {
        name: "efficientnet_lite",
        stages: &V1,
        fused: 0,
        variants: &[
            (1.0, 1.0, 224),
            (1.0, 1.1, 240),
            (1.1, 1.2, 260),
            (1.2, 1.4, 280),
            (1.4, 1.8, 300),
        ],
        scales_ends: false,
        squeezed: false,
        activation: Activation::Relu6,
        normalisation: Normalisation::LITE,
    },
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
    variants().map(|(name, ..)| name).collect()
}

/// (name, family, number within it) of every network.
fn variants() -> impl Iterator<Item = (String, &'static Family, usize)> {
    FAMILIES.iter().flat_map(|family| {
        let numbers = 0..family.variants.len();
        numbers.map(move |n| (format!("{}{n}", family.name), family, n))
    })
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
        let found = variants().find(|(known, ..)| known == name);
        let Some((_, family, number)) = found else {
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
        };
        let (width, depth, native) = family.variants[number];
        let stem = round_channels(32, if family.scales_ends { width } else { 1.0 });
        let mut blocks = Vec::new();
        let mut c_in = stem;
        for (stage, &(expand, channels, count, stride, kernel)) in family.stages.iter().enumerate()
        {
            let is_end = stage == 0 || stage + 1 == family.stages.len();
            let count = match is_end && !family.scales_ends {
                true => count,
                false => (count as f64 * depth).ceil() as usize,
            };
            let c_out = round_channels(channels, width);
            let fused = stage < family.fused;
            for index_in_stage in 0..count {
                blocks.push(BlockSpec {
                    stage,
                    index_in_stage,
                    fused,
                    squeezed: family.squeezed && !fused,
                    expand,
                    c_in,
                    c_out,
                    kernel,
                    stride: if index_in_stage == 0 { stride } else { 1 },
                });
                c_in = c_out;
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
            taps: vec![tap],
            all_blocks,
            native,
            activation: family.activation,
            normalisation: family.normalisation,
        })
    }

    /// A backbone by name, tapped after each of these blocks (ascending).
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name, a tap behind the last block, none, or taps out of order.
    pub fn tapped(name: &str, taps: &[usize]) -> Result<Self> {
        let is_ascending = taps.windows(2).all(|pair| pair[0] < pair[1]);
        let Some(&last) = taps.last().filter(|_| is_ascending) else {
            return Err(Error::usage(format!(
                "backbone.tap = {taps:?}: expected one block or several in ascending order, such as [10, 14]"
            )));
        };
        Ok(Self {
            taps: taps.to_vec(),
            ..Self::new(name, Some(last))?
        })
    }

    /// A backbone by name, tapped at the ends of its fifth and sixth stage (strides 16 and 32), as far as its first
    /// `blocks` go.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name.
    pub fn joined(name: &str, blocks: usize) -> Result<Self> {
        let sixth = Self::new(name, None)?;
        let fifth = sixth.blocks.iter().filter(|b| b.stage < 5).count() - 1;
        let last = blocks.clamp(1, sixth.blocks.len()) - 1;
        match fifth < last {
            true => Self::tapped(name, &[fifth, last]),
            false => Self::tapped(name, &[last]),
        }
    }

    /// The network with all its blocks.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name.
    pub fn whole(name: &str) -> Result<Self> {
        let last = Self::new(name, None)?.all_blocks - 1;
        Self::new(name, Some(last))
    }

    /// Channels of the features: those at the taps.
    pub fn channels(&self) -> usize {
        self.taps.iter().map(|&tap| self.blocks[tap].c_out).sum()
    }

    /// Input pixels per feature pixel.
    pub fn stride(&self) -> usize {
        let blocks = self.blocks.iter().take(self.taps[0] + 1);
        2 * blocks.map(|b| b.stride).product::<usize>()
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

    /// What `EfficientNet.from_name` of efficientnet_lite_pytorch 0.1.0 builds: blocks and channels of each
    /// stage; the stem has 32 channels in all.
    #[test]
    fn lite_networks_are_as_in_the_package() {
        for (name, counts, channels) in [
            (
                "efficientnet_lite0",
                [1, 2, 2, 3, 3, 4, 1],
                [16, 24, 40, 80, 112, 192, 320],
            ),
            (
                "efficientnet_lite1",
                [1, 3, 3, 4, 4, 5, 1],
                [16, 24, 40, 80, 112, 192, 320],
            ),
            (
                "efficientnet_lite2",
                [1, 3, 3, 4, 4, 5, 1],
                [16, 24, 48, 88, 120, 208, 352],
            ),
            (
                "efficientnet_lite3",
                [1, 3, 3, 5, 5, 6, 1],
                [24, 32, 48, 96, 136, 232, 384],
            ),
            (
                "efficientnet_lite4",
                [1, 4, 4, 6, 6, 8, 1],
                [24, 32, 56, 112, 160, 272, 448],
            ),
        ] {
            let lite = Backbone::whole(name).unwrap();
            assert_eq!(lite.stem, 32);
            assert!(lite.blocks.iter().all(|block| block.squeeze().is_none()));
            for stage in 0..7 {
                let blocks = || lite.blocks.iter().filter(|block| block.stage == stage);
                assert_eq!(blocks().count(), counts[stage], "{name}");
                assert!(blocks().all(|b| b.c_out == channels[stage]), "{name}");
            }
        }
    }

    #[test]
    fn joined_taps_are_the_ends_of_two_stages() {
        for (name, blocks, taps, channels) in [
            ("efficientnet_b5", 39, &[26, 35][..], 176 + 304),
            ("efficientnetv2_b0", 21, &[12, 20], 112 + 192),
            ("efficientnet_lite0", 15, &[10, 14], 112 + 192),
            ("efficientnet_lite0", 13, &[10, 12], 112 + 192),
            ("efficientnet_b0", 11, &[10], 112),
            ("efficientnet_b0", 5, &[4], 40),
        ] {
            let joined = Backbone::joined(name, blocks).unwrap();
            assert_eq!(
                (&joined.taps[..], joined.channels()),
                (taps, channels),
                "{name}"
            );
            assert_eq!(joined.blocks.len(), taps.last().unwrap() + 1);
        }
        assert_eq!(
            Backbone::joined("efficientnetv2_b0", 21).unwrap().stride(),
            16
        );
    }

    #[test]
    fn unknown_names_are_refused_with_a_suggestion() {
        let error = Backbone::new("efficientnet-b5", None).unwrap_err();
        assert!(error.to_string().contains("efficientnet_b5"), "{error}");
        assert_eq!(error.exit_code(), 2);
        assert!(Backbone::new("efficientnet_b0", Some(16)).is_err());
    }
}

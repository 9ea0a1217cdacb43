//! Padding of the strided convolutions: the trap of this model (table in spec section 2).

use serde::{Deserialize, Serialize};

use super::table::Backbone;
use crate::{Error, Result};

/// How the input of a strided convolution is padded with zeros. At stride 1 all three agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// TensorFlow: as much as gives ceil(size / stride), the odd pixel at the end.
    Same,
    /// PyTorch: kernel / 2 on both sides (torchvision).
    Symmetric,
    /// `Same` for the network's native resolution, whatever the input (efficientnet_pytorch 0.7.1;
    /// 456 is B5's).
    Same456,
}

impl Padding {
    /// Pixels (before, after) along an axis of `size`; `native` is that axis where the image has the
    /// native resolution.
    pub fn around(
        self,
        kernel: usize,
        stride: usize,
        size: usize,
        native: usize,
    ) -> (usize, usize) {
        let same = |size: usize| {
            let reach = (size.div_ceil(stride).max(1) - 1) * stride + kernel;
            let total = reach.saturating_sub(size);
            (total / 2, total - total / 2)
        };
        match self {
            Self::Same => same(size),
            Self::Symmetric => (kernel / 2, kernel / 2),
            Self::Same456 => same(native),
        }
    }
}

impl std::fmt::Display for Padding {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Symmetric => "symmetric",
            Self::Same456 => "same456",
        })
    }
}

impl std::str::FromStr for Padding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "same" => Ok(Self::Same),
            "symmetric" => Ok(Self::Symmetric),
            "same456" => Ok(Self::Same456),
            _ => Err(Error::usage(format!(
                "unknown padding '{text}': expected same, symmetric or same456"
            ))),
        }
    }
}

/// The k×k convolution of the stem or of a block: sizes in pixels `[height, width]`, padding (before, after)
/// along height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spatial {
    pub kernel: usize,
    pub stride: usize,
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub padding: [(usize, usize); 2],
}

impl Spatial {
    /// Pixels of the input map.
    pub fn inputs(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Pixels of the output map.
    pub fn outputs(&self) -> usize {
        self.output[0] * self.output[1]
    }
}

impl Backbone {
    /// The k×k convolutions of the stem and of the blocks 0 to `tap`, in order: `tap + 2` entries.
    /// An error where the image is too small for a convolution.
    pub fn spatial(
        &self,
        tap: usize,
        padding: Padding,
        height: usize,
        width: usize,
    ) -> Result<Vec<Spatial>> {
        self.tap(tap)?;
        let blocks = self.blocks();
        let shapes = blocks[..=tap]
            .iter()
            .map(|block| (block.kernel, block.stride));
        let mut input = [height, width];
        let mut native = self.native_resolution;
        let mut spatial = Vec::new();
        for (kernel, stride) in [(3, 2)].into_iter().chain(shapes) {
            let around = input.map(|size| padding.around(kernel, stride, size, native));
            let mut output = [0; 2];
            for axis in 0..2 {
                let (before, after) = around[axis];
                let room = (input[axis] + before + after).checked_sub(kernel);
                let Some(room) = room.filter(|_| input[axis] > 0) else {
                    return Err(Error::usage(format!(
                        "an image of {width}×{height} pixels is too small for {} up to block {tap}",
                        self.name
                    )));
                };
                output[axis] = room / stride + 1;
            }
            spatial.push(Spatial {
                kernel,
                stride,
                input,
                output,
                padding: around,
            });
            input = output;
            native = native.div_ceil(stride);
        }
        Ok(spatial)
    }

    /// `[height, width]` of the features after block `tap`, for an image of that size in pixels.
    pub fn feature_size(
        &self,
        tap: usize,
        padding: Padding,
        height: usize,
        width: usize,
    ) -> Result<[usize; 2]> {
        let spatial = self.spatial(tap, padding, height, width)?;
        Ok(spatial.last().map_or([height, width], |last| last.output))
    }
}

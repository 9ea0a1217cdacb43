//! How the convolutions of an EfficientNet pad.

use super::Backbone;
use crate::ops::conv2d;
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
}

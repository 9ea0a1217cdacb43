//! EfficientNet as data (spec section 2): tables of stages, paddings, and weights by name.
//!
//! Tan and Le, "EfficientNet" (2019) and "EfficientNetV2" (2021).

pub mod names;
pub mod padding;
pub mod parameters;
pub mod table;

pub use padding::{Padding, Spatial};
pub use parameters::{BackboneWeights, BatchNorm, BlockWeights, ConvBn, Folded, SqueezeExcite};
pub use table::{Backbone, Block, Kind, Stage, Tap};

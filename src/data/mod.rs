//! Files to numbers, on the CPU: pictures, depth maps, masks, folders and the feature cache.
//!
//! Everything here works on plain vectors and knows nothing of tensors or devices.

pub mod cache;
pub mod check;
pub mod dataset;
pub mod depth;
pub mod depth_map;
mod foreign;
pub mod image;
mod jpeg;
mod layout;
pub(crate) mod listing;
pub mod look;
pub mod mask;
pub mod resize;
mod tiff;
mod tiff_picture;
mod visa;

pub use cache::{Cache, Key};
pub use dataset::{Dataset, Label, Layout, Sample, categories, list_images};
pub use depth::{Background, Depth, DepthMask, DepthOptions, preprocess};
pub use depth_map::{DepthKind, DepthMap, Meaning};
pub use image::{Pixels, Rgb, SampleType};
pub use layout::is_category;
pub use listing::{name_of, stem_of};
pub use mask::Mask;
pub use resize::{Placement, Resize};

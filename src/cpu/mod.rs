//! The native twin of each shader, under the same file name. Twins work on slices and share their
//! parameter block with the shader; they know nothing of tensors.

pub mod activation;
pub mod adam;
pub mod add;
pub mod aligned;
pub mod batch_norm;
pub mod bottleneck;
pub mod concat;
pub mod conv2d;
pub mod coupling;
pub mod depthwise;
pub mod distance;
pub mod excite;
pub mod isa;
mod lanes;
pub mod likelihood;
mod matmul;
pub mod mean;
pub mod permute;
pub mod pool;
pub mod resize;
pub mod roof;
pub mod scale;
mod simd;
pub mod split;
pub mod sum;
pub mod unshuffle;
mod winograd;

pub use simd::vectorised;

//! Operators, one file each: shape check, run on the tensor's device, gradient, cost.

pub mod activation;
pub mod adam;
pub mod add;
pub mod batch_norm;
pub mod conv2d;
pub mod coupling;
pub mod depthwise;
pub mod distance;
pub mod likelihood;

pub use crate::cpu::activation::Activation;

/// What an operator has to do: floating-point operations, and bytes read and written once each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub flops: u64,
    pub bytes: u64,
}

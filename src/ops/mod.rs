//! Operators, one file each: shape check, run on the tensor's device, gradient, cost.

pub mod activation;
pub mod adam;
pub mod add;
mod bands;
pub mod batch_norm;
pub mod bottleneck;
pub mod concat;
pub mod conv2d;
pub mod coupling;
pub mod depthwise;
pub mod distance;
pub mod excite;
pub mod likelihood;
pub mod mean;
pub mod permute;
pub mod resize;
pub mod scale;
pub mod split;
pub mod sum;
pub mod unshuffle;

pub use crate::cpu::activation::Activation;
pub use crate::kernel::Cost;

use crate::kernel::kernel;
use crate::tape::{Tape, Var};
use crate::{Error, Result};

/// Operators of the frozen extractor and of data preparation have no gradient.
fn refuse_gradient(op: &'static str, tape: &Tape, inputs: &[&Var]) -> Result<()> {
    if tape.is_training() && inputs.iter().any(|v| v.is_recorded()) {
        return Err(Error::shape(
            op,
            "constants: it has no gradient",
            "an operand whose gradient is wanted",
        ));
    }
    Ok(())
}

//! nn

mod pickle;
mod pth;
pub mod random;
pub mod weights;

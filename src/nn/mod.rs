//! Parameters, layers, the optimiser, weight files.

pub mod layers;
pub mod optimiser;
mod pickle;
mod pth;
pub mod random;
pub mod tensor_file;
pub mod weights;
mod wheel;

//! Parameters, layers, the optimiser, weight files.

pub mod layers;
pub mod optimiser;
pub mod random;

//! Parameters, layers, the optimiser, weight files.

pub mod random;

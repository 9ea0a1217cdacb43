//! models

pub mod efficientnet;
pub mod permutation;

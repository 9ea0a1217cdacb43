//! The networks: extractor, teacher, student.

pub mod efficientnet;
pub mod permutation;
pub mod positional;
pub mod real_nvp;
pub mod student;
pub mod whitening;

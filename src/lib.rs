//! astray finds defective parts after seeing only good ones.
//!
//! Modules in layer order: each imports only from those above it.

pub mod error;
pub mod gpu;
pub mod cpu;
pub mod tensor;
pub mod tape;
pub mod ops;
pub mod nn;
pub mod models;
pub mod data;
pub mod evaluate;
pub mod detector;
pub mod profile;
pub mod selftest;
pub mod cli;

pub use error::{Error, Result};

//! astray finds defective parts after seeing only good ones.
//!
//! Modules in layer order: each imports only from those above it.

pub mod cli;
pub mod cpu;
pub mod data;
pub mod detector;
pub mod error;
pub mod evaluate;
pub mod gpu;
pub mod models;
pub mod nn;
pub mod ops;
pub mod profile;
pub mod selftest;
pub mod tape;
pub mod tensor;

pub use error::{Error, Result};

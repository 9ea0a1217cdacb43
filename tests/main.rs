//! One test binary for everything.

mod config;
mod operators;
mod pytorch;
mod shaders;

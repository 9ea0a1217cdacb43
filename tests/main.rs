//! One test binary for everything.

mod operators;
mod shaders;

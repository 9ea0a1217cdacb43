//! One test binary for everything.

mod operators;
mod pytorch;
mod shaders;

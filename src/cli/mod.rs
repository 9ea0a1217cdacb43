//! cli

pub mod args;
pub mod draw;

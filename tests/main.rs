//! One test binary for everything.

mod commands;
mod config;
mod data;
mod evaluate;
mod namings;
mod operators;
mod properties;
mod pytorch;
mod report;
mod reproducible;
mod shaders;
mod sizes;
mod tidy;
mod weights;

//! One test binary for everything.
mod data;
mod evaluate;

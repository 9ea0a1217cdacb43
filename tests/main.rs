//! One test binary for everything.

mod config;

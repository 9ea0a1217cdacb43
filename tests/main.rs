//! One test binary for everything.

mod config;
mod report;

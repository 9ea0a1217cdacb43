//! detector

pub mod config;

//! evaluate

pub mod overlay;

//! evaluate

pub mod overlay;
pub mod report;

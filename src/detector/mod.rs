//! The detector: features, teacher, student, score, threshold; trained, saved, loaded.

pub mod config;
mod features;
mod memory;
mod model;
mod score;
mod standard;
mod train;

pub use features::{Extractor, Features};
pub use model::{Detector, StudentNet};
pub use score::Scored;
pub use standard::Standard;
pub use train::{Losses, Progress, train};

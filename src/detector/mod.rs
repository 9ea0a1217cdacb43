//! The detector: features, teacher, student, score, threshold; trained, saved, loaded.

mod ahead;
mod backbone;
pub mod calibration;
pub mod config;
mod features;
pub mod folds;
mod fusion;
mod judge;
mod learned;
mod memory;
mod model;
mod score;
mod standard;
mod train;
mod white;

pub use ahead::read_ahead;
pub use backbone::Choice;
pub use calibration::{Calibration, Origin, Record, Verdict};
pub use features::{Extractor, Features, Part, Seen};
pub use fusion::Fusion;
pub use judge::Judge;
pub use learned::{LEARNED, Learned};
pub use model::{Detector, StudentNet};
pub use score::Scored;
pub use standard::Standard;
pub use train::{Losses, Progress, train};

//! From scores and labels to figures: AUROC, AUPRO, thresholds, and the tables and pages that show
//! them.

pub mod aupro;
pub mod auroc;
pub mod metrics;
pub mod overlay;
pub mod pixels;
pub mod report;
pub mod threshold;

pub use auroc::auroc;
pub use metrics::{Metrics, Summary};
pub use pixels::PixelScores;
pub use threshold::{BestF1, Rule, best_f1};

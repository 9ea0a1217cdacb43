//! From scores and labels to figures: AUROC, AUPRO, thresholds, and the tables and pages that show
//! them.

pub mod aupro;
pub mod auroc;
pub mod bootstrap;
pub mod conformal;
pub mod metrics;
pub mod overlay;
pub mod pixels;
pub mod regions;
pub mod report;
pub mod threshold;

pub use auroc::auroc;
pub use conformal::Conformal;
pub use metrics::{Metrics, Summary, Tested};
pub use pixels::PixelScores;
pub use regions::{Region, regions};
pub use threshold::{BestF1, Counts, best_f1};

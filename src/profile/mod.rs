//! Where the time goes: kernel calls and launches as they were timed, against what the device can
//! do at best.

mod measure;
mod record;
mod roof;

pub use measure::{Case, Measured, Work, measure};
pub use record::{Call, Interval, Launch, Recorder, Recording, Step, record};
pub use roof::{Roof, intensity, tells_time};

//! Where the time goes: kernel calls and launches as they were timed, against what the device can
//! do at best.

mod diff;
mod measure;
mod page;
mod record;
mod roof;
mod roofline;
mod table;
mod trace;
mod welch;

pub use diff::{Change, Diff, Samples, diff, mismatches};
pub use measure::{Case, Measured, Work, measure};
pub use page::page;
pub use record::{Call, Interval, Launch, Recorder, Recording, Step, record};
pub use roof::{Roof, intensity, tells_time};
pub use table::{
    About, Kernel, Profile, Sample, StepTotal, forget_peak_resident, peak_resident_bytes,
};
pub use trace::trace;

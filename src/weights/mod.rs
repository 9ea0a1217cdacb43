//! Weights by name: those that come with the program, public files, getting them, looking into them.

mod cache;
mod convert;
mod download;
mod fetch;
mod inspect;
pub mod shipped;
mod source;
mod table;

pub use cache::{Receipt, folder, read, read_fetched};
pub use convert::{Conversion, convert};
pub use fetch::{Event, Options, fetch};
pub use inspect::{Inspection, inspect, look_into, network};
pub use source::{SEEDED, Source, name_of};
pub use table::{Entry, entries, find};

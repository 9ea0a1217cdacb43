//! Public weight files by name: what there is, getting it, looking into it.

mod cache;
mod convert;
mod download;
mod fetch;
mod inspect;
mod table;

pub use cache::{Receipt, folder, read, read_fetched};
pub use convert::{Conversion, convert};
pub use fetch::{Event, Options, fetch};
pub use inspect::{Inspection, inspect};
pub use table::{Entry, entries, find};

//! One test binary for everything.

/// Tells what a test cannot do here even where the harness keeps the output of passing tests.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}
pub(crate) use say;

mod commands;
mod config;
mod data;
mod evaluate;
mod fetch;
mod launches;
mod memory;
mod mixed;
mod namings;
mod not_finite;
mod operators;
mod profile;
mod properties;
mod pytorch;
mod report;
mod reproducible;
mod shaders;
mod shipped;
mod sizes;
mod tidy;
mod weights;

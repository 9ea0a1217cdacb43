//! One test binary for everything.

mod weights;

//! Weight files, seeded numbers, permutations, and EfficientNet's tables and names.

mod backbones;
mod files;
mod seeds;

use std::path::PathBuf;

/// A file of tests/reference.
fn reference(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference")).join(name)
}

/// The message of an error, which must name each of `parts`.
fn message<T>(result: astray::Result<T>, parts: &[&str]) -> String {
    let Err(error) = result else {
        panic!("this must be an error that names {parts:?}");
    };
    let message = error.to_string();
    for part in parts {
        assert!(
            message.contains(part),
            "'{message}' does not mention '{part}'"
        );
    }
    message
}

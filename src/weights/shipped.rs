//! The weights that come with the program, so that it works without a network connection.

use super::table::plain;
use crate::nn::weights::{Weights, sha256};
use crate::{Error, Result};
use std::path::Path;

/// As `--weights` takes it.
pub const NAME: &str = "astray-b0";

/// As `backbone.name` takes it.
pub const NETWORK: &str = "efficientnet_b0";

/// The last block that is there.
pub const TAP: usize = 10;

/// What it was trained on.
pub const TRAINING: &str = "drawn images only";

/// That of the program itself: nobody else's pictures or weights went in.
pub const LICENCE: &str = "MIT";

/// The file, `weights/astray-b0.safetensors`; none in a program that was built without it.
#[cfg(feature = "shipped-weights")]
pub const BYTES: Option<&[u8]> = Some(include_bytes!("../../weights/astray-b0.safetensors"));
#[cfg(not(feature = "shipped-weights"))]
pub const BYTES: Option<&[u8]> = None;

/// Is this what people call them?
pub fn is_called(name: &str) -> bool {
    plain(name) == NAME
}

/// Are they the ones of this sha256?
pub fn is(digest: &str) -> bool {
    BYTES.is_some_and(|bytes| sha256(bytes) == digest)
}

/// The weights.
///
/// # Errors
/// [`Error::Usage`] in a program that was built without them.
pub fn read() -> Result<Weights> {
    let bytes = BYTES.ok_or_else(|| {
        Error::usage(format!(
            "{NAME}: this program was built without its own weights (cargo's feature \
             `shipped-weights`): name others with --weights, a file or one of `astray weights list`, \
             or take a random backbone with `--weights seeded`"
        ))
    })?;
    Weights::parse(Path::new(NAME), bytes)
}

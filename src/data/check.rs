//! A look at a data set before anything is learned from it: what each part is, and what stands out.

mod findings;

pub use findings::{Finding, findings, quick};

use super::dataset::Sample;
use super::depth_map::{DepthMap, Meaning};
use super::image::{Pixels, Rgb, SampleType};
use super::look::Look;
use super::mask::Mask;
use crate::Result;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Pixels along a side of the grey picture that parts are compared by.
const SMALL: usize = 32;
/// The longest side of a thumbnail, in pixels.
const THUMBNAIL: usize = 128;

/// What a part is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    Training,
    Calibration,
    Test,
}

impl Use {
    pub fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Calibration => "calibration",
            Self::Test => "test",
        }
    }
}

/// What is known of one part.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub name: String,
    #[serde(rename = "use")]
    pub used: Use,
    pub is_defective: bool,
    /// Width and height of the picture, or of the depth map where there is none.
    pub size: Option<(usize, usize)>,
    /// Bits and colours of the picture, such as `8 bit grey`.
    pub kind: Option<String>,
    /// Mean of the picture, 0 to 1.
    pub brightness: Option<f32>,
    /// How strongly neighbouring pixels differ: the standard deviation of the Laplacian at 256 pixels a side.
    pub sharpness: Option<f32>,
    /// The share of the depth map where nothing was measured.
    pub holes: Option<f32>,
    /// Why the part cannot be used.
    pub problems: Vec<String>,
    /// Why its mask cannot be used, or may be none.
    pub mask: Option<String>,
    /// Of the picture's or the depth map's bytes.
    #[serde(skip)]
    pub sha256: Option<[u8; 32]>,
    /// Grey, `SMALL` pixels a side, its mean taken away.
    #[serde(skip)]
    pub small: Option<Vec<f32>>,
    #[serde(skip)]
    pub thumbnail: Option<Rgb>,
}

/// Reads every part; what cannot be read is a problem of its part. `white` as in [`Rgb::load`]; `done` is told of each.
pub fn facts(
    parts: &[(Use, &Sample)],
    meaning: &Meaning,
    white: Option<f32>,
    done: impl Fn() + Sync,
) -> Vec<Facts> {
    let read = parts.par_iter().map(|(used, sample)| {
        let facts = of(*used, sample, meaning, white);
        done();
        facts
    });
    read.collect()
}

fn of(used: Use, sample: &Sample, meaning: &Meaning, white: Option<f32>) -> Facts {
    let mut facts = Facts {
        name: sample.name.clone(),
        used,
        is_defective: sample.is_defect(),
        size: None,
        kind: None,
        brightness: None,
        sharpness: None,
        holes: None,
        problems: Vec::new(),
        mask: None,
        sha256: None,
        small: None,
        thumbnail: None,
    };
    if let Some(path) = &sample.depth {
        facts.depth(path, meaning);
    }
    if let Some(path) = &sample.rgb {
        facts.picture(path, white);
    }
    if let (Some((width, height)), true) = (facts.size, sample.mask.is_some()) {
        facts.mask = match sample.load_mask(width, height) {
            Ok(mask) => mask.as_ref().and_then(Mask::doubt),
            Err(error) => Some(error.to_string()),
        };
    }
    facts
}

impl Facts {
    fn depth(&mut self, path: &Path, meaning: &Meaning) {
        match DepthMap::load(path, meaning) {
            Ok(map) => {
                let missing = map.z.iter().filter(|z| **z == 0.0).count();
                self.holes = Some(missing as f32 / map.z.len() as f32);
                self.size = Some((map.width, map.height));
            }
            Err(error) => self.problems.push(error.to_string()),
        }
        self.sha256 = std::fs::read(path)
            .ok()
            .map(|bytes| Sha256::digest(&bytes).into());
    }

    fn picture(&mut self, path: &Path, white: Option<f32>) {
        let depth = self.size;
        self.size = None;
        self.sha256 = std::fs::read(path)
            .ok()
            .map(|bytes| Sha256::digest(&bytes).into());
        let picture = match loaded(path, white) {
            Ok(picture) => picture,
            Err(error) => return self.problems.push(error.to_string()),
        };
        let look = Look::of(&picture);
        let bits = match &picture.pixels {
            Pixels::U8(_) => "8 bit",
            Pixels::F32(_) => "more than 8 bit",
        };
        let colours = if look.colour == 0.0 { "grey" } else { "colour" };
        let (width, height) = (picture.width, picture.height);
        self.size = Some((width, height));
        self.kind = Some(format!("{bits} {colours}"));
        self.brightness = Some(look.brightness);
        self.sharpness = Some(sharpness(
            &grey(&picture, SHARP.min(width), SHARP.min(height)),
            SHARP.min(width),
        ));
        let mut small = grey(&picture, SMALL, SMALL);
        let mean = small.iter().sum::<f32>() / small.len() as f32;
        small.iter_mut().for_each(|v| *v -= mean);
        self.small = Some(small);
        let scale = (THUMBNAIL as f32 / width.max(height) as f32).min(1.0);
        let side = |n: usize| ((n as f32 * scale).round() as usize).max(1);
        self.thumbnail = Some(picture.resize(side(width), side(height)));
        let apart = depth.and_then(|depth| unpaired((width, height), depth));
        self.problems.extend(apart);
    }
}

/// Floats whose white is not known yet are compared as if they had 16 bits.
fn loaded(path: &Path, white: Option<f32>) -> Result<Rgb> {
    Rgb::load(path, white).or_else(|error| match SampleType::of(path) {
        Ok(SampleType::F32) => Rgb::load(path, Some(65_535.0)),
        _ => Err(error),
    })
}

/// Why a picture and a depth map, each of a width and a height, cannot show the same part, in words.
pub fn unpaired(picture: (usize, usize), depth: (usize, usize)) -> Option<String> {
    const ALIKE: f64 = 1.02;
    let aspect = |(width, height): (usize, usize)| width as f64 / height as f64;
    let ratio = aspect(picture) / aspect(depth);
    (ratio.max(1.0 / ratio) > ALIKE).then(|| {
        format!(
            "its picture is {} x {} and its depth map {} x {}: they do not show the same",
            picture.0, picture.1, depth.0, depth.1
        )
    })
}

/// Pixels along a side of the picture whose sharpness is measured.
const SHARP: usize = 256;

/// The picture in grey, 0 to 1, at another size.
fn grey(picture: &Rgb, width: usize, height: usize) -> Vec<f32> {
    let small = picture.resize(width, height).to_u8();
    let pixels = small.as_chunks::<3>().0.iter();
    pixels
        .map(|p| p.iter().map(|v| f32::from(*v)).sum::<f32>() / 765.0)
        .collect()
}

/// The standard deviation of the Laplacian (Pech-Pacheco et al. 2000).
fn sharpness(grey: &[f32], width: usize) -> f32 {
    let rows: Vec<&[f32]> = grey.chunks_exact(width).collect();
    let mut values = Vec::new();
    for three in rows.windows(3) {
        for x in 1..width.saturating_sub(1) {
            let around = three[0][x] + three[2][x] + three[1][x - 1] + three[1][x + 1];
            values.push(f64::from(around - 4.0 * three[1][x]));
        }
    }
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt() as f32
}

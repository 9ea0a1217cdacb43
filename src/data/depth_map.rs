//! Loading depth maps: xyz TIFF of MVTec 3D-AD, float TIFF, 16-bit PNG and TIFF.

use std::path::Path;
use std::sync::Once;

use ::image::DynamicImage;
use ::image::metadata::Orientation;
use serde::{Deserialize, Serialize};
use tiff::decoder::DecodingResult;

use super::image::{decode, dimensions, is_turned, read};
use super::tiff::{PAGES, Tiff, is_tiff};
use crate::kernel::step;
use crate::{Error, Result};

/// Distances to the camera in metres, `[height, width]`; 0 where nothing was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthMap {
    pub width: usize,
    pub height: usize,
    pub z: Vec<f32>,
}

/// What the numbers in a file of depth mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning {
    /// Metres per unit of an integer map (0.001: millimetres), and of a map of floats.
    pub scale: f64,
    pub float_scale: f64,
    /// Numbers in the file that say that nothing was measured. NaN, infinity, the type's highest number and, but for
    /// heights in floats, 0 say so, too.
    pub invalid: Vec<f64>,
    pub kind: DepthKind,
}

/// What depth is measured from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DepthKind {
    /// The camera: the larger, the further away.
    #[default]
    Distance,
    /// A surface: the larger, the nearer to the camera; negative below it.
    Height,
}

impl Default for Meaning {
    fn default() -> Self {
        Self {
            scale: 0.001,
            float_scale: 1.0,
            invalid: Vec::new(),
            kind: DepthKind::Distance,
        }
    }
}

/// The surface that heights are above is taken to be so far from the camera, in metres.
const HEIGHTS_FROM: f64 = 10.0;
/// What is further away was not measured by a camera over a part.
const FURTHEST: f64 = 1000.0;
/// Where the middle of a map is further away, its unit is doubtful.
const FAR: f32 = 20.0;
/// Of so large a share of negative numbers a map of distances does not consist.
const NEGATIVE_AT_MOST: f64 = 0.1;

impl DepthMap {
    /// Wraps distances in metres; 0, negative, NaN and infinite values mean missing.
    pub fn new(width: usize, height: usize, mut z: Vec<f32>) -> Result<Self> {
        if z.len() != width * height || z.is_empty() {
            return Err(Error::shape(
                "depth map",
                format!("{width} x {height} values, at least one"),
                format!("{} values", z.len()),
            ));
        }
        for z in &mut z {
            if !(*z > 0.0 && z.is_finite()) {
                *z = 0.0;
            }
        }
        Ok(Self { width, height, z })
    }

    /// Loads a depth map, turned as its EXIF or TIFF tag says.
    ///
    /// A TIFF of floats with one channel is z, one with three channels or pages is (x, y, z). Integers have 16 or 32
    /// bits.
    ///
    /// Errors: as for a picture; a file of 8 bits or with another number of channels or pages; numbers that cannot be
    /// what `meaning` says.
    pub fn load(path: &Path, meaning: &Meaning) -> Result<Self> {
        let _step = step("decode");
        for (name, scale) in [("unit", meaning.scale), ("float unit", meaning.float_scale)] {
            if !(scale > 0.0 && scale.is_finite()) {
                return Err(Error::usage(format!(
                    "the {name} of depth is {scale} metres; expected a number above 0 (0.001 for millimetres)"
                )));
            }
        }
        let bytes = read(path)?;
        let raw = if is_tiff(&bytes) {
            load_tiff(path, bytes)?
        } else {
            load_picture(path)?
        };
        let z = raw.metres(path, meaning)?;
        let (width, height, z) = turned(raw.width, raw.height, z, raw.orientation);
        Self::new(width, height, z)
    }

    /// Width and height of a map as it is looked at, read from its header only.
    ///
    /// # Errors
    /// A file that is no picture.
    pub fn dimensions(path: &Path) -> Result<(usize, usize)> {
        dimensions(path)
    }

    /// Whether any pixel was measured at all.
    pub fn has_measurement(&self) -> bool {
        self.z.iter().any(|&z| z > 0.0)
    }
}

/// A file's numbers, before anything is made of them.
struct Raw {
    width: usize,
    height: usize,
    samples: Samples,
    orientation: Orientation,
}

enum Samples {
    /// Integers and the highest that their type holds.
    Integers(Vec<u32>, u32),
    Floats(Vec<f64>),
}

impl Raw {
    /// Distances to the camera; 0 where nothing was measured.
    fn metres(&self, path: &Path, meaning: &Meaning) -> Result<Vec<f32>> {
        let is_invalid = |v: f64| meaning.invalid.contains(&v);
        let (values, scale): (Vec<f64>, f64) = match &self.samples {
            Samples::Integers(v, highest) => {
                let is_missing = |v: u32| v == 0 || v == *highest || is_invalid(f64::from(v));
                let value = |v: u32| {
                    if is_missing(v) {
                        f64::NAN
                    } else {
                        f64::from(v)
                    }
                };
                (v.iter().map(|&v| value(v)).collect(), meaning.scale)
            }
            Samples::Floats(v) => {
                let is_highest = |v: f64| v.abs() >= f64::from(f32::MAX);
                let is_zero = |v: f64| v == 0.0 && meaning.kind == DepthKind::Distance;
                let is_missing =
                    |v: f64| !v.is_finite() || is_highest(v) || is_zero(v) || is_invalid(v);
                let value = |v: f64| if is_missing(v) { f64::NAN } else { v };
                (v.iter().map(|&v| value(v)).collect(), meaning.float_scale)
            }
        };
        let known = || values.iter().copied().filter(|v| !v.is_nan());
        if let Some(far) = known().find(|v| (v * scale).abs() > FURTHEST) {
            return Err(Error::file(
                path,
                format!(
                    "holds {far}, which would be {} m: if it marks what was not measured, name it in depth.invalid; \
                     if its unit is another, set depth.unit_mm (integers) or depth.float_unit_mm",
                    far * scale
                ),
            ));
        }
        let (count, negative) = (known().count(), known().filter(|&v| v < 0.0).count());
        if meaning.kind == DepthKind::Distance && negative as f64 > NEGATIVE_AT_MOST * count as f64
        {
            return Err(Error::file(
                path,
                format!(
                    "{negative} of {count} measured values are negative, so these are no distances to a camera; \
                     heights above a surface are read with depth.kind = \"height\""
                ),
            ));
        }
        let distance = |v: f64| match meaning.kind {
            _ if v.is_nan() => 0.0,
            DepthKind::Distance => (v * scale) as f32,
            DepthKind::Height => (HEIGHTS_FROM - v * scale) as f32,
        };
        let z: Vec<f32> = values.into_iter().map(distance).collect();
        let mut seen: Vec<f32> = z.iter().copied().filter(|&z| z > 0.0).collect();
        if !seen.is_empty() {
            let middle = seen.len() / 2;
            let (_, median, _) = seen.select_nth_unstable_by(middle, f32::total_cmp);
            static TOLD: Once = Once::new();
            if *median > FAR {
                TOLD.call_once(|| tracing::warn!(
                    "{}: the middle of the depth map is {median:.0} m away: is its unit right? depth.unit_mm is that \
                     of integers, depth.float_unit_mm that of floats \
                     (other maps are not told)",
                    path.display()
                ));
            }
        }
        Ok(z)
    }
}

fn load_picture(path: &Path) -> Result<Raw> {
    match decode(path)? {
        // It is turned already.
        DynamicImage::ImageLuma16(p) => Ok(Raw {
            width: p.width() as usize,
            height: p.height() as usize,
            samples: Samples::Integers(p.iter().map(|&v| u32::from(v)).collect(), u16::MAX.into()),
            orientation: Orientation::NoTransforms,
        }),
        other => Err(Error::file(
            path,
            format!(
                "expected a depth map: grey with 16 bits, or a float TIFF; found {:?}",
                other.color()
            ),
        )),
    }
}

fn load_tiff(path: &Path, bytes: Vec<u8>) -> Result<Raw> {
    let mut tiff = Tiff::open(path, bytes)?;
    let orientation = tiff.orientation()?;
    let (width, height) = (tiff.page()?.width, tiff.page()?.height);
    let (bits, channels) = tiff.samples()?;
    let mut numbers = tiff.read()?;
    // x, y and z may be a page each.
    let mut pages = 1;
    while tiff.has_more_pages() {
        tiff.next_page()?;
        pages += 1;
        let page = tiff.page()?;
        let is_alike =
            (page.width, page.height) == (width, height) && tiff.samples()? == (bits, channels);
        if pages > PAGES || !is_alike {
            let message = format!(
                "has more pages than one (number {pages} {}); expected one, or x, y and z of one size",
                if is_alike {
                    "of many"
                } else {
                    "is of another size or kind"
                }
            );
            return Err(Error::file(path, message));
        }
        numbers = tiff.read()?;
    }
    let is_planar = numbers.planes > 1;
    let data = numbers.data;
    let pixels = width * height;
    let samples = match (&data, pages) {
        (DecodingResult::F32(v), 1 | 3) => {
            z_channel(v, pixels, is_planar, pages).map(|z| z.into_iter().map(f64::from).collect())
        }
        (DecodingResult::F64(v), 1 | 3) => z_channel(v, pixels, is_planar, pages),
        _ => None,
    };
    let samples = match (samples, data) {
        (Some(z), _) => Some(Samples::Floats(z)),
        (None, DecodingResult::U16(v)) if v.len() == pixels && pages == 1 => Some(
            Samples::Integers(v.into_iter().map(u32::from).collect(), u16::MAX.into()),
        ),
        (None, DecodingResult::U32(v)) if v.len() == pixels && pages == 1 => {
            Some(Samples::Integers(v, u32::MAX))
        }
        _ => None,
    };
    let samples = samples.ok_or_else(|| {
        Error::file(
            path,
            format!(
                "expected a depth TIFF: float with 1 channel (z) or 3 channels or pages (x, y, z), or grey with 16 \
                 bits; found {channels} channels of {bits} bits in {pages} pages"
            ),
        )
    })?;
    Ok(Raw {
        width,
        height,
        samples,
        orientation,
    })
}

/// The last of one or three channels, interleaved or one plane after another; of three pages, the last.
fn z_channel<T: Copy>(samples: &[T], pixels: usize, planar: bool, pages: usize) -> Option<Vec<T>> {
    match (samples.len().checked_div(pixels)?, pages) {
        (1, _) => Some(samples[..pixels].to_vec()),
        (3, 1) if planar => Some(samples[2 * pixels..].to_vec()),
        (3, 1) => Some(samples.chunks_exact(3).map(|xyz| xyz[2]).collect()),
        _ => None,
    }
}

/// The map as it is looked at, and its size.
fn turned(
    width: usize,
    height: usize,
    z: Vec<f32>,
    orientation: Orientation,
) -> (usize, usize, Vec<f32>) {
    let (to_width, to_height) = match is_turned(orientation) {
        true => (height, width),
        false => (width, height),
    };
    let (right, bottom) = (width - 1, height - 1);
    // Where the pixel at (x, y) comes from.
    let from = |x: usize, y: usize| match orientation {
        Orientation::NoTransforms => (x, y),
        Orientation::FlipHorizontal => (right - x, y),
        Orientation::Rotate180 => (right - x, bottom - y),
        Orientation::FlipVertical => (x, bottom - y),
        Orientation::Rotate90FlipH => (y, x),
        Orientation::Rotate90 => (y, bottom - x),
        Orientation::Rotate270FlipH => (right - y, bottom - x),
        Orientation::Rotate270 => (right - y, x),
    };
    let places = (0..to_height).flat_map(|y| (0..to_width).map(move |x| (x, y)));
    let z = places
        .map(|(x, y)| {
            let (x, y) = from(x, y);
            z[y * width + x]
        })
        .collect();
    (to_width, to_height, z)
}

//! Loading depth maps: xyz TIFF of MVTec 3D-AD, float TIFF, 16-bit PNG and TIFF.

use std::io::Cursor;
use std::path::Path;

use ::image::DynamicImage;
use tiff::decoder::{Decoder, DecodingResult, Limits};

use super::image::{MAX_BYTES, MAX_SIDE, decode, read};
use crate::kernel::step;
use crate::{Error, Result};

/// Distances to the camera in metres, `[height, width]`; 0 where nothing was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthMap {
    pub width: usize,
    pub height: usize,
    pub z: Vec<f32>,
}

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

    /// Loads a depth map.
    ///
    /// A float TIFF with one channel is z, one with three is (x, y, z), both in metres. A 16-bit
    /// picture is multiplied by `depth_scale`, in metres per unit (0.001: millimetres).
    ///
    /// Errors: as for a picture; a file of 8 bits or with another number of channels.
    pub fn load(path: &Path, depth_scale: f64) -> Result<Self> {
        let _step = step("decode");
        if !(depth_scale > 0.0 && depth_scale.is_finite()) {
            return Err(Error::usage(format!(
                "depth_scale is {depth_scale}; expected metres per unit, above 0 (0.001 for \
                 millimetres)"
            )));
        }
        let bytes = read(path)?;
        let is_tiff = bytes.starts_with(b"II") || bytes.starts_with(b"MM");
        let (width, height, z) = if is_tiff {
            load_tiff(path, bytes, depth_scale)?
        } else {
            load_picture(path, depth_scale)?
        };
        Self::new(width, height, z)
    }

    /// Whether any pixel was measured at all.
    pub fn has_measurement(&self) -> bool {
        self.z.iter().any(|&z| z > 0.0)
    }
}

fn load_picture(path: &Path, scale: f64) -> Result<(usize, usize, Vec<f32>)> {
    match decode(path)? {
        DynamicImage::ImageLuma16(p) => Ok((
            p.width() as usize,
            p.height() as usize,
            metres(&p, scale, |&z| f64::from(z)),
        )),
        other => Err(Error::file(
            path,
            format!(
                "expected a depth map: grey with 16 bits, or a float TIFF; found {:?}",
                other.color()
            ),
        )),
    }
}

fn load_tiff(path: &Path, bytes: Vec<u8>, scale: f64) -> Result<(usize, usize, Vec<f32>)> {
    let fail = |e: tiff::TiffError| {
        Error::file(
            path,
            format!("cannot be decoded, damaged or cut short: {e}"),
        )
    };
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_BYTES as usize;
    limits.intermediate_buffer_size = MAX_BYTES as usize;
    let mut decoder = Decoder::new(Cursor::new(bytes))
        .map_err(fail)?
        .with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(fail)?;
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(Error::file(
            path,
            format!(
                "the header announces {width} x {height} pixels; expected 1 to {MAX_SIDE} per side"
            ),
        ));
    }
    let (width, height) = (width as usize, height as usize);
    let mut data = DecodingResult::F32(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut data).map_err(fail)?;
    let planar = layout.planes > 1;
    let z = match &data {
        DecodingResult::F32(v) => z_channel(v, width * height, planar),
        DecodingResult::F64(v) => {
            let v: Vec<f32> = v.iter().map(|&z| z as f32).collect();
            z_channel(&v, width * height, planar)
        }
        DecodingResult::U16(v) if v.len() == width * height => {
            Some(metres(v, scale, |&z| f64::from(z)))
        }
        DecodingResult::U32(v) if v.len() == width * height => {
            Some(metres(v, scale, |&z| f64::from(z)))
        }
        _ => None,
    };
    let z = z.ok_or_else(|| {
        Error::file(
            path,
            format!(
                "expected a depth TIFF: float with 1 channel (z) or 3 (x, y, z), or grey with 16 \
                 bits; found {:?} with {:?} samples",
                decoder.colortype().ok(),
                layout.sample_type
            ),
        )
    })?;
    Ok((width, height, z))
}

/// The last of one or three channels, interleaved or one plane after another.
fn z_channel(samples: &[f32], pixels: usize, planar: bool) -> Option<Vec<f32>> {
    match samples.len().checked_div(pixels)? {
        1 => Some(samples[..pixels].to_vec()),
        3 if planar => Some(samples[2 * pixels..].to_vec()),
        3 => Some(samples.chunks_exact(3).map(|xyz| xyz[2]).collect()),
        _ => None,
    }
}

fn metres<T>(samples: &[T], scale: f64, value: impl Fn(&T) -> f64) -> Vec<f32> {
    samples.iter().map(|s| (value(s) * scale) as f32).collect()
}

//! Anomaly maps as pictures and files.

use std::io::Cursor;
use std::path::Path;

use image::{ExtendedColorType, ImageEncoder, codecs::png};
use tiff::encoder::{TiffEncoder, colortype::Gray32Float};

use crate::files::write_atomic;
use crate::{Error, Result};

/// How a heat map is laid over an image.
#[derive(Clone, Copy, Debug)]
pub struct Overlay {
    /// The scores that get the darkest and the brightest colour; the same for all images that are
    /// to be compared.
    pub range: (f32, f32),
    /// 0 shows the image alone, 1 hides it under the brightest colours.
    pub strength: f32,
    /// A contour line is drawn where the map crosses this score.
    pub threshold: Option<f32>,
}

impl Overlay {
    /// Lays `map` `[map_height, map_width]` over `rgb` `[height, width, 3]`; sizes are (height, width)
    /// and the map is resized bilinearly to the image's. Quiet places show the image; the heat
    /// covers it the more the higher the score.
    ///
    /// # Errors
    /// An array whose length is not that of its size.
    pub fn draw(
        &self,
        rgb: &[u8],
        size: (usize, usize),
        map: &[f32],
        map_size: (usize, usize),
    ) -> Result<Vec<u8>> {
        if rgb.len() != 3 * size.0 * size.1 {
            let expected = format!("an image of {} × {} × 3 bytes", size.0, size.1);
            let found = format!("{} bytes", rgb.len());
            return Err(Error::shape("overlay", expected, found));
        }
        let heat = resize_map(map, map_size, size)?;
        let (low, high) = self.range;
        let scale = if high > low { 1.0 / (high - low) } else { 0.0 };
        let mut out = Vec::with_capacity(rgb.len());
        for (pixel, &score) in rgb.chunks_exact(3).zip(&heat) {
            // A score that is not a number gets the brightest colour: it must not hide.
            let t = match score.is_nan() {
                true => 1.0,
                false => ((score - low) * scale).clamp(0.0, 1.0),
            };
            let colour = inferno(t);
            let cover = self.strength * (0.25 + 0.75 * t.sqrt());
            for (channel, hot) in pixel.iter().zip(colour) {
                let mixed = f32::from(*channel) * (1.0 - cover) + 255.0 * hot * cover;
                out.push(mixed.round().clamp(0.0, 255.0) as u8);
            }
        }
        if let Some(threshold) = self.threshold {
            draw_contour(&mut out, &heat, size, threshold);
        }
        Ok(out)
    }
}

/// Marks the pixels above the threshold that touch one below it.
fn draw_contour(rgb: &mut [u8], heat: &[f32], (height, width): (usize, usize), threshold: f32) {
    let above = |row: usize, column: usize| heat[row * width + column] > threshold;
    for row in 0..height {
        for column in 0..width {
            let quiet_neighbour = (row > 0 && !above(row - 1, column))
                || (row + 1 < height && !above(row + 1, column))
                || (column > 0 && !above(row, column - 1))
                || (column + 1 < width && !above(row, column + 1));
            if above(row, column) && quiet_neighbour {
                let at = 3 * (row * width + column);
                rgb[at..at + 3].copy_from_slice(&[64, 224, 255]);
            }
        }
    }
}

/// Bilinear, pixel centres at half coordinates, the border repeated (PyTorch's `interpolate` with
/// `align_corners=False`). Sizes are (height, width).
///
/// # Errors
/// An empty map, or one whose length is not that of its size.
pub fn resize_map(map: &[f32], from: (usize, usize), to: (usize, usize)) -> Result<Vec<f32>> {
    if map.is_empty() || map.len() != from.0 * from.1 {
        let expected = format!("a map of {} × {} values, not empty", from.0, from.1);
        let found = format!("{} values", map.len());
        return Err(Error::shape("overlay", expected, found));
    }
    let (rows, columns) = (taps(from.0, to.0), taps(from.1, to.1));
    let mut out = Vec::with_capacity(to.0 * to.1);
    for &(top, bottom, v) in &rows {
        for &(left, right, u) in &columns {
            let across = |row: usize| {
                let line = &map[row * from.1..(row + 1) * from.1];
                line[left] + (line[right] - line[left]) * u
            };
            let upper = across(top);
            out.push(upper + (across(bottom) - upper) * v);
        }
    }
    Ok(out)
}

/// For each output index the two inputs that it lies between, and how near it is to the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f32 / to as f32;
    let tap = |index: usize| {
        let place = ((index as f32 + 0.5) * scale - 0.5).max(0.0);
        let first = (place as usize).min(from - 1);
        (first, (first + 1).min(from - 1), place - first as f32)
    };
    (0..to).map(tap).collect()
}

/// Matplotlib's perceptually ordered `inferno` for t in 0 to 1, as the polynomial of degree 6 that
/// Matt Zucker fitted (shadertoy.com/view/WlfXRN, public domain); RGB, 0 to 1.
pub fn inferno(t: f32) -> [f32; 3] {
    const COEFFICIENTS: [[f32; 3]; 7] = [
        [0.000_218_94, 0.001_651_0, -0.019_480_9],
        [0.106_513_4, 0.563_956_4, 3.932_712_4],
        [11.602_493, -3.972_854, -15.942_394],
        [-41.703_995, 17.436_4, 44.354_145],
        [77.162_94, -33.402_36, -81.807_31],
        [-71.319_43, 32.626_064, 73.209_52],
        [25.131_126, -12.242_669, -23.070_325],
    ];
    let t = t.clamp(0.0, 1.0);
    std::array::from_fn(|channel| {
        let horner = |sum: f32, c: &[f32; 3]| sum * t + c[channel];
        let value = COEFFICIENTS.iter().rev().fold(0.0, horner);
        value.clamp(0.0, 1.0)
    })
}

/// Writes `rgb` `[height, width, 3]` as a PNG; size is (height, width).
///
/// # Errors
/// A wrong length, or failed writing.
pub fn write_png(path: &Path, rgb: &[u8], (height, width): (usize, usize)) -> Result<()> {
    let size = sides(path, height, width)?;
    if rgb.len() != 3 * height * width {
        let expected = format!("an image of {height} × {width} × 3 bytes");
        let found = format!("{} bytes", rgb.len());
        return Err(Error::shape("write_png", expected, found));
    }
    let mut bytes = Vec::new();
    png::PngEncoder::new(&mut bytes)
        .write_image(rgb, size.0, size.1, ExtendedColorType::Rgb8)
        .map_err(|e| Error::file(path, e))?;
    write_atomic(path, &bytes)
}

/// Writes the raw scores `map` `[height, width]` as a TIFF of one f32 channel.
///
/// # Errors
/// A wrong length, or failed writing.
pub fn write_map(path: &Path, map: &[f32], (height, width): (usize, usize)) -> Result<()> {
    let size = sides(path, height, width)?;
    if map.len() != height * width {
        let expected = format!("a map of {height} × {width} values");
        let found = format!("{} values", map.len());
        return Err(Error::shape("write_map", expected, found));
    }
    let mut bytes = Cursor::new(Vec::new());
    TiffEncoder::new(&mut bytes)
        .and_then(|mut encoder| encoder.write_image::<Gray32Float>(size.0, size.1, map))
        .map_err(|e| Error::file(path, e))?;
    write_atomic(path, bytes.get_ref())
}

/// (width, height) as the encoders want them.
fn sides(path: &Path, height: usize, width: usize) -> Result<(u32, u32)> {
    match (u32::try_from(width), u32::try_from(height)) {
        (Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err(Error::file(
            path,
            format!("{height} × {width} is too large"),
        )),
    }
}

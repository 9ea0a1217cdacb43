//! Pictures: decoding under limits, resize, normalisation (spec section 1).

use std::io::Cursor;
use std::path::Path;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use tiff::decoder::Decoder;

use super::resize::{Placement, Resize, resize_f32, resize_u8};
use crate::kernel::step;
use crate::models::efficientnet::Normalisation;
use crate::{Error, Result};

/// Longest side that is decoded, in pixels. Checked from the header, before decoding.
pub const MAX_SIDE: u32 = 16_384;
/// Most memory that decoding one file may take, in bytes.
pub const MAX_BYTES: u64 = 1 << 30;
/// File name extensions that the decoder knows, in lower case.
pub const EXTENSIONS: [&str; 9] = [
    "bmp", "jfif", "jpe", "jpeg", "jpg", "png", "tif", "tiff", "webp",
];

/// A colour picture, `[height, width, 3]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rgb {
    pub width: usize,
    pub height: usize,
    pub pixels: Pixels,
}

/// The samples of a picture, row by row, three to a pixel.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// From an 8-bit file: 0 to 255.
    U8(Vec<u8>),
    /// From a 16-bit file: 0 to 1, scaled by the full range.
    F32(Vec<f32>),
}

impl Rgb {
    /// Loads a picture. Grey is repeated to three channels, alpha is dropped, 16 bit is kept.
    ///
    /// Errors: a file that cannot be read, is no picture, is cut short, or whose header announces
    /// a side above [`MAX_SIDE`] or more than [`MAX_BYTES`].
    pub fn load(path: &Path) -> Result<Self> {
        let _step = step("decode");
        Self::from_dynamic(decode(path)?, path)
    }

    fn from_dynamic(picture: DynamicImage, path: &Path) -> Result<Self> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let pixels = match picture {
            DynamicImage::ImageRgb8(p) => Pixels::U8(p.into_raw()),
            DynamicImage::ImageRgba8(p) => Pixels::U8(drop_alpha(&p)),
            DynamicImage::ImageLuma8(p) => Pixels::U8(repeat(&p, 1)),
            DynamicImage::ImageLumaA8(p) => Pixels::U8(repeat(&p, 2)),
            DynamicImage::ImageRgb16(p) => Pixels::F32(unit(&p)),
            DynamicImage::ImageRgba16(p) => Pixels::F32(unit(&drop_alpha(&p))),
            DynamicImage::ImageLuma16(p) => Pixels::F32(unit(&repeat(&p, 1))),
            DynamicImage::ImageLumaA16(p) => Pixels::F32(unit(&repeat(&p, 2))),
            other => {
                return Err(Error::file(
                    path,
                    format!(
                        "expected a picture with 8 or 16 bits per channel, found {:?}; convert it \
                         to PNG",
                        other.color()
                    ),
                ));
            }
        };
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// Resizes to exactly `width` x `height`, bit for bit as PIL's bilinear `resize`.
    pub fn resize(&self, width: usize, height: usize) -> Self {
        let (from, to) = ((self.width, self.height), (width, height));
        Self {
            width,
            height,
            pixels: match &self.pixels {
                Pixels::U8(pixels) => Pixels::U8(resize_u8(pixels, from, to)),
                Pixels::F32(pixels) => Pixels::F32(resize_f32(pixels, from, to)),
            },
        }
    }

    /// Resizes by stretching or, for `Letterbox`, keeps the aspect ratio and pads with the mean colour of
    /// what the network was trained on. Returns the rectangle that the picture covers.
    pub fn fit(
        &self,
        width: usize,
        height: usize,
        resize: Resize,
        normalisation: &Normalisation,
    ) -> (Self, Placement) {
        let _step = step("fit picture");
        let place = resize.placement((self.width, self.height), (width, height));
        let scaled = self.resize(place.width, place.height);
        if (place.width, place.height) == (width, height) {
            return (scaled, place);
        }
        let pixels = match &scaled.pixels {
            Pixels::U8(p) => Pixels::U8(paste(p, place, width, height, normalisation.colour())),
            Pixels::F32(p) => Pixels::F32(paste(p, place, width, height, normalisation.mean)),
        };
        let padded = Self {
            width,
            height,
            pixels,
        };
        (padded, place)
    }

    /// The network's input `[height, width, 3]`.
    pub fn normalize(&self, normalisation: &Normalisation) -> Vec<f32> {
        let value = |x: f32, c: usize| normalisation.of(x, c);
        let mut out = vec![0.0; self.width * self.height * 3];
        match &self.pixels {
            Pixels::U8(pixels) => {
                // There are 256 of them in each channel.
                let known = [0, 1, 2]
                    .map(|c| std::array::from_fn::<f32, 256, _>(|x| value(x as f32 / 255.0, c)));
                for (out, pixel) in out.chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
                    for c in 0..3 {
                        out[c] = known[c][usize::from(pixel[c])];
                    }
                }
            }
            Pixels::F32(pixels) => {
                for (out, pixel) in out.chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
                    for c in 0..3 {
                        out[c] = value(pixel[c], c);
                    }
                }
            }
        }
        out
    }

    /// The picture in 8 bit `[height, width, 3]`, for display.
    pub fn to_u8(&self) -> Vec<u8> {
        match &self.pixels {
            Pixels::U8(pixels) => pixels.clone(),
            Pixels::F32(pixels) => pixels
                .iter()
                .map(|x| (x * 255.0).round().clamp(0.0, 255.0) as u8)
                .collect(),
        }
    }
}

/// Width and height of a picture as it is looked at, read from its header only.
pub fn dimensions(path: &Path) -> Result<(usize, usize)> {
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|e| Error::file(path, e))?;
    let mut decoder = reader.into_decoder().map_err(|e| unreadable(path, &e))?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    Ok(
        match is_turned(decoder.orientation().map_err(|e| unreadable(path, &e))?) {
            true => (height, width),
            false => (width, height),
        },
    )
}

/// Are rows and columns exchanged?
pub(super) fn is_turned(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// Reads a whole file, refusing one that is empty or larger than [`MAX_BYTES`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let meta = std::fs::metadata(path).map_err(|e| Error::file(path, e))?;
    if !meta.is_file() {
        return Err(Error::file(path, "expected a file, found a folder"));
    }
    if meta.len() == 0 {
        return Err(Error::file(path, "the file is empty"));
    }
    if meta.len() > MAX_BYTES {
        let found = meta.len();
        return Err(Error::file(
            path,
            format!("the file has {found} bytes; the limit is {MAX_BYTES}"),
        ));
    }
    std::fs::read(path).map_err(|e| Error::file(path, e))
}

/// Decodes a picture under the limits, keeping its own sample format, and turns it as its EXIF or TIFF tag says
/// (`PIL.ImageOps.exif_transpose`).
pub(super) fn decode(path: &Path) -> Result<DynamicImage> {
    let bytes = read(path)?;
    check_side(path, &bytes)?;
    if bytes.starts_with(&[0xff, 0xd8]) && !jpeg_is_complete(&bytes) {
        return Err(Error::file(
            path,
            "the JPEG is cut short (no end-of-image marker); copy the file again",
        ));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = guess(path, &bytes)?;
    if reader.format() == Some(ImageFormat::Tiff) && has_pages(&bytes) {
        tracing::warn!(
            "{}: has several pages; only the first is looked at",
            path.display()
        );
    }
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| unreadable(path, &e))?;
    if decoder.total_bytes() > MAX_BYTES {
        let message = format!(
            "{} bytes when decoded; the limit is {MAX_BYTES}",
            decoder.total_bytes()
        );
        return Err(Error::file(path, message));
    }
    let orientation = decoder.orientation().map_err(|e| unreadable(path, &e))?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| unreadable(path, &e))?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Is there a page after a TIFF's first?
fn has_pages(tiff: &[u8]) -> bool {
    Decoder::new(Cursor::new(tiff)).is_ok_and(|decoder| decoder.more_images())
}

/// Refuses absurd sizes from the header, before any pixel is decoded or allocated.
pub(super) fn check_side(path: &Path, bytes: &[u8]) -> Result<()> {
    let (width, height) = guess(path, bytes)?
        .into_dimensions()
        .map_err(|e| unreadable(path, &e))?;
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(Error::file(
            path,
            format!(
                "the header announces {width} x {height} pixels; expected 1 to {MAX_SIDE} per side"
            ),
        ));
    }
    Ok(())
}

fn guess<'a>(path: &Path, bytes: &'a [u8]) -> Result<ImageReader<Cursor<&'a [u8]>>> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| Error::file(path, e))?;
    if reader.format().is_none() {
        return Err(Error::file(
            path,
            format!(
                "not a picture that can be read; expected one of {}",
                EXTENSIONS.join(", ")
            ),
        ));
    }
    Ok(reader)
}

fn unreadable(path: &Path, error: &::image::ImageError) -> Error {
    Error::file(
        path,
        format!("cannot be decoded, damaged or cut short: {error}"),
    )
}

/// The decoder fills the missing part of a truncated JPEG with grey, which a detector would call a
/// defect or, worse, learn. A complete one has an end-of-image marker after its first scan.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xff, marker, hi, lo]) = bytes.get(at..at + 4) {
        if *marker == 0xda {
            return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]);
        }
        // A fill byte before a marker has no length.
        at += match marker {
            0xff => 1,
            _ => 2 + usize::from(u16::from_be_bytes([*hi, *lo])),
        };
    }
    false
}

fn repeat<T: Copy>(samples: &[T], channels: usize) -> Vec<T> {
    let pixels = samples.chunks_exact(channels);
    pixels.flat_map(|p| [p[0], p[0], p[0]]).collect()
}

fn drop_alpha<T: Copy>(samples: &[T]) -> Vec<T> {
    let pixels = samples.chunks_exact(4);
    pixels.flat_map(|p| [p[0], p[1], p[2]]).collect()
}

fn unit(samples: &[u16]) -> Vec<f32> {
    samples.iter().map(|&x| f32::from(x) / 65_535.0).collect()
}

fn paste<T: Copy>(
    pixels: &[T],
    place: Placement,
    width: usize,
    height: usize,
    color: [T; 3],
) -> Vec<T> {
    let mut out = color.repeat(width * height);
    for (y, row) in pixels.chunks_exact(place.width * 3).enumerate() {
        let at = ((place.y + y) * width + place.x) * 3;
        out[at..at + row.len()].copy_from_slice(row);
    }
    out
}

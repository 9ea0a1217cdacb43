//! Pictures: decoding under limits, resize, normalisation (spec section 1).

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use ::image::error::ImageError;
use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use super::foreign::{self, CONVERT};
use super::jpeg;
use super::resize::{Placement, Resize, resize_f32, resize_u8};
use super::tiff::{Tiff, is_tiff};
use super::tiff_picture;
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
    /// From a file of more than 8 bits: 0 is black and 1 is white.
    F32(Vec<f32>),
}

/// What the samples of a picture's file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SampleType {
    U8,
    U16,
    /// Floats, and whole numbers of 32 bits or with a sign.
    F32,
}

impl std::fmt::Display for SampleType {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::U8 => "8 bits",
            Self::U16 => "16 bits",
            Self::F32 => "floats or 32 bits",
        })
    }
}

impl SampleType {
    /// Read from the header only.
    ///
    /// # Errors
    /// A file that is no picture that can be read.
    pub fn of(path: &Path) -> Result<Self> {
        if is_tiff(&start(path)?) {
            return tiff_picture::sample_type(path, read(path)?);
        }
        let color = header(path)?.color_type();
        Ok(match color.bytes_per_pixel() / color.channel_count() {
            1 => Self::U8,
            2 => Self::U16,
            _ => Self::F32,
        })
    }
}

impl Rgb {
    /// Loads a picture. Grey is repeated to three channels, alpha is dropped. What has more than 8 bits is divided by
    /// `white`; where that is not known, 16 bits by their highest number, and floats are to lie between 0 and 1.
    ///
    /// Errors: a file that cannot be read, is no picture, is cut short, or whose header announces
    /// a side above [`MAX_SIDE`] or more than [`MAX_BYTES`]; values that are no numbers or have no known white.
    pub fn load(path: &Path, white: Option<f32>) -> Result<Self> {
        let _step = step("decode");
        let picture = decode(path)?;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let unit = |samples: &[u16]| {
            let white = white.unwrap_or(65_535.0);
            Pixels::F32(samples.iter().map(|&x| f32::from(x) / white).collect())
        };
        let pixels = match picture {
            DynamicImage::ImageRgb8(p) => Pixels::U8(p.into_raw()),
            DynamicImage::ImageRgba8(p) => Pixels::U8(drop_alpha(&p)),
            DynamicImage::ImageLuma8(p) => Pixels::U8(repeat(&p, 1)),
            DynamicImage::ImageLumaA8(p) => Pixels::U8(repeat(&p, 2)),
            DynamicImage::ImageRgb16(p) => unit(&p),
            DynamicImage::ImageRgba16(p) => unit(&drop_alpha(&p)),
            DynamicImage::ImageLuma16(p) => unit(&repeat(&p, 1)),
            DynamicImage::ImageLumaA16(p) => unit(&repeat(&p, 2)),
            DynamicImage::ImageRgb32F(p) => Pixels::F32(of_floats(p.into_raw(), white, path)?),
            other => {
                let found = other.color();
                let message = format!("a picture of {found:?} is not read; {CONVERT}");
                return Err(Error::file(path, message));
            }
        };
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// The highest value of a picture of more than 8 bits; above 1, it exceeds white.
    pub fn brightest(&self) -> Option<f32> {
        match &self.pixels {
            Pixels::U8(_) => None,
            Pixels::F32(pixels) => pixels.iter().copied().reduce(f32::max),
        }
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
    let (width, height, orientation) = if is_tiff(&start(path)?) {
        let mut tiff = Tiff::open(path, read(path)?)?;
        let page = tiff.page()?;
        (page.width, page.height, tiff.orientation()?)
    } else {
        let mut decoder = header(path)?;
        let (width, height) = decoder.dimensions();
        let orientation = decoder.orientation().map_err(|e| unreadable(path, &e))?;
        (width as usize, height as usize, orientation)
    };
    Ok(match is_turned(orientation) {
        true => (height, width),
        false => (width, height),
    })
}

/// Decodes no more than a header.
fn header(path: &Path) -> Result<impl ImageDecoder> {
    let start = start(path)?;
    if foreign::what(&start).is_some() || ::image::guess_format(&start).is_err() {
        return Err(not_a_picture(path, &read(path)?));
    }
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|e| Error::file(path, e))?;
    reader.into_decoder().map_err(|e| unreadable(path, &e))
}

/// Enough of a file to know its kind.
fn start(path: &Path) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(|e| Error::file(path, e))?;
    let read = file.take(4096).read_to_end(&mut start);
    read.map_err(|e| Error::file(path, e))?;
    Ok(start)
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
        let found = if meta.is_dir() {
            "a folder"
        } else {
            "a pipe or a device"
        };
        return Err(Error::file(path, format!("expected a file, found {found}")));
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
    if is_tiff(&bytes) {
        return tiff_picture::load(path, bytes);
    }
    let reader = || {
        let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format();
        reader.map_err(|e| Error::file(path, e))
    };
    if foreign::what(&bytes).is_some() || ::image::guess_format(&bytes).is_err() {
        return Err(not_a_picture(path, &bytes));
    }
    if bytes.starts_with(&[0xff, 0xd8]) {
        jpeg::check(&bytes).map_err(|fault| fault.in_file(path))?;
    }
    // Absurd sizes are refused from the header, before any pixel is decoded or allocated.
    let size = reader()?.into_dimensions();
    let (width, height) = size.map_err(|e| unreadable(path, &e))?;
    check_size(path, width as usize, height as usize)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = reader()?;
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

pub(super) fn check_size(path: &Path, width: usize, height: usize) -> Result<()> {
    let allowed = 1..=MAX_SIDE as usize;
    if allowed.contains(&width) && allowed.contains(&height) {
        return Ok(());
    }
    Err(Error::file(
        path,
        format!(
            "the header announces {width} x {height} pixels; expected 1 to {MAX_SIDE} per side"
        ),
    ))
}

/// Says what a file is instead.
fn not_a_picture(path: &Path, bytes: &[u8]) -> Error {
    let (what, how) = foreign::what(bytes).unwrap_or_else(|| {
        let start = &bytes[..bytes.len().min(8)];
        (
            format!("a file that begins with the bytes {start:02x?}"),
            CONVERT,
        )
    });
    let known = EXTENSIONS.join(", ");
    let message =
        format!("not a picture that can be read: found {what}, expected one of {known}; {how}");
    Error::file(path, message)
}

fn unreadable(path: &Path, error: &ImageError) -> Error {
    let message = match error {
        ImageError::Unsupported(_) => {
            format!("a picture of a kind that is not read ({error}); {CONVERT}")
        }
        _ => format!("cannot be decoded, damaged or cut short: {error}"),
    };
    Error::file(path, message)
}

fn of_floats(mut samples: Vec<f32>, white: Option<f32>, path: &Path) -> Result<Vec<f32>> {
    if samples.iter().any(|x| !x.is_finite()) {
        let message = "holds values that are no numbers (NaN or infinity); set them to 0";
        return Err(Error::file(path, message));
    }
    let highest = samples.iter().copied().fold(0.0, f32::max);
    if white.is_none() && highest > 1.0 {
        let message = format!(
            "holds values up to {highest}, and which of them is white is not known: expected 0 to 1; train with \
             pictures such as this, or with `--set input.white={highest}`"
        );
        return Err(Error::file(path, message));
    }
    let white = white.unwrap_or(1.0);
    samples.iter_mut().for_each(|x| *x /= white);
    Ok(samples)
}

fn repeat<T: Copy>(samples: &[T], channels: usize) -> Vec<T> {
    let pixels = samples.chunks_exact(channels);
    pixels.flat_map(|p| [p[0], p[0], p[0]]).collect()
}

fn drop_alpha<T: Copy>(samples: &[T]) -> Vec<T> {
    let pixels = samples.chunks_exact(4);
    pixels.flat_map(|p| [p[0], p[1], p[2]]).collect()
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

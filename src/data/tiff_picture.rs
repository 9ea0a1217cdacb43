//! A TIFF's numbers as the picture that they are of.

use std::path::Path;

use ::image::{DynamicImage, ImageBuffer, Pixel};
use tiff::decoder::DecodingResult;
use tiff::tags::Tag;

use super::foreign::CONVERT;
use super::image::{MAX_BYTES, SampleType};
use super::tiff::{Numbers, Tiff};
use crate::{Error, Result};

/// What the numbers of a pixel mean.
enum Colour {
    Grey,
    /// Grey, the smallest number of which is white.
    WhiteIsZero,
    Rgb,
    /// Numbers of these colours: all their reds, then greens, then blues.
    Palette(Vec<u64>),
    Cmyk,
    YCbCr,
}

impl Colour {
    /// Numbers to a pixel, beside alpha.
    fn channels(&self) -> usize {
        match self {
            Self::Grey | Self::WhiteIsZero | Self::Palette(_) => 1,
            Self::Rgb | Self::YCbCr => 3,
            Self::Cmyk => 4,
        }
    }

    /// Of what is seen.
    fn seen(&self) -> usize {
        match self {
            Self::Grey | Self::WhiteIsZero => 1,
            _ => 3,
        }
    }
}

/// A picture's kind, as its tags say it.
struct Kind {
    colour: Colour,
    width: usize,
    height: usize,
    bits: usize,
    samples: usize,
}

/// Decodes the first page and turns it as its tag says. Alpha is dropped; what has more than 16 bits, and floats, come
/// as they are, in RGB.
///
/// # Errors
/// What cannot be decoded; a kind of picture that is not read, and how to make one of it that is.
pub(super) fn load(path: &Path, bytes: Vec<u8>) -> Result<DynamicImage> {
    let mut tiff = Tiff::open(path, bytes)?;
    if tiff.has_more_pages() {
        tracing::warn!(
            "{}: has several pages; only the first is looked at",
            path.display()
        );
    }
    let kind = Kind::of(&mut tiff, path)?;
    let orientation = tiff.orientation()?;
    let bytes = (kind.width * kind.height) as u64 * kind.bytes_per_pixel();
    if bytes > MAX_BYTES {
        let message = format!("{bytes} bytes when decoded; the limit is {MAX_BYTES}");
        return Err(Error::file(path, message));
    }
    let numbers = tiff.read()?;
    let mut picture = kind.picture(path, numbers)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// What the samples of the first page are.
pub(super) fn sample_type(path: &Path, bytes: Vec<u8>) -> Result<SampleType> {
    let mut tiff = Tiff::open(path, bytes)?;
    let kind = Kind::of(&mut tiff, path)?;
    let format = tiff.first(Tag::SampleFormat, UNSIGNED)?;
    Ok(match (&kind.colour, kind.bits, format) {
        (Colour::Palette(_), ..) | (_, ..=8, UNSIGNED) => SampleType::U8,
        (_, 16, UNSIGNED) => SampleType::U16,
        _ => SampleType::F32,
    })
}

/// `SampleFormat`: whole numbers from 0 on.
const UNSIGNED: u64 = 1;

impl Kind {
    fn of(tiff: &mut Tiff, path: &Path) -> Result<Self> {
        let page = tiff.page()?;
        let (bits, samples) = tiff.samples()?;
        let refuse = |what: String| Error::file(path, format!("a TIFF {what}; {CONVERT}"));
        // Raw files of cameras begin with a small picture of what they hold.
        if tiff.first(Tag::NewSubfileType, 0)? & 1 == 1 || !tiff.tag(DNG_VERSION)?.is_empty() {
            return Err(Error::file(
                path,
                "a TIFF that begins with a thumbnail, such as a camera's raw file; expected a \
                 picture: develop it into a TIFF or PNG, for example with darktable or `dcraw -T`",
            ));
        }
        if tiff.first(Tag::FillOrder, 1)? != 1 {
            return Err(refuse(
                "whose bits are in reverse order (FillOrder 2)".into(),
            ));
        }
        let colour = match page.photometric {
            Some(0) => Colour::WhiteIsZero,
            Some(1) => Colour::Grey,
            Some(2) => Colour::Rgb,
            Some(3) => Colour::Palette(tiff.tag(Tag::ColorMap)?),
            Some(5) => Colour::Cmyk,
            Some(6) => Colour::YCbCr,
            Some(8..=10) => return Err(refuse("in Lab colours".into())),
            Some(32803 | 34892) => {
                return Err(refuse(
                    "of a sensor's raw numbers (colour filter array)".into(),
                ));
            }
            other => {
                let found = other.map_or("none".into(), |n| n.to_string());
                let what = format!("of an unknown kind of colours (photometric {found})");
                return Err(refuse(what));
            }
        };
        let channels = colour.channels();
        if samples < channels || samples > channels + 1 {
            return Err(refuse(format!(
                "of {samples} channels, where {channels} and at most alpha were expected: which of them are to be \
                 seen is not said"
            )));
        }
        if let Colour::Palette(colours) = &colour
            && (bits > 16 || colours.len() != 3 << bits)
        {
            let (found, expected) = (colours.len() / 3, 1u64 << bits.min(63));
            return Err(refuse(format!(
                "with a palette of {found} colours, where its {bits} bits need {expected}"
            )));
        }
        if matches!(colour, Colour::YCbCr) && tiff.is_subsampled()? {
            return Err(refuse("of YCbCr with fewer colours than pixels".into()));
        }
        Ok(Self {
            colour,
            width: page.width,
            height: page.height,
            bits,
            samples,
        })
    }

    /// Of the numbers in the file or of the picture, whichever are more.
    fn bytes_per_pixel(&self) -> u64 {
        let seen = match (&self.colour, self.bits) {
            (Colour::Palette(_), _) => 3,
            (colour, ..=16) => colour.seen() * self.bits.div_ceil(8),
            _ => 12,
        };
        let read = (self.samples * self.bits).div_ceil(8);
        seen.max(read) as u64
    }

    fn picture(&self, path: &Path, numbers: Numbers) -> Result<DynamicImage> {
        let planes = numbers.planes;
        let narrow = |v: f64| v as f32;
        let floats = |values: Vec<f32>, white: f64| {
            let seen = self.seen(values, planes, white, narrow);
            let seen = match self.colour.seen() {
                1 => seen.into_iter().flat_map(|v| [v; 3]).collect(),
                _ => seen,
            };
            self.buffer(seen).map(DynamicImage::ImageRgb32F)
        };
        let picture = match numbers.data {
            DecodingResult::U8(data) => {
                let data = match self.bits {
                    8 => data,
                    bits => self.unpacked(&data, planes, bits),
                };
                let seen = match &self.colour {
                    Colour::Palette(colours) => self.looked_up(&data, planes, colours),
                    _ => self.seen(data, planes, 255.0, |v| v as u8),
                };
                self.eight_bit(seen)
            }
            DecodingResult::U16(data) => match &self.colour {
                Colour::Palette(colours) => self.eight_bit(self.looked_up(&data, planes, colours)),
                _ => {
                    let seen = self.seen(data, planes, 65_535.0, |v| v as u16);
                    match self.colour.seen() {
                        1 => self.buffer(seen).map(DynamicImage::ImageLuma16),
                        _ => self.buffer(seen).map(DynamicImage::ImageRgb16),
                    }
                }
            },
            DecodingResult::F16(data) => floats(data.iter().map(|v| v.to_f32()).collect(), 1.0),
            DecodingResult::F32(data) => floats(data, 1.0),
            DecodingResult::F64(data) => floats(data.into_iter().map(narrow).collect(), 1.0),
            DecodingResult::U32(data) => floats(
                data.into_iter().map(|v| v as f32).collect(),
                u32::MAX.into(),
            ),
            DecodingResult::I16(data) => {
                floats(data.into_iter().map(f32::from).collect(), i16::MAX.into())
            }
            DecodingResult::I32(data) => floats(
                data.into_iter().map(|v| v as f32).collect(),
                i32::MAX.into(),
            ),
            _ => None,
        };
        picture.ok_or_else(|| {
            let bits = self.bits;
            let message = format!("a TIFF of numbers that are not read, {bits} bits; {CONVERT}");
            Error::file(path, message)
        })
    }

    /// The numbers of each pixel that are seen, pixel by pixel, as grey or RGB.
    fn seen<T: Copy + Into<f64>>(
        &self,
        data: Vec<T>,
        planes: usize,
        white: f64,
        of: fn(f64) -> T,
    ) -> Vec<T> {
        let (pixels, channels) = (self.width * self.height, self.colour.channels());
        if matches!(self.colour, Colour::Grey | Colour::Rgb)
            && planes == 1
            && self.samples == channels
        {
            return data;
        }
        let at = |pixel: usize, channel: usize| match planes {
            1 => data[pixel * self.samples + channel],
            _ => data[channel * pixels + pixel],
        };
        let mut out = Vec::with_capacity(pixels * self.colour.seen());
        for pixel in 0..pixels {
            let value = |channel: usize| -> f64 { at(pixel, channel).into() };
            match self.colour {
                Colour::Grey | Colour::Rgb | Colour::Palette(_) => {
                    out.extend((0..channels).map(|channel| at(pixel, channel)));
                }
                Colour::WhiteIsZero => out.push(of(white - value(0))),
                Colour::Cmyk => {
                    let light = (white - value(3)) / white;
                    out.extend([0, 1, 2].map(|c| of(((white - value(c)) * light).round())));
                }
                Colour::YCbCr => {
                    let grey = ((white + 1.0) / 2.0).floor();
                    let (y, blue, red) = (value(0), value(1) - grey, value(2) - grey);
                    let rgb = [
                        y + 1.402 * red,
                        y - 0.344_136 * blue - 0.714_136 * red,
                        y + 1.772 * blue,
                    ];
                    out.extend(rgb.map(|v| of(v.round().clamp(0.0, white))));
                }
            }
        }
        out
    }

    /// One number to a byte; as a share of 255, but for a palette's.
    fn unpacked(&self, data: &[u8], planes: usize, bits: usize) -> Vec<u8> {
        let numbers = self.width * self.samples / planes;
        let highest = (1usize << bits) - 1;
        let row = |row: &[u8]| -> Vec<u8> {
            let bit = |at: usize| usize::from(row[at / 8] >> (7 - at % 8) & 1);
            let number = |i: usize| (i * bits..(i + 1) * bits).fold(0, |n, at| n << 1 | bit(at));
            let value = |i: usize| match self.colour {
                Colour::Palette(_) => number(i) as u8,
                _ => ((number(i) * 255 + highest / 2) / highest) as u8,
            };
            (0..numbers).map(value).collect()
        };
        data.chunks_exact((numbers * bits).div_ceil(8))
            .flat_map(row)
            .collect()
    }

    /// The colours of a palette, in 8 bits.
    fn looked_up<T: Copy + Into<usize>>(
        &self,
        data: &[T],
        planes: usize,
        colours: &[u64],
    ) -> Vec<u8> {
        let count = colours.len() / 3;
        // Of 16 bits, but some programs write 8.
        let shift = match colours.iter().any(|&colour| colour > 255) {
            true => 8,
            false => 0,
        };
        let numbers = data.iter().step_by(self.samples / planes);
        numbers
            .take(self.width * self.height)
            .flat_map(|&number| {
                let number: usize = number.into();
                [0, 1, 2].map(|c| (colours[c * count + number] >> shift) as u8)
            })
            .collect()
    }

    fn eight_bit(&self, seen: Vec<u8>) -> Option<DynamicImage> {
        match self.colour.seen() {
            1 => self.buffer(seen).map(DynamicImage::ImageLuma8),
            _ => self.buffer(seen).map(DynamicImage::ImageRgb8),
        }
    }

    fn buffer<P: Pixel>(&self, seen: Vec<P::Subpixel>) -> Option<ImageBuffer<P, Vec<P::Subpixel>>> {
        ImageBuffer::from_raw(self.width as u32, self.height as u32, seen)
    }
}

/// Of raw files that Adobe's programs write.
const DNG_VERSION: Tag = Tag::Unknown(50706);

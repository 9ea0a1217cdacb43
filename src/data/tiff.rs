//! The pages of a TIFF as numbers: what depth maps and pictures are made of.

use std::io::Cursor;
use std::path::Path;

use ::image::metadata::Orientation;
use tiff::decoder::{BufferLayoutPreference, ChunkType, Decoder, DecodingResult, Limits};
use tiff::tags::{CompressionMethod, Tag};
use tiff::{TiffError, TiffFormatError};

use super::foreign::CONVERT;
use super::image::{MAX_BYTES, check_size};
use super::jpeg;
use crate::{Error, Result};

/// No more pages than these are looked at: x, y and z of a depth map.
pub(super) const PAGES: usize = 3;
/// `PhotometricInterpretation`: numbers, the smallest of which is black.
pub(super) const BLACK_IS_ZERO: u64 = 1;

/// Does a file begin as a TIFF or BigTIFF does?
pub(super) fn is_tiff(bytes: &[u8]) -> bool {
    [b"II*\0", b"II+\0", b"MM\0*", b"MM\0+"]
        .iter()
        .any(|start| bytes.starts_with(*start))
}

/// A TIFF, at one of its pages.
pub(super) struct Tiff<'a> {
    path: &'a Path,
    decoder: Decoder<Cursor<Vec<u8>>>,
    pages: Vec<Page>,
    page: usize,
}

/// What a page's tags say that the decoder is not told.
#[derive(Clone, Copy)]
pub(super) struct Page {
    pub width: usize,
    pub height: usize,
    /// What its numbers mean.
    pub photometric: Option<u64>,
}

/// A page's numbers.
pub(super) struct Numbers {
    pub data: DecodingResult,
    /// One, or as many as there are channels, each a plane of its own.
    pub planes: usize,
}

impl<'a> Tiff<'a> {
    /// At its first page.
    ///
    /// # Errors
    /// A file that is no TIFF that can be read; a size above the limits.
    pub fn open(path: &'a Path, mut bytes: Vec<u8>) -> Result<Self> {
        let pages = Directories::of(&mut bytes).into_numbers();
        let mut limits = Limits::default();
        limits.decoding_buffer_size = MAX_BYTES as usize;
        limits.intermediate_buffer_size = MAX_BYTES as usize;
        let decoder = Decoder::new(Cursor::new(bytes)).map_err(|e| undecoded(path, &e))?;
        let mut tiff = Self {
            path,
            decoder: decoder.with_limits(limits),
            pages,
            page: 0,
        };
        let page = tiff.page()?;
        check_size(path, page.width, page.height)?;
        Ok(tiff)
    }

    /// The page that it is at.
    pub fn page(&mut self) -> Result<Page> {
        if let Some(page) = self.pages.get(self.page) {
            return Ok(*page);
        }
        let (width, height) = self
            .decoder
            .dimensions()
            .map_err(|e| undecoded(self.path, &e))?;
        Ok(Page {
            width: width as usize,
            height: height as usize,
            photometric: None,
        })
    }

    pub fn has_more_pages(&self) -> bool {
        self.decoder.more_images()
    }

    /// Goes to the next page.
    pub fn next_page(&mut self) -> Result<()> {
        self.page += 1;
        (self.decoder.next_image()).map_err(|e| undecoded(self.path, &e))
    }

    /// A tag's numbers; none where it is missing or has others than whole ones.
    pub fn tag(&mut self, tag: Tag) -> Result<Vec<u64>> {
        let value = (self.decoder.find_tag(tag)).map_err(|e| undecoded(self.path, &e))?;
        let values = value.and_then(|value| value.into_u64_vec().ok());
        Ok(values.unwrap_or_default())
    }

    /// A tag's first number.
    pub fn first(&mut self, tag: Tag, default: u64) -> Result<u64> {
        Ok(self.tag(tag)?.first().copied().unwrap_or(default))
    }

    /// How the page is turned; a tag that says nothing known leaves it.
    pub fn orientation(&mut self) -> Result<Orientation> {
        let tag = self.first(Tag::Orientation, 1)?;
        Ok(u8::try_from(tag)
            .ok()
            .and_then(Orientation::from_exif)
            .unwrap_or(Orientation::NoTransforms))
    }

    /// Bits of a sample, and samples of a pixel.
    pub fn samples(&mut self) -> Result<(usize, usize)> {
        let bits = self.first(Tag::BitsPerSample, 1)?;
        let samples = self.first(Tag::SamplesPerPixel, 1)?;
        Ok((bits as usize, samples as usize))
    }

    /// Are there fewer colours than pixels in a page of YCbCr? Those of a JPEG are made whole when it is decoded.
    pub fn is_subsampled(&mut self) -> Result<bool> {
        let whole = self.tag(Tag::ChromaSubsampling)? == [1, 1];
        Ok(!whole && !self.has_jpegs()?)
    }

    fn has_jpegs(&mut self) -> Result<bool> {
        let compression = self.first(Tag::Compression, 1)?;
        Ok(compression == u64::from(CompressionMethod::ModernJPEG.to_u16()))
    }

    /// The page's numbers, row by row; of less than 8 bits, packed.
    ///
    /// # Errors
    /// What cannot be decoded or is cut short; more than [`MAX_BYTES`].
    pub fn read(&mut self) -> Result<Numbers> {
        let path = self.path;
        let fail = |e: TiffError| undecoded(path, &e);
        self.check_columns()?;
        let layout = self.decoder.image_buffer_layout().map_err(fail)?;
        if layout.complete_len as u64 > MAX_BYTES {
            let found = layout.complete_len;
            let message = format!("{found} bytes when decoded; the limit is {MAX_BYTES}");
            return Err(Error::file(path, message));
        }
        if self.has_jpegs()? {
            self.check_jpegs()?;
        }
        let planes = layout.planes;
        let data = match self.decoder.get_chunk_type() {
            ChunkType::Tile => self.tiles(layout)?,
            ChunkType::Strip => {
                let mut data = DecodingResult::U8(Vec::new());
                self.decoder.read_image_to_buffer(&mut data).map_err(fail)?;
                data
            }
        };
        Ok(Numbers { data, planes })
    }

    /// Does the decoder see the page so, too, with its columns as [`Directories::into_numbers`] set them?
    fn check_columns(&mut self) -> Result<()> {
        let fail = |e: TiffError| undecoded(self.path, &e);
        let (width, height) = self.decoder.dimensions().map_err(fail)?;
        let chunk = self.decoder.chunk_dimensions().0 as usize;
        let page = self.page()?;
        let columns = match self.decoder.get_chunk_type() {
            ChunkType::Strip => page.width,
            ChunkType::Tile => page.width.next_multiple_of(chunk),
        };
        if (width as usize, height as usize) == (columns, page.height) {
            return Ok(());
        }
        Err(undecoded(
            self.path,
            &TiffFormatError::InconsistentSizesEncountered.into(),
        ))
    }

    /// Each tile whole, since the decoder loses the end of an LZW stream that is read row by row.
    fn tiles(&mut self, mut layout: BufferLayoutPreference) -> Result<DecodingResult> {
        let path = self.path;
        let fail = |e: TiffError| undecoded(path, &e);
        let Page { width, height, .. } = self.page()?;
        let (bits, samples) = self.samples()?;
        let row = (width * bits * samples / layout.planes).div_ceil(8);
        layout.complete_len = row * height * layout.planes;
        let mut limits = Limits::default();
        limits.decoding_buffer_size = MAX_BYTES as usize;
        let mut data = DecodingResult::U8(Vec::new());
        data.resize_to(&layout, &limits).map_err(fail)?;
        let mut out = data.as_buffer(0);
        let planes = out.as_bytes_mut().chunks_exact_mut(row * height);

        let (tile_width, tile_height) = self.decoder.chunk_dimensions();
        let across = width.div_ceil(tile_width as usize);
        let down = height.div_ceil(tile_height as usize);
        let mut tile = Vec::new();
        for (plane, out) in planes.enumerate() {
            for at in 0..across * down {
                let chunk = (plane * across * down + at) as u32;
                let layout = self
                    .decoder
                    .image_chunk_buffer_layout(chunk)
                    .map_err(fail)?;
                tile.resize(layout.len, 0);
                self.decoder
                    .read_chunk_bytes(chunk, &mut tile)
                    .map_err(fail)?;
                let from = layout.row_stride.map_or(1, |stride| stride.get());
                let left = at % across * from;
                let rows = out
                    .chunks_exact_mut(row)
                    .skip(at / across * tile_height as usize);
                for (out, tile) in rows.zip(tile.chunks_exact(from)) {
                    let end = row.min(left + from);
                    out[left..end].copy_from_slice(&tile[..end - left]);
                }
            }
        }
        Ok(data)
    }

    /// The decoder makes grey of what is missing of a JPEG.
    fn check_jpegs(&mut self) -> Result<()> {
        let [offsets, lengths] = match self.decoder.get_chunk_type() {
            ChunkType::Strip => [Tag::StripOffsets, Tag::StripByteCounts],
            ChunkType::Tile => [Tag::TileOffsets, Tag::TileByteCounts],
        };
        let (offsets, lengths) = (self.tag(offsets)?, self.tag(lengths)?);
        let bytes = self.decoder.inner().get_ref();
        for (offset, length) in offsets.into_iter().zip(lengths) {
            let end = offset.saturating_add(length);
            let chunk = bytes.get(offset as usize..end as usize);
            chunk
                .map_or(Err(jpeg::Fault::CutShort), jpeg::check)
                .map_err(|fault| fault.in_file(self.path))?;
        }
        Ok(())
    }
}

/// A TIFF that cannot be read, and why.
fn undecoded(path: &Path, error: &TiffError) -> Error {
    Error::file(
        path,
        match error {
            TiffError::UnsupportedError(kind) => {
                format!("a TIFF of a kind that is not read ({kind}); {CONVERT}")
            }
            TiffError::LimitsExceeded => {
                format!("a TIFF that takes more than {MAX_BYTES} bytes or has too many tags")
            }
            _ => format!("cannot be decoded, damaged or cut short: {error}"),
        },
    )
}

/// The bytes of a TIFF, whose tags can be changed.
struct Directories<'a> {
    bytes: &'a mut [u8],
    is_big_endian: bool,
    /// BigTIFF: offsets of 64 bits.
    is_big: bool,
}

/// Where a number stands, and in how many bytes.
#[derive(Clone, Copy)]
struct Field {
    at: usize,
    size: usize,
}

impl<'a> Directories<'a> {
    fn of(bytes: &'a mut [u8]) -> Self {
        Self {
            is_big_endian: bytes.starts_with(b"MM"),
            is_big: bytes.iter().take(4).any(|&byte| byte == 43),
            bytes,
        }
    }

    /// Tells the decoder that the first pages hold numbers, and as many columns as their tiles have: it refuses
    /// palettes and much else whose numbers it could read, and padded tiles it reads row by row.
    fn into_numbers(mut self) -> Vec<Page> {
        let mut pages = Vec::new();
        let (first, size) = if self.is_big { (8, 8) } else { (4, 4) };
        let mut next = self.get(Field { at: first, size });
        while let Some(directory) = next.filter(|&at| at > 0 && pages.len() < PAGES) {
            let Some(page) = self.page(directory as usize) else {
                break;
            };
            pages.push(page);
            next = self.next(directory as usize);
        }
        pages
    }

    fn page(&mut self, directory: usize) -> Option<Page> {
        let width = self.tag(directory, Tag::ImageWidth)?;
        let height = self.tag(directory, Tag::ImageLength)?;
        let page = Page {
            width: self.get(width)? as usize,
            height: self.get(height)? as usize,
            photometric: (self.tag(directory, Tag::PhotometricInterpretation))
                .and_then(|field| self.get(field)),
        };
        if let Some(field) = self.tag(directory, Tag::PhotometricInterpretation)
            && page.photometric.is_some()
        {
            self.set(field, BLACK_IS_ZERO);
        }
        if let Some(tile) = self.tag(directory, Tag::TileWidth) {
            let tile = self.get(tile)?.max(1);
            let whole = self.get(width)?.div_ceil(tile).checked_mul(tile)?;
            // What does not fit is far above the limits.
            if u32::try_from(whole).is_ok() && whole >> (8 * width.size.min(4)) == 0 {
                self.set(width, whole);
            }
        }
        Some(page)
    }

    /// Where the directory after this one begins.
    fn next(&self, directory: usize) -> Option<u64> {
        let (count, entries, entry) = self.entries(directory)?;
        let at = entries.checked_add(count.checked_mul(entry)?)?;
        let size = if self.is_big { 8 } else { 4 };
        self.get(Field { at, size })
    }

    /// How many entries a directory has, where they begin, and the bytes of one.
    fn entries(&self, directory: usize) -> Option<(usize, usize, usize)> {
        let (size, entry) = if self.is_big { (8, 20) } else { (2, 12) };
        let count = self.get(Field {
            at: directory,
            size,
        })?;
        Some((count as usize, directory.checked_add(size)?, entry))
    }

    /// The place of a tag's single number.
    fn tag(&self, directory: usize, tag: Tag) -> Option<Field> {
        let (count, entries, entry) = self.entries(directory)?;
        for at in (entries..).step_by(entry).take(count) {
            let field = |offset: usize, size: usize| Field {
                at: at.saturating_add(offset),
                size,
            };
            if self.get(field(0, 2))? == u64::from(tag.to_u16()) {
                let size = match self.get(field(2, 2))? {
                    3 => 2,
                    4 => 4,
                    16 => 8,
                    _ => return None,
                };
                return Some(field(if self.is_big { 12 } else { 8 }, size));
            }
        }
        None
    }

    fn get(&self, field: Field) -> Option<u64> {
        let bytes = self
            .bytes
            .get(field.at..field.at.checked_add(field.size)?)?;
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(match self.is_big_endian {
            true => bytes.iter().fold(0, fold),
            false => bytes.iter().rev().fold(0, fold),
        })
    }

    /// `field` was read before, and `number` fits.
    fn set(&mut self, field: Field, number: u64) {
        let out = &mut self.bytes[field.at..field.at + field.size];
        match self.is_big_endian {
            true => out.copy_from_slice(&number.to_be_bytes()[8 - field.size..]),
            false => out.copy_from_slice(&number.to_le_bytes()[..field.size]),
        }
    }
}

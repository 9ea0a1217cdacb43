//! Writes TIFFs byte by byte.

use std::io::Cursor;

use image::{GrayImage, ImageFormat};

pub const LZW: u64 = 5;
pub const JPEG: u64 = 7;
pub const DEFLATE: u64 = 8;
pub const PACKBITS: u64 = 32773;
pub const ZSTD: u64 = 50000;

/// A page to be written; the numbers of a sample are in `samples`, pixel by pixel.
#[derive(Clone)]
pub struct Page {
    pub size: (usize, usize),
    pub channels: usize,
    pub bits: usize,
    /// 1: whole numbers, 2: with a sign, 3: floats.
    pub format: u64,
    pub photometric: u64,
    pub compression: u64,
    pub tile: Option<(usize, usize)>,
    pub rows_per_strip: usize,
    pub is_planar: bool,
    pub is_big_endian: bool,
    pub is_big: bool,
    pub tags: Vec<(u64, Vec<u64>)>,
    /// Each sample's bits.
    pub samples: Vec<u64>,
}

impl Page {
    pub fn new(size: (usize, usize), channels: usize, bits: usize, samples: Vec<u64>) -> Self {
        assert_eq!(samples.len(), size.0 * size.1 * channels);
        Self {
            size,
            channels,
            bits,
            format: 1,
            photometric: if channels >= 3 { 2 } else { 1 },
            compression: 1,
            tile: None,
            rows_per_strip: size.1,
            is_planar: false,
            is_big_endian: false,
            is_big: false,
            tags: Vec::new(),
            samples,
        }
    }

    /// A rectangle of one plane or of all channels, each row filled up to whole bytes; 0 beyond the picture.
    fn chunk(&self, plane: usize, (left, top): (usize, usize), (w, h): (usize, usize)) -> Vec<u8> {
        let channels = match self.is_planar {
            true => plane..plane + 1,
            false => 0..self.channels,
        };
        let mut out = Vec::new();
        for y in top..top + h {
            let mut bits = Vec::new();
            for x in left..left + w {
                for channel in channels.clone() {
                    let is_inside = x < self.size.0 && y < self.size.1;
                    let value = match is_inside {
                        true => self.samples[(y * self.size.0 + x) * self.channels + channel],
                        false => 0,
                    };
                    match self.bits {
                        16.. if !self.is_big_endian => {
                            let bytes = &value.to_le_bytes()[..self.bits / 8];
                            bits.extend(bytes.iter().flat_map(|b| bits_of(u64::from(*b), 8)));
                        }
                        _ => bits.extend(bits_of(value, self.bits)),
                    }
                }
            }
            out.extend(packed(&bits));
        }
        out
    }

    pub fn bytes(&self) -> Vec<u8> {
        let planes = if self.is_planar { self.channels } else { 1 };
        let mut chunks = Vec::new();
        for plane in 0..planes {
            let (width, height) = self.size;
            let (w, h) = self.tile.unwrap_or((width, self.rows_per_strip));
            for top in (0..height).step_by(h) {
                for left in (0..width).step_by(w) {
                    // A last strip is as high as what is left, a tile always whole.
                    let h = match self.tile {
                        Some(_) => h,
                        None => h.min(height - top),
                    };
                    chunks.push(self.packed(&self.chunk(plane, (left, top), (w, h)), (w, h)));
                }
            }
        }
        let lengths: Vec<u64> = chunks.iter().map(|c| c.len() as u64).collect();
        let header = if self.is_big { 16 } else { 8 };
        let starts = lengths.iter().scan(header, |at, length| {
            *at += length;
            Some(*at - length)
        });
        let offsets: Vec<u64> = starts.collect();
        let data: Vec<u8> = chunks.concat();

        let each = |value: u64| vec![value; self.channels];
        let mut tags = vec![
            (256, vec![self.size.0 as u64]),
            (257, vec![self.size.1 as u64]),
            (258, each(self.bits as u64)),
            (259, vec![self.compression]),
            (262, vec![self.photometric]),
            (277, vec![self.channels as u64]),
            (284, vec![1 + u64::from(self.is_planar)]),
            (339, each(self.format)),
        ];
        match self.tile {
            Some((w, h)) => {
                tags.extend([(322, vec![w as u64]), (323, vec![h as u64])]);
                tags.extend([(324, offsets), (325, lengths)]);
            }
            None => {
                tags.push((278, vec![self.rows_per_strip as u64]));
                tags.extend([(273, offsets), (279, lengths)]);
            }
        }
        tags.retain(|(tag, _)| self.tags.iter().all(|(other, _)| other != tag));
        tags.extend(self.tags.clone());
        tags.sort();
        self.file(&data, &tags)
    }

    fn file(&self, data: &[u8], tags: &[(u64, Vec<u64>)]) -> Vec<u8> {
        let number = |value: u64, size: usize| match self.is_big_endian {
            true => value.to_be_bytes()[8 - size..].to_vec(),
            false => value.to_le_bytes()[..size].to_vec(),
        };
        let offset = if self.is_big { 8 } else { 4 };
        let (count, entry) = if self.is_big { (8, 20) } else { (2, 12) };
        let mut out = if self.is_big_endian { b"MM" } else { b"II" }.to_vec();
        match self.is_big {
            true => out.extend([number(43, 2), number(8, 2), number(0, 2)].concat()),
            false => out.extend(number(42, 2)),
        }
        let directory = out.len() + offset + data.len();
        out.extend(number(directory as u64, offset));
        out.extend(data);
        out.extend(number(tags.len() as u64, count));
        let mut beyond = Vec::new();
        for (tag, values) in tags {
            // SHORT, or LONG for what is larger.
            let (kind, size) = match values.iter().max() > Some(&65535) {
                true => (4, 4),
                false => (3, 2),
            };
            let values_bytes: Vec<u8> = values.iter().flat_map(|&v| number(v, size)).collect();
            out.extend([number(*tag, 2), number(kind, 2)].concat());
            out.extend(number(values.len() as u64, offset));
            let mut field = values_bytes.clone();
            if values_bytes.len() > offset {
                let at = directory + count + tags.len() * entry + offset + beyond.len();
                field = number(at as u64, offset);
                beyond.extend(values_bytes);
            }
            field.resize(offset, 0);
            out.extend(field);
        }
        out.extend(number(0, offset));
        out.extend(beyond);
        out
    }

    fn packed(&self, data: &[u8], (w, h): (usize, usize)) -> Vec<u8> {
        match self.compression {
            LZW => lzw(data),
            DEFLATE => stored(data),
            PACKBITS => {
                let pieces = data.chunks(128);
                pieces
                    .flat_map(|p| [&[p.len() as u8 - 1], p].concat())
                    .collect()
            }
            JPEG => {
                let picture = GrayImage::from_raw(w as u32, h as u32, data.to_vec()).unwrap();
                let mut out = Cursor::new(Vec::new());
                picture.write_to(&mut out, ImageFormat::Jpeg).unwrap();
                out.into_inner()
            }
            _ => data.to_vec(),
        }
    }
}

fn bits_of(value: u64, count: usize) -> impl Iterator<Item = bool> {
    (0..count).rev().map(move |i| value >> i & 1 == 1)
}

fn packed(bits: &[bool]) -> Vec<u8> {
    bits.chunks(8)
        .map(|byte| (0..8).fold(0, |n, i| n << 1 | u8::from(byte.get(i) == Some(&true))))
        .collect()
}

/// No code but for single bytes: they never need more than 9 bits.
fn lzw(data: &[u8]) -> Vec<u8> {
    let mut bits = Vec::new();
    for piece in data.chunks(200) {
        bits.extend(bits_of(256, 9));
        bits.extend(piece.iter().flat_map(|&byte| bits_of(u64::from(byte), 9)));
    }
    bits.extend(bits_of(257, 9));
    packed(&bits)
}

/// Deflate's blocks that are stored as they are.
fn stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let length = data.len() as u16;
    out.push(1);
    out.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
    out.extend(data);
    let (a, b) = data.iter().fold((1u32, 0), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65521;
        (a, (a + b) % 65521)
    });
    out.extend((b << 16 | a).to_be_bytes());
    out
}

//! Ground-truth masks: which pixels of a picture are defective.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::dataset::list_images;
use super::image::{decode, dimensions};
use crate::{Error, Result};

/// A binary mask `[height, width]`; 1 is a defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
}

impl Mask {
    /// The mask of a good part.
    pub fn empty(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![0; width * height],
        }
    }

    /// Loads a mask: a pixel is a defect where its brightest channel is at least half of white, so that soft edges
    /// and a JPEG's noise have a stated border; in a mask whose values stay below that (0 and 1, or numbers of
    /// defects), every one above 0. Alpha is ignored. Of a folder of masks, what any of them marks.
    pub fn load(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::load_all(&list_images(path)?);
        }
        let picture = decode(path)?;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let color = picture.color();
        let channels = usize::from(color.channel_count());
        let values = channels - usize::from(color.has_alpha());
        let sample = usize::from(color.bytes_per_pixel()) / channels;
        let brightest: Vec<u16> = picture
            .as_bytes()
            .chunks_exact(channels * sample)
            .map(|pixel| {
                let values = pixel[..values * sample].chunks_exact(sample);
                values.map(of_white).max().unwrap_or(0)
            })
            .collect();
        let half = u16::MAX / 2 + 1;
        let least = match brightest.iter().any(|&value| value >= half) {
            true => half,
            false => 1,
        };
        let pixels = brightest.iter().map(|&v| u8::from(v >= least)).collect();
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    fn load_all(paths: &[PathBuf]) -> Result<Self> {
        let mut all = Self::empty(0, 0);
        for path in paths {
            let mask = Self::load(path)?;
            if all.pixels.is_empty() {
                all = mask;
                continue;
            }
            same_size(path, (mask.width, mask.height), (all.width, all.height))?;
            all.pixels
                .iter_mut()
                .zip(mask.pixels)
                .for_each(|(a, b)| *a |= b);
        }
        Ok(all)
    }

    /// Loads the mask of a picture of `width` x `height`; another size is an error.
    pub fn load_for(path: &Path, width: usize, height: usize) -> Result<Self> {
        let mask = Self::load(path)?;
        same_size(path, (mask.width, mask.height), (width, height))?;
        Ok(mask)
    }

    /// As [`Mask::load_for`], but reads only the header.
    pub fn check_size(path: &Path, width: usize, height: usize) -> Result<()> {
        let files = match path.is_dir() {
            true => list_images(path)?,
            false => vec![path.to_path_buf()],
        };
        let fits = |path: &PathBuf| same_size(path, dimensions(path)?, (width, height));
        files.iter().try_for_each(fits)
    }

    /// Why this may not be the mask of a defective part, in words.
    pub fn doubt(&self) -> Option<String> {
        let marked = self.pixels.iter().filter(|p| **p > 0).count();
        match marked as f64 / self.pixels.len() as f64 {
            0.0 => Some("its mask marks nothing as defective".into()),
            1.0 => Some("its mask marks everything as defective".into()),
            share if share > 0.8 => Some(format!(
                "its mask marks {:.0} % as defective: is it inverted?",
                100.0 * share
            )),
            _ => None,
        }
    }

    pub fn has_defect(&self) -> bool {
        self.pixels.contains(&1)
    }

    /// Nearest neighbour, PyTorch's `F.interpolate(mode="nearest-exact")` and PIL's `NEAREST`:
    /// the input pixel under the centre of each output pixel.
    pub fn resize_nearest(&self, width: usize, height: usize) -> Self {
        let column: Vec<usize> = (0..width)
            .map(|x| (2 * x + 1) * self.width / (2 * width))
            .collect();
        self.resample(width, height, |y| {
            let row = (2 * y + 1) * self.height / (2 * height);
            let row = &self.pixels[row * self.width..][..self.width];
            column.iter().map(|&x| row[x]).collect()
        })
    }

    /// An output pixel is a defect if it overlaps any defective pixel, so that no defect is lost,
    /// however small.
    pub fn resize_any(&self, width: usize, height: usize) -> Self {
        let covered = |i: usize, from: usize, to: usize| {
            i * from / to..((i + 1) * from).div_ceil(to).min(from)
        };
        self.resample(width, height, |y| {
            let rows = covered(y, self.height, height);
            (0..width)
                .map(|x| {
                    let columns = covered(x, self.width, width);
                    let hit = rows
                        .clone()
                        .any(|row| self.pixels[row * self.width..][columns.clone()].contains(&1));
                    u8::from(hit)
                })
                .collect()
        })
    }

    fn resample(
        &self,
        width: usize,
        height: usize,
        row: impl Fn(usize) -> Vec<u8> + Send + Sync,
    ) -> Self {
        Self {
            width,
            height,
            pixels: (0..height).into_par_iter().flat_map_iter(row).collect(),
        }
    }
}

/// A sample of 8, 16 or 32 bits (a float whose white is 1) in 16 bits.
fn of_white(sample: &[u8]) -> u16 {
    match *sample {
        [value] => u16::from(value) * 257,
        [a, b] => u16::from_ne_bytes([a, b]),
        [a, b, c, d] => (f32::from_ne_bytes([a, b, c, d]) * 65_535.0).ceil() as u16,
        _ => 0,
    }
}

fn same_size(path: &Path, mask: (usize, usize), picture: (usize, usize)) -> Result<()> {
    if mask == picture {
        return Ok(());
    }
    Err(Error::file(
        path,
        format!(
            "the mask is {} x {} pixels, its picture {} x {}; both must have the same size",
            mask.0, mask.1, picture.0, picture.1
        ),
    ))
}

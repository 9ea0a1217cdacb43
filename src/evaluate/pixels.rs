//! The pixels of many score maps, kept as small as exact figures allow: 4 bytes for a good pixel,
//! 8 for a defective one. A map may be dropped once it was added.

use rayon::prelude::*;

use super::aupro::{aupro, components};
use super::auroc::{area_by, rank_key};
use crate::{Error, Result};

/// Collects score maps and their masks; then pixel AUROC and AUPRO.
#[derive(Clone, Debug, Default)]
pub struct PixelScores {
    /// Rank keys of the good pixels.
    good: Vec<u32>,
    /// Rank key and component of the defective pixels.
    defective: Vec<(u32, u32)>,
    /// Pixels in each 8-connected defect.
    areas: Vec<u32>,
    sorted: bool,
}

impl PixelScores {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one map `scores` `[height, width]` and its `mask`, where anything above 0 is a defect.
    /// `name` is the part's, for errors.
    ///
    /// Errors: sizes that differ, and NaN.
    pub fn add(&mut self, name: &str, width: usize, scores: &[f32], mask: &[u8]) -> Result<()> {
        if scores.len() != mask.len() || width == 0 || !scores.len().is_multiple_of(width) {
            return Err(Error::shape(
                "pixel scores",
                format!("a map and a mask of one size, rows of {width} pixels ({name})"),
                format!("{} scores, {} mask pixels", scores.len(), mask.len()),
            ));
        }
        let (labels, areas) = components(mask, width);
        let first = self.areas.len() as u32;
        let (good, defective) = (self.good.len(), self.defective.len());
        for (i, (&score, &label)) in scores.iter().zip(&labels).enumerate() {
            let Some(key) = rank_key(score) else {
                // Leave no half of a map behind.
                self.good.truncate(good);
                self.defective.truncate(defective);
                return Err(Error::failed(format!(
                    "{name}: the score at row {}, column {} is NaN",
                    i / width,
                    i % width
                )));
            };
            match label {
                0 => self.good.push(key),
                label => self.defective.push((key, first + label - 1)),
            }
        }
        self.areas.extend(areas);
        self.sorted = false;
        Ok(())
    }

    /// Pixel AUROC; `None` where there are no defective or no good pixels.
    pub fn auroc(&mut self) -> Option<f64> {
        self.sort();
        let defective = self.defective.iter().map(|d| d.0);
        area_by(&self.good, defective, self.defective.len())
    }

    /// AUPRO up to a false-positive rate of `limit` (0.3 is usual); `None` where there are no
    /// defects or no good pixels.
    ///
    /// Errors: a limit outside (0, 1].
    pub fn aupro(&mut self, limit: f64) -> Result<Option<f64>> {
        self.sort();
        aupro(&self.good, &self.defective, &self.areas, limit)
    }

    /// How many separate defects there are.
    pub fn defects(&self) -> usize {
        self.areas.len()
    }

    fn sort(&mut self) {
        if !self.sorted {
            self.good.par_sort_unstable();
            self.defective.par_sort_unstable();
            self.sorted = true;
        }
    }
}

//! Scores that verdicts can be made of in half precision, too.

use super::{Detector, Fusion, Part, Scored};
use crate::Result;
use crate::data::Cache;
use crate::kernel::step;
use crate::tensor::Device;
use std::path::Path;

/// A score in f16 is at most so far from that in f32, as a part of it and of what was subtracted from the maps
/// ([`Fusion`]; `tools/half_precision.py`).
const HALF_ERROR: f32 = 1e-2;

/// Scores parts. A part whose score in f16 is too near to the threshold to tell on which side it is in f32 is
/// scored again on the CPU, in f32: verdicts do not depend on the precision.
pub struct Judge<'a> {
    detector: &'a Detector,
    threshold: Option<f32>,
    file: &'a Path,
    exact: Option<Detector>,
    again: usize,
}

impl<'a> Judge<'a> {
    /// `file` is the model that `detector` was read from or saved to.
    pub fn new(detector: &'a Detector, threshold: Option<f32>, file: &'a Path) -> Self {
        Self {
            detector,
            threshold,
            file,
            exact: None,
            again: 0,
        }
    }

    /// Scores one part, which was read from a picture, a depth map, or both.
    ///
    /// # Errors
    /// As [`Detector::score`] and, where it is scored again, [`Detector::load`].
    pub fn score(
        &mut self,
        part: Part,
        (rgb, depth): (Option<&Path>, Option<&Path>),
        cache: Option<&Cache>,
    ) -> Result<Scored> {
        let extractor = &self.detector.extractor;
        let scored = self.detector.score(&extractor.features(part, cache)?)?;
        let offset = self.detector.fusion.map_or(0.0, Fusion::offset);
        if !self.detector.device.is_half() || !is_near(scored.score, self.threshold, offset) {
            return Ok(scored);
        }
        let _step = step("score again in f32");
        self.again += 1;
        let exact = match &mut self.exact {
            Some(exact) => exact,
            none => none.insert(Detector::load(self.file, &Device::Cpu)?),
        };
        let part = exact.extractor.read(rgb, depth, cache)?;
        exact.score(&exact.extractor.features(part, cache)?)
    }

    /// What a user should know of parts that were scored again.
    pub fn note(&self) -> Option<String> {
        let parts = match self.again {
            0 => return None,
            1 => "1 part was".to_string(),
            n => format!("{n} parts were"),
        };
        Some(format!(
            "{parts} within 1 % of the threshold in f16 and scored again in f32, on the CPU"
        ))
    }
}

/// `offset` is what was subtracted from the maps that the score is made of.
fn is_near(score: f32, threshold: Option<f32>, offset: f32) -> bool {
    threshold.is_some_and(|threshold| {
        (score - threshold).abs() <= HALF_ERROR * (threshold.abs() + offset)
    })
}

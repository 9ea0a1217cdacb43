//! From features to a pixel map and an image score (spec section 8).

use super::config::{ImageScore, ScoreSource};
use super::{Detector, Features, StudentNet};
use crate::Result;
use crate::models::positional::positional_encoding;
use crate::ops::resize::{Filter, resize};
use crate::ops::{distance::distance, likelihood::likelihood};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Up-sampling of the map, as in the paper: 24 → 192.
const UPSAMPLE: usize = 8;

/// The verdict's ground: one number per pixel and one for the part.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Anomaly map `[side,side]`, 8 times the feature map.
    pub map: Vec<f32>,
    pub side: usize,
    pub score: f32,
}

impl Detector {
    /// Scores one part.
    ///
    /// # Errors
    /// As the operators.
    pub fn score(&self, features: &Features) -> Result<Scored> {
        let (side, channels) = (self.extractor.side(), self.extractor.channels());
        let tape = Tape::inference();
        let x = tape.constant(&Tensor::new(
            &self.device,
            [1, side, side, channels],
            features.map.clone(),
        )?);
        let mask = Tensor::new(&self.device, [1, side, side, 1], features.mask.clone())?;
        let place = match self.config.positional.channels {
            0 => None,
            n => Some(tape.constant(&positional_encoding(&self.device, [1, side, side], n)?)),
        };
        let (z, log_det) = self.teacher.forward(&tape, &x, place.as_ref())?;
        let low = match self.config.score.source {
            ScoreSource::Likelihood => likelihood(&tape, &z, &log_det, &mask)?,
            ScoreSource::Distance => {
                let y = match (&self.folded, &self.student) {
                    (Some(folded), _) => folded.forward(&tape, &x, place.as_ref())?,
                    (None, StudentNet::Flow(flow)) => flow.forward(&tape, &x, place.as_ref())?.0,
                    (None, StudentNet::Cnn(student)) => {
                        student.fold()?.forward(&tape, &x, place.as_ref())?
                    }
                };
                distance(&tape, &y, z.tensor(), &mask)?
            }
        };
        let size = side * UPSAMPLE;
        let map = resize(&tape, &low, [size, size], Filter::Bicubic)?
            .tensor()
            .to_vec()?;
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        let max = |values: &[f32]| values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let has_mask = self.config.input.modality.has_depth();
        let score = match self.config.score.image {
            ImageScore::Max => max(&map),
            ImageScore::Mean => mean(&low.tensor().to_vec()?),
            ImageScore::Auto if has_mask => max(&map),
            ImageScore::Auto => mean(&low.tensor().to_vec()?),
        };
        Ok(Scored {
            map,
            side: size,
            score,
        })
    }
}

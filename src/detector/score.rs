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

/// The share of the map that [`ImageScore::Top`] looks at.
const TOP: f64 = 0.05;

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
            match &self.standard {
                Some(standard) => standard.apply(&features.map),
                None => features.map.clone(),
            },
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
        let (mean, max) = (mean(&low.tensor().to_vec()?), max(&map));
        let score = match self.config.score.image {
            ImageScore::Max => max,
            ImageScore::Mean => mean,
            ImageScore::Top => top(&map),
            ImageScore::Auto if self.config.input.modality.has_depth() => max,
            ImageScore::Auto => mean,
        };
        Ok(Scored {
            map,
            side: size,
            score,
        })
    }
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

fn max(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The mean of the highest values.
fn top(map: &[f32]) -> f32 {
    let count = ((map.len() as f64 * TOP).round() as usize).max(1);
    let mut map = map.to_vec();
    let (above, lowest, _) = map.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    (above.iter().sum::<f32>() + *lowest) / count as f32
}

#[cfg(test)]
mod tests {
    #[test]
    fn top_is_the_mean_of_the_highest_twentieth() {
        let map: Vec<f32> = (0..400).map(|i| ((i * 37) % 400) as f32).collect();
        assert_eq!(super::top(&map), (399.0 + 398.0 + 397.0 + 396.0) / 4.0);
        assert_eq!(super::top(&[1.0, 3.0, 2.0]), 3.0);
        assert!(super::top(&[1.0, f32::NAN]).is_nan());
    }
}

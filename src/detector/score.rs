//! From features to a pixel map and an image score (spec section 8).

use super::config::{self, ImageScore, ScoreSource};
use super::features::resize;
use super::{Detector, Features, StudentNet};
use crate::evaluate::{Region, regions};
use crate::kernel::step;
use crate::ops::resize::{Filter, resize as upsample};
use crate::ops::{distance::distance, likelihood::likelihood};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Tensor};
use crate::{Error, Result};

/// Up-sampling of the map, as in the paper: 24 → 192.
const UPSAMPLE: usize = 8;

/// The verdict's ground: one number per pixel and one for the part.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Anomaly map `[height,width]`, 8 times the feature map.
    pub map: Vec<f32>,
    pub height: usize,
    pub width: usize,
    pub score: f32,
    /// As [`Features::part_found`].
    pub part_found: bool,
}

impl Scored {
    /// What the map says of a picture of `size` (height, width): a letterbox's bars are cut off.
    pub fn of_picture(self, choice: config::Resize, size: (usize, usize)) -> Self {
        let place = resize(choice).placement((size.1, size.0), (self.width, self.height));
        let rows = self.map.chunks_exact(self.width);
        let rows = rows.skip(place.y).take(place.height);
        Self {
            map: rows
                .flat_map(|row| &row[place.x..][..place.width])
                .copied()
                .collect(),
            height: place.height,
            width: place.width,
            score: self.score,
            part_found: self.part_found,
        }
    }
}

impl Detector {
    /// Where the map of a picture of `size` (height, width) is defective, in the picture's pixels; none before
    /// calibration.
    pub fn regions(&self, scored: &Scored, size: (usize, usize)) -> Vec<Region> {
        let Some(threshold) = self.map_threshold else {
            return Vec::new();
        };
        let p_value = |peak| self.calibration().map(|c| c.peak_p_value(peak));
        let from = (scored.height, scored.width);
        regions(&scored.map, from, threshold, size, p_value)
    }

    /// Scores one part.
    ///
    /// # Errors
    /// As the operators; [`Error::NotFinite`] for a map or a score that is not.
    pub fn score(&self, features: &Features) -> Result<Scored> {
        let _step = step("score");
        let low = self.map(features)?;
        let side = self.extractor.side();
        let size = side * UPSAMPLE;
        let tape = Tape::inference();
        let map = tape.constant(&Tensor::new(&Device::Cpu, [1, side, side, 1], low.clone())?);
        let map = upsample(&tape, &map, [size, size], Filter::Bicubic)?;
        let map = map.tensor().to_vec()?;
        let (mean, max) = (mean(&low), max(&map));
        let score = match self.config.score.image {
            ImageScore::Max => max,
            ImageScore::Mean => mean,
            ImageScore::Top => top(&map, self.config.score.top),
            ImageScore::Auto if self.config.input.modality.has_depth() => max,
            ImageScore::Auto => mean,
        };
        // Or NaN, which is above no threshold, would be a verdict.
        let advice = match self.device.is_half() {
            true => "something became too large for f16: use `--precision f32`",
            false => "the features are out of all proportion, or the model is damaged",
        };
        for (what, values) in [("the anomaly map", &map[..]), ("the score", &[score])] {
            Error::check_finite(values, f32::INFINITY, || (what.into(), advice))?;
        }
        Ok(Scored {
            map,
            height: size,
            width: size,
            score,
            part_found: features.part_found,
        })
    }

    /// The anomaly map `[side,side]`.
    fn map(&self, features: &Features) -> Result<Vec<f32>> {
        let source = self.config.score.source;
        if source != ScoreSource::Fusion {
            return Ok(self.maps(features, &[source])?.remove(0));
        }
        let fusion = self.fusion.ok_or_else(|| {
            Error::failed(
                "score.source = \"fusion\": distance and likelihood have no common scale yet; calibrate the \
                 detector on good parts first",
            )
        })?;
        let both = [ScoreSource::Distance, ScoreSource::Likelihood];
        let maps = self.maps(features, &both)?;
        Ok(fusion.apply(&maps[0], &maps[1], &features.mask))
    }

    /// The maps `[side,side]` of these sources, distance or likelihood, read together.
    pub(super) fn maps(
        &self,
        features: &Features,
        sources: &[ScoreSource],
    ) -> Result<Vec<Vec<f32>>> {
        let (side, channels) = (self.extractor.side(), self.extractor.channels());
        let tape = Tape::inference();
        let x = match &self.standard {
            Some(standard) => standard.apply(&features.map),
            None => features.map.clone(),
        };
        let x = tape.constant(&Tensor::new(&self.device, [1, side, side, channels], x)?);
        let mask = Tensor::new_f32(&self.device, [1, side, side, 1], features.mask.clone())?;
        let place = self.place.as_ref().map(|place| tape.constant(place));
        let (x, so_far) = self.teacher.whiten(&tape, &x)?;
        let (z, log_det) = (self.teacher).blocks(&tape, (x.clone(), so_far), place.as_ref())?;
        let mut maps = Vec::new();
        for source in sources {
            maps.push(match source {
                ScoreSource::Likelihood => likelihood(&tape, &z, &log_det, &mask)?,
                ScoreSource::Distance | ScoreSource::Fusion => {
                    let y = match &self.student {
                        StudentNet::Cnn(student) => student.forward(&tape, &x, place.as_ref())?,
                        StudentNet::Flow(flow) => flow.forward(&tape, &x, place.as_ref())?.0,
                    };
                    distance(&tape, &y, z.tensor(), &mask)?
                }
            });
        }
        let maps: Vec<&Tensor> = maps.iter().map(Var::tensor).collect();
        Tensor::all_to_vec(&maps)
    }
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

fn max(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The mean of the highest values, `share` of all.
fn top(map: &[f32], share: f64) -> f32 {
    let count = ((map.len() as f64 * share).round() as usize).max(1);
    let mut map = map.to_vec();
    let (above, lowest, _) = map.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    (above.iter().sum::<f32>() + *lowest) / count as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letterbox_is_cut_off() {
        let scored = Scored {
            map: (0..16).map(|i| i as f32).collect(),
            height: 4,
            width: 4,
            score: 1.0,
            part_found: true,
        };
        let wide = scored
            .clone()
            .of_picture(config::Resize::Letterbox, (100, 200));
        assert_eq!((wide.height, wide.width), (2, 4));
        assert_eq!(wide.map, (4..12).map(|i| i as f32).collect::<Vec<_>>());
        let tall = scored
            .clone()
            .of_picture(config::Resize::Letterbox, (200, 100));
        assert_eq!(tall.map, [1.0, 2.0, 5.0, 6.0, 9.0, 10.0, 13.0, 14.0]);
        let stretched = scored
            .clone()
            .of_picture(config::Resize::Stretch, (100, 200));
        assert_eq!(stretched.map, scored.map);
    }

    #[test]
    fn top_is_the_mean_of_the_highest_twentieth() {
        let map: Vec<f32> = (0..400).map(|i| ((i * 37) % 400) as f32).collect();
        assert_eq!(top(&map, 0.05), 389.5); // 380 to 399
        assert_eq!(top(&[1.0, 3.0, 2.0], 0.05), 3.0);
        assert!(top(&[1.0, f32::NAN], 0.05).is_nan());
    }
}

//! Distance and likelihood on one scale, that of good parts: what one of them does not see, the other may.

use super::config::ScoreSource;
use super::{Detector, Features};
use crate::evaluate::conformal::quantile;
use crate::{Error, Result};

/// On good parts' maps, half of the pixels are below 0 and one in a hundred above 1.
const QUANTILES: [f64; 2] = [0.5, 0.99];

/// A map's values at [`QUANTILES`] of good parts.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    middle: f32,
    high: f32,
}

/// How good parts' maps of distance and likelihood are scaled before they are added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fusion {
    distance: Scale,
    likelihood: Scale,
}

impl Scale {
    fn of(values: &[f32]) -> Result<Self> {
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return Err(Error::failed(
                "score.source = \"fusion\": the good parts' maps have no values, or some that are no numbers",
            ));
        }
        let [middle, high] = QUANTILES.map(|q| quantile(values, q));
        if high <= middle {
            return Err(Error::failed(format!(
                "score.source = \"fusion\": half of the good parts' map is at {middle} and so is its highest \
                 hundredth: such maps have no scale; use \"distance\" or \"likelihood\""
            )));
        }
        Ok(Self { middle, high })
    }

    /// Where this scale's ends are on another, whose own are 0 and 1.
    fn beside(self, other: Self) -> [f32; 2] {
        [self.middle, self.high].map(|end| other.apply(end, 1.0))
    }

    /// The inverse: the scale whose ends are there on this one.
    fn moved(self, [middle, high]: [f32; 2]) -> Self {
        let width = self.high - self.middle;
        let at = |end: f32| self.middle + end * width;
        Self {
            middle: at(middle),
            high: at(high),
        }
    }

    /// `value` of a pixel that counts `mask`, which it was multiplied by.
    fn apply(self, value: f32, mask: f32) -> f32 {
        (value - mask * self.middle) / (self.high - self.middle)
    }
}

/// How the scales of parts that were not learned from lie beside those of parts that were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gap {
    distance: [f32; 2],
    likelihood: [f32; 2],
}

impl Gap {
    /// Of one or more.
    pub(super) fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> [f32; 2]| {
            [0, 1].map(|i| all.iter().map(|gap| of(gap)[i]).sum::<f32>() / all.len() as f32)
        };
        Self {
            distance: mean(|gap| gap.distance),
            likelihood: mean(|gap| gap.likelihood),
        }
    }
}

impl Fusion {
    /// Where these scales lie beside `other`.
    pub(super) fn beside(self, other: Self) -> Gap {
        Gap {
            distance: self.distance.beside(other.distance),
            likelihood: self.likelihood.beside(other.likelihood),
        }
    }

    /// The scales that lie beside these as `gap` says.
    pub(super) fn moved(self, gap: Gap) -> Self {
        Self {
            distance: self.distance.moved(gap.distance),
            likelihood: self.likelihood.moved(gap.likelihood),
        }
    }

    /// Of a detector that has seen no parts: both maps as they are.
    pub(super) fn unscaled() -> Self {
        let scale = Scale {
            middle: 0.0,
            high: 1.0,
        };
        Self {
            distance: scale,
            likelihood: scale,
        }
    }

    /// How far from 0 a map of zeros would score: where scores of f16 and f32 part by a share of the maps' values,
    /// fused scores part by this share of their own size and of this.
    pub(super) fn offset(self) -> f32 {
        let Self {
            distance,
            likelihood,
        } = self;
        let of = |scale: Scale| scale.middle.abs() / (scale.high - scale.middle);
        0.5 * (of(distance) + of(likelihood))
    }

    /// From the maps of good parts, which should not have been trained on.
    ///
    /// # Errors
    /// As the operators; maps on which nothing stands out.
    pub(super) fn of(detector: &Detector, good: &[Features]) -> Result<Self> {
        let mut all = [Vec::new(), Vec::new()];
        for part in good {
            let maps = detector.maps(part, &[ScoreSource::Distance, ScoreSource::Likelihood])?;
            for (all, map) in all.iter_mut().zip(maps) {
                let pixels = map.into_iter().zip(&part.mask);
                all.extend(
                    pixels
                        .filter(|(_, m)| **m > 0.0)
                        .map(|(value, m)| value / m),
                );
            }
        }
        let [distance, likelihood] = all;
        Ok(Self {
            distance: Scale::of(&distance)?,
            likelihood: Scale::of(&likelihood)?,
        })
    }

    /// The mean of both maps, scaled; 0 is what half of a good part's pixels are below, and the background.
    pub(super) fn apply(self, distance: &[f32], likelihood: &[f32], mask: &[f32]) -> Vec<f32> {
        let pixels = distance.iter().zip(likelihood).zip(mask);
        pixels
            .map(|((&d, &l), &m)| 0.5 * (self.distance.apply(d, m) + self.likelihood.apply(l, m)))
            .collect()
    }

    /// As a model's metadata have it.
    pub(super) fn to_text(self) -> String {
        let Self {
            distance,
            likelihood,
        } = self;
        let scales = [distance, likelihood].map(|scale| format!("{} {}", scale.middle, scale.high));
        scales.join(" ")
    }

    /// What [`Fusion::to_text`] gave; none of anything else, or where a scale has no width.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let numbers = text.split(' ').map(|number| number.parse::<f32>().ok());
        let [a, b, c, d] = numbers.collect::<Option<Vec<_>>>()?[..] else {
            return None;
        };
        let scale = |middle: f32, high: f32| {
            let width = high - middle;
            (width.is_finite() && width > 0.0).then_some(Scale { middle, high })
        };
        Some(Self {
            distance: scale(a, b)?,
            likelihood: scale(c, d)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_move_as_far_as_they_lay_apart() {
        let of = |values: [f32; 2]| Scale {
            middle: values[0],
            high: values[1],
        };
        let fusion = |distance, likelihood| Fusion {
            distance: of(distance),
            likelihood: of(likelihood),
        };
        let seen = fusion([1.0, 3.0], [-500.0, -400.0]);
        let left_out = fusion([1.5, 4.5], [-450.0, -250.0]);
        let gap = left_out.beside(seen);
        assert_eq!(gap.distance, [0.25, 1.75]);
        assert_eq!(gap.likelihood, [0.5, 2.5]);
        assert_eq!(seen.moved(gap), left_out);
        let other = fusion([2.0, 4.0], [0.0, 10.0]).moved(Gap::mean(&[gap, gap]));
        assert_eq!(other, fusion([2.5, 5.5], [5.0, 25.0]));
    }

    #[test]
    fn maps_are_added_on_the_scale_of_good_parts() {
        let fusion = Fusion {
            distance: Scale::of(&[1.0, 2.0, 3.0]).unwrap(),
            likelihood: Scale {
                middle: -100.0,
                high: -50.0,
            },
        };
        // numpy.quantile([1, 2, 3], 0.99) = 2.98.
        assert!((fusion.distance.high - 2.98).abs() < 1e-6);
        let found = fusion.apply(
            &[2.98, 2.0, 0.0, 1.0],
            &[-50.0, 0.0, 0.0, -50.0],
            &[1.0, 1.0, 0.0, 0.5],
        );
        // Background is 0; half a pixel counts half.
        for (found, expected) in found.iter().zip([1.0, 1.0, 0.0, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert_eq!(Fusion::from_text(&fusion.to_text()), Some(fusion));
        for damaged in [
            "",
            "1 2 3",
            "1 2 3 4 5",
            "1 2 x 4",
            "1 2 4 4",
            "2 1 3 4",
            "1 2 3 inf",
            "NaN 2 3 4",
        ] {
            assert_eq!(Fusion::from_text(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn maps_without_a_scale_are_refused() {
        let error = Scale::of(&[4.0; 9]).unwrap_err().to_string();
        assert!(error.contains("score.source"), "{error}");
        assert!(Scale::of(&[1.0, f32::NAN]).is_err());
    }
}

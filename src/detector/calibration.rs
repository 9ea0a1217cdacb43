//! What a model knows of good parts' scores, and what follows for a new part: p-value, threshold, verdict.

use super::config::ScoreSource;
use super::{Detector, Features, Fusion};
use crate::evaluate::conformal::{Conformal, Line, parts_needed};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How often a good part is called defective, unless something else is asked for: 5 %, or the least that so few parts
/// support, but no more than 10 %.
pub fn default_rate(parts: usize) -> f64 {
    (1.0 / (parts + 1) as f64).clamp(0.05, 0.1)
}

/// Which good parts a calibration is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Kept back by the training, or the data set's validation parts.
    HeldOut,
    /// All, each scored by networks that had not seen it ([`super::folds`]).
    Folds,
    /// Those that were trained on, which score lower than new ones.
    TrainedOn,
    /// Given to `astray calibrate`.
    Given,
}

/// A good part, its score, and the highest value of its map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoodPart {
    pub name: String,
    pub score: f32,
    pub peak: f32,
}

/// A calibration as a model's file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub origin: Origin,
    /// What was asked for; the default where nothing was ([`default_rate`]).
    pub false_alarm_rate: Option<f64>,
    /// Set by hand, whatever the scores say.
    pub threshold: Option<f32>,
    pub parts: Vec<GoodPart>,
}

/// A record and what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    record: Record,
    scores: Conformal,
    peaks: Conformal,
}

/// A score, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub score: f32,
    pub threshold: Option<f32>,
    /// `None` where no threshold is known.
    pub defective: Option<bool>,
    /// How often a good part scores so high; `None` where no good part's score is known.
    pub p_value: Option<f64>,
}

impl Calibration {
    /// # Errors
    /// Scores from which nothing follows ([`Conformal::of`]), a rate that is none, a threshold that is no number.
    pub fn new(record: Record) -> Result<Self> {
        let asked = record.false_alarm_rate;
        if let Some(rate) = asked.filter(|rate| !(*rate > 0.0 && *rate < 1.0)) {
            return Err(Error::usage(format!(
                "the false-alarm rate is {rate}; expected a number between 0 and 1, such as 0.05"
            )));
        }
        if let Some(threshold) = record.threshold.filter(|t| !t.is_finite()) {
            return Err(Error::usage(format!(
                "the threshold is {threshold}; expected a number"
            )));
        }
        let of = |value: fn(&GoodPart) -> f32| {
            Conformal::of(&record.parts.iter().map(value).collect::<Vec<_>>())
        };
        Ok(Self {
            scores: of(|part| part.score)?,
            peaks: of(|part| part.peak)?,
            record,
        })
    }

    /// What [`Calibration::to_text`] gave; `None` of anything else.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        Self::new(serde_json::from_str(text).ok()?).ok()
    }

    /// As a model's metadata have it.
    ///
    /// # Errors
    /// None that a record of finite numbers could cause.
    pub(super) fn to_text(&self) -> Result<String> {
        serde_json::to_string(&self.record).map_err(|e| Error::failed(format!("JSON: {e}")))
    }

    /// How often a good part is called defective.
    pub fn rate(&self) -> f64 {
        let asked = self.record.false_alarm_rate;
        asked.unwrap_or_else(|| default_rate(self.parts()))
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The same scores with another line.
    ///
    /// # Errors
    /// As [`Calibration::new`].
    pub fn with(&self, rate: Option<f64>, threshold: Option<f32>) -> Result<Self> {
        Self::new(Record {
            false_alarm_rate: rate,
            threshold,
            ..self.record.clone()
        })
    }

    /// Where the line between good and defective is.
    pub fn line(&self) -> Line {
        match self.record.threshold {
            Some(threshold) => Line {
                threshold,
                extrapolated: None,
            },
            None => self.line_at(self.rate()),
        }
    }

    /// Where it would be at another rate.
    pub fn line_at(&self, rate: f64) -> Line {
        self.scores.line(rate)
    }

    /// Where a map is defective: at the same rate a good part's map is so somewhere.
    pub fn map_line(&self) -> Line {
        self.peaks.line(self.rate())
    }

    pub fn p_value(&self, score: f32) -> f64 {
        self.scores.p_value(score)
    }

    /// How often a good part's map has so high a peak.
    pub fn peak_p_value(&self, peak: f32) -> f64 {
        self.peaks.p_value(peak)
    }

    /// How many good parts count.
    pub fn parts(&self) -> usize {
        self.scores.parts()
    }

    /// Good parts that stand out of the others and are left out.
    pub fn outliers(&self) -> impl Iterator<Item = &GoodPart> {
        self.scores
            .outliers()
            .iter()
            .map(|&i| &self.record.parts[i])
    }

    /// Refuses a rate that the parts do not support without a tail.
    ///
    /// # Errors
    /// How many parts it takes.
    pub fn check_supported(&self) -> Result<()> {
        if self.line().extrapolated.is_none() {
            return Ok(());
        }
        let rate = self.rate();
        Err(Error::failed(format!(
            "--strict: {} good parts do not support a false-alarm rate of {rate}: it takes {}; give more with `astray \
             calibrate`, or ask for a higher rate",
            self.parts(),
            parts_needed(rate)
        )))
    }

    /// The threshold and where it comes from, in words.
    pub fn describe(&self) -> String {
        let (line, n) = (self.line(), self.parts());
        let rate = (1000.0 * self.rate()).round() / 10.0;
        let parts = match self.record.origin {
            Origin::HeldOut => format!("{n} good parts that were not trained on"),
            Origin::Folds => {
                format!("{n} good parts, each scored by networks that had not seen it")
            }
            Origin::TrainedOn => format!("{n} good parts that were trained on"),
            Origin::Given => format!("{n} good parts"),
        };
        let threshold = line.threshold;
        match (self.record.threshold, line.extrapolated) {
            (Some(_), _) => {
                let p = 100.0 * self.scores.p_value(threshold.next_up());
                format!("threshold {threshold:.4}, set by hand ({p:.1} % false alarms by {parts})")
            }
            (None, None) => {
                format!("threshold {threshold:.4}: {rate} % false alarms, from {parts}")
            }
            (None, Some([low, high])) => format!(
                "threshold {threshold:.4}: {rate} % false alarms, extrapolated from {parts} (an exponential tail; 95 %: \
                 {low:.4} to {high:.4}; {} parts would support it)",
                parts_needed(self.rate())
            ),
        }
    }

    /// What a user should know before trusting the threshold.
    pub fn warnings(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .outliers()
            .map(|part| {
                format!(
                    "{}: look at it: its score {:.4} stands out of the other good parts', and it is left out of the \
                     threshold",
                    part.name, part.score
                )
            })
            .collect();
        if self.record.origin == Origin::TrainedOn {
            all.push(
                "the threshold comes from the parts that were trained on, which score lower than new ones: set it with \
                 `astray calibrate` and other good parts, keep some back with --set train.hold_out=0.1, or train with \
                 --set train.calibration=folds"
                    .into(),
            );
        }
        all
    }
}

impl Detector {
    /// What a score means; `threshold` instead of the detector's own.
    pub fn verdict(&self, score: f32, threshold: Option<f32>) -> Verdict {
        let threshold = threshold.or(self.threshold);
        Verdict {
            score,
            threshold,
            defective: threshold.map(|t| score > t || score.is_nan()),
            p_value: self.calibration().map(|c| c.p_value(score)),
        }
    }

    /// The scores and peaks of good parts, of which `name` says the names.
    ///
    /// # Errors
    /// As [`Detector::score`].
    pub(super) fn measure(
        &self,
        good: &[Features],
        name: impl Fn(usize) -> String,
    ) -> Result<Vec<GoodPart>> {
        let parts = good.iter().enumerate();
        parts
            .map(|(i, part)| {
                let scored = self.score(part)?;
                Ok(GoodPart {
                    name: name(i),
                    score: scored.score,
                    peak: scored.map.iter().copied().fold(f32::MIN, f32::max),
                })
            })
            .collect()
    }

    /// Sets the line by good parts, which should not have been trained on, and the scale of fused maps.
    ///
    /// # Errors
    /// Scores from which no line follows ([`Conformal::of`]); the detector stays as it was.
    pub fn calibrate(
        &mut self,
        good: &[Features],
        names: &[String],
        origin: Origin,
        rate: Option<f64>,
    ) -> Result<()> {
        let before = self.fusion;
        if self.config.score.source == ScoreSource::Fusion {
            self.fusion = Some(Fusion::of(self, good)?);
        }
        let calibrated = self.measure(good, |i| names[i].clone()).and_then(|parts| {
            Calibration::new(Record {
                origin,
                false_alarm_rate: rate,
                threshold: None,
                parts,
            })
        });
        match calibrated {
            Ok(calibration) => self.set_calibration(calibration),
            Err(error) => {
                self.fusion = before;
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(scores: &[f32]) -> Record {
        let part = |(i, &score): (usize, &f32)| GoodPart {
            name: format!("train/good/{i:03}"),
            score,
            peak: 2.0 * score,
        };
        Record {
            origin: Origin::HeldOut,
            false_alarm_rate: None,
            threshold: None,
            parts: scores.iter().enumerate().map(part).collect(),
        }
    }

    #[test]
    fn a_few_parts_draw_the_line_that_they_support() {
        for (parts, rate) in [
            (5, 0.1),
            (9, 0.1),
            (12, 1.0 / 13.0),
            (19, 0.05),
            (500, 0.05),
        ] {
            assert_eq!(default_rate(parts), rate, "{parts}");
        }
        let twelve: Vec<f32> = (1..=12).map(|i| i as f32).collect();
        let calibration = Calibration::new(record(&twelve)).unwrap();
        assert_eq!(calibration.line().threshold, 12.0);
        assert_eq!(calibration.map_line().threshold, 24.0);
        assert!(
            calibration
                .describe()
                .contains("7.7 % false alarms, from 12 good parts")
        );
        assert!(calibration.check_supported().is_ok());
        let strict = calibration.with(Some(0.01), None).unwrap();
        assert!(strict.line().threshold > 12.0);
        let message = strict.check_supported().unwrap_err().to_string();
        assert!(message.contains("it takes 99"), "{message}");
        let by_hand = calibration.with(None, Some(3.5)).unwrap();
        assert_eq!(by_hand.line().threshold, 3.5);
        assert!(calibration.with(Some(1.5), None).is_err());
    }

    #[test]
    fn a_part_that_stands_out_is_named() {
        let mut scores: Vec<f32> = (0..30).map(|i| 1.0 + 0.01 * i as f32).collect();
        scores[17] = 9.0;
        let calibration = Calibration::new(record(&scores)).unwrap();
        assert_eq!(calibration.parts(), 29);
        assert!(calibration.line().threshold < 1.3);
        assert!(calibration.warnings()[0].starts_with("train/good/017: look at it"));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let scores = [0.1, -0.25, 1e-7, 3.4e20, 0.3];
        let calibration = Calibration::new(record(&scores)).unwrap();
        let text = calibration.to_text().unwrap();
        assert_eq!(Calibration::from_text(&text), Some(calibration));
        for damaged in [
            "",
            "{}",
            &text[1..],
            &text.replace("0.1", "null"),
            &text.replace("held-out", "held"),
        ] {
            assert_eq!(Calibration::from_text(damaged), None, "{damaged}");
        }
    }
}

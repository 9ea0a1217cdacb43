//! What a score means beside those of good parts: conformal p-values (Vovk, Gammerman & Shafer 2005; Bates et al.
//! 2023), and beyond the highest good score an exponential tail.

use crate::{Error, Result};

/// A good part stands out where fewer than this many so high were expected among all.
const EXPECTED_AT_MOST: f64 = 0.01;

/// The share of good parts that the tail is fitted to, the highest.
const TAIL: f64 = 1.0 / 3.0;

/// Standard errors on either side of an interval of 95 %.
const INTERVAL: f64 = 1.96;

/// The scores of good parts that were not trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Conformal {
    /// Ascending, without those that stand out.
    scores: Vec<f32>,
    outliers: Vec<usize>,
    tail: Tail,
}

/// Scores above `start` as an exponential distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tail {
    start: f64,
    /// The share of scores above `start`.
    share: f64,
    /// Mean of what exceeds `start`, and of how many scores it is the mean.
    excess: f64,
    count: f64,
}

/// Where the line between good and defective is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// A part that scores higher is defective.
    pub threshold: f32,
    /// The threshold's interval of 95 % where the tail had to be asked, because there were too few parts.
    pub extrapolated: Option<[f32; 2]>,
}

impl Conformal {
    /// Of two scores or more.
    ///
    /// # Errors
    /// Fewer, one that is not finite, or all alike.
    pub fn of(good: &[f32]) -> Result<Self> {
        if good.len() < 2 {
            return Err(Error::failed(format!(
                "a threshold needs the scores of at least two good parts; found {}",
                good.len()
            )));
        }
        if let Some(i) = good.iter().position(|s| !s.is_finite()) {
            return Err(Error::failed(format!(
                "the score of good part {i} is {}; expected a finite number",
                good[i]
            )));
        }
        let outliers = outliers(good);
        let kept = good.iter().enumerate();
        let kept = kept.filter(|(i, _)| !outliers.contains(i));
        let mut scores: Vec<f32> = kept.map(|(_, s)| *s).collect();
        scores.sort_unstable_by(f32::total_cmp);
        if scores.first() == scores.last() {
            return Err(Error::failed(format!(
                "all {} good parts score {}: no threshold follows from scores that do not differ; are they copies \
                 of one picture?",
                scores.len(),
                scores[0]
            )));
        }
        let tail = Tail::of(&scores);
        Ok(Self {
            scores,
            outliers,
            tail,
        })
    }

    /// How many scores count: those that do not stand out.
    pub fn parts(&self) -> usize {
        self.scores.len()
    }

    /// Which of the scores given stand out of the others so far that they are left out.
    pub fn outliers(&self) -> &[usize] {
        &self.outliers
    }

    /// How often a good part scores so high: (1 + number of scores ≥ s) / (n + 1), and above the highest score what
    /// the tail says, where that is less.
    pub fn p_value(&self, score: f32) -> f64 {
        if score.is_nan() {
            return 0.0; // what is no number must not pass
        }
        let below = self.scores.partition_point(|&s| s < score);
        let as_high = self.scores.len() - below;
        let conformal = (1 + as_high) as f64 / (self.scores.len() + 1) as f64;
        match as_high {
            0 => conformal.min(self.tail.p_value(f64::from(score))),
            _ => conformal,
        }
    }

    /// The lowest threshold above which p-values are at most `rate`.
    pub fn line(&self, rate: f64) -> Line {
        let n = self.scores.len();
        let highest = f64::from(self.scores[n - 1]);
        match (rate * (n + 1) as f64 + 1e-9).floor() as usize {
            0 => {
                let at_least = |score: f64| score.max(highest) as f32;
                let Tail { excess, count, .. } = self.tail;
                let spread = (INTERVAL / count.sqrt()).exp();
                let ends = [excess / spread, excess * spread];
                Line {
                    threshold: at_least(self.tail.score(rate)),
                    extrapolated: Some(ends.map(|excess| {
                        at_least(
                            Tail {
                                excess,
                                ..self.tail
                            }
                            .score(rate),
                        )
                    })),
                }
            }
            k => Line {
                threshold: self.scores[n - k.min(n)],
                extrapolated: None,
            },
        }
    }
}

/// The number of good parts from which a rate follows without a tail.
pub fn parts_needed(rate: f64) -> usize {
    (1.0 / rate - 1e-9).ceil() as usize - 1
}

/// Scores that a distribution with the others' median and upper quartile hardly has: an exponential one, whose tail
/// is longer than a normal distribution's.
fn outliers(scores: &[f32]) -> Vec<usize> {
    let median = f64::from(quantile(scores, 0.5));
    let excess = (f64::from(quantile(scores, 0.75)) - median) / std::f64::consts::LN_2;
    if excess <= 0.0 {
        return Vec::new();
    }
    let expected = |s: f32| 0.5 * (-(f64::from(s) - median) / excess).exp() * scores.len() as f64;
    (0..scores.len())
        .filter(|&i| expected(scores[i]) < EXPECTED_AT_MOST)
        .collect()
}

impl Tail {
    fn of(sorted: &[f32]) -> Self {
        let n = sorted.len();
        let count = ((n as f64 * TAIL).ceil() as usize).min(n - 1);
        let start = f64::from(sorted[n - 1 - count]);
        let above = sorted[n - count..].iter();
        let excess = above.map(|&s| f64::from(s) - start).sum::<f64>() / count as f64;
        Self {
            start,
            share: count as f64 / (n + 1) as f64,
            excess: excess.max(f64::MIN_POSITIVE),
            count: count as f64,
        }
    }

    /// How often a new score is above `score`. The mean excess is known from `count` scores only, so that this is no
    /// exponential but a Lomax distribution: exact for exponential scores, whatever their scale.
    fn p_value(&self, score: f64) -> f64 {
        let ratio = (score - self.start) / (self.excess * self.count);
        self.share * (1.0 + ratio).powf(-self.count)
    }

    /// The inverse of [`Tail::p_value`].
    fn score(&self, p: f64) -> f64 {
        let ratio = (self.share / p).powf(1.0 / self.count) - 1.0;
        self.start + self.excess * self.count * ratio
    }
}

/// Interpolated between neighbouring scores (numpy's `quantile`), of one score or more.
pub fn quantile(scores: &[f32], q: f64) -> f32 {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let last = sorted.len() - 1;
    let at = q * last as f64;
    let (low, high) = (sorted[at as usize], sorted[(at as usize + 1).min(last)]);
    (f64::from(low) + f64::from(high - low) * at.fract()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::random::Random;

    fn drawn(n: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..n)
            .map(|_| -(1.0 - random.uniform()).ln() as f32)
            .collect()
    }

    #[test]
    fn p_values_are_those_of_the_definition() {
        let good = [3.0, 1.0, 2.0, 4.0];
        let of = Conformal::of(&good).unwrap();
        assert!(of.outliers().is_empty());
        for (score, as_high) in [(0.5, 4), (1.0, 4), (1.5, 3), (3.0, 2), (4.0, 1)] {
            let expected = f64::from(1 + as_high) / 5.0;
            assert!((of.p_value(score) - expected).abs() < 1e-12, "{score}");
        }
        assert!(of.p_value(4.1) <= 0.2);
        assert_eq!(of.p_value(f32::NAN), 0.0);
    }

    #[test]
    fn a_score_is_above_the_line_exactly_where_its_p_value_is_at_most_the_rate() {
        for seed in 0..200 {
            let good = drawn(3 + seed as usize % 61, seed);
            let of = Conformal::of(&good).unwrap();
            for rate in [0.3, 0.1, 0.05, 0.01, 0.001] {
                let line = of.line(rate);
                let n = of.parts() as f64;
                assert_eq!(line.extrapolated.is_some(), rate * (n + 1.0) < 1.0 - 1e-9);
                if let Some([low, high]) = line.extrapolated {
                    assert!(low <= line.threshold && line.threshold <= high * 1.001);
                }
                let wide = (line.threshold.abs() + 1.0) * 1e-3;
                assert!(of.p_value(line.threshold + wide) <= rate, "{rate} {n}");
                assert!(of.p_value(line.threshold - wide) > rate, "{rate} {n}");
            }
        }
    }

    #[test]
    fn good_parts_are_called_defective_as_often_as_promised() {
        for (parts, rate) in [(12, 0.05), (12, 0.01), (32, 0.05), (32, 0.01), (120, 0.01)] {
            let mut alarms = 0.0;
            let sets = 2000;
            for seed in 0..sets {
                let line = Conformal::of(&drawn(parts, 77 + seed)).unwrap().line(rate);
                alarms += f64::from(-line.threshold).exp(); // the exponential distribution's own tail
            }
            let found = alarms / sets as f64;
            // Leaving out what stands out costs a little; a rate that parts support is undercut by rounding.
            assert!(
                found > 0.3 * rate && found < 2.0 * rate,
                "{parts} {rate}: {found}"
            );
        }
    }

    #[test]
    fn one_part_that_stands_out_does_not_move_the_line() {
        let good = drawn(40, 5);
        let clean = Conformal::of(&good).unwrap();
        let mut dusty = good.clone();
        dusty[17] = 50.0;
        let of = Conformal::of(&dusty).unwrap();
        assert_eq!(of.outliers(), [17]);
        assert_eq!(of.parts(), 39);
        for rate in [0.05, 0.01] {
            let (found, before) = (of.line(rate).threshold, clean.line(rate).threshold);
            assert!((found - before).abs() < 0.25 * before, "{found} {before}");
        }
    }

    #[test]
    fn what_supports_a_rate() {
        assert_eq!(parts_needed(0.05), 19);
        assert_eq!(parts_needed(0.01), 99);
        assert_eq!(parts_needed(0.3), 3);
        assert_eq!(parts_needed(1.0), 0);
        let nineteen = Conformal::of(&drawn(19, 1)).unwrap();
        if nineteen.outliers().is_empty() {
            assert_eq!(nineteen.line(0.05).extrapolated, None);
        }
        assert!(nineteen.line(0.049).extrapolated.is_some());
    }

    #[test]
    fn scores_that_say_nothing_are_refused() {
        for (scores, word) in [
            (&[][..], "found 0"),
            (&[1.0], "found 1"),
            (&[1.0, f32::NAN], "NaN"),
            (&[2.0, 2.0, 2.0], "do not differ"),
        ] {
            let message = Conformal::of(scores).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}

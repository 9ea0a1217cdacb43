//! Where to draw the line between good and defective. A part is defective if its score is above
//! the threshold, never if it equals it.

use serde::{Deserialize, Serialize};

use super::auroc::rank_key;
use crate::{Error, Result};

/// A threshold from the scores of good parts alone.
///
/// With n good parts no rule can promise fewer false alarms than about one in n: collect more
/// good parts for a stricter line. Use parts that were not trained on: a network scores what it
/// learned lower than what it will see.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The share of good parts that pass, 0 to 1, interpolated between neighbouring scores
    /// (numpy's `quantile`); 1 is the highest good score.
    Quantile(f64),
    /// Mean plus this many standard deviations (of the sample, n − 1).
    MeanStd(f64),
}

impl Rule {
    /// The threshold for `good`, the scores of good parts.
    ///
    /// Errors: no scores, scores that are not finite, a quantile outside 0 to 1, and fewer than
    /// two scores for `MeanStd`.
    pub fn threshold(self, good: &[f32]) -> Result<f32> {
        if good.is_empty() {
            return Err(Error::failed(
                "a threshold needs the scores of good parts; found none",
            ));
        }
        if let Some(i) = good.iter().position(|s| !s.is_finite()) {
            return Err(Error::failed(format!(
                "the score of good part {i} is {}; expected a finite number",
                good[i]
            )));
        }
        match self {
            Self::Quantile(q) if (0.0..=1.0).contains(&q) => Ok(quantile(good, q)),
            Self::Quantile(q) => Err(Error::usage(format!(
                "quantile is {q}; expected 0 to 1, such as 0.99"
            ))),
            Self::MeanStd(k) if !k.is_finite() => Err(Error::usage(format!(
                "{k} standard deviations; expected a finite number, such as 3"
            ))),
            Self::MeanStd(_) if good.len() < 2 => Err(Error::failed(
                "a standard deviation needs at least two good parts; found one",
            )),
            Self::MeanStd(k) => Ok(mean_std(good, k)),
        }
    }
}

fn quantile(scores: &[f32], q: f64) -> f32 {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let last = sorted.len() - 1;
    let at = q * last as f64;
    let (low, high) = (sorted[at as usize], sorted[(at as usize + 1).min(last)]);
    (f64::from(low) + f64::from(high - low) * at.fract()) as f32
}

fn mean_std(scores: &[f32], k: f64) -> f32 {
    let n = scores.len() as f64;
    let mean = scores.iter().map(|&s| f64::from(s)).sum::<f64>() / n;
    let squares: f64 = scores.iter().map(|&s| (f64::from(s) - mean).powi(2)).sum();
    (mean + k * (squares / (n - 1.0)).sqrt()) as f32
}

/// The best that any threshold could do on a labelled set. It has seen the answers: for reports,
/// not for a verdict on new parts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestF1 {
    pub threshold: f32,
    pub f1: f64,
    pub precision: f64,
    pub recall: f64,
}

/// The threshold with the highest F1, the highest such where several do as well. It lies halfway
/// between two scores. `None` where no part is defective.
///
/// Errors: lengths that differ, and NaN.
pub fn best_f1(scores: &[f32], labels: &[bool]) -> Result<Option<BestF1>> {
    if scores.len() != labels.len() {
        return Err(Error::shape(
            "best_f1",
            format!("{} labels", scores.len()),
            format!("{}", labels.len()),
        ));
    }
    if let Some(i) = scores.iter().position(|&s| rank_key(s).is_none()) {
        return Err(Error::failed(format!("score {i} is NaN: it has no rank")));
    }
    let defects = labels.iter().filter(|&&label| label).count() as f64;
    let mut order: Vec<(f32, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut best: Option<BestF1> = None;
    let mut hits = 0.0;
    for (i, &(score, label)) in order.iter().enumerate() {
        hits += f64::from(u8::from(label));
        let next = order.get(i + 1).map(|next| next.0);
        if defects == 0.0 || next == Some(score) {
            continue;
        }
        let flagged = (i + 1) as f64;
        let f1 = 2.0 * hits / (flagged + defects);
        if best.is_none_or(|best| f1 > best.f1) {
            best = Some(BestF1 {
                threshold: next.map_or(score.next_down(), |next| between(next, score)),
                f1,
                precision: hits / flagged,
                recall: hits / defects,
            });
        }
    }
    Ok(best)
}

/// Halfway, but below `high` even where the two are neighbouring floats.
fn between(low: f32, high: f32) -> f32 {
    let middle = low + (high - low) / 2.0;
    if middle.is_finite() && middle < high {
        middle
    } else {
        low
    }
}

//! What a threshold makes of a labelled set. A part is defective if its score is above the threshold, never if it
//! equals it.

use serde::{Deserialize, Serialize};

use super::auroc::rank_key;
use crate::{Error, Result};

/// Verdicts beside the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Defective parts that are called so, and those that are not.
    pub found: usize,
    pub missed: usize,
    /// Good parts that are called defective, and those that are not.
    pub false_alarms: usize,
    pub passed: usize,
}

impl Counts {
    /// `labels`: is the part defective? A score that is no number is called defective: it must not pass unseen.
    pub fn of(scores: &[f32], labels: &[bool], threshold: f32) -> Self {
        let mut counts = Self::default();
        for (&score, &defective) in scores.iter().zip(labels) {
            let called = score > threshold || score.is_nan();
            *match (defective, called) {
                (true, true) => &mut counts.found,
                (true, false) => &mut counts.missed,
                (false, true) => &mut counts.false_alarms,
                (false, false) => &mut counts.passed,
            } += 1;
        }
        counts
    }

    /// Harmonic mean of precision and recall; `None` where no part is defective.
    pub fn f1(&self) -> Option<f64> {
        let hits = 2.0 * self.found as f64;
        let wrong = (self.missed + self.false_alarms) as f64;
        (self.found + self.missed > 0).then(|| hits / (hits + wrong))
    }
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

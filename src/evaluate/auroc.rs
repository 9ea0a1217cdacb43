//! The area under the ROC curve, exactly: the probability that a random defect scores higher than
//! a random good one, ties counting half (Mann-Whitney U; scikit-learn's `roc_auc_score`).

use rayon::prelude::*;

use crate::{Error, Result};

/// AUROC of `scores`, where `labels` is true for a defect. `None` where only one class is there:
/// the area is then not defined.
///
/// Errors: lengths that differ, and NaN.
pub fn auroc(scores: &[f32], labels: &[bool]) -> Result<Option<f64>> {
    if scores.len() != labels.len() {
        return Err(Error::shape(
            "auroc",
            format!("{} labels", scores.len()),
            format!("{}", labels.len()),
        ));
    }
    let mut classes = [Vec::new(), Vec::new()];
    for (i, (&score, &label)) in scores.iter().zip(labels).enumerate() {
        let Some(key) = rank_key(score) else {
            return Err(Error::failed(format!("score {i} is NaN: it has no rank")));
        };
        classes[usize::from(label)].push(key);
    }
    let [mut good, mut defective] = classes;
    good.par_sort_unstable();
    defective.par_sort_unstable();
    Ok(area(&good, &defective))
}

/// An integer that sorts as the score does, so that pixels sort fast and ties are exact (−0 and 0
/// are one score). `None` for NaN.
pub(super) fn rank_key(score: f32) -> Option<u32> {
    // Adding 0 turns −0 into 0.
    let bits = (score + 0.0).to_bits();
    let key = match bits >> 31 {
        0 => bits | 0x8000_0000,
        _ => !bits,
    };
    (!score.is_nan()).then_some(key)
}

/// AUROC from the sorted keys of both classes, in integers until the last division.
pub(super) fn area(good: &[u32], defective: &[u32]) -> Option<f64> {
    area_by(good, defective.iter().copied(), defective.len())
}

/// As [`area`], for `count` defective keys in ascending order.
pub(super) fn area_by(
    good: &[u32],
    defective: impl Iterator<Item = u32>,
    count: usize,
) -> Option<f64> {
    if good.is_empty() || count == 0 {
        return None;
    }
    // Twice U: 2 for every good score below, 1 for every equal one.
    let mut doubled = 0u128;
    let (mut below, mut not_above) = (0, 0);
    for key in defective {
        while good.get(below).is_some_and(|&g| g < key) {
            below += 1;
        }
        not_above = not_above.max(below);
        while good.get(not_above).is_some_and(|&g| g == key) {
            not_above += 1;
        }
        doubled += (below + not_above) as u128;
    }
    Some(doubled as f64 / (2.0 * good.len() as f64 * count as f64))
}

//! The area under the per-region-overlap curve (Bergmann et al., "The MVTec Anomaly Detection
//! Dataset", IJCV 2021): PRO is the share of a defect's pixels above the threshold, averaged over
//! the 8-connected defects of all images, so that a small defect counts as much as a large one.

use crate::{Error, Result};

/// AUPRO over every threshold that occurs. Pixels of one score pass the threshold together.
///
/// `good`: ascending rank keys; `defective`: (rank key, component), ascending by key; `areas`:
/// pixels per component. The curve runs from (0, 0) over one point (false-positive rate, PRO) per
/// threshold, is integrated by trapezoids up to `limit`, interpolated there, and divided by it.
pub(super) fn aupro(
    good: &[u32],
    defective: &[(u32, u32)],
    areas: &[u32],
    limit: f64,
) -> Result<Option<f64>> {
    if !(limit > 0.0 && limit <= 1.0) {
        return Err(Error::usage(format!(
            "AUPRO limit is {limit}; expected a false-positive rate above 0 and at most 1"
        )));
    }
    if good.is_empty() || defective.is_empty() {
        return Ok(None);
    }
    let share: Vec<f64> = areas
        .iter()
        .map(|&area| 1.0 / (f64::from(area) * areas.len() as f64))
        .collect();
    let mut good = good.iter().rev().peekable();
    let mut defective = defective.iter().rev().peekable();
    let count = good.len() as f64;
    let (mut passed, mut fpr, mut pro, mut area) = (0usize, 0.0, 0.0, 0.0);
    while fpr < limit {
        let threshold = match (good.peek(), defective.peek()) {
            (Some(&&g), Some(&&(d, _))) => g.max(d),
            (Some(&&g), None) => g,
            (None, Some(&&(d, _))) => d,
            (None, None) => break,
        };
        let (last_fpr, last_pro) = (fpr, pro);
        while defective.peek().is_some_and(|d| d.0 == threshold) {
            pro += defective.next().map_or(0.0, |d| share[d.1 as usize]);
        }
        while good.next_if(|&&g| g == threshold).is_some() {
            passed += 1;
        }
        fpr = passed as f64 / count;
        if fpr > limit {
            let at_limit = last_pro + (pro - last_pro) * (limit - last_fpr) / (fpr - last_fpr);
            area += (limit - last_fpr) * (last_pro + at_limit) / 2.0;
        } else {
            area += (fpr - last_fpr) * (last_pro + pro) / 2.0;
        }
    }
    Ok(Some(area / limit))
}

/// Labels the 8-connected regions of a mask: 0 for a good pixel, else 1 + the region's index, in
/// the order of their first pixels; and the number of pixels of each.
pub fn components(mask: &[u8], width: usize) -> (Vec<u32>, Vec<u32>) {
    let mut labels = vec![0u32; mask.len()];
    let mut areas = Vec::new();
    let mut stack = Vec::new();
    let height = mask.len() / width.max(1);
    for start in 0..mask.len() {
        if mask[start] == 0 || labels[start] != 0 {
            continue;
        }
        let label = areas.len() as u32 + 1;
        let mut area = 0;
        labels[start] = label;
        stack.push(start);
        while let Some(i) = stack.pop() {
            area += 1;
            let (x, y) = (i % width, i / width);
            for row in y.saturating_sub(1)..(y + 2).min(height) {
                for column in x.saturating_sub(1)..(x + 2).min(width) {
                    let next = row * width + column;
                    if mask[next] != 0 && labels[next] == 0 {
                        labels[next] = label;
                        stack.push(next);
                    }
                }
            }
        }
        areas.push(area);
    }
    (labels, areas)
}

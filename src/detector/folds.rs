//! Cross-conformal calibration (Vovk 2015): every good part is scored by a detector that has not seen it, so that few
//! parts suffice for a threshold and all of them can be trained on.

use super::calibration::GoodPart;
use super::config::ScoreSource;
use super::fusion::Gap;
use super::{Detector, Extractor, Features, Fusion, Progress, train};
use crate::Result;

/// Each part is left out once, one part in so many at a time.
const FOLDS: usize = 4;

/// How many trainings it takes beside the last one, of all parts.
pub fn count(parts: usize) -> usize {
    FOLDS.min(parts)
}

/// The parts' scores by detectors that had not seen them, in the order of the parts. `detector`, which learned from
/// all of them, is given the scale that fused maps of new parts have: that of its own parts, moved as the maps of the
/// parts that were left out are moved beside those that were learned from.
///
/// # Errors
/// As [`train()`].
pub fn calibrate(
    detector: &mut Detector,
    extractor: &Extractor,
    parts: &[Features],
    names: &[String],
    tell: &mut dyn FnMut(Progress),
) -> Result<Vec<GoodPart>> {
    let folds = count(parts.len());
    let is_fused = detector.config.score.source == ScoreSource::Fusion;
    let (mut detectors, mut gaps) = (Vec::new(), Vec::new());
    for fold in 0..folds {
        let of = |is_left_out: bool| -> Vec<Features> {
            let wanted = parts.iter().enumerate();
            let wanted = wanted.filter(|(i, _)| (i % folds == fold) == is_left_out);
            wanted.map(|(_, part)| part.clone()).collect()
        };
        let (seen, left_out) = (of(false), of(true));
        let (mut trained, _) = train(extractor.clone(), &seen, tell)?;
        if is_fused {
            let scale = Fusion::of(&trained, &seen)?;
            gaps.push(Fusion::of(&trained, &left_out)?.beside(scale));
            trained.fusion = Some(scale);
        }
        detectors.push((trained, left_out));
    }
    if is_fused {
        let gap = Gap::mean(&gaps);
        for (trained, _) in &mut detectors {
            trained.fusion = trained.fusion.map(|scale| scale.moved(gap));
        }
        detector.fusion = Some(Fusion::of(detector, parts)?.moved(gap));
    }
    let mut all: Vec<(usize, GoodPart)> = Vec::new();
    for (fold, (trained, left_out)) in detectors.iter().enumerate() {
        let index = |i: usize| fold + i * folds;
        let measured = trained.measure(left_out, |i| names[index(i)].clone())?;
        all.extend(
            measured
                .into_iter()
                .enumerate()
                .map(|(i, part)| (index(i), part)),
        );
    }
    all.sort_by_key(|(i, _)| *i);
    Ok(all.into_iter().map(|(_, part)| part).collect())
}

//! What the commands of the detector share: progress bars, features of many parts, evaluation.

use super::args::DataArg;
use super::progress::Progress;
use crate::data::{Cache, Dataset, DepthMap, Mask, Sample, categories};
use crate::detector::config::Modality;
use crate::detector::{Detector, Extractor, Features, Judge, Part, Scored};
use crate::evaluate::bootstrap::interval;
use crate::evaluate::overlay::resize_map;
use crate::evaluate::{Counts, Metrics, PixelScores, Tested, auroc, best_f1};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name of a model's file in its folder.
pub const MODEL: &str = "model.safetensors";

/// Maps are compared with the ground truth at this many pixels a side at most.
const EVALUATED_SIDE: usize = 1024;

/// The data sets that are meant, or those of them that are named; what is left out of them is told.
///
/// # Errors
/// A folder that fits no layout; a name that is not there.
pub fn datasets(data: &DataArg, names: &[String]) -> Result<Vec<Dataset>> {
    let sets = match (&data.root, &data.good) {
        (Some(folder), _) => of_folder(folder, data.good_name.as_deref(), names)?,
        (None, Some(good)) => vec![Dataset::of_folders(
            good,
            data.bad.as_deref(),
            data.masks.as_deref(),
        )?],
        (None, None) => return Err(Error::usage("expected a folder of parts, or --good DIR")),
    };
    sets.iter().for_each(tell_notes);
    Ok(sets)
}

/// Tells what was left out of a data set.
pub fn tell_notes(dataset: &Dataset) {
    let notes = dataset.notes.iter();
    notes.for_each(|note| tracing::warn!("{note}"));
}

fn of_folder(data: &Path, good_name: Option<&str>, names: &[String]) -> Result<Vec<Dataset>> {
    let all = categories(data)?
        .iter()
        .map(|path| Dataset::open_named(path, good_name))
        .collect::<Result<Vec<_>>>()?;
    if let Some(missing) = names
        .iter()
        .find(|name| all.iter().all(|d| d.name != **name))
    {
        let known: Vec<&str> = all.iter().map(|d| d.name.as_str()).collect();
        return Err(Error::usage(format!(
            "--category {missing}: {} has {}",
            data.display(),
            known.join(", ")
        )));
    }
    Ok(all
        .into_iter()
        .filter(|d| names.is_empty() || names.contains(&d.name))
        .collect())
}

/// Refuses a data set whose parts lack what the model looks at.
///
/// # Errors
/// The first part without a picture or depth map, and what to do.
pub fn check_modality(dataset: &Dataset, modality: Modality) -> Result<()> {
    let all = || {
        dataset
            .train
            .iter()
            .chain(&dataset.validation)
            .chain(&dataset.test)
    };
    if !modality.has_depth() && all().any(|part| part.depth.is_some() && part.rgb.is_some()) {
        let root = dataset.root.display();
        tracing::warn!(
            "{root}: its depth maps are not used; `--modality rgb+depth` learns from both"
        );
    }
    for part in all() {
        let (lacks, has) = match (&part.rgb, &part.depth) {
            (None, _) if modality.has_rgb() => ("picture", "depth"),
            (_, None) if modality.has_depth() => ("depth map", "rgb"),
            _ => continue,
        };
        let message = format!(
            "{} has no {lacks}; train with `--modality {has}`, or add what is missing",
            part.name
        );
        return Err(Error::file(&dataset.root, message));
    }
    Ok(())
}

/// The features of many parts, with a bar.
///
/// # Errors
/// The first part that cannot be used.
pub fn features(
    extractor: &Extractor,
    samples: &[Sample],
    cache: Option<&Cache>,
    what: &str,
) -> Result<Vec<Features>> {
    if samples.is_empty() {
        return Ok(Vec::new());
    }
    let bar = Progress::new(what, samples.len());
    let mut all = Vec::with_capacity(samples.len());
    read_ahead(extractor, samples, cache, |sample, part| {
        if let Some(excess) = excess(sample, &part) {
            tracing::warn!("{excess}");
        }
        let features = extractor.features(part, cache)?;
        if !features.part_found {
            tracing::warn!(
                "{}: no part found: nothing stands out of its depth map's background",
                sample.name
            );
        }
        all.push(features);
        bar.inc();
        Ok(())
    })?;
    bar.finish();
    Ok(all)
}

/// That a part's picture exceeds white, with the picture's name.
fn excess(sample: &Sample, part: &Part) -> Option<String> {
    let (path, excess) = (sample.rgb.as_ref()?, part.excess()?);
    Some(format!("{}: {excess}", path.display()))
}

/// Hands each part to `work`, those that come next being read meanwhile.
///
/// # Errors
/// The first part that cannot be used.
pub fn read_ahead(
    extractor: &Extractor,
    samples: &[Sample],
    cache: Option<&Cache>,
    work: impl FnMut(&Sample, Part) -> Result<()>,
) -> Result<()> {
    crate::detector::read_ahead(samples, read(extractor, cache), work)
}

fn read(extractor: &Extractor, cache: Option<&Cache>) -> impl Fn(&&Sample) -> Result<Part> {
    move |sample| extractor.read(sample.rgb.as_deref(), sample.depth.as_deref(), cache)
}

/// The model of a category: `<model>/<category>/model.safetensors`, `<model>/model.safetensors`, or
/// the file itself.
///
/// # Errors
/// No such file; the message names the categories that have one.
pub fn model_file(model: &Path, category: &str) -> Result<PathBuf> {
    let [of_category, alone] = [model.join(category).join(MODEL), model.join(MODEL)];
    let found = [of_category, alone, model.to_path_buf()];
    if let Some(file) = found.into_iter().find(|path| path.is_file()) {
        return Ok(file);
    }
    let expected =
        format!("expected a model: a file, or a folder with {MODEL}, from `astray train`");
    let Ok(entries) = std::fs::read_dir(model) else {
        return Err(Error::file(model, format!("{expected}; there is none")));
    };
    let folders = entries.flatten().map(|entry| entry.path());
    let mut models: Vec<String> = folders
        .filter(|folder| folder.join(MODEL).is_file())
        .map(|folder| folder.display().to_string())
        .collect();
    models.sort();
    let found = match models.is_empty() {
        true => "a folder without one".into(),
        false => format!("models of categories, name one: {}", models.join(", ")),
    };
    Err(Error::file(model, format!("{expected}; found {found}")))
}

/// Checks a test set by what is quickly read: scoring takes long, and would stop at the first mask
/// that does not fit.
///
/// # Errors
/// No test parts; a mask whose size is not its picture's.
pub fn check_test(dataset: &Dataset) -> Result<()> {
    if dataset.test.is_empty() {
        let message = "no test parts to evaluate on; expected a folder `test` with `good` and one \
                       folder for each kind of defect, or `--good DIR --bad DIR`";
        return Err(Error::file(&dataset.root, message));
    }
    for sample in &dataset.test {
        if let Some(mask) = &sample.mask {
            let paths = (sample.rgb.as_deref(), sample.depth.as_deref());
            let (height, width) = size_of(paths)?;
            Mask::check_size(mask, width, height)?;
        }
    }
    Ok(())
}

/// Scores the test set of a category by a detector and its file: the figures, and each part's scores for
/// pictures of them.
///
/// # Errors
/// A file that cannot be used.
pub fn evaluate(
    (detector, file): (&Detector, &Path),
    dataset: &Dataset,
    cache: Option<&Cache>,
) -> Result<(Metrics, Vec<Scored>)> {
    let bar = Progress::new("evaluate", dataset.test.len());
    let mut pixels = PixelScores::new();
    let (mut scored, mut results) = (Vec::new(), Vec::new());
    let is_masked = |sample: &Sample| sample.is_defect() && sample.mask.is_some();
    let has_masks = dataset.test.iter().any(is_masked);
    let extractor = &detector.extractor;
    let mut judge = Judge::new(detector, detector.threshold, file);
    let mut notes = dataset.notes.clone();
    read_ahead(extractor, &dataset.test, cache, |sample, part| {
        let paths = (sample.rgb.as_deref(), sample.depth.as_deref());
        if let Some(excess) = excess(sample, &part) {
            tracing::warn!("{excess}");
            notes.push(excess);
        }
        let result = judge.score(part, paths, cache);
        let result = result.map_err(|e| Error::failed(format!("{}: {e}", sample.name)))?;
        let (height, width) = size_of(paths)?;
        let result = result.of_picture(detector.config.input.resize, (height, width));
        // That a mask is missing was told with the data set.
        if let Some(mask) = sample.load_mask(width, height)? {
            if sample.is_defect()
                && let Some(doubt) = mask.doubt()
            {
                tracing::warn!("{}: {doubt}", sample.name);
                notes.push(format!("{}: {doubt}", sample.name));
            }
            let shrink = (width.max(height) as f64 / EVALUATED_SIDE as f64).max(1.0);
            let (w, h) = (
                (width as f64 / shrink).round() as usize,
                (height as f64 / shrink).round() as usize,
            );
            let mask = if (w, h) == (width, height) {
                mask
            } else {
                mask.resize_any(w, h) // no thin defect is lost
            };
            let map = resize_map(&result.map, (result.height, result.width), (h, w))?;
            pixels.add(&sample.name, w, &map, &mask.pixels)?;
        }
        if !result.part_found {
            let note = "no part found: nothing stands out of its depth map's background";
            tracing::warn!("{}: {note}", sample.name);
            notes.push(format!("{}: {note}", sample.name));
        }
        let verdict = detector.verdict(result.score, None);
        results.push(Tested {
            name: sample.name.clone(),
            is_defective: sample.is_defect(),
            score: result.score,
            defective: verdict.defective,
            p_value: verdict.p_value,
            regions: detector.regions(&result, (height, width)),
        });
        scored.push(result);
        bar.inc();
        Ok(())
    })?;
    bar.finish();
    judge.note().iter().for_each(|note| eprintln!("{note}"));
    let scores: Vec<f32> = scored.iter().map(|s| s.score).collect();
    let labels: Vec<bool> = dataset.test.iter().map(Sample::is_defect).collect();
    let threshold = detector.threshold;
    let counts = |scores: &[f32], labels: &[bool]| threshold.map(|t| Counts::of(scores, labels, t));
    let f1 = |scores: &[f32], labels: &[bool]| counts(scores, labels).and_then(|c| c.f1());
    let image_auroc = |scores: &[f32], labels: &[bool]| auroc(scores, labels).ok().flatten();
    let defective = labels.iter().filter(|&&defect| defect).count();
    let has_both = defective > 0 && defective < labels.len();
    let (pixel_auroc, aupro) = match has_masks {
        true => (pixels.auroc(), pixels.aupro(0.3)?),
        false => (None, None),
    };
    let mut metrics = Metrics {
        category: dataset.name.clone(),
        parts: scores.len(),
        defective,
        image_auroc: auroc(&scores, &labels)?,
        pixel_auroc,
        aupro,
        best_f1: best_f1(&scores, &labels)?
            .filter(|_| has_both)
            .map(|best| best.f1),
        threshold,
        f1: f1(&scores, &labels).filter(|_| has_both),
        counts: counts(&scores, &labels),
        image_auroc_interval: interval(&scores, &labels, image_auroc),
        f1_interval: interval(&scores, &labels, f1),
        absent: BTreeMap::new(),
        notes,
        results,
    };
    metrics.say_what_is_absent(has_masks);
    Ok((metrics, scored))
}

/// Height and width of a part's picture or depth map.
pub fn size_of(part: (Option<&Path>, Option<&Path>)) -> Result<(usize, usize)> {
    let (width, height) = match part {
        (Some(path), _) => crate::data::image::dimensions(path)?,
        (None, Some(path)) => DepthMap::dimensions(path)?,
        (None, None) => return Err(Error::failed("neither picture nor depth map")),
    };
    Ok((height, width))
}

//! What the commands of the detector share: progress bars, features of many parts, evaluation.

use crate::data::{Cache, Dataset, Rgb, Sample, categories};
use crate::detector::{Detector, Extractor, Features, Scored};
use crate::evaluate::overlay::{Overlay, resize_map, write_map, write_png};
use crate::evaluate::report::ReportSample;
use crate::evaluate::{Metrics, PixelScores, auroc, best_f1};
use crate::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

/// The name of a model's file in its folder.
pub const MODEL: &str = "model.safetensors";

/// Maps are compared with the ground truth at this many pixels a side at most.
const EVALUATED_SIDE: usize = 1024;

/// A progress bar on standard error; silent where that is no terminal.
pub fn bar(what: &str, length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    let style = ProgressStyle::with_template("{prefix:>10} {bar:30} {pos}/{len} {elapsed} {msg}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.with_prefix(what.to_string())
}

/// The categories under `data`, or those of them that are named.
///
/// # Errors
/// A folder that fits no layout; a name that is not there.
pub fn datasets(data: &Path, names: &[String]) -> Result<Vec<Dataset>> {
    let all = categories(data)?
        .iter()
        .map(|path| Dataset::open(path))
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
    let bar = bar(what, samples.len());
    let one = |sample: &Sample| {
        let features = extractor.features(sample.rgb.as_deref(), sample.depth.as_deref(), cache);
        bar.inc(1);
        features
    };
    let all = samples.iter().map(one).collect();
    bar.finish();
    all
}

/// The model of a category: `<model>/<category>/model.safetensors`, `<model>/model.safetensors`, or
/// the file itself.
pub fn model_file(model: &Path, category: &str) -> PathBuf {
    let own = model.join(category).join(MODEL);
    match (model.is_dir(), own.exists()) {
        (false, _) => model.to_path_buf(),
        (true, true) => own,
        (true, false) => model.join(MODEL),
    }
}

/// Scores the test set of a category. With `report`, pictures are written there and described.
///
/// # Errors
/// A file that cannot be used or written.
pub fn evaluate(
    detector: &Detector,
    dataset: &Dataset,
    cache: Option<&Cache>,
    report: Option<&Path>,
) -> Result<(Metrics, Vec<ReportSample>)> {
    let bar = bar("evaluate", dataset.test.len());
    let mut pixels = PixelScores::new();
    let mut scored = Vec::new();
    let mut has_masks = true;
    for sample in &dataset.test {
        let features =
            detector
                .extractor
                .features(sample.rgb.as_deref(), sample.depth.as_deref(), cache)?;
        let result = detector.score(&features)?;
        let (height, width) = size_of(sample)?;
        match sample.load_mask(width, height)? {
            Some(mask) => {
                let shrink = (width.max(height) as f64 / EVALUATED_SIDE as f64).max(1.0);
                let (w, h) = (
                    (width as f64 / shrink).round() as usize,
                    (height as f64 / shrink).round() as usize,
                );
                let mask = if (w, h) == (width, height) {
                    mask
                } else {
                    mask.resize_nearest(w, h)
                };
                let map = resize_map(&result.map, (result.side, result.side), (h, w))?;
                pixels.add(&sample.name, w, &map, &mask.pixels)?;
            }
            None => has_masks = false,
        }
        scored.push(result);
        bar.inc(1);
    }
    bar.finish();
    let scores: Vec<f32> = scored.iter().map(|s| s.score).collect();
    let labels: Vec<bool> = dataset.test.iter().map(Sample::is_defect).collect();
    let f1 = detector
        .threshold
        .and_then(|threshold| f1(&scores, &labels, threshold));
    let metrics = Metrics {
        category: dataset.name.clone(),
        parts: scores.len(),
        defective: labels.iter().filter(|&&defect| defect).count(),
        image_auroc: auroc(&scores, &labels)?,
        pixel_auroc: if has_masks { pixels.auroc() } else { None },
        aupro: if has_masks { pixels.aupro(0.3)? } else { None },
        best_f1: best_f1(&scores, &labels)?.map(|best| best.f1),
        threshold: detector.threshold,
        f1,
    };
    let mut samples = Vec::new();
    if let Some(folder) = report {
        for (sample, result) in dataset.test.iter().zip(&scored) {
            samples.push(pictures(detector, dataset, sample, result, folder)?);
        }
    }
    Ok((metrics, samples))
}

/// Height and width of a part's picture or depth map.
fn size_of(sample: &Sample) -> Result<(usize, usize)> {
    match (&sample.rgb, &sample.depth) {
        (Some(path), _) => crate::data::image::dimensions(path).map(|(w, h)| (h, w)),
        (None, Some(path)) => {
            crate::data::DepthMap::load(path, 0.001).map(|map| (map.height, map.width))
        }
        (None, None) => Err(Error::failed(format!(
            "{} has neither picture nor depth map",
            sample.name
        ))),
    }
}

fn f1(scores: &[f32], labels: &[bool], threshold: f32) -> Option<f64> {
    let count = |said: bool, truth: bool| {
        scores
            .iter()
            .zip(labels)
            .filter(|&(&s, &l)| (s > threshold) == said && l == truth)
            .count() as f64
    };
    let (hit, wrong) = (count(true, true), count(true, false) + count(false, true));
    labels
        .contains(&true)
        .then(|| 2.0 * hit / (2.0 * hit + wrong))
}

/// How a detector's heat maps are drawn: the same for all parts, glowing where few pixels of good
/// parts ever do. A detector that was not calibrated shows each map by its own peak.
pub fn overlay(detector: &Detector, map: &[f32]) -> Overlay {
    let peak = || map.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let level = detector.map_threshold.unwrap_or_else(|| 0.5 * peak());
    Overlay {
        range: (0.5 * level, 3.0 * level),
        strength: 0.6,
        threshold: Some(level),
    }
}

/// The picture that a heat map is laid over: the photograph, or the depth map as grey.
pub fn background(
    rgb: Option<&Path>,
    depth: Option<&Path>,
    unit_mm: f64,
) -> Result<(Vec<u8>, usize, usize)> {
    if let Some(path) = rgb {
        let picture = Rgb::load(path)?;
        return Ok((picture.to_u8(), picture.height, picture.width));
    }
    let path = depth.ok_or_else(|| Error::failed("neither picture nor depth map"))?;
    let map = crate::data::DepthMap::load(path, unit_mm / 1000.0)?;
    let valid = || map.z.iter().copied().filter(|z| z.is_finite() && *z > 0.0);
    let (near, far) = (
        valid().fold(f32::MAX, f32::min),
        valid().fold(f32::MIN, f32::max),
    );
    let grey = |z: f32| match z.is_finite() && z > 0.0 {
        true => (255.0 - 215.0 * (z - near) / (far - near).max(1e-9)) as u8,
        false => 0,
    };
    Ok((
        map.z.iter().flat_map(|&z| [grey(z); 3]).collect(),
        map.height,
        map.width,
    ))
}

fn pictures(
    detector: &Detector,
    dataset: &Dataset,
    sample: &Sample,
    result: &Scored,
    folder: &Path,
) -> Result<ReportSample> {
    let safe: String = sample
        .name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let stem = format!(
        "{}_{safe}",
        dataset.name.replace(|c: char| !c.is_alphanumeric(), "_")
    );
    let images = folder.join("images");
    std::fs::create_dir_all(&images).map_err(|e| Error::file(&images, e))?;
    let unit = detector.config.depth.unit_mm;
    let (rgb, depth) = (sample.rgb.as_deref(), sample.depth.as_deref());
    let write = |name: &str, pixels: &[u8], size: (usize, usize)| -> Result<Option<String>> {
        let file = format!("{stem}_{name}.png");
        write_png(&images.join(&file), pixels, size)?;
        Ok(Some(format!("images/{file}")))
    };
    let (ground, height, width) = background(rgb, depth, unit)?;
    let size = (height, width);
    let overlay = overlay(detector, &result.map);
    let heat = overlay.draw(&ground, size, &result.map, (result.side, result.side))?;
    write_map(
        &images.join(format!("{stem}_map.tiff")),
        &result.map,
        (result.side, result.side),
    )?;
    let input = match rgb {
        Some(_) => write("input", &ground, size)?,
        None => None,
    };
    let depth = match depth {
        Some(path) => {
            let (grey, h, w) = background(None, Some(path), unit)?;
            write("depth", &grey, (h, w))?
        }
        None => None,
    };
    let truth = match sample.load_mask(width, height)? {
        Some(mask) if sample.is_defect() => {
            let white: Vec<u8> = mask
                .pixels
                .iter()
                .flat_map(|&m| [if m > 0 { 255 } else { 0 }; 3])
                .collect();
            write("truth", &white, size)?
        }
        _ => None,
    };
    Ok(ReportSample {
        category: dataset.name.clone(),
        name: sample.name.clone(),
        kind: match &sample.label {
            crate::data::Label::Good => "good".into(),
            crate::data::Label::Defect(kind) => kind.clone(),
        },
        defective: sample.is_defect(),
        score: result.score,
        input,
        depth,
        overlay: write("heat", &heat, size)?,
        truth,
    })
}

//! `astray predict`: score, verdict, heat map and raw map of parts.

use super::args::Predict;
use super::{device, job, output, pictures};
use crate::data::list_images;
use crate::detector::{Detector, Judge, read_ahead};
use crate::evaluate::overlay::{write_map, write_png};
use crate::tensor::Device;
use crate::{Error, Result};
use serde::Serialize;
use std::collections::HashSet;
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// One line of `--json`.
#[derive(Serialize)]
struct Prediction<'a> {
    path: &'a Path,
    score: f32,
    threshold: Option<f32>,
    /// `None` where no threshold is known.
    defective: Option<bool>,
    overlay: Option<PathBuf>,
    map: Option<PathBuf>,
}

pub fn run(args: &Predict) -> Result<u8> {
    let device = device::open_to_score(&args.device, args.precision.value, false)?;
    run_with(args, &Loaded::new(args, &device)?, &mut super::print)?;
    Ok(0)
}

/// The model and its file.
pub struct Loaded {
    file: PathBuf,
    detector: Detector,
}

impl Loaded {
    /// # Errors
    /// A file that is no model, or whose backbone has other weights than `args` says.
    pub fn new(args: &Predict, device: &Device) -> Result<Self> {
        let file = job::model_file(&args.model, "")?;
        let detector = Detector::load(&file, device)?;
        super::check_weights(&detector, args.weights.as_deref())?;
        Ok(Self { file, detector })
    }
}

/// Hands each line to `tell`.
pub fn run_with(
    args: &Predict,
    Loaded { file, detector }: &Loaded,
    tell: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    let threshold = args.threshold.or(detector.threshold);
    let (rgb, depth) = (expand(&args.paths)?, expand(&args.depth)?);
    let modality = detector.config.input.modality;
    for (needed, found, what) in [
        (modality.has_rgb(), &rgb, "pictures"),
        (modality.has_depth(), &depth, "--depth maps"),
    ] {
        let what = match (needed, found.is_empty()) {
            (true, true) => format!("needs {what}, and none were given"),
            (false, false) => format!(
                "uses no {what}, and {} were given: leave them out",
                found.len()
            ),
            _ => continue,
        };
        return Err(Error::usage(format!(
            "{}: this model {what}",
            args.model.display()
        )));
    }
    if modality.has_rgb() && modality.has_depth() && rgb.len() != depth.len() {
        return Err(Error::usage(format!(
            "{} pictures but {} depth maps: expected one for each",
            rgb.len(),
            depth.len()
        )));
    }
    for path in rgb.iter().chain(&depth) {
        std::fs::metadata(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    }
    if let Some(folder) = &args.out {
        output::check("--out", folder)?;
    }
    let parts = if modality.has_rgb() { &rgb } else { &depth };
    let mut taken = HashSet::new();
    let inputs = |i: usize| {
        let rgb = modality.has_rgb().then(|| rgb[i].as_path());
        (rgb, modality.has_depth().then(|| depth[i].as_path()))
    };
    let numbers: Vec<usize> = (0..parts.len()).collect();
    let read = |&i: &usize| {
        let (rgb, depth) = inputs(i);
        detector.extractor.read(rgb, depth, None)
    };
    let mut judge = Judge::new(detector, threshold, file);
    read_ahead(&numbers, read, |&i, part| {
        let (path, (rgb, depth)) = (&parts[i], inputs(i));
        let mut result = judge
            .score(part, (rgb, depth), None)
            .map_err(|e| Error::file(path, e))?;
        let (mut overlay, mut map) = (None, None);
        if let Some(folder) = &args.out {
            std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
            let stem = free_stem(path, &mut taken);
            let (picture, height, width) =
                pictures::background(rgb, depth, detector.config.depth.unit_mm)?;
            result = result.of_picture(detector.config.input.resize, (height, width));
            let heat = pictures::overlay(detector.map_threshold, &result.map);
            let pixels = heat.draw(
                &picture,
                (height, width),
                &result.map,
                (result.height, result.width),
            )?;
            let file = folder.join(format!("{stem}_heat.png"));
            write_png(&file, &pixels, (height, width))?;
            overlay = Some(file);
            let file = folder.join(format!("{stem}_map.tiff"));
            write_map(&file, &result.map, (result.height, result.width))?;
            map = Some(file);
        }
        let defective = threshold.map(|t| result.score > t);
        if args.json {
            let line = Prediction {
                path,
                score: result.score,
                threshold,
                defective,
                overlay,
                map,
            };
            let line =
                serde_json::to_string(&line).map_err(|e| Error::failed(format!("JSON: {e}")))?;
            tell(&line)
        } else {
            let verdict = match defective {
                Some(true) => "DEFECT",
                Some(false) => "good",
                None => "no threshold",
            };
            tell(&format!(
                "{verdict:<12} {:>12.5}  {}",
                result.score,
                path.display()
            ))
        }
    })?;
    judge.note().iter().for_each(|note| eprintln!("{note}"));
    Ok(())
}

/// The file's name without extension, numbered where another folder had one of that name.
fn free_stem(path: &Path, taken: &mut HashSet<String>) -> String {
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let numbered = (2..).map(|n| format!("{stem}_{n}"));
    let free = std::iter::once(stem.clone())
        .chain(numbered)
        .find(|name| taken.insert(name.clone()));
    free.unwrap_or(stem)
}

/// Files, folders, and `-` for a list of paths on standard input.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            for line in std::io::stdin().lock().lines() {
                let line = line.map_err(|e| Error::failed(format!("standard input: {e}")))?;
                if !line.trim().is_empty() {
                    add(line.trim().into(), &mut all)?;
                }
            }
        } else {
            add(path.clone(), &mut all)?;
        }
    }
    Ok(all)
}

fn add(path: PathBuf, all: &mut Vec<PathBuf>) -> Result<()> {
    match path.is_dir() {
        true => all.extend(list_images(&path)?),
        false => all.push(path),
    }
    Ok(())
}

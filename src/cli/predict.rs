//! `astray predict`: score, verdict, heat map and raw map of parts.

use super::args::Predict;
use super::{device, job, output, pictures};
use crate::data::list_images;
use crate::detector::{Detector, Judge, Verdict, read_ahead};
use crate::evaluate::Region;
use crate::evaluate::overlay::{write_map, write_png};
use crate::tensor::Device;
use crate::{Error, Result};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashSet;
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// One line of `--json`.
#[derive(Serialize)]
struct Prediction<'a> {
    path: Cow<'a, str>,
    #[serde(flatten)]
    verdict: Verdict,
    /// Does anything stand out of the depth map's background? Where nothing does there is no verdict.
    part_found: bool,
    /// Where the map is defective; the highest peak first.
    regions: Vec<Region>,
    overlay: Option<String>,
    map: Option<String>,
}

/// The line of `--json` of a part that could not be judged.
#[derive(Serialize)]
struct Failure<'a> {
    path: Cow<'a, str>,
    error: String,
}

pub fn run(args: &Predict) -> Result<u8> {
    let device = device::open_to_score(&args.device, args.precision.value, false)?;
    let failed = run_with(args, &Loaded::new(args, &device)?, &mut super::print)?;
    if failed > 0 {
        eprintln!("error: {failed} of the parts could not be judged");
    }
    Ok(u8::from(failed > 0))
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

/// Hands each line to `tell`, and says how many parts could not be judged.
///
/// # Errors
/// Wrong arguments, and results that cannot be written.
pub fn run_with(
    args: &Predict,
    Loaded { file, detector }: &Loaded,
    tell: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<usize> {
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
    let depth = match modality.has_rgb() && modality.has_depth() {
        true => partners(&rgb, depth)?,
        false => depth,
    };
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
        Ok(detector.extractor.read(rgb, depth, None))
    };
    let mut judge = Judge::new(detector, threshold, file);
    let mut failed = 0;
    read_ahead(&numbers, read, |&i, part| {
        let (path, (rgb, depth)) = (&parts[i], inputs(i));
        let scored = part.and_then(|part| {
            let size = job::size_of((rgb, depth))?;
            Ok((judge.score(part, (rgb, depth), None)?, size))
        });
        let (result, size) = match scored {
            Ok(scored) => scored,
            Err(error @ (Error::Device { .. } | Error::OutOfMemory { .. })) => {
                return Err(Error::file(path, error)); // the next part would not fare better
            }
            Err(error) => {
                failed += 1;
                return tell(&failure(path, &error, args.json)?);
            }
        };
        let result = result.of_picture(detector.config.input.resize, size);
        let regions = detector.regions(&result, size);
        let (mut overlay, mut map) = (None, None);
        if let Some(folder) = &args.out {
            std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
            let stem = free_stem(path, &mut taken);
            let (picture, height, width) = pictures::background(rgb, depth, &detector.config)?;
            let heat = pictures::overlay(detector.map_threshold, &result.map);
            let pixels = heat.draw(
                &picture,
                (height, width),
                &result.map,
                (result.height, result.width),
            )?;
            let file = folder.join(format!("{stem}_heat.png"));
            write_png(&file, &pixels, (height, width))?;
            overlay = Some(file.to_string_lossy().into_owned());
            let file = folder.join(format!("{stem}_map.tiff"));
            write_map(&file, &result.map, (result.height, result.width))?;
            map = Some(file.to_string_lossy().into_owned());
        }
        let mut verdict = detector.verdict(result.score, threshold);
        if !result.part_found {
            failed += 1;
            verdict.defective = None;
        }
        if args.json {
            let line = Prediction {
                path: path.to_string_lossy(),
                verdict,
                part_found: result.part_found,
                regions,
                overlay,
                map,
            };
            tell(&json_line(&line)?)
        } else {
            let said = match verdict.defective {
                _ if !result.part_found => "NO PART",
                Some(true) => "DEFECT",
                Some(false) => "good",
                None => "no threshold",
            };
            let p = verdict
                .p_value
                .map_or(String::new(), |p| format!("p {p:.4}  "));
            tell(&format!(
                "{said:<12} {:>12.5}  {p}{}",
                result.score,
                path.display()
            ))
        }
    })?;
    judge.note().iter().for_each(|note| eprintln!("{note}"));
    Ok(failed)
}

/// A line for a part that could not be judged.
fn failure(path: &Path, error: &Error, json: bool) -> Result<String> {
    let error = error.to_string();
    match json {
        true => json_line(&Failure {
            path: path.to_string_lossy(),
            error,
        }),
        false => {
            let of_file = format!("{}: ", path.display());
            let error = error.strip_prefix(&of_file).unwrap_or(&error);
            Ok(format!("{:<12} {:>12}  {of_file}{error}", "ERROR", ""))
        }
    }
}

fn json_line(line: &impl Serialize) -> Result<String> {
    serde_json::to_string(line).map_err(|e| Error::failed(format!("JSON: {e}")))
}

/// The depth map of each picture: that of the same name. Where there is one of each, they belong together, whatever
/// their names.
fn partners(rgb: &[PathBuf], depth: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    if rgb.len() != depth.len() {
        return Err(Error::usage(format!(
            "{} pictures but {} depth maps: expected one for each",
            rgb.len(),
            depth.len()
        )));
    }
    if rgb.len() == 1 {
        return Ok(depth);
    }
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_owned());
    let is_paired = |(a, b): (&PathBuf, &PathBuf)| stem(a) == stem(b);
    if rgb.iter().zip(&depth).all(is_paired) {
        return Ok(depth); // several folders may have the same names, in the same order
    }
    rgb.iter()
        .map(|picture| {
            let mut same = depth.iter().filter(|map| stem(map) == stem(picture));
            match (same.next(), same.next()) {
                (Some(map), None) => Ok(map.clone()),
                (None, _) => Err(Error::file(
                    picture,
                    "no depth map of the same name was given; pairs are found by the name without its extension",
                )),
                (Some(a), Some(b)) => Err(Error::file(
                    picture,
                    format!("has two depth maps of its name: {} and {}", a.display(), b.display()),
                )),
            }
        })
        .collect()
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

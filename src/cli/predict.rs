//! `astray predict`: score, verdict, heat map and raw map of parts.

use super::args::Predict;
use super::lists::{LIST, Lines, existing, expand, pair};
use super::{device, job, output, pictures};
use crate::data::check::unpaired;
use crate::data::{DepthMap, stem_of};
use crate::detector::config::Modality;
use crate::detector::{Detector, Judge, Scored, Seen, Verdict, read_ahead};
use crate::evaluate::Region;
use crate::evaluate::overlay::{write_map, write_png};
use crate::tensor::Device;
use crate::{Error, Result};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// One line of `--json`.
#[derive(Serialize)]
struct Prediction<'a> {
    path: Cow<'a, str>,
    #[serde(flatten)]
    verdict: Verdict,
    /// Does anything stand out of the depth map's background? Where nothing does there is no verdict.
    part_found: bool,
    /// Why the score may mean nothing: the picture is not like those that were learned from.
    warnings: Vec<String>,
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
    let mut tell = |line: &str| match super::is_printed(line)? {
        true => Ok(()),
        // Nobody listens. The list of parts may not have ended yet: it is not waited for.
        false => std::process::exit(0),
    };
    let failed = run_with(args, &Loaded::new(args, &device)?, &mut tell)?;
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
    if let Some(folder) = &args.out {
        let named = args
            .paths
            .iter()
            .chain(&args.depth)
            .filter(|path| path.as_os_str() != LIST);
        let folders = named.map(|path| match path.is_dir() {
            true => path.as_path(),
            false => path
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new(".")),
        });
        output::check_apart("--out", folder, folders)?;
        output::check("--out", folder)?;
    }
    let modality = detector.config.input.modality;
    let mut taken = HashSet::new();
    let mut judge = Judge::new(detector, threshold, file);
    let mut failed = 0;
    let read = |part: &Result<Inputs>| {
        Ok(part
            .as_ref()
            .map_err(|e| Error::failed(e.to_string()))
            .and_then(|inputs| {
                let (rgb, depth) = inputs.paths();
                detector.extractor.read(rgb, depth, None)
            }))
    };
    read_ahead(
        parts(args, modality)?,
        read,
        |inputs: Result<Inputs>, part| {
            let inputs = match inputs {
                Ok(inputs) => inputs,
                Err(error) => {
                    failed += 1;
                    return tell(&failure(Path::new(LIST), &error, args.json)?);
                }
            };
            let (path, (rgb, depth)) = (inputs.path(), inputs.paths());
            let scored = part.and_then(|mut part| {
                let size = job::size_of((rgb, depth))?;
                let seen = part.seen.take();
                Ok((judge.score(part, (rgb, depth), None)?, size, seen))
            });
            let (result, size, seen) = match scored {
                Ok(scored) => scored,
                Err(error @ (Error::Device { .. } | Error::OutOfMemory { .. })) => {
                    return Err(Error::file(path, error)); // the next part would not fare better
                }
                Err(error) => {
                    failed += 1;
                    return tell(&failure(path, &error, args.json)?);
                }
            };
            let mut warnings = unlike(detector, &result, seen);
            if let (Some(_), Some(depth)) = (rgb, depth) {
                let (height, width) = size;
                warnings.extend(unpaired((width, height), DepthMap::dimensions(depth)?));
            }
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
                    warnings,
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
                let p = verdict.p_value.map_or(String::new(), |p| match p < 1e-4 {
                    true => "p <0.0001 ".into(),
                    false => format!("p {p:.4}  "),
                });
                tell(&format!(
                    "{said:<12} {:>12.5}  {p}{}",
                    result.score,
                    path.display()
                ))?;
                for warning in warnings {
                    tracing::warn!("{}: {warning}", path.display());
                }
                Ok(())
            }
        },
    )?;
    judge.note().iter().for_each(|note| eprintln!("{note}"));
    Ok(failed)
}

/// The files of one part; at least one of them is there.
struct Inputs {
    rgb: Option<PathBuf>,
    depth: Option<PathBuf>,
}

impl Inputs {
    fn paths(&self) -> (Option<&Path>, Option<&Path>) {
        (self.rgb.as_deref(), self.depth.as_deref())
    }

    /// What the part is called by.
    fn path(&self) -> &Path {
        let (rgb, depth) = self.paths();
        rgb.or(depth).unwrap_or(Path::new(LIST))
    }
}

/// The parts that `args` names: all of them checked first, or one by one as the lines of a list come.
fn parts(
    args: &Predict,
    modality: Modality,
) -> Result<Box<dyn Iterator<Item = Result<Inputs>> + Send>> {
    let is_list = |paths: &[PathBuf]| paths.len() == 1 && paths[0].as_os_str() == LIST;
    let listed = [&args.paths, &args.depth].map(|paths| is_list(paths));
    if listed == [true, true] {
        let message = "`-` and `--depth -`: both lists cannot be standard input; give one, each line a picture and \
                       its depth map with a tab between them";
        return Err(Error::usage(message));
    }
    let is_all = match modality {
        Modality::Depth => listed[1] && args.paths.is_empty(),
        Modality::Rgb | Modality::RgbDepth => listed[0] && args.depth.is_empty(),
    };
    if is_all {
        let lines = Lines::new(BufReader::new(std::io::stdin()));
        return Ok(Box::new(
            lines.flat_map(move |line| of_line(line, modality)),
        ));
    }
    let (rgb, depth) = (expand(&args.paths)?, expand(&args.depth)?);
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
    for path in rgb.iter().chain(&depth) {
        std::fs::metadata(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    }
    let inputs: Vec<Inputs> = match modality {
        Modality::Rgb => rgb
            .into_iter()
            .map(|rgb| Inputs {
                rgb: Some(rgb),
                depth: None,
            })
            .collect(),
        Modality::Depth => depth
            .into_iter()
            .map(|depth| Inputs {
                rgb: None,
                depth: Some(depth),
            })
            .collect(),
        Modality::RgbDepth => {
            let depth = partners(&rgb, depth)?;
            let pairs = rgb.into_iter().zip(depth);
            pairs
                .map(|(rgb, depth)| Inputs {
                    rgb: Some(rgb),
                    depth: Some(depth),
                })
                .collect()
        }
    };
    Ok(Box::new(inputs.into_iter().map(Ok)))
}

/// The parts of a line: one, or those of a folder.
fn of_line(line: Result<OsString>, modality: Modality) -> Vec<Result<Inputs>> {
    let inputs = |path: PathBuf| match modality {
        Modality::Depth => Inputs {
            rgb: None,
            depth: Some(path),
        },
        _ => Inputs {
            rgb: Some(path),
            depth: None,
        },
    };
    let read = line.and_then(|line| {
        if modality == Modality::RgbDepth {
            let (rgb, depth) = pair(&line)?;
            return Ok(vec![Inputs {
                rgb: Some(rgb),
                depth: Some(depth),
            }]);
        }
        Ok(expand(&[existing(line)])?.into_iter().map(inputs).collect())
    });
    match read {
        Ok(parts) => parts.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    }
}

/// Where so much of a map is defective, it may not be the part at all.
const MOST: f64 = 0.9;

/// How a part differs from all that the model learned from, in words.
fn unlike(detector: &Detector, result: &Scored, seen: Option<Seen>) -> Vec<String> {
    let looks = detector
        .learned
        .as_ref()
        .and_then(|learned| learned.looks.as_ref());
    let mut all = match (looks, &seen) {
        (Some(looks), Some(seen)) => looks.differences(&seen.look),
        _ => Vec::new(),
    };
    all.extend(seen.and_then(|seen| seen.excess));
    let above = detector
        .map_threshold
        .map_or(0, |level| result.map.iter().filter(|v| **v > level).count());
    if above as f64 >= MOST * result.map.len() as f64 {
        all.push(
            "most of it is unlike the good parts: is it the same kind of part, in the same place?"
                .into(),
        );
    }
    all
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
    let stem = |path: &Path| stem_of(path);
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
    let stem = stem_of(path);
    let numbered = (2..).map(|n| format!("{stem}_{n}"));
    let free = std::iter::once(stem.clone())
        .chain(numbered)
        .find(|name| taken.insert(name.clone()));
    free.unwrap_or(stem)
}

//! The pictures of an evaluated test set, for the report.

use crate::data::{Dataset, DepthMap, Label, Rgb, Sample};
use crate::detector::Scored;
use crate::detector::config::Config;
use crate::evaluate::Tested;
use crate::evaluate::overlay::{Overlay, write_map, write_png};
use crate::evaluate::report::ReportSample;
use crate::{Error, Result};
use std::path::Path;

/// Writes input, heat map, raw map and ground truth of every test part into `folder`/images, and
/// describes them for the report. `level` is the detector's `map_threshold`, `config` its
/// configuration.
///
/// # Errors
/// A file that cannot be read or written.
pub fn of_dataset(
    dataset: &Dataset,
    scored: &[Scored],
    results: &[Tested],
    level: Option<f32>,
    config: &Config,
    folder: &Path,
) -> Result<Vec<ReportSample>> {
    let images = folder.join("images");
    std::fs::create_dir_all(&images).map_err(|e| Error::file(&images, e))?;
    let parts = dataset.test.iter().zip(scored).zip(results);
    parts
        .map(|((sample, result), tested)| {
            let shown = of_sample(dataset, sample, result, level, config, &images)?;
            Ok(ReportSample {
                p_value: tested.p_value,
                regions: tested.regions.clone(),
                ..shown
            })
        })
        .collect()
}

/// How heat maps are drawn: the same for all parts, glowing above `level`, a detector's
/// `map_threshold`. One that was not calibrated shows each map by its own peak.
pub fn overlay(level: Option<f32>, map: &[f32]) -> Overlay {
    let peak = || map.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let level = level.unwrap_or_else(|| 0.5 * peak());
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
    config: &Config,
) -> Result<(Vec<u8>, usize, usize)> {
    if let Some(path) = rgb {
        let picture = Rgb::load(path, config.input.white())?;
        return Ok((picture.to_u8(), picture.height, picture.width));
    }
    let path = depth.ok_or_else(|| Error::failed("neither picture nor depth map"))?;
    let map = DepthMap::load(path, &config.depth.meaning())?;
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

/// Writes and describes one part.
fn of_sample(
    dataset: &Dataset,
    sample: &Sample,
    result: &Scored,
    level: Option<f32>,
    config: &Config,
    images: &Path,
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
    // Two names may be alike in safe characters.
    let number = dataset
        .test
        .iter()
        .position(|other| other.name == sample.name);
    let stem = format!(
        "{}_{safe}_{}",
        dataset.name.replace(|c: char| !c.is_alphanumeric(), "_"),
        number.unwrap_or_default()
    );
    let (rgb, depth) = (sample.rgb.as_deref(), sample.depth.as_deref());
    let write = |name: &str, pixels: &[u8], size: (usize, usize)| -> Result<Option<String>> {
        let file = format!("{stem}_{name}.png");
        write_png(&images.join(&file), pixels, size)?;
        Ok(Some(format!("images/{file}")))
    };
    let (ground, height, width) = background(rgb, depth, config)?;
    let size = (height, width);
    let overlay = overlay(level, &result.map);
    let heat = overlay.draw(&ground, size, &result.map, (result.height, result.width))?;
    write_map(
        &images.join(format!("{stem}_map.tiff")),
        &result.map,
        (result.height, result.width),
    )?;
    let input = match rgb {
        Some(_) => write("input", &ground, size)?,
        None => None,
    };
    let depth = match depth {
        Some(path) => {
            let (grey, h, w) = background(None, Some(path), config)?;
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
            Label::Good => "good".into(),
            Label::Defect(kind) => kind.clone(),
        },
        defective: sample.is_defect(),
        score: result.score,
        input,
        depth,
        overlay: write("heat", &heat, size)?,
        truth,
        ..ReportSample::default()
    })
}

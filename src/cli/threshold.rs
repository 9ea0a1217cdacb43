//! `astray threshold`: shows where the line is and what it finds, or moves it, without the good parts' pictures.

use super::args::{Precision, Threshold};
use super::progress::Progress;
use super::{device, job, output};
use crate::data::{Dataset, Layout, Sample};
use crate::detector::{Calibration, Detector, Judge, Origin};
use crate::evaluate::conformal::parts_needed;
use crate::{Error, Result};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The false-alarm rates that known defects are held against.
const RATES: [f64; 5] = [0.01, 0.02, 0.05, 0.1, 0.2];

/// What `--json` prints.
#[derive(Serialize)]
struct Told<'a> {
    model: &'a Path,
    threshold: f32,
    map_threshold: Option<f32>,
    false_alarm_rate: f64,
    is_set_by_hand: bool,
    origin: Origin,
    /// Good parts that count, and those that stand out and are left out.
    parts: usize,
    outliers: Vec<&'a str>,
    /// An interval of 95 %, where the parts are too few for the rate.
    extrapolated: Option<[f32; 2]>,
    parts_needed: usize,
    rates: Vec<Found>,
}

/// What is found at a false-alarm rate.
#[derive(Serialize)]
struct Found {
    false_alarm_rate: f64,
    threshold: f32,
    is_extrapolated: bool,
    /// Of the known defects.
    found: Option<usize>,
    defects: Option<usize>,
}

pub fn run(args: &Threshold) -> Result<u8> {
    let device = device::open_to_score(&args.device, Precision::F32, false)?;
    let file = job::model_file(&args.model, "")?;
    let mut detector = Detector::load(&file, &device)?;
    let is_moved = args.threshold.is_some() || args.rate.false_alarm_rate.is_some();
    if is_moved {
        output::check_file("threshold", &file)?;
        let calibration =
            known(&detector, &file)?.with(args.rate.wanted(&detector), args.threshold)?;
        detector.set_calibration(calibration);
    }
    let calibration = known(&detector, &file)?.clone();
    if args.rate.strict {
        calibration.check_supported()?;
    }
    let defects = match args.known_defects.is_empty() {
        true => None,
        false => Some(scores(&detector, &file, &args.known_defects)?),
    };
    if is_moved {
        detector.save(&file)?;
    }
    let told = told(&file, &detector, &calibration, defects.as_deref());
    if args.json {
        super::print(&super::json(&told)?)?;
        return Ok(0);
    }
    super::print(&format!("{}: {}", file.display(), calibration.describe()))?;
    for warning in calibration.warnings() {
        super::print(&format!("note: {warning}"))?;
    }
    if defects.is_some() {
        super::print(&table(&told.rates))?;
    }
    Ok(0)
}

/// # Errors
/// A model without good parts' scores.
pub fn known<'a>(detector: &'a Detector, file: &Path) -> Result<&'a Calibration> {
    detector.calibration().ok_or_else(|| {
        let message = "the model has no scores of good parts: give it some with `astray calibrate MODEL GOOD`";
        Error::file(file, message)
    })
}

/// The scores of defective parts.
fn scores(detector: &Detector, file: &Path, folders: &[PathBuf]) -> Result<Vec<f32>> {
    let mut parts: Vec<Sample> = Vec::new();
    for folder in folders {
        let dataset = Dataset::open(folder)?;
        job::tell_notes(&dataset);
        job::check_modality(&dataset, detector.config.input.modality)?;
        let defects = match dataset.layout {
            Layout::Plain => dataset.train,
            _ => dataset.test.into_iter().filter(Sample::is_defect).collect(),
        };
        if defects.is_empty() {
            let message = "no defective parts; expected a folder of their pictures, or a data set that has test/<defect>";
            return Err(Error::file(folder, message));
        }
        parts.extend(defects);
    }
    let bar = Progress::new("defects", parts.len());
    let mut judge = Judge::new(detector, None, file);
    let mut all = Vec::new();
    job::read_ahead(&detector.extractor, &parts, None, |sample, part| {
        let paths = (sample.rgb.as_deref(), sample.depth.as_deref());
        all.push(judge.score(part, paths, None)?.score);
        bar.inc();
        Ok(())
    })?;
    bar.finish();
    Ok(all)
}

fn told<'a>(
    file: &'a Path,
    detector: &Detector,
    calibration: &'a Calibration,
    defects: Option<&[f32]>,
) -> Told<'a> {
    let record = calibration.record();
    let found = |rate: f64| {
        let line = calibration.line_at(rate);
        Found {
            false_alarm_rate: rate,
            threshold: line.threshold,
            is_extrapolated: line.extrapolated.is_some(),
            found: defects.map(|all| all.iter().filter(|s| **s > line.threshold).count()),
            defects: defects.map(<[f32]>::len),
        }
    };
    Told {
        model: file,
        threshold: calibration.line().threshold,
        map_threshold: detector.map_threshold,
        false_alarm_rate: calibration.rate(),
        is_set_by_hand: record.threshold.is_some(),
        origin: record.origin,
        parts: calibration.parts(),
        outliers: calibration
            .outliers()
            .map(|part| part.name.as_str())
            .collect(),
        extrapolated: calibration.line().extrapolated,
        parts_needed: parts_needed(calibration.rate()),
        rates: RATES.map(found).into(),
    }
}

fn table(rates: &[Found]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["false alarms", "threshold", "", "known defects found"]);
    for rate in rates {
        table.add_row([
            format!("{} %", 100.0 * rate.false_alarm_rate),
            format!("{:.4}", rate.threshold),
            if rate.is_extrapolated {
                "extrapolated"
            } else {
                ""
            }
            .to_string(),
            format!(
                "{} of {}",
                rate.found.unwrap_or(0),
                rate.defects.unwrap_or(0)
            ),
        ]);
    }
    table.trim_fmt()
}

//! `astray demo`: the whole job on parts that it draws itself.

use super::args::{Demo, Precision};
use super::progress::Progress;
use super::{backbone, device, draw, evaluate, job, output, pictures, train};
use crate::data::{Dataset, name_of};
use crate::detector::Extractor;
use crate::detector::config::Config;
use crate::evaluate::Summary;
use crate::files::write_atomic;
use crate::weights::Source;
use crate::{Error, Result};
use std::path::Path;

/// Marks a folder that may be replaced: nobody else's parts are.
const DRAWN: &str = ".drawn";

const TRAIN: usize = 80;
const TEST_GOOD: usize = 16;
const PER_DEFECT: usize = 6;

/// What the demo changes in the tiny preset: both sensors, and more epochs for fewer parts. A depth map
/// of 192² folds into 24², which is the features' map of a picture of 384² at stride 16.
const SETTINGS: [&str; 5] = [
    "input.modality=rgb+depth",
    "depth.size=192",
    "train.teacher_epochs=28",
    "train.student_epochs=28",
    "student.width=96",
];

pub fn run(args: &Demo) -> Result<u8> {
    let started = std::time::Instant::now();
    let mut settings: Vec<String> = SETTINGS.map(String::from).into();
    settings.push(format!("train.seed={}", args.seed));
    settings.extend(args.settings.iter().cloned());
    let config = Config::load(None, None, &settings)?;
    let device = device::open(&args.device, Precision::F32, false)?;
    for name in [job::MODEL, "report.html", "metrics.json"] {
        output::check_file("--out", &args.out.join(name))?;
    }
    check_own(&args.out)?;
    let source = Source::of(args.weights.as_deref());
    if source != Source::Seeded {
        // Wrong weights are refused before anything is drawn.
        Extractor::new(&config, &device, &source, &[])?;
    }

    let parts = args.out.join("parts");
    let mark = parts.join(DRAWN);
    if mark.exists() {
        std::fs::remove_dir_all(&parts).map_err(|e| Error::file(&parts, e))?;
    }
    let bar = Progress::new("draw", draw::sample_count(TRAIN, TEST_GOOD, PER_DEFECT));
    draw::draw_dataset(&parts, args.seed, TRAIN, TEST_GOOD, PER_DEFECT, || {
        bar.inc()
    })?;
    write_atomic(
        &mark,
        b"Drawn by `astray demo`, which replaces this folder.\n",
    )?;
    bar.finish();

    let dataset = Dataset::open(&parts)?;
    let (mut detector, losses) = train::fit(
        &config,
        &device,
        &dataset,
        &source,
        None,
        args.device.max_memory,
    )?;
    train::save(&mut detector, &args.out)?;
    let file = job::model_file(&args.out, "")?;
    let (metrics, scored) = job::evaluate((&detector, &file), &dataset, None)?;
    let level = detector.map_threshold;
    let samples = pictures::of_dataset(
        &dataset,
        &scored,
        &metrics.results,
        level,
        &detector.config,
        &args.out,
    )?;
    let summary = Summary::new(vec![metrics]);
    let mut card = evaluate::Card::of("", &detector)?;
    card.losses = losses;
    let mut notes: Vec<String> = backbone::note(&detector.extractor).into_iter().collect();
    notes.extend(evaluate::warnings(&detector));
    evaluate::report(
        &args.out,
        "astray: demo",
        notes,
        &summary,
        samples,
        &[card],
        device.name(),
    )?;
    super::print(&summary.table())?;
    super::print(&format!(
        "{:.0} s on {}. Open {}",
        started.elapsed().as_secs_f64(),
        device.name(),
        args.out.join("report.html").display()
    ))?;
    Ok(0)
}

/// A folder that holds a user's files is not written into; an earlier demo's is.
fn check_own(out: &Path) -> Result<()> {
    let files = std::fs::read_dir(out).into_iter().flatten().flatten();
    let found: Vec<String> = files.map(|entry| name_of(&entry.file_name())).collect();
    if found.is_empty() || out.join("parts").join(DRAWN).exists() {
        return Ok(());
    }
    let message = format!(
        "holds {} files or folders that no demo wrote ({}): --out expects a new or empty folder, or an earlier demo's",
        found.len(),
        found[..found.len().min(3)].join(", ")
    );
    Err(Error::file(out, message))
}

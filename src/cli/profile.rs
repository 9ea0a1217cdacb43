//! `astray profile`: runs a real job and tells where its time went; compares two such runs.

use super::args::{self, Predict, ProfileArgs, ProfileJob, ProfileReport, Train};
use super::predict::{self, Loaded};
use super::{device, draw, output, print, train};
use crate::detector::config::{Config, ImageSize};
use crate::detector::{Choice, Detector, Extractor};
use crate::files::write_atomic;
use crate::profile::{
    About, Change, Diff, Profile, Recorder, Roof, Work, diff, forget_peak_resident, mismatches,
    page, peak_resident_bytes, tells_time, trace,
};
use crate::tensor::Device;
use crate::weights::{SEEDED, Source};
use crate::{Error, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

/// Parts that a training learns from where none are given.
const PARTS: usize = 16;

pub fn run(args: &ProfileArgs) -> Result<u8> {
    match &args.job {
        None => profile_predict(&args.predict),
        Some(ProfileJob::Predict(args)) => profile_predict(args),
        Some(ProfileJob::Train(args)) => profile_train(args),
        Some(ProfileJob::Diff(args)) => compare(args),
    }
}

/// A job that can be run again, and what it is called.
struct Job<'a> {
    name: String,
    run: Work<'a>,
    /// Rounds where `--rounds` does not say, after one that is not counted where there are several.
    rounds: usize,
    /// So long it goes on uncounted after the first run: the clock of an idle GPU rises slowly.
    warm_up: Duration,
}

fn profile_predict(args: &args::ProfilePredict) -> Result<u8> {
    check(&args.report)?;
    let device = device::open_to_score(&args.device, args.precision.value, false)?;
    let choices = &args.config;
    let chosen = choices.preset.is_some() || choices.config.is_some();
    if args.model.is_some() && (chosen || !choices.settings.is_empty()) {
        return Err(Error::usage(
            "--preset, --config and --set are for an untrained model; the one that was named has its \
             configuration: leave them out",
        ));
    }
    let folder = draw::drawn_parts(1)?;
    let config = Config::load(
        args.config.preset.as_deref(),
        args.config.config.as_deref(),
        &args.config.settings,
    )?;
    let rgb = folder.path().join("train/good/rgb/000.png");
    let xyz = folder.path().join("train/good/xyz/000.tiff");
    let (model, name) = match &args.model {
        Some(model) => (model.clone(), model.display().to_string()),
        None => {
            let source = source(args.weights.as_deref());
            let extractor = Extractor::new(&config, &device, &source, &[&rgb])?;
            let name = format!("{} untrained", described(extractor.config()));
            let model = folder.path().join("model.safetensors");
            Detector::untrained(extractor)?.save(&model)?;
            (model, name)
        }
    };
    let (paths, depth, parts) = match args.paths.is_empty() && args.depth.is_empty() {
        false => (
            args.paths.clone(),
            args.depth.clone(),
            format!("{} paths", args.paths.len().max(args.depth.len())),
        ),
        true => {
            let modality = match args.model {
                None => config.input.modality,
                Some(_) => {
                    Detector::load(&super::job::model_file(&model, "")?, &device)?
                        .config
                        .input
                        .modality
                }
            };
            let wanted = |wanted: bool, path: &PathBuf| match wanted {
                true => vec![path.clone()],
                false => Vec::new(),
            };
            let rgb = wanted(modality.has_rgb(), &rgb);
            (
                rgb,
                wanted(modality.has_depth(), &xyz),
                "one drawn part".into(),
            )
        }
    };
    let real = Predict {
        model,
        // Here, as standard input can be read only once.
        paths: super::lists::expand(&paths)?,
        depth: super::lists::expand(&depth)?,
        out: None,
        json: false,
        threshold: None,
        weights: args.model.as_ref().and(args.weights.clone()),
        device: args.device.clone(),
        precision: args.precision.clone(),
    };
    // Once, as on a line of parts.
    let mut loaded = None;
    let run = || {
        let model = match loaded.take() {
            Some(model) => model,
            None => Loaded::new(&real, &device)?,
        };
        predict::run_with(&real, loaded.insert(model), &mut |_| Ok(())).and_then(|failed| {
            match failed {
                0 => Ok(()),
                n => Err(Error::failed(format!(
                    "{n} of the parts could not be judged: see `astray predict`"
                ))),
            }
        })
    };
    let job = Job {
        name: format!("predict with {name} on {parts}"),
        run: Box::new(run),
        rounds: 3,
        warm_up: Duration::from_millis(300),
    };
    run_job(job, &device, &args.report)
}

fn profile_train(args: &args::ProfileTrain) -> Result<u8> {
    check(&args.report)?;
    let device = device::open(&args.device, args.precision.value, false)?;
    let out = tempfile::tempdir().map_err(|e| Error::failed(format!("temporary folder: {e}")))?;
    let (mut config, mut drawn) = (args.config.clone(), None);
    let (data, name) = match &args.data {
        Some(data) => (data.clone(), data.display().to_string()),
        None => {
            // A few steps of each kind are enough; `--set` may ask for more.
            let few = ["train.teacher_epochs=2", "train.student_epochs=2"];
            config.settings.splice(0..0, few.map(String::from));
            let folder = drawn.insert(draw::drawn_parts(PARTS)?);
            (folder.path().to_path_buf(), format!("{PARTS} drawn parts"))
        }
    };
    let real = Train {
        data: args::DataArg::of(&data),
        config,
        modality: args.modality,
        seed: args.seed,
        weights: Some(args.weights.clone().unwrap_or(SEEDED.into())),
        device: args.device.clone(),
        precision: args.precision.clone(),
        category: args.category.clone(),
        out: out.path().to_path_buf(),
        cache: args.cache.clone(),
    };
    let config = Config::load(
        real.config.preset.as_deref(),
        real.config.config.as_deref(),
        &real.settings(),
    )?;
    let config = match config.input.modality.has_rgb() {
        true => Choice::new(&config, &source(args.weights.as_deref()))?.config,
        false => config,
    };
    let epochs = [config.train.teacher_epochs, config.train.student_epochs];
    let job = Job {
        name: format!(
            "train {} on {name}, {} + {} epochs",
            described(&config),
            epochs[0],
            epochs[1]
        ),
        run: Box::new(|| train::run_on(&real, &device, &mut |_| Ok(()))),
        rounds: 1,
        warm_up: Duration::ZERO,
    };
    run_job(job, &device, &args.report)
}

/// Random weights take as long as others, and are there for every network.
fn source(weights: Option<&Path>) -> Source {
    weights.map_or(Source::Seeded, |weights| Source::of(Some(weights)))
}

/// The choices that decide how long it takes.
fn described(config: &Config) -> String {
    let modality = config.input.modality;
    let backbone = match (modality.has_rgb(), config.input.image_size) {
        (true, ImageSize::Pixels(side)) => format!(" {} {side}²", config.backbone.name),
        _ => String::new(),
    };
    let modality = match (modality.has_rgb(), modality.has_depth()) {
        (true, true) => "rgb+depth",
        (true, false) => "rgb",
        (false, _) => "depth",
    };
    format!("{} {modality}{backbone}", config.preset)
}

fn check(report: &ProfileReport) -> Result<()> {
    let files = [
        ("--json", &report.json),
        ("--csv", &report.csv),
        ("--trace", &report.trace),
        ("--html", &report.html),
    ];
    for (option, file) in files {
        if let Some(file) = file {
            output::check_file(option, file)?;
        }
    }
    Ok(())
}

fn run_job(mut job: Job, device: &Device, report: &ProfileReport) -> Result<u8> {
    let recorder = Recorder::default();
    let layers = Registry::default()
        .with(recorder.layer())
        .with(super::logger());
    // Every thread's spans are wanted. It fails only where the caller has set one.
    let _ = tracing::subscriber::set_global_default(layers);
    let timestamps = !report.no_timestamps && tells_time(device)?;
    let rounds = report.rounds.unwrap_or(job.rounds);
    let mut recordings = Vec::new();
    if rounds > 1 {
        (job.run)()?;
        let start = Instant::now();
        while start.elapsed() < job.warm_up {
            (job.run)()?;
        }
    }
    // The untrained model was made in this process.
    forget_peak_resident();
    for _ in 0..rounds {
        let ((), recording) = recorder.record(device, timestamps, &mut job.run)?;
        recordings.push(recording);
    }
    // Before the roof is measured, which takes memory too.
    let peak_device_bytes = match device {
        Device::Gpu(gpu) => Some(gpu.peak_bytes()),
        Device::Cpu => None,
    };
    let peak_resident_bytes = peak_resident_bytes();
    let about = About {
        job: match device.is_half() {
            true => format!("{} in f16", job.name),
            false => job.name,
        },
        device: device.name().to_string(),
        half: device.is_half(),
        roof: Roof::measure(device, timestamps)?,
        peak_device_bytes,
        peak_resident_bytes,
    };
    let profile = Profile::new(&recordings, about);
    let last = recordings
        .last()
        .ok_or_else(|| Error::failed("nothing ran"))?;
    let write = |file: &Option<PathBuf>, text: &dyn Fn() -> Result<String>| match file {
        Some(file) => write_atomic(file, text()?.as_bytes()),
        None => Ok(()),
    };
    write(&report.json, &|| super::json(&profile))?;
    write(&report.csv, &|| Ok(profile.to_csv()))?;
    write(&report.trace, &|| super::json(&trace(last, &profile)))?;
    write(&report.html, &|| Ok(page(&profile)))?;
    print(&text(&profile, report.top))?;
    Ok(0)
}

fn text(profile: &Profile, top: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "kernel", "shapes", "variant", "calls", "ms", "share %", "ms/call", "GFLOP/s", "GB/s",
        "FLOP/B", "% roof",
    ]);
    for k in profile.kernels.iter().take(top) {
        table.add_row([
            format!("{} {}", k.op, k.entry),
            k.shapes.clone(),
            k.variant.clone(),
            k.calls.to_string(),
            format!("{:.2}", 1e3 * k.seconds),
            format!("{:.1}", 100.0 * k.share),
            format!("{:.3}", 1e3 * k.seconds / k.calls as f64),
            format!("{:.1}", k.gflops),
            format!("{:.1}", k.gb_per_s),
            format!("{:.1}", k.intensity),
            format!("{:.0}", k.percent_of_roof),
        ]);
    }
    right(&mut table, 3..=10);
    let rest: f64 = profile.kernels.iter().skip(top).map(|k| k.share).sum();
    let mut steps = Table::new();
    steps.load_style(presets::UTF8_FULL_CONDENSED);
    steps.set_header(["step on the host", "calls", "ms", "own ms"]);
    for step in &profile.steps {
        steps.add_row([
            step.name.clone(),
            step.calls.to_string(),
            format!("{:.2}", 1e3 * step.seconds),
            format!("{:.2}", 1e3 * step.own_seconds),
        ]);
    }
    right(&mut steps, 1..=3);
    let mut lines = vec![table.to_string()];
    if rest > 0.0 {
        lines.push(format!(
            "and {} more, {:.1} %: --top shows them",
            profile.kernels.len() - top,
            100.0 * rest
        ));
    }
    lines.push(steps.to_string());
    lines.push(summary(profile));
    lines.join("\n")
}

fn summary(profile: &Profile) -> String {
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let wall = profile.wall.iter().sum::<f64>() / profile.wall.len().max(1) as f64;
    let estimated = if profile.estimated {
        ", ESTIMATED: by the host's clock, with the way there and back"
    } else {
        ""
    };
    let mut lines = vec![
        format!("{} on {}{estimated}", profile.job, profile.device),
        format!(
            "wall time {:.1} ms ({} counted), of which kernels explain {:.1} %",
            1e3 * wall,
            match profile.wall.len() {
                1 => "one round".to_string(),
                n => format!("mean of {n} rounds"),
            },
            100.0 * profile.explained
        ),
        format!("roof, measured: {}", profile.roof),
    ];
    lines.extend(
        profile
            .roof
            .note(profile.half)
            .map(|note| format!("note: {note}")),
    );
    let peaks = [
        ("on the device", profile.peak_device_bytes),
        ("resident", profile.peak_resident_bytes),
    ];
    let peaks: Vec<String> = peaks
        .iter()
        .filter_map(|(place, bytes)| Some(format!("{} {place}", mib((*bytes)?))))
        .collect();
    if !peaks.is_empty() {
        lines.push(format!("peak memory {}", peaks.join(", ")));
    }
    if profile.stray_launches > 0 {
        lines.push(format!(
            "note: {} launches belong to no kernel",
            profile.stray_launches
        ));
    }
    lines.join("\n")
}

fn right(table: &mut Table, columns: std::ops::RangeInclusive<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// What `profile diff --json` prints.
#[derive(Serialize)]
struct Comparison<'a> {
    #[serde(flatten)]
    found: &'a Diff,
    /// What was compared all the same (`--force`).
    notes: Vec<String>,
    fail_over: Option<f64>,
    regressions: usize,
    /// Kernels, all of them together, and the job, with too few calls to tell.
    undecided: usize,
}

/// Exit status 1 on a regression.
fn compare(args: &args::ProfileDiff) -> Result<u8> {
    let (before, after) = (Profile::read(&args.before)?, Profile::read(&args.after)?);
    let differ = mismatches(&before, &after);
    if !differ.is_empty() && !args.force {
        return Err(Error::usage(format!(
            "{} and {} cannot be compared: {}; --force compares them all the same",
            args.before.display(),
            args.after.display(),
            differ.join("; ")
        )));
    }
    let mut found = diff(&before, &after);
    if let Some(percent) = args.fail_over {
        found.judge(percent);
    }
    let regressions = found.all().filter(|c| c.regression).count();
    let undecided = found.all().filter(|c| c.interval.is_none()).count();
    let compared = found.all().count() - undecided;
    if args.fail_over.is_some() && compared == 0 {
        return Err(Error::usage(format!(
            "--fail-over: {} and {} have too few rounds to tell anything; record both with `astray profile --rounds 5`",
            args.before.display(),
            args.after.display()
        )));
    }
    if args.json {
        print(&super::json(&Comparison {
            found: &found,
            notes: differ,
            fail_over: args.fail_over,
            regressions,
            undecided,
        })?)?;
        return Ok(u8::from(regressions > 0));
    }
    for line in differ {
        print(&format!("note: {line}"))?;
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "kernel",
        "shapes",
        "variant",
        "share %",
        "ms before",
        "ms after",
        "ratio",
        "99 % interval",
        "from",
        "",
    ]);
    for change in found.all() {
        let samples = change.samples;
        table.add_row([
            format!("{} {}", change.op, change.entry),
            change.shapes.clone(),
            change.variant.clone(),
            format!("{:.1}", 100.0 * change.share),
            format!("{:.4}", 1e3 * change.before),
            format!("{:.4}", 1e3 * change.after),
            format!("{:.3}", change.ratio),
            match change.interval {
                Some([low, high]) => format!("{low:.3} to {high:.3}"),
                None => "too few calls".into(),
            },
            format!("{} + {} {}", samples.before, samples.after, samples.of),
            match change.regression {
                true => "REGRESSION".to_string(),
                false => String::new(),
            },
        ]);
    }
    right(&mut table, 3..=8);
    print(&table.to_string())?;
    for (what, names) in [("gone", &found.gone), ("new", &found.new)] {
        if !names.is_empty() {
            print(&format!("{what}: {}", names.join(", ")))?;
        }
    }
    let by_call = |c: &Change| c.interval.is_some() && c.samples.of == "calls";
    if found.all().any(by_call) {
        print(
            "note: with fewer than three rounds calls are the samples; those of one round are slow together, so that \
             these intervals are too narrow: record both with `astray profile --rounds 5`",
        )?;
    }
    if let Some(percent) = args.fail_over {
        print(&format!(
            "{regressions} slower by more than {percent} %, with 99 % confidence for all {compared} lines together \
             (an interval is of its line alone, and can lie above without a verdict); {undecided} with too few calls \
             to tell"
        ))?;
    }
    Ok(u8::from(regressions > 0))
}

//! `astray evaluate`: figures on a labelled test set.

use super::args::Evaluate;
use super::{backbone, device, job, output, pictures};
use crate::Result;
use crate::data::Cache;
use crate::detector::{Detector, Learned, Losses};
use crate::evaluate::Summary;
use crate::evaluate::report::{CategoryReport, LossCurve, Report, ReportSample};
use crate::files::write_atomic;
use std::path::Path;

pub fn run(args: &Evaluate) -> Result<u8> {
    let device = device::open_to_score(&args.device, args.precision.value, false)?;
    let mut datasets = job::datasets(&args.data, &args.category.names)?;
    for dataset in &mut datasets {
        if args.data.good.is_some() {
            // Folders of pictures are not divided: all of them are tested.
            dataset
                .test
                .splice(0..0, std::mem::take(&mut dataset.train));
        }
        job::check_test(dataset)?;
        job::model_file(&args.model, &dataset.name)?;
    }
    if let Some(folder) = &args.report {
        output::check_apart(
            "--report",
            folder,
            datasets.iter().map(|set| set.root.as_path()),
        )?;
        for name in ["report.html", "metrics.json"] {
            output::check_file("--report", &folder.join(name))?;
        }
    }
    let cache = args.cache.folder.as_deref().map(Cache::open).transpose()?;
    let mut all = Vec::new();
    let (mut notes, mut told) = (Vec::new(), None);
    let (mut to_show, mut cards) = (Vec::new(), Vec::new());
    for dataset in datasets {
        let file = job::model_file(&args.model, &dataset.name)?;
        let detector = Detector::load(&file, &device)?;
        job::check_modality(&dataset, detector.config.input.modality)?;
        super::check_weights(&detector, args.weights.as_deref())?;
        // Models of several categories mostly have the same one.
        let line = backbone::line(&detector.extractor);
        if line != told {
            line.iter().for_each(|line| eprintln!("{line}"));
            told = line;
        }
        let (metrics, scored) = job::evaluate((&detector, &file), &dataset, cache.as_ref())?;
        notes.extend(backbone::note(&detector.extractor));
        notes.extend(warnings(&detector));
        notes.extend(metrics.notes.iter().cloned());
        notes.extend(metrics.reasons());
        cards.push(Card::of(&dataset.name, &detector)?);
        if args.report.is_some() {
            let config = detector.config.clone();
            let level = detector.map_threshold;
            to_show.push((dataset, scored, metrics.results.clone(), level, config));
        }
        all.push(metrics);
    }
    let summary = Summary::new(all);
    if let Some(folder) = &args.report {
        notes.dedup();
        let mut samples = Vec::new();
        for (dataset, scored, results, level, config) in &to_show {
            samples.extend(pictures::of_dataset(
                dataset, scored, results, *level, config, folder,
            )?);
        }
        report(
            folder,
            "astray: evaluation",
            notes,
            &summary,
            samples,
            &cards,
            device.name(),
        )?;
    }
    super::print(&if args.json {
        super::json(&summary)?
    } else {
        summary.table()
    })?;
    Ok(0)
}

/// What made the figures, at the foot of the page.
pub struct Card {
    calibration: Option<String>,
    details: Vec<(String, String)>,
    /// Of the training, where the report is of one.
    pub losses: Losses,
}

impl Card {
    /// `category` is named where there may be several.
    ///
    /// # Errors
    /// A configuration that TOML cannot hold.
    pub fn of(category: &str, detector: &Detector) -> Result<Self> {
        let named = |what: &str| match category.is_empty() {
            true => what.to_string(),
            false => format!("{category}: {what}"),
        };
        let calibration = detector.calibration().map(|c| c.describe());
        let mut details = vec![(named("backbone"), backbone::named(&detector.extractor))];
        if let Some(calibration) = &calibration {
            details.push((named("calibration"), calibration.clone()));
        }
        if let Some(Learned {
            category,
            sha256,
            parts,
            ..
        }) = &detector.learned
        {
            let learned = format!("{parts} good parts of `{category}`, sha256 {sha256}");
            details.push((named("learned from"), learned));
        }
        let config = detector.config.to_toml()?;
        details.push((
            named("configuration"),
            config.trim().replace("\n\n", "\n").replace('\n', "; "),
        ));
        Ok(Self {
            calibration,
            details,
            losses: Losses::default(),
        })
    }
}

/// What a reader should know of the threshold.
pub fn warnings(detector: &Detector) -> Vec<String> {
    detector.calibration().map_or(Vec::new(), |c| c.warnings())
}

/// Writes `report.html` and `metrics.json` into a folder that holds the pictures.
pub fn report(
    folder: &Path,
    title: &str,
    notes: Vec<String>,
    summary: &Summary,
    samples: Vec<ReportSample>,
    cards: &[Card],
    device: &str,
) -> Result<()> {
    let categories = summary
        .categories
        .iter()
        .zip(cards)
        .map(|(m, card)| CategoryReport {
            name: m.category.clone(),
            image_auroc: m.image_auroc,
            pixel_auroc: m.pixel_auroc,
            aupro: m.aupro,
            threshold: m.threshold,
            calibration: card.calibration.clone(),
            image_auroc_interval: m.image_auroc_interval,
        });
    let curve = |name: &str, values: &Vec<f32>| LossCurve {
        name: name.into(),
        values: values.clone(),
    };
    let losses = |card: &Card| {
        [
            curve("teacher", &card.losses.teacher),
            curve("student", &card.losses.student),
        ]
    };
    let page = Report {
        title: title.into(),
        notes,
        categories: categories.collect(),
        samples,
        losses: cards
            .iter()
            .flat_map(losses)
            .filter(|c| !c.values.is_empty())
            .collect(),
        details: [
            ("astray".into(), env!("CARGO_PKG_VERSION").into()),
            ("device".into(), device.into()),
        ]
        .into_iter()
        .chain(cards.iter().flat_map(|card| card.details.clone()))
        .collect(),
    };
    page.write(&folder.join("report.html"))?;
    write_atomic(
        &folder.join("metrics.json"),
        super::json(summary)?.as_bytes(),
    )
}

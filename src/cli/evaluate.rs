//! `astray evaluate`: figures on a labelled test set.

use super::args::Evaluate;
use super::{backbone, device, job, output, pictures};
use crate::Result;
use crate::data::Cache;
use crate::detector::{Detector, Losses};
use crate::evaluate::Summary;
use crate::evaluate::report::{CategoryReport, LossCurve, Report, ReportSample};
use crate::files::write_atomic;
use std::path::Path;

pub fn run(args: &Evaluate) -> Result<u8> {
    let device = device::open_to_score(&args.device, args.precision.value, false)?;
    let datasets = job::datasets(&args.data, &args.category.names)?;
    for dataset in &datasets {
        job::check_test(dataset)?;
        job::model_file(&args.model, &dataset.name)?;
    }
    if let Some(folder) = &args.report {
        for name in ["report.html", "metrics.json"] {
            output::check_file("--report", &folder.join(name))?;
        }
    }
    let cache = args.cache.folder.as_deref().map(Cache::open).transpose()?;
    let mut all = Vec::new();
    let (mut notes, mut told) = (Vec::new(), None);
    let mut to_show = Vec::new();
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
        all.push(metrics);
        if args.report.is_some() {
            let unit_mm = detector.config.depth.unit_mm;
            to_show.push((dataset, scored, detector.map_threshold, unit_mm));
        }
    }
    let summary = Summary::new(all);
    if let Some(folder) = &args.report {
        notes.dedup();
        let mut samples = Vec::new();
        for (dataset, scored, level, unit_mm) in &to_show {
            samples.extend(pictures::of_dataset(
                dataset, scored, *level, *unit_mm, folder,
            )?);
        }
        report(
            folder,
            "astray: evaluation",
            notes,
            &summary,
            samples,
            &Losses::default(),
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

/// Writes `report.html` and `metrics.json` into a folder that holds the pictures.
pub fn report(
    folder: &Path,
    title: &str,
    notes: Vec<String>,
    summary: &Summary,
    samples: Vec<ReportSample>,
    losses: &Losses,
    device: &str,
) -> Result<()> {
    let categories = summary.categories.iter().map(|m| CategoryReport {
        name: m.category.clone(),
        image_auroc: m.image_auroc,
        pixel_auroc: m.pixel_auroc,
        aupro: m.aupro,
        threshold: m.threshold,
    });
    let curve = |name: &str, values: &Vec<f32>| LossCurve {
        name: name.into(),
        values: values.clone(),
    };
    let curves = [
        curve("teacher", &losses.teacher),
        curve("student", &losses.student),
    ];
    let page = Report {
        title: title.into(),
        notes,
        categories: categories.collect(),
        samples,
        losses: curves
            .into_iter()
            .filter(|c| !c.values.is_empty())
            .collect(),
        details: vec![
            ("astray".into(), env!("CARGO_PKG_VERSION").into()),
            ("device".into(), device.into()),
        ],
    };
    page.write(&folder.join("report.html"))?;
    write_atomic(
        &folder.join("metrics.json"),
        super::json(summary)?.as_bytes(),
    )
}

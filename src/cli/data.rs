//! `astray data check`: what a data set holds, before anything is learned from it.

mod page;

use super::args::DataCheck;
use super::progress::Progress;
use super::{job, output, train};
use crate::Result;
use crate::data::check::{Facts, Finding, Use, facts, findings};
use crate::data::{Dataset, Sample};
use crate::detector::config::Config;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;
use std::collections::BTreeMap;

/// One category.
#[derive(Serialize)]
struct Checked {
    category: String,
    layout: &'static str,
    training: usize,
    calibration: usize,
    test_good: usize,
    test_defective: usize,
    masks: usize,
    /// How the threshold will be drawn, where no part is kept back for it.
    folds: bool,
    /// What was left out or taken for something.
    notes: Vec<String>,
    findings: Vec<Finding>,
    parts: Vec<Facts>,
}

pub fn run(args: &DataCheck) -> Result<u8> {
    let config = Config::load(
        args.config.preset.as_deref(),
        args.config.config.as_deref(),
        &args.config.settings,
    )?;
    let datasets = job::datasets(&args.data, &args.category.names)?;
    if let Some(folder) = &args.page {
        output::check_apart(
            "--page",
            folder,
            datasets.iter().map(|set| set.root.as_path()),
        )?;
        output::check_file("--page", &folder.join(page::FILE))?;
    }
    let all: Vec<Checked> = datasets.iter().map(|set| check(set, &config)).collect();
    if let Some(folder) = &args.page {
        page::write(folder, &all)?;
    }
    super::print(&match args.json {
        true => super::json(&all)?,
        false => all.iter().map(text).collect::<Vec<_>>().join("\n\n"),
    })?;
    Ok(0)
}

fn check(dataset: &Dataset, config: &Config) -> Checked {
    let (training, calibration) = train::divided(config, dataset);
    let used = |used, parts: &[Sample]| -> Vec<(Use, Sample)> {
        parts.iter().map(|part| (used, part.clone())).collect()
    };
    let mut parts = used(Use::Training, &training);
    parts.extend(used(Use::Calibration, &calibration));
    parts.extend(used(Use::Test, &dataset.test));
    let parts: Vec<(Use, &Sample)> = parts.iter().map(|(used, part)| (*used, part)).collect();
    let bar = Progress::new("look", parts.len());
    let parts = facts(
        &parts,
        &config.depth.meaning(),
        config.input.white(),
        || bar.inc(),
    );
    bar.finish();
    let tested = |is_defective| {
        let found = dataset
            .test
            .iter()
            .filter(|part| part.is_defect() == is_defective);
        found.count()
    };
    Checked {
        category: dataset.name.clone(),
        layout: dataset.layout.name(),
        training: training.len(),
        calibration: calibration.len(),
        test_good: tested(false),
        test_defective: tested(true),
        masks: dataset
            .test
            .iter()
            .filter(|part| part.mask.is_some())
            .count(),
        folds: calibration.is_empty(),
        notes: dataset.notes.clone(),
        findings: findings(&parts),
        parts,
    }
}

/// How many parts have which size and kind, the most frequent first.
fn sizes(parts: &[Facts]) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::<String, usize>::new();
    for facts in parts {
        let size = facts
            .size
            .map_or("unreadable".into(), |(w, h)| format!("{w} x {h}"));
        let kind = facts.kind.as_deref().unwrap_or("depth");
        *counts.entry(format!("{size}, {kind}")).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

fn text(checked: &Checked) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "category",
        "layout",
        "training",
        "calibration",
        "test good",
        "test defective",
        "masks",
    ]);
    let calibration = match checked.folds {
        true => format!("{} in folds", checked.training),
        false => checked.calibration.to_string(),
    };
    table.add_row([
        checked.category.clone(),
        checked.layout.into(),
        checked.training.to_string(),
        calibration,
        checked.test_good.to_string(),
        checked.test_defective.to_string(),
        checked.masks.to_string(),
    ]);
    let mut lines = vec![table.trim_fmt()];
    let sizes = sizes(&checked.parts);
    let shown = sizes
        .iter()
        .take(4)
        .map(|(size, count)| format!("{count} of {size}"));
    let more = if sizes.len() > 4 { "; …" } else { "" };
    lines.push(format!(
        "pictures: {}{more}",
        shown.collect::<Vec<_>>().join("; ")
    ));
    for Finding {
        what,
        message,
        parts,
    } in &checked.findings
    {
        let shown = parts
            .iter()
            .take(4)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let more = match parts.len() {
            0..=4 => String::new(),
            n => format!(" and {} more", n - 4),
        };
        lines.push(format!("{what}: {message}: {shown}{more}"));
    }
    if checked.findings.is_empty() {
        lines.push("nothing stands out".into());
    }
    lines.join("\n")
}

//! The figures of a category and their mean over categories, as JSON and as a table.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::{Counts, Region};
use std::collections::BTreeMap;

/// What was measured on one category's test set. `None` where it is not defined, such as pixel
/// figures without masks; shown as a dash, and as `null` in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub category: String,
    /// Test parts, and how many of them are defective.
    pub parts: usize,
    pub defective: usize,
    pub image_auroc: Option<f64>,
    pub pixel_auroc: Option<f64>,
    /// AUPRO up to a false-positive rate of 0.3.
    pub aupro: Option<f64>,
    /// The best F1 that any threshold reaches on the test set.
    pub best_f1: Option<f64>,
    /// The threshold in use, the F1 that it reaches, and its verdicts.
    pub threshold: Option<f32>,
    pub f1: Option<f64>,
    pub counts: Option<Counts>,
    /// Intervals of 95 % over test sets drawn from this one ([`super::bootstrap`]).
    pub image_auroc_interval: Option<[f64; 2]>,
    pub f1_interval: Option<[f64; 2]>,
    /// Why a figure is `None`, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub absent: BTreeMap<String, String>,
    /// What was left out of the test set, or taken for something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Every test part; none in a mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<Tested>,
}

impl Metrics {
    /// Fills `absent`.
    pub fn say_what_is_absent(&mut self, has_masks: bool) {
        let good = self.parts - self.defective;
        let both = format!(
            "needs good and defective parts, and the test has {good} good and {} defective",
            self.defective
        );
        let by_pixel = match (self.defective, has_masks) {
            (0, _) => "the test has no defective parts",
            (_, false) => "no defective part has a mask",
            _ => "the masks mark nothing, or everything",
        };
        let uncalibrated = "the model has no threshold: `astray calibrate` draws one";
        let by_threshold = match self.threshold {
            Some(_) => both.as_str(),
            None => uncalibrated,
        };
        let figures = [
            ("image_auroc", self.image_auroc, both.as_str()),
            ("best_f1", self.best_f1, &both),
            ("f1", self.f1, by_threshold),
            ("pixel_auroc", self.pixel_auroc, by_pixel),
            ("aupro", self.aupro, by_pixel),
        ];
        for (name, figure, reason) in figures {
            if figure.is_none() {
                self.absent.insert(name.into(), reason.into());
            }
        }
    }

    /// Each reason of `absent` once, with the figures that it concerns.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = BTreeMap::<&str, Vec<&str>>::new();
        for (name, reason) in &self.absent {
            reasons.entry(reason).or_default().push(name);
        }
        let told = reasons.iter();
        told.map(|(reason, names)| format!("{}: no {}: {reason}", self.category, names.join(", ")))
            .collect()
    }

    /// What the threshold made of the parts, in words.
    fn verdicts(&self) -> Option<String> {
        let counts = self.counts?;
        let mut said = Vec::new();
        if self.defective > 0 {
            said.push(format!(
                "{} of {} defective parts found",
                counts.found, self.defective
            ));
        }
        let good = self.parts - self.defective;
        if good > 0 {
            said.push(format!(
                "{} of {good} good parts called defective",
                counts.false_alarms
            ));
        }
        Some(format!("{}: {}", self.category, said.join(", ")))
    }
}

/// A test part and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    pub name: String,
    /// What the part truly is.
    pub is_defective: bool,
    pub score: f32,
    /// `None` where no threshold, or no good part's score, is known.
    pub defective: Option<bool>,
    pub p_value: Option<f64>,
    pub regions: Vec<Region>,
}

/// All categories and their mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub categories: Vec<Metrics>,
    /// Unweighted mean of each figure over the categories that have it.
    pub mean: Metrics,
}

impl Summary {
    pub fn new(categories: Vec<Metrics>) -> Self {
        let mean = |figure: fn(&Metrics) -> Option<f64>| {
            let values: Vec<f64> = categories.iter().filter_map(figure).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let mean = Metrics {
            category: "mean".to_string(),
            parts: categories.iter().map(|m| m.parts).sum(),
            defective: categories.iter().map(|m| m.defective).sum(),
            image_auroc: mean(|m| m.image_auroc),
            pixel_auroc: mean(|m| m.pixel_auroc),
            aupro: mean(|m| m.aupro),
            best_f1: mean(|m| m.best_f1),
            // Thresholds of different models have no common unit.
            threshold: None,
            f1: mean(|m| m.f1),
            ..Metrics::default()
        };
        Self { categories, mean }
    }

    /// A table for people: figures in percent as in the papers, one row per category, and the mean
    /// where there are several; the verdicts, and why figures are absent, below.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header([
            "category",
            "parts",
            "defective",
            "image AUROC",
            "pixel AUROC",
            "AUPRO 0.3",
            "best F1",
            "threshold",
            "F1",
        ]);
        let mean = (self.categories.len() > 1).then_some(&self.mean);
        for m in self.categories.iter().chain(mean) {
            table.add_row([
                m.category.clone(),
                m.parts.to_string(),
                m.defective.to_string(),
                percent(m.image_auroc),
                percent(m.pixel_auroc),
                percent(m.aupro),
                percent(m.best_f1),
                m.threshold.map_or(DASH.to_string(), |t| format!("{t:.4}")),
                percent(m.f1),
            ]);
        }
        for i in 1..9 {
            if let Some(column) = table.column_mut(i) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut lines = vec![table.trim_fmt()];
        for m in &self.categories {
            lines.extend(m.verdicts());
            lines.extend(m.reasons());
        }
        lines.join("\n")
    }
}

const DASH: &str = "–";

fn percent(figure: Option<f64>) -> String {
    figure.map_or(DASH.to_string(), |f| format!("{:.2}", f * 100.0))
}

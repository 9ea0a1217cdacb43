//! The report: one HTML page that opens from disk and asks no network for anything.

mod charts;
mod gallery;

use std::fmt::Write;
use std::path::Path;

use super::Region;
use crate::Result;
use crate::files::write_atomic;

/// The pages' style.
pub const STYLE: &str = include_str!("report/style.css");

/// Everything that the page shows. Text is escaped here; addresses of pictures are relative to the
/// page's folder.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub title: String,
    /// What the reader must know, in plain words: a random backbone, a small test set.
    pub notes: Vec<String>,
    pub categories: Vec<CategoryReport>,
    pub samples: Vec<ReportSample>,
    pub losses: Vec<LossCurve>,
    /// Names and values at the foot of the page: program version, device, seed, times.
    pub details: Vec<(String, String)>,
}

/// The results of one category, 0 to 1; `None` where the test set cannot give a number.
#[derive(Clone, Debug, Default)]
pub struct CategoryReport {
    pub name: String,
    pub image_auroc: Option<f64>,
    pub pixel_auroc: Option<f64>,
    pub aupro: Option<f64>,
    /// A part with a higher score is called defective.
    pub threshold: Option<f32>,
    /// Where the threshold comes from, in words.
    pub calibration: Option<String>,
    /// 95 % over test sets drawn from this one.
    pub image_auroc_interval: Option<[f64; 2]>,
}

/// One part of the test set.
#[derive(Clone, Debug, Default)]
pub struct ReportSample {
    /// The category's name, as in [`CategoryReport`].
    pub category: String,
    pub name: String,
    /// `good` or the kind of defect.
    pub kind: String,
    /// What the part truly is.
    pub defective: bool,
    pub score: f32,
    /// How often a good part scores so high.
    pub p_value: Option<f64>,
    /// Where its map is defective.
    pub regions: Vec<Region>,
    pub input: Option<String>,
    pub depth: Option<String>,
    pub overlay: Option<String>,
    pub truth: Option<String>,
}

/// One training's loss, a value per epoch.
#[derive(Clone, Debug, Default)]
pub struct LossCurve {
    pub name: String,
    pub values: Vec<f32>,
}

impl Report {
    /// Writes the page, whole or not at all.
    ///
    /// # Errors
    /// Failed writing.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.to_html().as_bytes())
    }

    /// The page as text.
    pub fn to_html(&self) -> String {
        let mut body = String::new();
        self.header(&mut body);
        self.metrics(&mut body);
        self.charts(&mut body);
        gallery::gallery(&mut body, self);
        self.footer(&mut body);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
             <script>\n{}</script>\n</body>\n</html>\n",
            escape(&self.title),
            STYLE,
            include_str!("report/script.js"),
        )
    }

    fn header(&self, page: &mut String) {
        let defective = self.samples.iter().filter(|s| s.defective).count();
        let good = self.samples.len() - defective;
        push(
            page,
            format_args!(
                "<header>\n<p class=\"brand\">astray</p>\n<h1>{}</h1>\n\
                 <p class=\"lead\">{} tested: {good} good, {defective} defective.</p>\n</header>\n",
                escape(&self.title),
                counted(self.samples.len(), "part", "parts"),
            ),
        );
        for note in &self.notes {
            push(
                page,
                format_args!("<p class=\"note\">{}</p>\n", escape(note)),
            );
        }
    }

    /// Three large numbers, and a table where there is more than one category.
    fn metrics(&self, page: &mut String) {
        let mean = |value: fn(&CategoryReport) -> Option<f64>| {
            let values: Vec<f64> = self.categories.iter().filter_map(value).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let interval = match &self.categories[..] {
            [only] => only.image_auroc_interval,
            _ => None,
        };
        let tiles = [
            (
                "Image AUROC",
                mean(|c| c.image_auroc),
                "How often a defective part scores above a good one.",
            ),
            (
                "Pixel AUROC",
                mean(|c| c.pixel_auroc),
                "How often a defective pixel scores above a good one.",
            ),
            (
                "AUPRO",
                mean(|c| c.aupro),
                "How much of each defect is found while at most 30 % of good pixels are flagged.",
            ),
        ];
        page.push_str("<section class=\"tiles\">\n");
        for (name, value, meaning) in tiles {
            let bar = value.unwrap_or(0.0).clamp(0.0, 1.0) * 100.0;
            push(
                page,
                format_args!(
                    "<div class=\"tile\"><h2>{name}</h2><p class=\"number\">{}</p>\
                     <div class=\"meter\"><i style=\"width:{bar:.1}%\"></i></div><p>{meaning}{}</p></div>\n",
                    percent(value),
                    match interval.filter(|_| name == "Image AUROC") {
                        Some([low, high]) => format!(
                            " With other parts of the same kind 95 % lie between {:.1} and {:.1}.",
                            100.0 * low,
                            100.0 * high
                        ),
                        None => String::new(),
                    }
                ),
            );
        }
        page.push_str("</section>\n");
        if self.categories.len() > 1 {
            page.push_str(
                "<section><h2>Categories</h2><div class=\"scroll\"><table>\n<thead><tr><th>Category</th>\
                 <th>Image AUROC</th><th>Pixel AUROC</th><th>AUPRO</th></tr></thead>\n<tbody>\n",
            );
            let mut row = |class, name: &str, values: [Option<f64>; 3]| {
                let [a, b, c] = values.map(percent);
                let name = escape(name);
                push(
                    page,
                    format_args!(
                        "<tr{class}><th>{name}</th><td>{a}</td><td>{b}</td><td>{c}</td></tr>\n"
                    ),
                );
            };
            for c in &self.categories {
                row("", &c.name, [c.image_auroc, c.pixel_auroc, c.aupro]);
            }
            row(" class=\"mean\"", "Mean", tiles.map(|(_, value, _)| value));
            page.push_str("</tbody></table></div></section>\n");
        }
    }

    fn charts(&self, page: &mut String) {
        for category in &self.categories {
            let of_category = self.samples.iter().filter(|s| s.category == category.name);
            // A score that is no number has no place on an axis; the gallery shows it.
            let scores: Vec<(f32, bool)> = of_category
                .map(|s| (s.score, s.defective))
                .filter(|(score, _)| score.is_finite())
                .collect();
            if scores.is_empty() {
                continue;
            }
            page.push_str("<section>");
            if self.categories.len() > 1 {
                push(page, format_args!("<h2>{}</h2>", escape(&category.name)));
            }
            slider(page, category, &scores);
            push(
                page,
                format_args!(
                    "<div class=\"charts\">\n<figure class=\"wide\"><figcaption>Scores<span class=\"legend\">\
                     <i class=\"good\"></i>good <i class=\"bad\"></i>defective</span></figcaption>{}</figure>\n",
                    charts::histogram(&scores, category.threshold),
                ),
            );
            if let Some(curve) = charts::roc(&scores, category.threshold) {
                let caption = "Found defects against false alarms";
                push(
                    page,
                    format_args!("<figure><figcaption>{caption}</figcaption>{curve}</figure>\n"),
                );
            }
            page.push_str("</div></section>\n");
        }
        if self.losses.iter().any(|curve| curve.values.len() > 1) {
            page.push_str("<section><h2>Training</h2><div class=\"charts even\">\n");
            for curve in self.losses.iter().filter(|c| c.values.len() > 1) {
                push(
                    page,
                    format_args!(
                        "<figure><figcaption>{}</figcaption>{}</figure>\n",
                        escape(&curve.name),
                        charts::loss(&curve.values)
                    ),
                );
            }
            page.push_str("</div></section>\n");
        }
    }

    fn footer(&self, page: &mut String) {
        if self.details.is_empty() {
            return;
        }
        page.push_str("<footer><h2>Details</h2><dl>\n");
        for (name, value) in &self.details {
            let (name, value) = (escape(name), escape(value));
            push(page, format_args!("<dt>{name}</dt><dd>{value}</dd>\n"));
        }
        page.push_str("</dl></footer>\n");
    }
}

/// A threshold to move: the page's script counts anew what it finds.
fn slider(page: &mut String, category: &CategoryReport, scores: &[(f32, bool)]) {
    let Some(threshold) = category.threshold else {
        return;
    };
    let flagged = |defective: bool| {
        let all = scores.iter().filter(|s| s.1 == defective);
        (all.clone().filter(|s| s.0 > threshold).count(), all.count())
    };
    let ((found, defects), (alarms, good)) = (flagged(true), flagged(false));
    let name = escape(&category.name);
    if let Some(calibration) = &category.calibration {
        push(
            page,
            format_args!("<p class=\"lead\">{}</p>\n", escape(calibration)),
        );
    }
    push(
        page,
        format_args!(
            "<div class=\"threshold\" data-category=\"{name}\" data-threshold=\"{threshold}\" hidden><label>Threshold \
             <input type=\"range\"></label>\
             <button type=\"button\">Model's</button></div>\n<p class=\"verdicts\" data-category=\"{name}\" \
             aria-live=\"polite\">Found {found} of {defects}, missed {}; false alarms {alarms} of {good}.</p>\n",
            defects - found
        ),
    );
}

/// Appends formatted text; writing to a `String` does not fail.
fn push(page: &mut String, text: std::fmt::Arguments) {
    let _ = page.write_fmt(text);
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn percent(value: Option<f64>) -> String {
    match value {
        Some(value) => format!("{:.1}<small> %</small>", 100.0 * value),
        None => "–".into(),
    }
}

/// Text that HTML shows as it is, in elements and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

/// A p-value, or what it is below.
fn p_value(p: f64) -> String {
    match p < 0.001 {
        true => "p < 0.001".into(),
        false => format!("p {p:.3}"),
    }
}

/// Three significant digits.
fn short(value: f32) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    match digits {
        -3..=5 => format!("{value:.*}", digits.max(0) as usize),
        _ => format!("{value:.2e}"),
    }
}

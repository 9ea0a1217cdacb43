//! The test parts as cards, which the page's script sorts and filters.

use super::{Report, ReportSample, counted, escape, p_value, push, short};
use crate::evaluate::Region;

pub fn gallery(page: &mut String, report: &Report) {
    if report.samples.is_empty() {
        return;
    }
    page.push_str("<section id=\"parts\"><h2>Parts</h2>\n");
    controls(page, report);
    page.push_str("<div class=\"gallery\">\n");
    let highest = |category: &str| {
        let scores = report.samples.iter().filter(|s| s.category == category);
        let finite = scores.map(|s| s.score).filter(|s| s.is_finite());
        finite.fold(0.0f32, f32::max)
    };
    let mut samples: Vec<&ReportSample> = report.samples.iter().collect();
    samples.sort_by(|a, b| b.score.total_cmp(&a.score));
    for sample in samples {
        let category = report.categories.iter().find(|c| c.name == sample.category);
        let threshold = category.and_then(|c| c.threshold);
        card(page, sample, threshold, highest(&sample.category));
    }
    page.push_str("</div>\n<p id=\"none\" hidden>No part fits this filter.</p></section>\n");
}

fn controls(page: &mut String, report: &Report) {
    page.push_str(
        "<div class=\"controls\" hidden>\n<div class=\"chips\" role=\"group\" aria-label=\"Show\">",
    );
    let filters = [
        ("all", "All"),
        ("wrong", "Wrong verdicts"),
        ("missed", "Missed defects"),
        ("false", "False alarms"),
        ("defective", "Defective"),
        ("good", "Good"),
    ];
    for (value, label) in filters {
        let pressed = value == "all";
        push(
            page,
            format_args!(
                "<button type=\"button\" data-filter=\"{value}\" aria-pressed=\"{pressed}\">{label}</button>"
            ),
        );
    }
    page.push_str("</div>\n");
    if report.categories.len() > 1 {
        page.push_str("<label>Category <select id=\"category\"><option value=\"\">all</option>");
        for category in &report.categories {
            let name = escape(&category.name);
            push(
                page,
                format_args!("<option value=\"{name}\">{name}</option>"),
            );
        }
        page.push_str("</select></label>\n");
    }
    push(
        page,
        format_args!(
            "<label>Sort <select id=\"sort\"><option value=\"high\">highest score first</option>\
             <option value=\"low\">lowest score first</option><option value=\"name\">by name</option>\
             </select></label>\n<output id=\"count\" aria-live=\"polite\">{}</output></div>\n",
            counted(report.samples.len(), "part", "parts")
        ),
    );
}

fn card(page: &mut String, sample: &ReportSample, threshold: Option<f32>, highest: f32) {
    // A score that is no number is called defective: it must not pass unseen.
    let flagged = threshold.map(|limit| sample.score > limit || sample.score.is_nan());
    let (class, verdict) = match (flagged, sample.defective) {
        (None, _) => ("", ""),
        (Some(true), true) => ("right", "defect found"),
        (Some(false), false) => ("right", "passed"),
        (Some(true), false) => ("wrong", "false alarm"),
        (Some(false), true) => ("wrong", "missed"),
    };
    let outcome = match (flagged, sample.defective) {
        (Some(true), false) => "false",
        (Some(false), true) => "missed",
        _ => "",
    };
    let truth = if sample.defective { "bad" } else { "good" };
    let name = escape(&sample.name);
    let category = escape(&sample.category);
    push(
        page,
        format_args!(
            "<article class=\"card\" data-score=\"{}\" data-name=\"{category}/{name}\" \
             data-category=\"{category}\" data-truth=\"{truth}\" data-outcome=\"{outcome}\">\n\
             <div class=\"head\"><h3>{name}</h3><span class=\"kind {truth}\">{}</span>",
            sample.score,
            escape(&sample.kind),
        ),
    );
    if !verdict.is_empty() {
        push(
            page,
            format_args!("<span class=\"verdict {class}\">{verdict}</span>"),
        );
    }
    let p = sample.p_value.map_or(String::new(), |p| {
        let p = escape(&p_value(p));
        format!("<span class=\"p\" title=\"how often a good part scores so high\">{p}</span>")
    });
    let share = |score: f32| match highest > 0.0 {
        _ if score.is_nan() => 100.0,
        true => (100.0 * score / highest).clamp(0.0, 100.0),
        false => 0.0,
    };
    let limit = threshold.map_or(String::new(), |t| {
        format!("<b style=\"left:{:.1}%\"></b>", share(t))
    });
    let score = match sample.score.is_finite() {
        true => short(sample.score),
        false => "not a number".into(),
    };
    push(
        page,
        format_args!(
            "</div>\n<div class=\"score\"><span class=\"track\"><i class=\"{truth}\" style=\"width:{:.1}%\"></i>\
             {limit}</span><span>{score}</span>{p}</div>\n<div class=\"views\">",
            share(sample.score),
        ),
    );
    let views = [
        ("Input", &sample.input),
        ("Depth", &sample.depth),
        ("Heat map", &sample.overlay),
        ("Ground truth", &sample.truth),
    ];
    for (label, address) in views {
        if let Some(address) = address {
            let address = escape(address);
            push(
                page,
                format_args!(
                    "<figure><a href=\"{address}\"><img src=\"{address}\" alt=\"{label} of {name}\" \
                     loading=\"lazy\"></a><figcaption>{label}</figcaption></figure>"
                ),
            );
        }
    }
    page.push_str("</div>");
    regions(page, &sample.regions);
    page.push_str("</article>\n");
}

/// Where the map is defective, the highest peak first.
fn regions(page: &mut String, regions: &[Region]) {
    /// More are counted, not listed.
    const SHOWN: usize = 4;
    if regions.is_empty() {
        return;
    }
    page.push_str("<ul class=\"regions\">");
    for region in regions.iter().take(SHOWN) {
        let [x, y, width, height] = region.bounds;
        let p = region
            .p_value
            .map_or(String::new(), |p| format!(", {}", escape(&p_value(p))));
        push(
            page,
            format_args!(
                "<li>{width} × {height} px at {x}, {y}: {} px, peak {}{p}</li>",
                region.area,
                short(region.peak)
            ),
        );
    }
    if regions.len() > SHOWN {
        push(
            page,
            format_args!("<li>and {} more</li>", regions.len() - SHOWN),
        );
    }
    page.push_str("</ul>");
}

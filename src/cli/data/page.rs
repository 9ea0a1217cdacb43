//! The data set as a page: what stands out, and every part as a thumbnail.

use super::{Checked, sizes};
use crate::data::check::{Facts, Finding, Use};
use crate::evaluate::overlay::write_png;
use crate::evaluate::report::{STYLE, escape};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

pub const FILE: &str = "data.html";
const THUMBNAILS: &str = "thumbnails";

/// Beside the report's style.
const OWN: &str = "
.parts { display: grid; grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); gap: 12px; }
.parts figure { padding: 8px; min-width: 0; }
.parts img { display: block; margin: 0 auto 6px; max-width: 100%; }
.parts figcaption { font-size: .78rem; color: var(--soft); overflow-wrap: anywhere; line-height: 1.3; }
.parts figcaption b { color: var(--wrong); font-weight: 600; display: block; }
h2.found { margin-top: 24px; }
table.found td { text-align: left; white-space: normal; overflow-wrap: anywhere; padding: 6px 14px; }
figure.found { border: 2px solid var(--wrong); }
";

/// Writes the page and its thumbnails.
///
/// # Errors
/// A file that cannot be written.
pub(super) fn write(folder: &Path, all: &[Checked]) -> Result<()> {
    let thumbnails = folder.join(THUMBNAILS);
    std::fs::create_dir_all(&thumbnails).map_err(|e| Error::file(&thumbnails, e))?;
    let mut body = String::from(
        "<header>\n<p class=\"brand\">astray</p>\n<h1>What the data holds</h1>\n</header>\n",
    );
    let mut number = 0;
    for checked in all {
        category(&mut body, checked);
        let mut said = BTreeMap::<&str, Vec<&Finding>>::new();
        for finding in &checked.findings {
            for part in &finding.parts {
                said.entry(part).or_default().push(finding);
            }
        }
        for used in [Use::Training, Use::Calibration, Use::Test] {
            let parts: Vec<&Facts> = checked.parts.iter().filter(|f| f.used == used).collect();
            if parts.is_empty() {
                continue;
            }
            push(
                &mut body,
                format_args!(
                    "<section>\n<h2>{} parts for {}</h2>\n<div class=\"parts\">\n",
                    parts.len(),
                    used.name()
                ),
            );
            for facts in parts {
                let mut file = None;
                if let Some(small) = &facts.thumbnail {
                    let name = format!("{THUMBNAILS}/{number}.png");
                    write_png(
                        &folder.join(&name),
                        &small.to_u8(),
                        (small.height, small.width),
                    )?;
                    file = Some(name);
                    number += 1;
                }
                part(
                    &mut body,
                    facts,
                    file.as_deref(),
                    said.get(facts.name.as_str()),
                );
            }
            body.push_str("</div>\n</section>\n");
        }
    }
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>astray: data</title>\n\
         <style>\n{STYLE}{OWN}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    );
    crate::files::write_atomic(&folder.join(FILE), page.as_bytes())
}

fn category(body: &mut String, checked: &Checked) {
    push(
        body,
        format_args!(
            "<section>\n<h2>{} ({})</h2>\n<p class=\"lead\">{} parts for training, {}, {} good and {} defective ones for \
             the test, {} with a mask.</p>\n",
            escape(&checked.category),
            checked.layout,
            checked.training,
            match checked.folds {
                true => "the same in folds for the threshold".to_string(),
                false => format!("{} for the threshold", checked.calibration),
            },
            checked.test_good,
            checked.test_defective,
            checked.masks,
        ),
    );
    for note in &checked.notes {
        push(
            body,
            format_args!("<p class=\"note\">{}</p>\n", escape(note)),
        );
    }
    body.push_str("<div class=\"tiles\">\n");
    for (size, count) in sizes(&checked.parts).iter().take(6) {
        push(
            body,
            format_args!(
                "<div class=\"tile\"><p class=\"number\">{count}</p><p>{}</p></div>\n",
                escape(size)
            ),
        );
    }
    body.push_str("</div>\n");
    if !checked.findings.is_empty() {
        body.push_str("<h2 class=\"found\">What stands out</h2>\n<div class=\"scroll\"><table class=\"found\">\n");
        for finding in &checked.findings {
            let (message, names) = (escape(&finding.message), escape(&finding.parts.join(", ")));
            push(
                body,
                format_args!(
                    "<tr><th>{}</th><td>{message}</td><td>{names}</td></tr>\n",
                    finding.what
                ),
            );
        }
        body.push_str("</table></div>\n");
    }
    body.push_str("</section>\n");
}

fn part(body: &mut String, facts: &Facts, file: Option<&str>, said: Option<&Vec<&Finding>>) {
    let class = if said.is_some() {
        " class=\"found\""
    } else {
        ""
    };
    push(body, format_args!("<figure{class}>"));
    if let Some(file) = file {
        push(
            body,
            format_args!("<img loading=\"lazy\" src=\"{file}\" alt=\"\">"),
        );
    }
    let what: Vec<&str> = said
        .into_iter()
        .flatten()
        .map(|finding| finding.what)
        .collect();
    push(
        body,
        format_args!(
            "<figcaption><b>{}</b>{}</figcaption></figure>\n",
            what.join(", "),
            escape(&facts.name)
        ),
    );
}

fn push(body: &mut String, text: std::fmt::Arguments) {
    let _ = body.write_fmt(text);
}

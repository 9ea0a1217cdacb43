//! VisA (Zou et al. 2022): `<category>/Data/Images/{Normal,Anomaly}`, divided by a table beside the categories.

use super::dataset::{Dataset, Label, Layout, Sample};
use super::layout::of_folders;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

const IMAGES: &str = "Data/Images";
/// The table of the usual setting: learn from one category's good parts.
const TABLE: &str = "split_csv/1cls.csv";

pub(super) fn is_category(folder: &Path) -> bool {
    folder.join(IMAGES).join("Normal").is_dir()
}

/// Opens a category; `name` is what the table calls it.
///
/// # Errors
/// A folder without pictures; a table that is damaged or names files that are not there.
pub(super) fn open(root: &Path, name: String) -> Result<Dataset> {
    let existing = |path: PathBuf| Some(path).filter(|path| path.is_dir());
    let bad = existing(root.join(IMAGES).join("Anomaly"));
    let masks = existing(root.join("Data/Masks/Anomaly"));
    let good = root.join(IMAGES).join("Normal");
    let mut set = of_folders(&good, bad.as_deref(), masks.as_deref())?;
    (set.name, set.root, set.layout) = (name, root.to_path_buf(), Layout::Visa);
    let table = root.join("..").join(TABLE);
    if !table.is_file() {
        set.notes.push(format!(
            "{}: no {TABLE} beside the category: all good parts are learned, and the test has defects alone",
            root.display()
        ));
        return Ok(set);
    }
    let text = std::fs::read_to_string(&table).map_err(|e| Error::file(&table, e))?;
    let rows = rows(&text, &set.name).map_err(|message| Error::file(&table, message))?;
    if rows.is_empty() {
        let message = format!("has no rows of `{}`", set.name);
        return Err(Error::file(&table, message));
    }
    (set.train, set.test) = (Vec::new(), Vec::new());
    let base = root.parent().unwrap_or(Path::new(""));
    for row in rows {
        let existing = |path: &str| {
            let path = base.join(path);
            match path.is_file() {
                true => Ok(path),
                false => Err(Error::file(
                    &table,
                    format!("names {}, which is not there", path.display()),
                )),
            }
        };
        let label = match row.label {
            "normal" => Label::Good,
            kind => Label::Defect(kind.into()),
        };
        let image = existing(row.image)?;
        let sample = Sample {
            name: format!(
                "{}/{}/{}",
                row.split,
                row.label,
                super::listing::stem_of(&image)
            ),
            rgb: Some(image),
            depth: None,
            mask: (!row.mask.is_empty())
                .then(|| existing(row.mask))
                .transpose()?,
            label,
        };
        match (row.split, sample.is_defect()) {
            ("train", false) => set.train.push(sample),
            ("test", _) => set.test.push(sample),
            _ => set.notes.push(format!(
                "{}: a defective training part is left out",
                sample.name
            )),
        }
    }
    if set.train.is_empty() {
        return Err(Error::file(
            &table,
            format!("has no training parts of `{}`", set.name),
        ));
    }
    Ok(set)
}

struct Row<'a> {
    split: &'a str,
    label: &'a str,
    image: &'a str,
    mask: &'a str,
}

/// The rows of a category. Nothing in this table is quoted.
fn rows<'a>(text: &'a str, category: &str) -> std::result::Result<Vec<Row<'a>>, String> {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        let found = header.iter().position(|column| column.trim() == name);
        found.ok_or_else(|| {
            format!(
                "expected columns object, split, label, image and mask; found {}",
                header.join(", ")
            )
        })
    };
    let [object, split, label, image, mask] =
        ["object", "split", "label", "image", "mask"].map(column);
    let (object, split, label, image, mask) = (object?, split?, label?, image?, mask?);
    let mut rows = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let field = |i: usize| fields.get(i).copied().unwrap_or_default();
        if field(object) == category {
            rows.push(Row {
                split: field(split),
                label: field(label),
                image: field(image),
                mask: field(mask),
            });
        }
    }
    Ok(rows)
}

//! What lies in a folder, and what its name means.

use super::image::EXTENSIONS;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// Is this what others call good parts?
pub(super) fn means_good(folder: &str) -> bool {
    const WORDS: [&str; 9] = [
        "good",
        "ok",
        "okay",
        "normal",
        "pass",
        "passed",
        "nominal",
        "io",
        "non_defective",
    ];
    WORDS.contains(&folder.to_lowercase().as_str())
}

/// Folders that systems leave behind.
const NOT_DATA: [&str; 5] = [
    "__MACOSX",
    "@eaDir",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
];
/// Files that systems leave behind.
const NOT_FILES: [&str; 2] = ["thumbs.db", "desktop.ini"];

/// A name as text, by which files are matched: composed (Unicode's NFC, where one system writes `ö` as one
/// character and another as two); a byte that is not UTF-8 as `\xe4`, so that different names stay different.
pub fn name_of(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.extend(chunk.valid().nfc());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// The file's name without extension, see [`name_of`].
pub fn stem_of(path: &Path) -> String {
    path.file_stem().map_or(String::new(), name_of)
}

/// What lies directly in a folder, sorted. Hidden files are left out.
pub(super) struct Listing {
    pub path: PathBuf,
    pub folders: BTreeMap<String, PathBuf>,
    /// Files with the extension of a picture, in any case.
    pub files: Vec<PathBuf>,
    /// The names of other files.
    pub others: Vec<String>,
}

impl Listing {
    pub fn read(path: &Path) -> Result<Self> {
        let fail = |e: std::io::Error| Error::file(path, format!("cannot read this folder: {e}"));
        let mut listing = Self {
            path: path.to_path_buf(),
            folders: BTreeMap::new(),
            files: Vec::new(),
            others: Vec::new(),
        };
        for entry in std::fs::read_dir(path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = name_of(&entry.file_name());
            if name.starts_with('.') || NOT_FILES.contains(&name.to_lowercase().as_str()) {
                continue;
            }
            let path = entry.path();
            let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
            if path.is_dir() {
                if NOT_DATA.contains(&name.as_str()) {
                    continue;
                }
                if let Some(twin) = listing.folders.insert(name, path.clone()) {
                    let message = format!(
                        "has the same name as {}; rename one of them",
                        twin.display()
                    );
                    return Err(Error::file(&path, message));
                }
            } else if extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) {
                listing.files.push(path);
            } else {
                listing.others.push(name);
            }
        }
        listing.files.sort();
        listing.others.sort();
        Ok(listing)
    }

    pub fn has(&self, folder: &str) -> bool {
        self.folders.contains_key(folder)
    }

    /// The folder of that name; where there is none, where it would lie.
    pub fn folder(&self, name: &str) -> PathBuf {
        let known = self.folders.get(name).cloned();
        known.unwrap_or_else(|| self.path.join(name))
    }

    /// The pictures by their name without extension. None at all, or two of one name, is an error.
    pub fn stems(&self) -> Result<BTreeMap<String, PathBuf>> {
        if self.files.is_empty() {
            return Err(Error::file(
                &self.path,
                format!(
                    "expected pictures ({}); found {self}",
                    EXTENSIONS.join(", ")
                ),
            ));
        }
        let mut stems = BTreeMap::new();
        for path in &self.files {
            if let Some(twin) = stems.insert(stem_of(path), path.clone()) {
                return Err(Error::file(
                    path,
                    format!(
                        "has the same name as {}; remove or rename one of them",
                        twin.display()
                    ),
                ));
            }
        }
        Ok(stems)
    }

    /// What in a folder of pictures is not looked at, in words: other files, and folders that hold pictures.
    pub fn passed_over(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(first) = self.others.first() {
            let more = if self.others.len() > 1 { ", …" } else { "" };
            notes.push(format!(
                "{}: {} other files are not read ({first}{more}); pictures end in {}",
                self.path.display(),
                self.others.len(),
                EXTENSIONS.join(", ")
            ));
        }
        for folder in self.folders.values() {
            let pictures = pictures_below(folder);
            if pictures > 0 {
                notes.push(format!(
                    "{}: not looked into, and it holds {pictures} pictures",
                    folder.display()
                ));
            }
        }
        notes
    }
}

/// How many pictures a folder and those in it hold; what cannot be read holds none.
pub(super) fn pictures_below(folder: &Path) -> usize {
    const DEEPEST: usize = 4; // and no endless circle of links
    fn count(folder: &Path, depth: usize) -> usize {
        let Ok(listing) = Listing::read(folder) else {
            return 0;
        };
        let below = listing.folders.values().map(|folder| match depth {
            0 => 0,
            _ => count(folder, depth - 1),
        });
        listing.files.len() + below.sum::<usize>()
    }
    count(folder, DEEPEST)
}

impl std::fmt::Display for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.folders.is_empty() && self.files.is_empty() && self.others.is_empty() {
            return write!(f, "an empty folder");
        }
        let names: Vec<&str> = self.folders.keys().map(String::as_str).collect();
        let shown = names.len().min(8);
        let more = if names.len() > shown { ", …" } else { "" };
        write!(
            f,
            "{} folders ({}{more}), {} pictures, {} other files",
            names.len(),
            names[..shown].join(", "),
            self.files.len(),
            self.others.len()
        )
    }
}

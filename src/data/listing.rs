//! What lies in a folder, and what its name means.

use super::image::EXTENSIONS;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    folder != "good" && WORDS.contains(&folder.to_lowercase().as_str())
}

/// Folders that systems leave behind.
const NOT_DATA: [&str; 5] = [
    "__MACOSX",
    "@eaDir",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
];

/// What lies directly in a folder, sorted. Hidden files are left out.
pub(super) struct Listing {
    pub path: PathBuf,
    pub folders: Vec<String>,
    /// Files with the extension of a picture, in any case.
    pub files: Vec<PathBuf>,
    others: usize,
}

impl Listing {
    pub fn read(path: &Path) -> Result<Self> {
        let fail = |e: std::io::Error| Error::file(path, format!("cannot read this folder: {e}"));
        let mut listing = Self {
            path: path.to_path_buf(),
            folders: Vec::new(),
            files: Vec::new(),
            others: 0,
        };
        for entry in std::fs::read_dir(path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let path = entry.path();
            let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
            if path.is_dir() {
                if !NOT_DATA.contains(&name.as_str()) {
                    listing.folders.push(name);
                }
            } else if extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) {
                listing.files.push(path);
            } else {
                listing.others += 1;
            }
        }
        listing.folders.sort();
        listing.files.sort();
        Ok(listing)
    }

    pub fn has(&self, folder: &str) -> bool {
        self.folders.iter().any(|name| name == folder)
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
            let stem = path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default();
            if let Some(twin) = stems.insert(stem, path.clone()) {
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
}

impl std::fmt::Display for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.folders.is_empty() && self.files.is_empty() && self.others == 0 {
            return write!(f, "an empty folder");
        }
        let shown = self.folders.len().min(8);
        let more = if self.folders.len() > shown {
            ", …"
        } else {
            ""
        };
        write!(
            f,
            "{} folders ({}{more}), {} pictures, {} other files",
            self.folders.len(),
            self.folders[..shown].join(", "),
            self.files.len(),
            self.others
        )
    }
}

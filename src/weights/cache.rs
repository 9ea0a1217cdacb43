//! The folder of fetched files. Nothing in it is trusted: a file is checked against the table and
//! against what was noted when it came.

use super::shipped;
use super::table::{Entry, find};
use crate::files;
use crate::models::efficientnet::{Backbone, EfficientNet, Scheme};
use crate::nn::weights::{Weights, sha256};
use crate::tensor::Device;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is noted beside a file, in `FILE.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    pub url: String,
    pub bytes: u64,
    /// Of the whole file; the table may know the first digits only.
    pub sha256: String,
}

/// The folder of fetched files: `weights` in the folder for caches.
///
/// # Errors
/// There is no such folder here.
pub fn folder() -> Result<PathBuf> {
    let cache = files::cache().map(|cache| cache.join("weights"));
    cache.ok_or_else(|| {
        let name = files::CACHE;
        Error::usage(format!(
            "no folder for caches is known here: set {name} to one"
        ))
    })
}

/// `name` with something appended: `w.pth` → `w.pth.part`.
pub(super) fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// What was noted of a fetched file; none where it was put there by hand.
pub(super) fn receipt(file: &Path) -> Option<Receipt> {
    serde_json::from_slice(&std::fs::read(beside(file, ".json")).ok()?).ok()
}

/// Weights from a file; by name those that come with the program, or a public file's from the cache.
/// A file of that name goes first.
///
/// # Errors
/// A name that is unknown or was not fetched; a fetched file that has changed since; see
/// [`Weights::read`].
pub fn read(path: &Path) -> Result<Weights> {
    let Some(name) = name(path) else {
        return Weights::read(path);
    };
    if let Some(shipped) = shipped::named(name) {
        return shipped.read();
    }
    match find(name) {
        Ok(entry) => read_fetched(&entry, &folder()?),
        Err(e) => Err(Error::usage(format!("there is no file `{name}`, and {e}"))),
    }
}

/// The weights of a public file that was fetched into `folder`.
///
/// # Errors
/// As [`read`].
pub fn read_fetched(entry: &Entry, folder: &Path) -> Result<Weights> {
    let file = folder.join(entry.file());
    if !file.is_file() {
        let message = format!(
            "there is no file of that name, and no {}: `astray weights fetch {}` downloads it \
             ({:.0} MiB)",
            file.display(),
            entry.name,
            entry.mib
        );
        return Err(Error::file(&entry.name, message));
    }
    let weights = Weights::read(&file)?;
    match changed(entry, &file, &weights.sha256) {
        Some(problem) => Err(Error::file(&file, problem)),
        None => Ok(weights),
    }
}

/// `path` as the name of weights: nothing of that name is there, and it has neither folder nor
/// ending.
pub(super) fn name(path: &Path) -> Option<&str> {
    let plain = path.file_name() == Some(path.as_os_str()) && path.extension().is_none();
    path.to_str().filter(|_| plain && !path.exists())
}

/// Why a file of this sha256 is not the one that was fetched, if it is not.
fn changed(entry: &Entry, file: &Path, sha256: &str) -> Option<String> {
    let noted = receipt(file).map(|receipt| receipt.sha256);
    let expected = noted.as_ref().unwrap_or(&entry.sha256);
    (!sha256.starts_with(expected) || !sha256.starts_with(&entry.sha256)).then(|| {
        format!(
            "is not what was fetched: its sha256 is {sha256}, expected {expected}; `astray weights \
             fetch {}` downloads it again",
            entry.name
        )
    })
}

/// Checks that `file` is the entry's, whole: the sha256, then that the network can be built from
/// it. Its sha256, or what is wrong with it.
pub(super) fn verify(entry: &Entry, file: &Path) -> std::result::Result<String, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("cannot be read: {e}"))?;
    let found = sha256(&bytes);
    let parsed = Weights::parse(file, &bytes);
    if !found.starts_with(&entry.sha256) {
        let why = match parsed {
            Err(Error::File { message, .. }) => format!(" ({message})"),
            _ => String::new(),
        };
        let (length, expected) = (bytes.len(), &entry.sha256);
        return Err(format!(
            "{length} bytes of sha256 {found}, expected {expected}{why}"
        ));
    }
    drop(bytes);
    let weights = parsed.map_err(|e| e.to_string())?;
    if Scheme::recognise(&weights.tensors) != Some(entry.scheme) {
        let scheme = entry.scheme;
        return Err(format!("the tensors are not named as {scheme} names them"));
    }
    let network = Backbone::whole(&entry.network)
        .and_then(|backbone| EfficientNet::load(&Device::Cpu, backbone, &weights, None));
    network.map_err(|e| e.to_string())?;
    Ok(found)
}

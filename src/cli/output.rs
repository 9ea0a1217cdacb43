//! Places for results, looked at before the work: hours of training must not end in a folder that
//! cannot be written.

use crate::data::is_category;
use crate::detector::{LEARNED, Learned};
use crate::nn::tensor_file::TensorFile;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Checks that `folder`, which need not be there yet, can be made and written, and leaves nothing
/// behind. `what` names the option or argument.
///
/// # Errors
/// A file in the way, or missing rights.
pub fn check(what: &str, folder: &Path) -> Result<()> {
    // The last ancestor of a relative path is "", the working folder.
    let here = |path: &Path| match path.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => path.to_path_buf(),
    };
    let mut places = folder.ancestors().map(here);
    let nearest = places.find(|path| path.symlink_metadata().is_ok());
    let nearest = nearest.unwrap_or_else(|| ".".into());
    if !nearest.is_dir() {
        let message = format!(
            "{} is no folder; {what} expects a folder that is there or can be made: name another",
            nearest.display()
        );
        return Err(Error::file(folder, message));
    }
    match tempfile::NamedTempFile::new_in(&nearest) {
        Ok(_) => Ok(()), // it is removed here
        Err(error) => {
            let message = format!(
                "cannot be written ({}: {error}); {what} expects a folder with write access: name \
                 another",
                nearest.display()
            );
            Err(Error::file(folder, message))
        }
    }
}

/// As [`check`], for the file that will be written or replaced.
///
/// # Errors
/// As [`check`], and a folder where the file must go.
pub fn check_file(what: &str, file: &Path) -> Result<()> {
    if file.is_dir() {
        let message =
            format!("is a folder, and {what} would write a file of that name: move it away");
        return Err(Error::file(file, message));
    }
    check(what, file.parent().unwrap_or(Path::new(".")))
}

/// As [`check_file`], for the model of a category; that another category's will be replaced is told.
///
/// # Errors
/// As [`check_file`].
pub fn check_model(what: &str, file: &Path, category: &str) -> Result<()> {
    check_file(what, file)?;
    let Ok(old) = TensorFile::open(file) else {
        return Ok(()); // none, or nothing that could be used
    };
    let learned = old.metadata().get(LEARNED).cloned();
    let learned: Option<Learned> = learned.and_then(|text| serde_json::from_str(&text).ok());
    if let Some(old) = learned.filter(|old| old.category != category) {
        tracing::warn!(
            "{}: the model of `{}` will be replaced by one of `{category}`; another {what} keeps it",
            file.display(),
            old.category
        );
    }
    Ok(())
}

/// Refuses a folder for results that is one of the folders of inputs, or lies in a data set: the next run would take
/// results for parts.
///
/// # Errors
/// Such a folder.
pub fn check_apart<'a>(
    what: &str,
    folder: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    let whole = |path: &Path| {
        // The folder need not be there yet.
        let mut above = path.ancestors().filter(|path| !path.as_os_str().is_empty());
        let known = above.find_map(|path| Some((path, path.canonicalize().ok()?)));
        match known {
            Some((above, whole)) => whole.join(path.strip_prefix(above).unwrap_or(path)),
            None => std::env::current_dir().unwrap_or_default().join(path),
        }
    };
    let out = whole(folder);
    for input in inputs {
        let whole = whole(input);
        if out == whole || is_category(&whole) && out.starts_with(&whole) {
            let message = format!(
                "{what} would write results among the parts of {}; name a folder elsewhere",
                input.display()
            );
            return Err(Error::file(folder, message));
        }
    }
    Ok(())
}

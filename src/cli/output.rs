//! Places for results, looked at before the work: hours of training must not end in a folder that
//! cannot be written.

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

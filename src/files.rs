//! Where caches lie, and files that are written whole or not at all.

use crate::{Error, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder for caches, instead of the platform's.
pub const CACHE: &str = "ASTRAY_CACHE";

/// That of `ASTRAY_CACHE`, or the platform's: `~/.cache/astray`, `~/Library/Caches/astray`,
/// `%LOCALAPPDATA%\astray\cache`. None where there is neither. It need not be there yet.
pub fn cache() -> Option<PathBuf> {
    let platform = || {
        let dirs = directories::ProjectDirs::from("", "", "astray")?;
        Some(dirs.cache_dir().to_path_buf())
    };
    let set = std::env::var_os(CACHE).filter(|folder| !folder.is_empty());
    set.map(PathBuf::from).or_else(platform)
}

/// Writes a whole file or nothing: to a temporary file in the same folder, which is synced and
/// then renamed.
///
/// # Errors
/// A missing folder, a full disk, missing rights.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|e| Error::file(path, format!("cannot be written: {e}")))
}

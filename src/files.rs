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
    let path = &destination(path);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        persist(file, path)
    };
    write().map_err(|e| Error::file(path, format!("cannot be written: {e}")))
}

/// Where a file is written that is named so: the file that a link leads to, not the link, is replaced.
pub(crate) fn destination(path: &Path) -> PathBuf {
    match path.is_symlink() {
        true => path.canonicalize().unwrap_or(path.to_path_buf()),
        false => path.to_path_buf(),
    }
}

/// Puts a temporary file in its place, as readable to others as any file.
pub(crate) fn persist(file: tempfile::NamedTempFile, path: &Path) -> std::io::Result<()> {
    set_mode(file.as_file(), path)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// The mode of the file that is replaced, or what the process's umask leaves: a temporary file is its owner's alone.
#[cfg(unix)]
fn set_mode(file: &std::fs::File, path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = match std::fs::metadata(path) {
        Ok(old) => old.permissions().mode() & 0o777,
        Err(_) => 0o666 & !umask(),
    };
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_: &std::fs::File, _: &Path) -> std::io::Result<()> {
    Ok(())
}

/// What a new file's mode is without: that of one that is made for the purpose, once.
#[cfg(unix)]
fn umask() -> u32 {
    use std::os::unix::fs::PermissionsExt;
    static UMASK: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *UMASK.get_or_init(|| {
        let probe = || -> std::io::Result<u32> {
            let folder = tempfile::tempdir()?;
            let file = std::fs::File::create(folder.path().join("mode"))?;
            Ok(0o666 & !file.metadata()?.permissions().mode())
        };
        probe().unwrap_or(0o022)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_mode_that_others_have() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            let meta = std::fs::metadata(folder.path().join(name)).unwrap();
            meta.permissions().mode() & 0o777
        };
        std::fs::write(folder.path().join("plain"), b"1").unwrap();
        write_atomic(&folder.path().join("ours"), b"2").unwrap();
        assert_eq!(mode("ours"), mode("plain"));
        let narrow = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(folder.path().join("ours"), narrow).unwrap();
        write_atomic(&folder.path().join("ours"), b"3").unwrap();
        assert_eq!(mode("ours"), 0o640);
    }
}

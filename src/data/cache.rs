//! A folder of features that were extracted before, so that training reads instead of recomputes.
//!
//! An entry is never trusted: its name is the hash of everything it was made from, and its payload
//! carries its own hash. What is stale is simply not found; what is damaged is ignored and rebuilt.
//!
//! A file: magic, key (32 bytes), sha256 of the payload (32), rank and dimensions (u64), then the
//! payload (f32). All numbers are little-endian.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Ends in the format's version: another version is another file format.
const MAGIC: &[u8; 8] = b"ASTRAYC1";

/// The sha256 of what an entry was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    pub fn to_hex(&self) -> String {
        self.0.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// A folder of features.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    has_failed: Arc<AtomicBool>,
}

impl Cache {
    /// Opens the folder, making it where it is missing.
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::file(folder, format!("cannot make the cache folder: {e}")))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            has_failed: Arc::default(),
        })
    }

    /// The key of features made from `parts`: image content, backbone, hash of its weights,
    /// description of the preprocessing. Parts are hashed with their lengths, so that moving a
    /// byte from one to the next makes another key.
    pub fn key(&self, parts: &[&[u8]]) -> Key {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Key(hash.finalize().into())
    }

    /// The entry, or `None` where it is absent, damaged, or of another shape.
    pub fn get(&self, key: &Key, shape: &[usize]) -> Option<Vec<f32>> {
        let path = self.path(key);
        let bytes = std::fs::read(&path).ok()?;
        let header = MAGIC.len() + 64;
        let payload = header + 8 * (1 + shape.len());
        let is_whole = bytes.len() >= payload
            && bytes.len() == payload + 4 * shape.iter().product::<usize>()
            && bytes.starts_with(MAGIC)
            && bytes[8..40] == key.0
            && bytes[header..payload] == dimensions(shape)
            && bytes[40..72] == Sha256::digest(&bytes[payload..])[..];
        if !is_whole {
            tracing::warn!(
                "{}: the cache entry is damaged and will be rebuilt",
                path.display()
            );
            return None;
        }
        let values = bytes[payload..].as_chunks::<4>().0;
        Some(values.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Writes an entry, whole or not at all.
    ///
    /// Errors: a full disk or a folder that cannot be written. The features are still good, so the
    /// caller may go on with a warning.
    pub fn put(&self, key: &Key, shape: &[usize], values: &[f32]) -> Result<()> {
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::shape(
                "cache",
                format!("{shape:?}"),
                format!("{} values", values.len()),
            ));
        }
        let payload: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(MAGIC)?;
            file.write_all(&key.0)?;
            file.write_all(&Sha256::digest(&payload))?;
            file.write_all(&dimensions(shape))?;
            file.write_all(&payload)?;
            file.as_file().sync_all()?;
            crate::files::persist(file, &self.path(key))
        };
        write().map_err(|e| {
            Error::file(
                self.path(key),
                format!("cannot write the cache entry: {e}; free some space or use another folder"),
            )
        })
    }

    /// Is this the first entry that could not be written? Once is often enough to tell.
    pub fn is_first_failure(&self) -> bool {
        !self.has_failed.swap(true, Ordering::Relaxed)
    }

    /// Where the entry lies.
    pub fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(key.to_hex()).with_extension("features")
    }
}

fn dimensions(shape: &[usize]) -> Vec<u8> {
    let rank = std::iter::once(shape.len());
    rank.chain(shape.iter().copied())
        .flat_map(|n| (n as u64).to_le_bytes())
        .collect()
}

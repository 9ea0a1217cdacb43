//! What `--weights` means, and what weights are called.

use super::cache::name;
use super::shipped;
use super::table::{Entry, entries};
use std::path::{Path, PathBuf};

/// The word for no weights at all.
pub const SEEDED: &str = "seeded";

/// Where a backbone's weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said: those that come with the program, if they are of the network that is wanted.
    Unsaid,
    /// Nowhere: random, calibrated on the pictures.
    Seeded,
    /// A file, or a name that [`super::read`] knows.
    Named(PathBuf),
}

impl Source {
    /// What an option says that may be left out. A file of the name `seeded` goes first.
    pub fn of(weights: Option<&Path>) -> Self {
        match weights {
            None => Self::Unsaid,
            Some(path) if name(path) == Some(SEEDED) => Self::Seeded,
            Some(path) => Self::Named(path.to_path_buf()),
        }
    }
}

/// The name of the weights of this sha256, if they are known, and what they were trained on.
pub fn name_of(sha256: &str) -> Option<(String, &'static str)> {
    if let Some(shipped) = shipped::of(sha256) {
        return Some((shipped.name.into(), shipped.training));
    }
    let same = |entry: &Entry| sha256.starts_with(&entry.sha256);
    let entry = entries().into_iter().find(same)?;
    Some((entry.name, entry.training))
}

//! What was measured to be fastest on an adapter, kept on disk for the next run.

use super::{AdapterReport, lock};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Problem → what to choose, for one adapter, driver and version of this program.
pub struct Choices {
    file: Option<PathBuf>,
    known: Mutex<Known>,
    spent: Mutex<Duration>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    adapter: String,
    driver: String,
    version: String,
    choices: BTreeMap<String, String>,
}

impl Choices {
    /// Those in `folder`; without one, in the folder for caches.
    pub(super) fn of(report: &AdapterReport, folder: Option<PathBuf>) -> Self {
        Self::open(folder.or_else(files::cache).as_deref(), report)
    }

    /// A file that is damaged, or of another adapter, driver or version, counts as empty.
    fn open(folder: Option<&Path>, report: &AdapterReport) -> Self {
        let fresh = Known {
            adapter: report.name.clone(),
            driver: format!("{} {}", report.backend, report.driver),
            version: env!("CARGO_PKG_VERSION").into(),
            choices: BTreeMap::new(),
        };
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = report.name.chars().map(plain).collect();
        let file = folder.map(|folder| folder.join(format!("kernels-{name}.json")));
        let same = |known: &Known| {
            [&known.adapter, &known.driver, &known.version]
                == [&fresh.adapter, &fresh.driver, &fresh.version]
        };
        let found = (file.as_ref())
            .and_then(|file| std::fs::read(file).ok())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .filter(same);
        Self {
            file,
            known: Mutex::new(found.unwrap_or(fresh)),
            spent: Mutex::default(),
        }
    }

    /// What measuring has taken so far.
    pub fn spent(&self) -> Duration {
        *lock(&self.spent)
    }

    pub fn spend(&self, time: Duration) {
        *lock(&self.spent) += time;
    }

    pub fn get(&self, problem: &str) -> Option<String> {
        lock(&self.known).choices.get(problem).cloned()
    }

    /// Remembers a choice. That it could not be written is told; the next run measures again.
    pub fn set(&self, problem: &str, choice: &str) {
        let mut known = lock(&self.known);
        known.choices.insert(problem.into(), choice.into());
        if let Some(file) = &self.file
            && let Err(error) = write(file, &known)
        {
            tracing::warn!("{}: {error}", file.display());
        }
    }
}

/// Whole or not at all.
fn write(path: &Path, known: &Known) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec_pretty(known)?)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(driver: &str) -> AdapterReport {
        AdapterReport {
            index: 0,
            name: "GPU (one)".into(),
            kind: "DiscreteGpu".into(),
            backend: "vulkan".into(),
            driver: driver.into(),
            f16: false,
            subgroups: None,
            timestamps: false,
            immediates: false,
            cooperative_matrices: Vec::new(),
            max_binding_bytes: 1 << 27,
            max_workgroup_bytes: 1 << 14,
            hardware: true,
        }
    }

    #[test]
    fn choices_are_kept_for_the_same_driver_and_a_damaged_file_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let open = |driver| Choices::open(Some(folder.path()), &report(driver));
        open("1").set("a", "tile64");
        open("1").set("b", "split");
        assert_eq!(open("1").get("a").as_deref(), Some("tile64"));
        assert_eq!(open("1").get("b").as_deref(), Some("split"));
        assert_eq!(open("2").get("a"), None);
        let file = folder.path().join("kernels-GPU__one_.json");
        for damaged in ["", "{\"adapter\": 1", "[]"] {
            std::fs::write(&file, damaged).unwrap();
            assert_eq!(open("1").get("a"), None);
            open("1").set("a", "tile128");
            assert_eq!(open("1").get("a").as_deref(), Some("tile128"));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

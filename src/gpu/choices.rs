//! What was measured on an adapter, kept on disk for the next run.

use super::{AdapterReport, Options, lock};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Milliseconds by kernel; `None` where it computed something wrong.
pub type Times = BTreeMap<String, Option<f64>>;

/// Problem → times of its kernels, for one adapter, driver and version of this program.
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
    times: BTreeMap<String, Times>,
}

impl Choices {
    /// Those in `folder`; without one, in the folder for caches. Kernels that are being edited have
    /// none: what was measured of one text says nothing of the next.
    pub(super) fn of(report: &AdapterReport, options: &Options) -> Self {
        let folder = match options.shaders {
            Some(_) => None,
            None => options.cache.clone().or_else(files::cache),
        };
        Self::open(folder.as_deref(), report)
    }

    /// A file that is damaged, or of another adapter, driver or version, counts as empty.
    fn open(folder: Option<&Path>, report: &AdapterReport) -> Self {
        let fresh = Known {
            adapter: report.name.clone(),
            driver: format!("{} {}", report.backend, report.driver),
            version: env!("CARGO_PKG_VERSION").into(),
            times: BTreeMap::new(),
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

    pub fn get(&self, problem: &str) -> Times {
        lock(&self.known)
            .times
            .get(problem)
            .cloned()
            .unwrap_or_default()
    }

    /// Remembers a time. That it could not be written is told; the next run measures again.
    pub fn set(&self, problem: &str, kernel: &str, time: Option<f64>) {
        let mut known = lock(&self.known);
        let times = known.times.entry(problem.into()).or_default();
        times.insert(kernel.into(), time);
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
    crate::files::persist(file, path)
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
    fn times_are_kept_for_the_same_driver_and_a_damaged_file_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let open = |driver| Choices::open(Some(folder.path()), &report(driver));
        open("1").set("a", "tile64", Some(1.5));
        open("1").set("a", "split", None);
        open("1").set("b", "split", Some(2.0));
        let a = Times::from([("tile64".into(), Some(1.5)), ("split".into(), None)]);
        assert_eq!(open("1").get("a"), a);
        assert_eq!(open("1").get("b").len(), 1);
        assert!(open("2").get("a").is_empty());
        let file = folder.path().join("kernels-GPU__one_.json");
        for damaged in ["", "{\"adapter\": 1", "[]"] {
            std::fs::write(&file, damaged).unwrap();
            assert!(open("1").get("a").is_empty());
            open("1").set("a", "tile128", Some(1.0));
            assert_eq!(open("1").get("a").len(), 1);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn edited_kernels_neither_read_nor_write_what_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let options = |shaders: Option<&str>| Options {
            cache: Some(folder.path().into()),
            shaders: shaders.map(Into::into),
            ..Options::default()
        };
        let of = |shaders| Choices::of(&report("1"), &options(shaders));
        of(Some("edited")).set("a", "split", Some(1.0));
        assert!(of(None).get("a").is_empty());
        of(None).set("a", "split", Some(1.0));
        assert!(of(Some("edited")).get("a").is_empty());
    }
}

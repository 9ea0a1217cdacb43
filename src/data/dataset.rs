//! Parts and data sets (spec section 10), however they lie in folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::image::EXTENSIONS;
use super::layout;
use super::listing::Listing;
use super::mask::Mask;
use crate::{Error, Result};

/// Which folder structure was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `train/good/*`, `test/<kind>/*`, `ground_truth/<kind>/<stem>_mask.png`; so are MVTec LOCO (a folder of masks for
    /// each part) and BTAD (`ok` and `ko`).
    MvtecAd,
    /// The same with `test_public/<kind>/*` and `test_public/ground_truth/<kind>/*`.
    MvtecAd2,
    /// `{train,validation,test}/<kind>/{rgb,xyz,gt}/*`.
    Mvtec3d,
    /// `{train,test}/<kind>/{rgb,depth,gt}/*`.
    RgbDepth,
    /// `Data/Images/{Normal,Anomaly}/*`, `Data/Masks/Anomaly/*`, divided by `../split_csv/1cls.csv`.
    Visa,
    /// Pictures in folders: of good parts, and perhaps of defective ones.
    Plain,
}

impl Layout {
    /// The name of the data sets that are laid out so.
    pub fn name(self) -> &'static str {
        match self {
            Self::MvtecAd => "MVTec AD",
            Self::MvtecAd2 => "MVTec AD 2",
            Self::Mvtec3d => "MVTec 3D-AD",
            Self::RgbDepth => "MVTec 3D-AD with depth/",
            Self::Visa => "VisA",
            Self::Plain => "plain folders",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    Good,
    /// The name of the folder, such as `scratch_neck`.
    Defect(String),
}

/// One part: its files, and what is known of it. At least one of `rgb` and `depth` is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Unique within the dataset, such as `test/scratch_neck/003`.
    pub name: String,
    pub rgb: Option<PathBuf>,
    pub depth: Option<PathBuf>,
    /// Ground truth of a defective part, a file or a folder of several; `None` for a good one, whose mask is empty,
    /// and where there is none.
    pub mask: Option<PathBuf>,
    pub label: Label,
}

impl Sample {
    pub fn is_defect(&self) -> bool {
        self.label != Label::Good
    }

    /// The mask at the picture's own size; `None` where a defective part has none.
    ///
    /// Errors: a mask that cannot be read or whose size differs from the picture's.
    pub fn load_mask(&self, width: usize, height: usize) -> Result<Option<Mask>> {
        match (&self.mask, &self.label) {
            (Some(path), _) => Mask::load_for(path, width, height).map(Some),
            (None, Label::Good) => Ok(Some(Mask::empty(width, height))),
            (None, Label::Defect(_)) => Ok(None),
        }
    }
}

/// The parts of one category, in the order of their names.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The folder's name, such as `screw`.
    pub name: String,
    pub root: PathBuf,
    pub layout: Layout,
    /// Good parts to learn from; never empty.
    pub train: Vec<Sample>,
    /// Good parts held back (MVTec 3D-AD); often empty.
    pub validation: Vec<Sample>,
    /// Good and defective parts; empty where there is no `test` folder.
    pub test: Vec<Sample>,
    /// What was left out or taken for something, in words: to be told.
    pub notes: Vec<String>,
}

impl Dataset {
    /// The good parts to train on, and those kept back for the threshold: the validation parts, or,
    /// where there are none, about `share` of the training parts, evenly spread.
    pub fn split(&self, share: f64) -> (Vec<Sample>, Vec<Sample>) {
        let every = (1.0 / share).round(); // infinite for 0: none is kept back
        if !self.validation.is_empty() || every > self.train.len() as f64 {
            return (self.train.clone(), self.validation.clone());
        }
        let every = every as usize;
        let parts = self.train.iter().cloned().enumerate();
        let (kept, train): (Vec<_>, Vec<_>) = parts.partition(|(i, _)| i % every == every - 1);
        let samples = |list: Vec<(usize, Sample)>| list.into_iter().map(|(_, s)| s).collect();
        (samples(train), samples(kept))
    }

    /// Opens the folder of one category. Good parts lie in folders `good`, or in the one that others call so (`ok`,
    /// `Normal`).
    ///
    /// Errors, each naming the folder or file: no known layout, no good parts to learn from, an empty folder, a
    /// training picture without its depth map or the other way round. What is wrong with other parts leaves them out
    /// and stands in [`Dataset::notes`].
    pub fn open(root: &Path) -> Result<Self> {
        layout::open(root, None)
    }

    /// As [`Dataset::open`], with what the folders of good parts are called.
    pub fn open_named(root: &Path, good_name: Option<&str>) -> Result<Self> {
        layout::open(root, good_name)
    }

    /// Pictures in folders: good parts, defective ones, and the masks of those, found by their names.
    ///
    /// Errors: a folder that cannot be read or holds no pictures.
    pub fn of_folders(good: &Path, bad: Option<&Path>, masks: Option<&Path>) -> Result<Self> {
        layout::of_folders(good, bad, masks)
    }

    /// The sha256 over names and contents of the training parts, so that a model tells what it learned from.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for sample in &self.train {
            hash.update(sample.name.as_bytes());
            for path in [&sample.rgb, &sample.depth].into_iter().flatten() {
                let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
                hash.update(Sha256::digest(&bytes));
            }
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Pairs of training and test files with the same content: such a test part was learned, and
    /// its score means nothing. To be shown as a warning.
    pub fn overlap(&self) -> Result<Vec<(PathBuf, PathBuf)>> {
        fn files(samples: &[Sample]) -> impl Iterator<Item = &Path> {
            samples
                .iter()
                .filter_map(|s| s.rgb.as_deref().or(s.depth.as_deref()))
        }
        let size = |path: &Path| {
            let meta = std::fs::metadata(path).map_err(|e| Error::file(path, e))?;
            Ok::<u64, Error>(meta.len())
        };
        let hash = |path: &Path| {
            let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
            Ok::<[u8; 32], Error>(Sha256::digest(bytes).into())
        };
        // Only files of the same length are read.
        let mut by_size: BTreeMap<u64, Vec<&Path>> = BTreeMap::new();
        for path in files(&self.train) {
            by_size.entry(size(path)?).or_default().push(path);
        }
        let mut pairs = Vec::new();
        for test in files(&self.test) {
            for &train in by_size.get(&size(test)?).into_iter().flatten() {
                if hash(train)? == hash(test)? {
                    pairs.push((train.to_path_buf(), test.to_path_buf()));
                }
            }
        }
        Ok(pairs)
    }
}

/// The categories under `path`: itself where it is one, else its sub-folders that are.
///
/// # Errors
/// No folder, or one that fits no layout.
pub fn categories(path: &Path) -> Result<Vec<PathBuf>> {
    layout::categories(path)
}

/// The pictures directly in a folder, sorted by name. No picture at all is an error.
pub fn list_images(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = Listing::read(folder)?;
    if listing.files.is_empty() {
        return Err(Error::file(
            folder,
            format!("no pictures ({}); found {listing}", EXTENSIONS.join(", ")),
        ));
    }
    Ok(listing.files)
}

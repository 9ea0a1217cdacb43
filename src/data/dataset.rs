//! Folders of parts (spec section 10): MVTec AD, MVTec 3D-AD, RGB-D folders, and a plain folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::image::EXTENSIONS;
use super::listing::{Listing, means_good};
use super::mask::Mask;
use crate::{Error, Result};

const EXPECTED: &str = "expected MVTec AD (train/good/*.png, test/<defect|good>/*.png, \
    ground_truth/<defect>/*_mask.png), MVTec 3D-AD (train/good/{rgb,xyz}, \
    test/<defect|good>/{rgb,xyz,gt}), the same with depth/ instead of xyz/, or a folder of \
    pictures of good parts";

/// Which folder structure was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `train/good/*`, `test/<kind>/*`, `ground_truth/<kind>/<stem>_mask.png`.
    MvtecAd,
    /// `{train,validation,test}/<kind>/{rgb,xyz,gt}/*`.
    Mvtec3d,
    /// `{train,test}/<kind>/{rgb,depth,gt}/*`.
    RgbDepth,
    /// Pictures of good parts in one folder: for training only.
    Plain,
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
    /// Ground truth of a defective part; `None` for a good one, whose mask is empty, and where
    /// the dataset has no masks.
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

    /// Opens the folder of one category.
    ///
    /// Errors, each naming the folder or file: no known layout, no good parts, an empty folder, a
    /// picture without its depth map or the other way round, a defect without its mask.
    pub fn open(root: &Path) -> Result<Self> {
        let folders = Listing::read(root)?;
        // As the user calls it, not as a link's target is called; "." has no name of its own.
        let named = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
        let name = named(root)
            .or_else(|| named(&root.canonicalize().ok()?))
            .unwrap_or_else(|| root.display().to_string());
        if !folders.has("train") {
            if !folders.files.is_empty() {
                return Self::plain(root, name, &folders);
            }
            return Err(Error::file(root, format!("{EXPECTED}; found {folders}")));
        }
        let train = Listing::read(&root.join("train"))?;
        if !train.has("good") {
            let hint = match train.folders.iter().find(|name| means_good(name)) {
                Some(name) => format!(" (is `{name}` meant? call it `good`)"),
                None => String::new(),
            };
            return Err(Error::file(
                &train.path,
                format!("no folder `good` to learn from{hint}; {EXPECTED}; found {train}"),
            ));
        }
        let good = Listing::read(&train.path.join("good"))?;
        let layout = match (good.has("xyz"), good.has("depth"), good.has("rgb")) {
            (true, _, _) => Layout::Mvtec3d,
            (_, true, _) | (_, _, true) => Layout::RgbDepth,
            _ => Layout::MvtecAd,
        };
        let reader = Reader {
            root,
            layout,
            has_rgb: layout == Layout::MvtecAd || good.has("rgb"),
            has_depth: good.has("xyz") || good.has("depth"),
        };
        Ok(Self {
            name,
            root: root.to_path_buf(),
            layout,
            train: reader.kind("train", "good", false)?,
            validation: good_only(reader.split("validation")?, root),
            test: reader.split("test")?,
        })
    }

    fn plain(root: &Path, name: String, folders: &Listing) -> Result<Self> {
        let train = folders.stems()?.into_iter().map(|(stem, path)| Sample {
            name: stem,
            rgb: Some(path),
            depth: None,
            mask: None,
            label: Label::Good,
        });
        Ok(Self {
            name,
            root: root.to_path_buf(),
            layout: Layout::Plain,
            train: train.collect(),
            validation: Vec::new(),
            test: Vec::new(),
        })
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

/// The categories under `path`: itself where it is one, else its sub-folders that have `train`.
///
/// # Errors
/// No folder, or one that fits no layout.
pub fn categories(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        let found = match path.exists() {
            true => "a file",
            false => "nothing of that name",
        };
        return Err(Error::file(path, format!("{EXPECTED}; found {found}")));
    }
    let listing = Listing::read(path)?;
    if listing.has("train") || !listing.files.is_empty() {
        return Ok(vec![path.to_path_buf()]);
    }
    let found: Vec<PathBuf> = listing
        .folders
        .iter()
        .map(|name| path.join(name))
        .filter(|folder| folder.join("train").is_dir())
        .collect();
    if found.is_empty() {
        return Err(Error::file(
            path,
            format!("{EXPECTED}, or a folder of such folders; found {listing}"),
        ));
    }
    Ok(found)
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

/// Only good parts draw a line between good and defective: others under `validation` are named and left out.
fn good_only(samples: Vec<Sample>, root: &Path) -> Vec<Sample> {
    let (defects, good): (Vec<_>, Vec<_>) = samples.into_iter().partition(Sample::is_defect);
    let mut kinds = BTreeMap::<&str, usize>::new();
    for sample in &defects {
        if let Label::Defect(kind) = &sample.label {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    for (kind, parts) in kinds {
        tracing::warn!(
            "{}: {parts} parts under validation/{kind} are left out: a threshold comes from good parts alone",
            root.display()
        );
    }
    good
}

/// Reads samples in one layout. The modalities are those of `train/good`.
struct Reader<'a> {
    root: &'a Path,
    layout: Layout,
    has_rgb: bool,
    has_depth: bool,
}

impl Reader<'_> {
    /// All kinds of `train`, `validation` or `test`; empty where the folder is missing.
    fn split(&self, split: &str) -> Result<Vec<Sample>> {
        let path = self.root.join(split);
        if !path.is_dir() {
            return Ok(Vec::new());
        }
        let listing = Listing::read(&path)?;
        if listing.folders.is_empty() {
            return Err(Error::file(
                &path,
                format!("expected folders `good` and one per kind of defect; found {listing}"),
            ));
        }
        let defects = listing.folders.iter().filter(|kind| *kind != "good");
        let mut mask_folders = defects.map(|kind| self.mask_folder(split, kind));
        let has_masks = mask_folders.any(|folder| folder.is_dir());
        let mut samples = Vec::new();
        for kind in listing.folders.iter().filter(|kind| means_good(kind)) {
            tracing::warn!(
                "{}: `{kind}` is taken for a kind of defect; good parts are expected in a folder `good`",
                path.display()
            );
        }
        for kind in &listing.folders {
            samples.extend(self.kind(split, kind, has_masks)?);
        }
        Ok(samples)
    }

    fn mask_folder(&self, split: &str, kind: &str) -> PathBuf {
        match self.layout {
            Layout::MvtecAd | Layout::Plain => self.root.join("ground_truth").join(kind),
            Layout::Mvtec3d | Layout::RgbDepth => self.root.join(split).join(kind).join("gt"),
        }
    }

    /// The samples of one folder, such as `test/scratch_neck`.
    fn kind(&self, split: &str, kind: &str, has_masks: bool) -> Result<Vec<Sample>> {
        let folder = self.root.join(split).join(kind);
        let files = |name: &str| Listing::read(&folder.join(name))?.stems();
        let own_files = || Listing::read(&folder)?.stems();
        let (rgb, depth) = match self.layout {
            Layout::MvtecAd | Layout::Plain => (own_files()?, BTreeMap::new()),
            layout => {
                let depth = match layout {
                    Layout::Mvtec3d => "xyz",
                    _ => "depth",
                };
                let none = BTreeMap::new();
                (
                    if self.has_rgb {
                        files("rgb")?
                    } else {
                        none.clone()
                    },
                    if self.has_depth { files(depth)? } else { none },
                )
            }
        };
        if self.has_rgb && self.has_depth {
            check_partners(&rgb, &depth, "depth map", &folder)?;
            check_partners(&depth, &rgb, "picture", &folder)?;
        }
        let label = match kind {
            "good" => Label::Good,
            kind => Label::Defect(kind.to_string()),
        };
        let masks = match label {
            Label::Defect(_) if has_masks => {
                Listing::read(&self.mask_folder(split, kind))?.stems()?
            }
            _ => BTreeMap::new(),
        };
        let parts = if self.has_rgb { &rgb } else { &depth };
        let sample = |stem: &String| {
            let mask = masks
                .get(&format!("{stem}_mask"))
                .or_else(|| masks.get(stem));
            if has_masks && label != Label::Good && mask.is_none() {
                return Err(Error::file(
                    self.mask_folder(split, kind),
                    format!(
                        "no mask for {split}/{kind}/{stem}; expected {stem}_mask.png or {stem}.png"
                    ),
                ));
            }
            Ok(Sample {
                name: format!("{split}/{kind}/{stem}"),
                rgb: rgb.get(stem).cloned(),
                depth: depth.get(stem).cloned(),
                mask: mask.cloned(),
                label: label.clone(),
            })
        };
        parts.keys().map(sample).collect()
    }
}

fn check_partners(
    from: &BTreeMap<String, PathBuf>,
    to: &BTreeMap<String, PathBuf>,
    what: &str,
    folder: &Path,
) -> Result<()> {
    let missing: Vec<&PathBuf> = from
        .iter()
        .filter(|(stem, _)| !to.contains_key(*stem))
        .map(|(_, path)| path)
        .collect();
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(Error::file(
            first,
            format!(
                "has no {what} of the same name under {} ({} such files)",
                folder.display(),
                missing.len()
            ),
        )),
    }
}

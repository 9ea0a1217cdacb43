//! How data sets lie in folders: MVTec AD, AD 2, LOCO, 3D-AD, BTAD, VisA, and plain folders.

use super::dataset::{Dataset, Label, Layout, Sample};
use super::listing::{Listing, means_good, name_of, pictures_below};
use super::visa;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const EXPECTED: &str = "expected MVTec AD (train/good/*.png, test/<defect|good>/*.png, \
    ground_truth/<defect>/*_mask.png; so LOCO, AD 2 and BTAD), MVTec 3D-AD (train/good/{rgb,xyz}, \
    test/<defect|good>/{rgb,xyz,gt}), the same with depth/ instead of xyz/, VisA \
    (Data/Images/{Normal,Anomaly}), or a folder of pictures of good parts";
/// What the folder of validation parts is called.
const VALIDATION: [&str; 3] = ["validation", "val", "valid"];
const MASKS: &str = "ground_truth";

/// See [`super::dataset::categories`].
pub(super) fn categories(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        let found = match path.exists() {
            true => "a file",
            false => "nothing of that name",
        };
        return Err(Error::file(path, format!("{EXPECTED}; found {found}")));
    }
    if is_category(path) {
        return Ok(vec![path.to_path_buf()]);
    }
    let listing = Listing::read(path)?;
    let folders = listing.folders.values().cloned();
    let (found, others): (Vec<_>, Vec<_>) = folders.partition(|folder| is_category(folder));
    if !found.is_empty() {
        // Overviews and the like: what lies beside categories is no part.
        if let Some(first) = listing.files.first() {
            let (path, count) = (path.display(), listing.files.len());
            let first = first.display();
            tracing::warn!("{path}: {count} pictures beside the categories are not used ({first})");
        }
        for folder in others.iter().filter(|folder| pictures_below(folder) > 0) {
            tracing::warn!("{}: no category: it has no `train`", folder.display());
        }
        return Ok(found);
    }
    match listing.files.is_empty() {
        false => Ok(vec![path.to_path_buf()]),
        true => Err(Error::file(
            path,
            format!("{EXPECTED}, or a folder of such folders; found {listing}"),
        )),
    }
}

/// Does a folder hold the parts of one category, divided into those to learn from and others?
pub fn is_category(folder: &Path) -> bool {
    folder.join("train").is_dir() || visa::is_category(folder)
}

/// See [`Dataset::open`].
pub(super) fn open(root: &Path, good_name: Option<&str>) -> Result<Dataset> {
    let listing = Listing::read(root)?;
    if visa::is_category(root) {
        return visa::open(root, category_name(root));
    }
    if !listing.has("train") {
        if listing.files.is_empty() {
            return Err(Error::file(root, format!("{EXPECTED}; found {listing}")));
        }
        return of_folders(root, None, None);
    }
    let mut notes = Vec::new();
    let train = Listing::read(&listing.folder("train"))?;
    let good_name = good_folder(&train, good_name, &mut notes)?.ok_or_else(|| {
        let message = format!(
            "no folder `good` to learn from; if it has another name, give it by `--good-name`; {EXPECTED}; found {train}"
        );
        Error::file(&train.path, message)
    })?;
    let good = Listing::read(&train.folder(&good_name))?;
    let test = ["test", "test_public"]
        .into_iter()
        .find(|name| listing.has(name));
    let layout = match (good.has("xyz"), good.has("depth"), good.has("rgb")) {
        (true, _, _) => Layout::Mvtec3d,
        (_, true, _) | (_, _, true) => Layout::RgbDepth,
        _ if test == Some("test_public") => Layout::MvtecAd2,
        _ => Layout::MvtecAd,
    };
    let mut reader = Reader {
        layout,
        has_rgb: matches!(layout, Layout::MvtecAd | Layout::MvtecAd2) || good.has("rgb"),
        has_depth: good.has("xyz") || good.has("depth"),
        notes,
    };
    let learned = reader.parts(&good, ("train", &good_name), Label::Good, true)?;
    for (name, folder) in train.folders.iter().filter(|(name, _)| **name != good_name) {
        let parts = pictures_below(folder);
        if parts > 0 {
            reader.note(
                folder,
                format!("{parts} pictures of `{name}` are not learned: only good parts are"),
            );
        }
    }
    let validation = VALIDATION.into_iter().find(|name| listing.has(name));
    let validated = match validation {
        Some(name) => {
            reader.validation(&Listing::read(&listing.folder(name))?, name, &good_name)?
        }
        None => Vec::new(),
    };
    let tested = match test {
        Some(name) => reader.test(&listing, name, &good_name)?,
        None => Vec::new(),
    };
    reader.beside(&listing, &[Some("train"), validation, test, Some(MASKS)]);
    Ok(Dataset {
        name: category_name(root),
        root: root.to_path_buf(),
        layout,
        train: learned,
        validation: validated,
        test: tested,
        notes: reader.notes,
    })
}

/// See [`Dataset::of_folders`].
pub(super) fn of_folders(good: &Path, bad: Option<&Path>, masks: Option<&Path>) -> Result<Dataset> {
    let mut reader = Reader {
        layout: Layout::Plain,
        has_rgb: true,
        has_depth: false,
        notes: Vec::new(),
    };
    let listing = Listing::read(good)?;
    let kind = |folder: &Path| folder.file_name().map_or("bad".into(), name_of);
    // Without a folder's name: nothing else is there to be told apart.
    let mut train = reader.parts(&listing, ("", ""), Label::Good, true)?;
    let mut test = Vec::new();
    if let Some(bad) = bad {
        let kind = kind(bad);
        let label = Label::Defect(kind.clone());
        test = reader.parts(&Listing::read(bad)?, ("", &kind), label, true)?;
        train
            .iter_mut()
            .for_each(|part| part.name = format!("good/{}", part.name));
    }
    if let Some(masks) = masks {
        reader.add_masks(&mut test, &Listing::read(masks)?);
    }
    Ok(Dataset {
        name: category_name(good),
        root: good.to_path_buf(),
        layout: Layout::Plain,
        train,
        validation: Vec::new(),
        test,
        notes: reader.notes,
    })
}

/// As the user calls it, not as a link's target is called; "." has no name of its own.
fn category_name(root: &Path) -> String {
    let named = |path: &Path| Some(name_of(path.file_name()?));
    named(root)
        .or_else(|| named(&root.canonicalize().ok()?))
        .unwrap_or_else(|| root.display().to_string())
}

/// The name of the folder of good parts: `wanted`, `good`, or the only one that others call so, which is told.
///
/// # Errors
/// `wanted` is not there, or several folders may be meant.
fn good_folder(
    listing: &Listing,
    wanted: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Option<String>> {
    let known = wanted.unwrap_or("good");
    if listing.has(known) {
        return Ok(Some(known.into()));
    }
    if let Some(name) = wanted {
        let message = format!("--good-name {name}: no such folder; found {listing}");
        return Err(Error::file(&listing.path, message));
    }
    let mut likely = listing.folders.keys().filter(|name| means_good(name));
    match (likely.next(), likely.next()) {
        (Some(name), None) => {
            notes.push(format!(
                "{}: `{name}` is taken for the folder of good parts; `--good-name` names another",
                listing.path.display()
            ));
            Ok(Some(name.clone()))
        }
        (Some(a), Some(b)) => Err(Error::file(
            &listing.path,
            format!("are the good parts in `{a}` or in `{b}`? say so by `--good-name`"),
        )),
        _ => Ok(None),
    }
}

/// Reads samples in one layout. The modalities are those of the training parts.
struct Reader {
    layout: Layout,
    has_rgb: bool,
    has_depth: bool,
    notes: Vec<String>,
}

impl Reader {
    fn note(&mut self, path: &Path, message: impl std::fmt::Display) {
        self.notes.push(format!("{}: {message}", path.display()));
    }

    /// The parts in a folder, such as `test/scratch`, without masks. `strict` refuses a part that lacks its picture or depth
    /// map; else it is left out.
    fn parts(
        &mut self,
        folder: &Listing,
        (split, kind): (&str, &str),
        label: Label,
        strict: bool,
    ) -> Result<Vec<Sample>> {
        let geometry = match self.layout {
            Layout::Mvtec3d => "xyz",
            _ => "depth",
        };
        let has_folders = matches!(self.layout, Layout::Mvtec3d | Layout::RgbDepth);
        let mut files = |name: &str| {
            let listing = match has_folders {
                true => &Listing::read(&folder.folder(name))?,
                false => folder,
            };
            self.notes.extend(listing.passed_over());
            listing.stems()
        };
        let mut rgb = if self.has_rgb {
            files("rgb")?
        } else {
            BTreeMap::new()
        };
        let mut depth = if self.has_depth {
            files(geometry)?
        } else {
            BTreeMap::new()
        };
        if self.has_rgb && self.has_depth {
            let missing = [(&rgb, &depth, "depth map"), (&depth, &rgb, "picture")];
            for (path, message) in missing
                .map(|(a, b, what)| alone(a, b, what))
                .into_iter()
                .flatten()
            {
                match strict {
                    true => return Err(Error::file(path, message)),
                    false => self.note(&path, format!("{message}; left out")),
                }
            }
            rgb.retain(|stem, _| depth.contains_key(stem));
            depth.retain(|stem, _| rgb.contains_key(stem));
        }
        let parts = if self.has_rgb { &rgb } else { &depth };
        let name = |stem: &str| {
            let words = [split, kind, stem];
            words
                .into_iter()
                .filter(|w| !w.is_empty())
                .collect::<Vec<_>>()
                .join("/")
        };
        let sample = |stem: &String| Sample {
            name: name(stem),
            rgb: rgb.get(stem).cloned(),
            depth: depth.get(stem).cloned(),
            mask: None,
            label: label.clone(),
        };
        Ok(parts.keys().map(sample).collect())
    }

    /// Only good parts draw a line between good and defective: others are named and left out.
    fn validation(&mut self, split: &Listing, name: &str, good: &str) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for (kind, folder) in &split.folders {
            if kind == good {
                samples = self.parts(&Listing::read(folder)?, (name, kind), Label::Good, true)?;
                continue;
            }
            let parts = pictures_below(folder);
            if parts > 0 {
                self.note(
                    folder,
                    format!(
                        "{parts} pictures are left out: a threshold comes from good parts alone"
                    ),
                );
            }
        }
        if samples.is_empty() {
            self.note(
                &split.path,
                format!("no folder `{good}`: nothing here is used; found {split}"),
            );
        }
        Ok(samples)
    }

    /// All kinds of test parts. What is wrong with one leaves it out: training needs none.
    fn test(&mut self, root: &Listing, name: &str, good: &str) -> Result<Vec<Sample>> {
        let split = Listing::read(&root.folder(name))?;
        let good = match split.has(good) {
            true => Some(good.to_string()),
            false => good_folder(&split, None, &mut self.notes).unwrap_or_default(),
        };
        let masks = match self.layout {
            Layout::MvtecAd2 => split.folder(MASKS),
            _ => root.folder(MASKS),
        };
        let masks = masks.is_dir().then(|| Listing::read(&masks)).transpose()?;
        let mut kinds: Vec<(&String, &PathBuf)> = split.folders.iter().collect();
        kinds.retain(|(kind, _)| *kind != MASKS);
        if kinds.is_empty() {
            self.note(
                &split.path,
                format!("expected folders `good` and one per kind of defect; found {split}"),
            );
        }
        if let Some(first) = split.files.first() {
            let count = split.files.len();
            self.note(first, format!("{count} pictures of no kind are left out: they belong in folders `good` or one per kind of defect"));
        }
        let mut samples = Vec::new();
        for (kind, folder) in kinds {
            let is_good = good.as_ref() == Some(kind);
            if !is_good && means_good(kind) {
                self.note(folder, "taken for a kind of defect; if it holds good parts, give its name by `--good-name`");
            }
            let label = match is_good {
                true => Label::Good,
                false => Label::Defect(kind.clone()),
            };
            let read = Listing::read(folder)
                .and_then(|listing| self.parts(&listing, (name, kind), label, false));
            match read {
                Ok(parts) => samples.extend(parts),
                Err(error) => self.notes.push(format!("{error}; left out")),
            }
            if is_good {
                continue;
            }
            let of_kind = match (&masks, self.layout) {
                (_, Layout::Mvtec3d | Layout::RgbDepth) => folder.join("gt"),
                (Some(masks), _) => masks.folder(kind),
                (None, _) => continue,
            };
            if of_kind.is_dir() {
                let start = samples
                    .iter()
                    .position(|s| s.label == Label::Defect(kind.clone()));
                let start = start.unwrap_or(samples.len());
                let listing = Listing::read(&of_kind)?;
                self.add_masks(&mut samples[start..], &listing);
            }
        }
        let defects: Vec<&Sample> = samples.iter().filter(|s| s.is_defect()).collect();
        let without: Vec<&Sample> = defects
            .iter()
            .copied()
            .filter(|s| s.mask.is_none())
            .collect();
        if let Some(first) = without.first().filter(|_| without.len() < defects.len()) {
            let message = format!(
                "{} defective parts have no mask and do not count by pixel ({}, …)",
                without.len(),
                first.name
            );
            self.note(&split.path, message);
        }
        Ok(samples)
    }

    /// Gives each part the mask of its name: `<stem>_mask.png`, `<stem>.png`, or a folder `<stem>` of several (LOCO).
    fn add_masks(&mut self, parts: &mut [Sample], folder: &Listing) {
        let mut masks: BTreeMap<String, PathBuf> = folder.folders.clone();
        match folder.files.is_empty() {
            true => {}
            false => match folder.stems() {
                Ok(files) => masks.extend(files),
                Err(error) => {
                    return self
                        .notes
                        .push(format!("{error}; no mask of this folder is used"));
                }
            },
        }
        for part in parts {
            let stem = part.name.rsplit('/').next().unwrap_or_default();
            let known = [format!("{stem}_mask"), stem.to_string()];
            part.mask = known.iter().find_map(|name| masks.remove(name));
        }
        if let Some(first) = masks.values().next() {
            let message = format!("{} masks belong to no part (such as this one)", masks.len());
            self.note(first, message);
        }
    }

    /// Tells what lies beside the folders that are known.
    fn beside(&mut self, root: &Listing, known: &[Option<&str>]) {
        for (name, folder) in &root.folders {
            let pictures = pictures_below(folder);
            if pictures > 0 && !known.contains(&Some(name)) {
                self.note(folder, format!("its {pictures} pictures are not used"));
            }
        }
        if let Some(first) = root.files.first() {
            let count = root.files.len();
            self.note(
                first,
                format!("{count} pictures beside `train` are not used"),
            );
        }
    }
}

/// Files that have no partner of the same name: the first, and how many they are.
fn alone(
    from: &BTreeMap<String, PathBuf>,
    to: &BTreeMap<String, PathBuf>,
    what: &str,
) -> Option<(PathBuf, String)> {
    let mut missing = from.iter().filter(|(stem, _)| !to.contains_key(*stem));
    let (_, first) = missing.next()?;
    let count = 1 + missing.count();
    Some((
        first.clone(),
        format!("has no {what} of the same name ({count} such files)"),
    ))
}

//! Datasets and the feature cache.

use std::path::{Path, PathBuf};

use astray::data::{
    Background, Cache, Dataset, DepthMap, DepthOptions, Label, Layout, Meaning, Rgb, Sample,
    categories, list_images, preprocess,
};
use image::RgbImage;

use super::{assert_error, save, uniform};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/");

pub fn parts(root: &Path, files: &[&str]) {
    for (i, file) in files.iter().enumerate() {
        let path = root.join(file);
        let picture = RgbImage::from_pixel(4, 4, image::Rgb([i as u8; 3]));
        save(&path, picture);
    }
}

/// Is there a note for each word?
pub fn assert_told(set: &Dataset, words: &[&str]) {
    for word in words {
        let found = set.notes.iter().any(|note| note.contains(word));
        assert!(found, "{word:?} is not in {:#?}", set.notes);
    }
}

pub fn names(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|s| s.name.as_str()).collect()
}

#[test]
fn the_mvtec_ad_layout() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("screw");
    parts(
        &root,
        &["train/good/b.PNG", "train/good/a.jpg", "test/good/0.png"],
    );
    parts(
        &root,
        &["test/scratch/1.png", "ground_truth/scratch/1_mask.png"],
    );
    std::fs::write(root.join("train/good/.hidden.png"), "x").unwrap();
    std::fs::write(root.join("train/good/readme.txt"), "x").unwrap();
    let set = Dataset::open(&root).unwrap();
    assert_eq!((set.name.as_str(), set.layout), ("screw", Layout::MvtecAd));
    assert_eq!(names(&set.train), ["train/good/a", "train/good/b"]);
    assert_eq!(names(&set.test), ["test/good/0", "test/scratch/1"]);
    assert_eq!(set.test[0].label, Label::Good);
    assert_eq!(set.test[1].label, Label::Defect("scratch".to_string()));
    assert!(!set.test[0].load_mask(4, 4).unwrap().unwrap().has_defect());
    // The test's mask is a picture of shade 1, so all of it is above 0.
    assert!(set.test[1].load_mask(4, 4).unwrap().unwrap().has_defect());
    assert_error(set.test[1].load_mask(5, 4), &["1_mask.png", "5 x 4"]);
    assert_eq!(
        categories(folder.path()).unwrap(),
        std::slice::from_ref(&root)
    );
    assert_eq!(categories(&root).unwrap(), std::slice::from_ref(&root));

    assert!(
        set.overlap()
            .unwrap()
            .iter()
            .all(|(train, _)| train.ends_with("train/good/b.PNG"))
    );
    std::fs::copy(root.join("train/good/a.jpg"), root.join("test/good/9.jpg")).unwrap();
    let overlap = Dataset::open(&root).unwrap().overlap().unwrap();
    let pair = (root.join("train/good/a.jpg"), root.join("test/good/9.jpg"));
    assert!(overlap.contains(&pair), "{overlap:?}");

    // What is wrong with a test part does not stop a training, and is told.
    parts(&root, &["test/scratch/2.png", "ground_truth/scratch/8.png"]);
    let set = Dataset::open(&root).unwrap();
    assert_eq!(set.test.last().unwrap().load_mask(4, 4).unwrap(), None);
    assert_told(
        &set,
        &[
            "readme.txt",
            "1 defective parts have no mask",
            "test/scratch/2",
        ],
    );
    assert_told(&set, &["8.png", "belong to no part"]);
    std::fs::remove_dir_all(root.join("ground_truth")).unwrap();
    let set = Dataset::open(&root).unwrap();
    assert_eq!(set.test.last().unwrap().load_mask(4, 4).unwrap(), None);
}

#[test]
fn good_parts_are_kept_back_for_the_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<String> = (0..25).map(|i| format!("train/good/{i:02}.png")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    parts(folder.path(), &files);
    let set = Dataset::open(folder.path()).unwrap();
    let (train, kept) = set.split(0.1);
    let names: Vec<&str> = kept.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["train/good/09", "train/good/19"]);
    assert_eq!(train.len(), 23);
    assert!(train.iter().all(|s| !names.contains(&s.name.as_str())));
    // None where none is asked for, or where there are too few to spare one.
    for share in [0.0, 0.01] {
        assert_eq!(set.split(share), (set.train.clone(), Vec::new()));
    }
}

#[cfg(unix)]
#[test]
fn a_category_is_called_as_its_link_is() {
    let folder = tempfile::tempdir().unwrap();
    parts(folder.path(), &["data/train/good/0.png"]);
    let link = folder.path().join("screw");
    std::os::unix::fs::symlink(folder.path().join("data"), &link).unwrap();
    assert_eq!(Dataset::open(&link).unwrap().name, "screw");
    let here = folder.path().join("data/.");
    assert_eq!(Dataset::open(&here).unwrap().name, "data");
}

/// Defects must not draw the line that they are to be found with.
#[test]
fn defects_among_the_validation_parts_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let good = [
        "train/good/0.png",
        "validation/good/1.png",
        "validation/good/2.png",
    ];
    parts(folder.path(), &good);
    parts(
        folder.path(),
        &["validation/crack/3.png", "validation/__MACOSX/4.png"],
    );
    let set = Dataset::open(folder.path()).unwrap();
    let names: Vec<&str> = set.validation.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["validation/good/1", "validation/good/2"]);
    assert_eq!(set.split(0.5).1, set.validation);
}

#[test]
fn the_mvtec_3d_and_rgbd_layouts() {
    for (geometry, layout) in [("xyz", Layout::Mvtec3d), ("depth", Layout::RgbDepth)] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let add = |name: &str| parts(root, &[name]);
        for (kind, stem) in [
            ("train/good", "0"),
            ("validation/good", "1"),
            ("test/hole", "2"),
        ] {
            add(&format!("{kind}/rgb/{stem}.png"));
            add(&format!("{kind}/{geometry}/{stem}.tiff"));
        }
        add("test/hole/gt/2.png");
        let set = Dataset::open(root).unwrap();
        assert_eq!(set.layout, layout);
        assert_eq!(
            (set.train.len(), set.validation.len(), set.test.len()),
            (1, 1, 1)
        );
        let sample = &set.test[0];
        assert!(sample.rgb.is_some() && sample.depth.is_some() && sample.mask.is_some());
        add("train/good/rgb/7.png");
        assert_error(Dataset::open(root), &["7.png", "no depth map"]);
        std::fs::remove_file(root.join("train/good/rgb/7.png")).unwrap();
        add(&format!("test/hole/{geometry}/8.png"));
        let set = Dataset::open(root).unwrap();
        assert_eq!(set.test.len(), 1);
        assert_told(&set, &["8.png", "no picture", "left out"]);
    }
}

#[test]
fn wrong_folders_say_what_was_expected_and_found() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert_error(Dataset::open(&root.join("none")), &["none"]);
    assert_error(
        Dataset::open(root),
        &["expected MVTec AD", "found an empty folder"],
    );
    assert_error(
        categories(root),
        &["expected MVTec AD", "found an empty folder"],
    );
    std::fs::create_dir_all(root.join("train/bad")).unwrap();
    assert_error(
        Dataset::open(root),
        &["no folder `good`", "1 folders (bad)"],
    );
    std::fs::create_dir_all(root.join("train/good")).unwrap();
    assert_error(
        Dataset::open(root),
        &["good", "expected pictures", "empty folder"],
    );
    parts(root, &["train/good/0.png"]);
    assert!(Dataset::open(root).unwrap().test.is_empty());
    std::fs::create_dir_all(root.join("test")).unwrap();
    assert_told(
        &Dataset::open(root).unwrap(),
        &["test", "one per kind of defect"],
    );
    std::fs::create_dir_all(root.join("test/dent")).unwrap();
    assert_told(
        &Dataset::open(root).unwrap(),
        &["dent", "empty folder", "left out"],
    );
    parts(root, &["train/good/0.jpg"]);
    assert_error(Dataset::open(root), &["same name"]);

    let plain = tempfile::tempdir().unwrap();
    assert_error(
        list_images(plain.path()),
        &["no pictures", "an empty folder"],
    );
    parts(plain.path(), &["2.bmp", "1.png"]);
    let listed = [plain.path().join("1.png"), plain.path().join("2.bmp")];
    assert_eq!(list_images(plain.path()).unwrap(), listed);
    let set = Dataset::open(plain.path()).unwrap();
    assert_eq!((set.layout, set.train.len()), (Layout::Plain, 2));
}

#[test]
fn the_shared_folders_open() {
    let shared = PathBuf::from(SHARED);
    if !shared.is_dir() {
        crate::say!("not present: {SHARED}");
        return;
    }
    let screw = Dataset::open(&categories(&shared.join("mvtec_ad")).unwrap()[0]).unwrap();
    assert_eq!((screw.train.len(), screw.test.len()), (320, 160));
    assert_eq!(screw.test.iter().filter(|s| s.mask.is_some()).count(), 119);
    assert!(screw.overlap().unwrap().is_empty());
    let road = Dataset::open(&shared.join("pothole_rgbd")).unwrap();
    assert_eq!((road.train.len(), road.test.len()), (241, 283));
    let defect = road.test.iter().find(|s| s.is_defect()).unwrap();
    let picture = Rgb::load(defect.rgb.as_ref().unwrap(), None).unwrap();
    let mask = defect
        .load_mask(picture.width, picture.height)
        .unwrap()
        .unwrap();
    assert!(mask.has_defect());
    let path = defect.depth.as_ref().unwrap();
    let map = DepthMap::load(path, &Meaning::default()).unwrap();
    let options = DepthOptions {
        background: Background::None,
        ..DepthOptions::default()
    };
    let depth = preprocess(&map, &options, path).unwrap();
    assert!(depth.mask.iter().all(|&m| m == 1.0) && depth.depth.iter().any(|&d| d != 0.0));
    assert_error(
        Dataset::open(&shared.join("pillqc")),
        &["pillqc", "expected", "images"],
    );
}

#[test]
fn a_cache_entry_is_exact_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("made/on/demand")).unwrap();
    let key = cache.key(&[b"picture", b"b5", b"hash", b"768 stretch"]);
    assert_ne!(
        key,
        cache.key(&[b"picture", b"b5", b"hash7", b"68 stretch"])
    );
    let values: Vec<f32> = uniform(5, 24).iter().map(|&u| u as f32).collect();
    assert_eq!(cache.get(&key, &[2, 3, 4]), None);
    cache.put(&key, &[2, 3, 4], &values).unwrap();
    assert_eq!(cache.get(&key, &[2, 3, 4]), Some(values.clone()));
    assert_eq!(cache.get(&key, &[4, 3, 2]), None);
    assert_eq!(cache.get(&key, &[24]), None);
    // Every byte matters, and so does every missing one.
    let path = cache.path(&key);
    let bytes = std::fs::read(&path).unwrap();
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(cache.get(&key, &[2, 3, 4]), None, "byte {i}");
    }
    for keep in [0, 7, 80, bytes.len() - 4] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        assert_eq!(cache.get(&key, &[2, 3, 4]), None, "{keep} bytes");
    }
    cache.put(&key, &[2, 3, 4], &values).unwrap();
    assert_eq!(cache.get(&key, &[2, 3, 4]), Some(values.clone()));
    // A renamed entry is not another picture's.
    let other = cache.key(&[b"other"]);
    std::fs::rename(&path, cache.path(&other)).unwrap();
    assert_eq!(cache.get(&other, &[2, 3, 4]), None);

    assert_error(cache.put(&key, &[2, 3], &values), &["[2, 3]", "24 values"]);
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert_error(
        cache.put(&key, &[24], &values),
        &["cannot write the cache entry"],
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_error(Cache::open(file.path()), &["cannot make the cache folder"]);
}

//! Layouts of other data sets, and names that people and systems give.

use super::folders::{assert_told, names, parts};
use super::{assert_error, save};
use astray::data::{Dataset, Label, Layout, categories};
use image::{Luma, RgbImage};
use std::path::Path;

/// A mask of 4 x 4 pixels, one of them white.
fn mask(path: &Path, x: u32, y: u32) {
    let mut mask = image::GrayImage::new(4, 4);
    mask.put_pixel(x, y, Luma([255]));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    mask.save(path).unwrap();
}

#[test]
fn loco_has_a_folder_of_masks_for_each_part() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    parts(
        root,
        &[
            "train/good/0.png",
            "validation/good/1.png",
            "test/good/2.png",
        ],
    );
    parts(
        root,
        &[
            "test/logical_anomalies/003.png",
            "test/structural_anomalies/004.png",
        ],
    );
    mask(
        &root.join("ground_truth/logical_anomalies/003/000.png"),
        1,
        2,
    );
    mask(
        &root.join("ground_truth/logical_anomalies/003/001.png"),
        3,
        0,
    );
    mask(
        &root.join("ground_truth/structural_anomalies/004/000.png"),
        0,
        0,
    );
    let set = Dataset::open(root).unwrap();
    assert_eq!(set.notes, Vec::<String>::new());
    let marked = set.test[1].load_mask(4, 4).unwrap().unwrap();
    let places: Vec<usize> = (0..16).filter(|&i| marked.pixels[i] == 1).collect();
    assert_eq!(places, [3, 9]);
    assert_error(set.test[1].load_mask(4, 5), &["003", "4 x 5"]);
}

#[test]
fn mvtec_ad_2_and_btad() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    parts(root, &["train/good/0.png", "validation/good/1.png"]);
    parts(
        root,
        &[
            "test_public/good/2.png",
            "test_public/bad/3.png",
            "test_private/4.png",
        ],
    );
    mask(&root.join("test_public/ground_truth/bad/3_mask.png"), 1, 1);
    let set = Dataset::open(root).unwrap();
    assert_eq!((set.layout, set.validation.len()), (Layout::MvtecAd2, 1));
    assert_eq!(
        names(&set.test),
        ["test_public/bad/3", "test_public/good/2"]
    );
    assert!(set.test[0].mask.is_some());
    assert_told(&set, &["test_private: its 1 pictures are not used"]);

    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    parts(
        root,
        &["01/train/ok/0.bmp", "01/test/ok/1.bmp", "01/test/ko/2.bmp"],
    );
    mask(&root.join("01/ground_truth/ko/2.png"), 1, 1);
    let set = Dataset::open(&categories(root).unwrap()[0]).unwrap();
    assert_eq!(
        set.test.iter().filter(|s| s.label == Label::Good).count(),
        1
    );
    assert!(set.test[0].mask.is_some() && set.test[0].is_defect());
    assert_told(&set, &["`ok` is taken for the folder of good parts"]);
}

#[test]
fn visa_is_divided_by_its_table() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for i in 0..3 {
        parts(root, &[&format!("candle/Data/Images/Normal/{i}.JPG")]);
    }
    parts(root, &["candle/Data/Images/Anomaly/0.JPG"]);
    mask(&root.join("candle/Data/Masks/Anomaly/0.png"), 1, 1);
    assert_eq!(categories(root).unwrap(), [root.join("candle")]);
    let set = Dataset::open(&root.join("candle")).unwrap();
    assert_eq!(
        (set.layout, set.train.len(), set.test.len()),
        (Layout::Visa, 3, 1)
    );
    assert_told(
        &set,
        &["no split_csv/1cls.csv", "the test has defects alone"],
    );
    assert!(set.test[0].mask.is_some());

    let table = root.join("split_csv/1cls.csv");
    std::fs::create_dir_all(table.parent().unwrap()).unwrap();
    let good = "candle/Data/Images/Normal";
    let rows = format!(
        "object,split,label,image,mask\r\ncandle,train,normal,{good}/2.JPG,\r\ncandle,test,normal,{good}/1.JPG,\r\n\
         candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png\r\n\
         nut,train,normal,nut/7.JPG,\r\n"
    );
    std::fs::write(&table, &rows).unwrap();
    let set = Dataset::open(&root.join("candle")).unwrap();
    assert_eq!(names(&set.train), ["train/normal/2"]);
    assert_eq!(names(&set.test), ["test/normal/1", "test/anomaly/0"]);
    assert!(set.test[1].load_mask(4, 4).unwrap().unwrap().has_defect() && !set.test[0].is_defect());
    for (text, words) in [
        (rows.replace("/2.JPG", "/9.JPG"), ["9.JPG", "not there"]),
        (
            rows.replace("label", "lable"),
            ["expected columns", "lable"],
        ),
        (rows.replace("candle,", "pcb,"), ["no rows", "`candle`"]),
    ] {
        std::fs::write(&table, text).unwrap();
        assert_error(Dataset::open(&root.join("candle")), &words);
    }
}

#[test]
fn folders_of_pictures_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    parts(
        root,
        &["fine/0.png", "fine/1.png", "broken/7.png", "broken/8.png"],
    );
    mask(&root.join("marks/7_mask.png"), 1, 1);
    let [fine, broken, marks] = ["fine", "broken", "marks"].map(|name| root.join(name));
    let set = Dataset::of_folders(&fine, Some(&broken), Some(&marks)).unwrap();
    assert_eq!(names(&set.train), ["good/0", "good/1"]);
    assert_eq!(names(&set.test), ["broken/7", "broken/8"]);
    assert!(set.test[0].mask.is_some() && set.test[1].mask.is_none());
    assert_eq!(
        names(&Dataset::of_folders(&fine, None, None).unwrap().train),
        ["0", "1"]
    );
    assert_error(
        Dataset::of_folders(&root.join("none"), None, None),
        &["none"],
    );
}

#[test]
fn good_parts_may_have_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    parts(
        root,
        &["train/good/0.png", "test/OK/1.png", "test/NG/2.png"],
    );
    let set = Dataset::open(root).unwrap();
    let good: Vec<bool> = set.test.iter().map(|s| !s.is_defect()).collect();
    assert_eq!(
        (names(&set.test), good),
        (vec!["test/NG/2", "test/OK/1"], vec![false, true])
    );
    assert_told(
        &set,
        &["`OK` is taken for the folder of good parts", "--good-name"],
    );
    // Beside `good` another name is a kind of defect, which is told.
    parts(root, &["test/good/3.png"]);
    let set = Dataset::open(root).unwrap();
    assert_eq!(set.test.iter().filter(|s| s.is_defect()).count(), 2);
    assert_told(&set, &["OK", "taken for a kind of defect", "--good-name"]);

    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    parts(
        root,
        &[
            "train/Normal/0.png",
            "train/ok/1.png",
            "train/scratched/2.png",
        ],
    );
    assert_error(Dataset::open(root), &["`Normal` or in `ok`", "--good-name"]);
    assert_error(
        Dataset::open_named(root, Some("fine")),
        &["--good-name fine", "scratched"],
    );
    let set = Dataset::open_named(root, Some("ok")).unwrap();
    assert_eq!(names(&set.train), ["train/ok/1"]);
    assert_told(&set, &["1 pictures of `scratched` are not learned"]);
}

#[test]
fn what_is_passed_over_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    parts(
        root,
        &[
            "train/good/0.jpeg",
            "train/good/cam2/1.png",
            "val/good/2.png",
        ],
    );
    parts(root, &["extra/3.png", "overview.png", "test/4.png"]);
    for (from, to) in [
        ("0.jpeg", "5.JFIF"),
        ("0.jpeg", "6.jpe"),
        ("0.jpeg", "7.gif"),
    ] {
        let good = root.join("train/good");
        std::fs::copy(good.join(from), good.join(to)).unwrap();
    }
    let set = Dataset::open(root).unwrap();
    assert_eq!(
        names(&set.train),
        ["train/good/0", "train/good/5", "train/good/6"]
    );
    assert_eq!(names(&set.validation), ["val/good/2"]);
    assert_told(
        &set,
        &[
            "1 other files are not read (7.gif)",
            "cam2: not looked into",
        ],
    );
    assert_told(
        &set,
        &[
            "extra: its 1 pictures are not used",
            "overview.png: 1 pictures beside `train`",
        ],
    );
    assert_told(&set, &["4.png: 1 pictures of no kind are left out"]);
    // A lone picture beside categories is no category.
    let folder = tempfile::tempdir().unwrap();
    parts(folder.path(), &["nut/train/good/0.png", "overview.png"]);
    assert_eq!(
        categories(folder.path()).unwrap(),
        [folder.path().join("nut")]
    );
}

/// One system writes `ö` as one character, another as two.
#[test]
fn names_are_matched_however_they_are_composed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    parts(
        root,
        &["train/good/0.png", "test/kr\u{e4}tzer/gr\u{f6}\u{df}e.png"],
    );
    mask(
        &root.join("ground_truth/kra\u{308}tzer/gro\u{308}\u{df}e_mask.png"),
        1,
        1,
    );
    let set = Dataset::open(root).unwrap();
    assert!(set.test[0].mask.is_some(), "{:?}", set.notes);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf_8_stay_apart() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    parts(root, &["train/good/0.png"]);
    let name = |bytes: &[u8]| std::path::PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let kind = root.join("test").join(name(b"kr\xe4tzer"));
    for stem in [&b"\xe4.png"[..], b"\xe5.png"] {
        save(&kind.join(name(stem)), RgbImage::new(4, 4));
    }
    mask(
        &root
            .join("ground_truth")
            .join(name(b"kr\xe4tzer"))
            .join(name(b"\xe5_mask.png")),
        1,
        1,
    );
    let set = Dataset::open(root).unwrap();
    assert_eq!(
        names(&set.test),
        ["test/kr\\xe4tzer/\\xe4", "test/kr\\xe4tzer/\\xe5"]
    );
    assert!(set.test[1].mask.is_some() && set.test[0].mask.is_none());
}

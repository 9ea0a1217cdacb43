//! Folders and files as they come: what is left out is told, and results are never inputs.

use super::bad_files::refused;
use super::{PROGRAM, Workplace, tree};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A model `model` of the pictures in `parts`.
fn trained() -> Workplace {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 3);
    place.train("parts --out model --set train.hold_out=0").ok();
    place
}

fn kinds(place: &Workplace) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("parts/test")).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut kinds: Vec<String> = names.filter(|name| name != "good").collect();
    kinds.sort();
    kinds
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect()
}

#[test]
fn training_needs_no_test_parts_and_tells_what_is_wrong_with_them() {
    let place = trained();
    let kinds = kinds(&place);
    let masks = place.path("parts/ground_truth").join(&kinds[0]);
    std::fs::remove_dir_all(masks).unwrap();
    std::fs::create_dir_all(place.path("parts/test/empty")).unwrap();
    let run = place.train("parts --out model --set train.hold_out=0");
    let said = run.err.clone();
    run.ok();
    let missing = "1 defective parts have no mask and do not count by pixel";
    assert!(
        said.contains("test/empty") && said.contains(missing),
        "{said}"
    );
    // The figures that remain are those of the other masks, and the result says so.
    let json = place.run("evaluate model parts --device cpu --json").json();
    let category = &json["categories"][0];
    assert!(category["pixel_auroc"].is_f64(), "{json:#}");
    assert!(
        strings(&category["notes"])
            .iter()
            .any(|note| note.contains(missing)),
        "{json:#}"
    );
}

#[test]
fn a_figure_that_is_absent_says_why() {
    let place = trained();
    std::fs::remove_dir_all(place.path("parts/test/good")).unwrap();
    std::fs::remove_dir_all(place.path("parts/ground_truth")).unwrap();
    let json = place.run("evaluate model parts --device cpu --json").json();
    let absent = &json["categories"][0]["absent"];
    let both = "needs good and defective parts, and the test has 0 good and 6 defective";
    for (figure, reason) in [
        ("image_auroc", both),
        ("f1", both),
        ("best_f1", both),
        ("aupro", "no defective part has a mask"),
    ] {
        assert_eq!(absent[figure], reason, "{figure}");
        assert!(json["categories"][0][figure].is_null(), "{figure}");
    }
    let text = place.run("evaluate model parts --device cpu").ok();
    assert!(
        text.contains("parts: no best_f1, f1, image_auroc: needs good and defective parts"),
        "{text}"
    );
    assert!(text.contains(" of 6 defective parts found"), "{text}");
    // A mask that says too much is named beside the result.
    let kind = kinds(&place).remove(0);
    let picture = tree(&place.path("parts/test").join(&kind))
        .into_keys()
        .next()
        .unwrap();
    let decoded = image::open(place.path("parts/test").join(&kind).join(&picture)).unwrap();
    let white = image::GrayImage::from_pixel(decoded.width(), decoded.height(), image::Luma([255]));
    let masks = place.path("parts/ground_truth").join(&kind);
    std::fs::create_dir_all(&masks).unwrap();
    white.save(masks.join(picture)).unwrap();
    let json = place.run("evaluate model parts --device cpu --json").json();
    let notes = strings(&json["categories"][0]["notes"]);
    assert!(
        notes.iter().any(|note| note.contains("marks everything")),
        "{json:#}"
    );
}

#[test]
fn folders_of_pictures_are_trained_and_tested_on() {
    let place = trained();
    let kind = kinds(&place).remove(0);
    let train = super::train_line("--good --out plain --set train.hold_out=0");
    place
        .run(&train.replace("--good", "--good parts/train/good"))
        .ok();
    let bad = format!("--bad parts/test/{kind} --masks parts/ground_truth/{kind}");
    let line = format!("evaluate plain --good parts/test/good {bad} --device cpu --json");
    let json = place.run(&line).json();
    assert_eq!(
        (&json["mean"]["parts"], &json["mean"]["defective"]),
        (&2.into(), &1.into())
    );
    assert!(json["mean"]["pixel_auroc"].is_f64(), "{json:#}");
    for wrong in [
        "evaluate plain --bad parts",
        "train parts --good parts",
        "train",
    ] {
        assert_eq!(place.run(wrong).status, 2, "{wrong}");
    }
}

/// A line of parts is judged as they come: whoever asks has the answer before the next question.
#[test]
fn predict_answers_each_line_as_it_comes() {
    let place = trained();
    let mut command = place.command(PROGRAM);
    command.args("predict model - --device cpu --json".split(' '));
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = pipes.spawn().unwrap();
    let mut questions = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    let mut ask = |line: &str| -> Value {
        questions.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    let first = "parts/train/good/000.png";
    assert_eq!(ask(&format!("\u{feff}{first}\r\n"))["path"], first);
    // What cannot be judged is an answer, too.
    let missing = ask("parts/none.png\n");
    assert!(
        missing["error"].as_str().unwrap().contains("none.png"),
        "{missing}"
    );
    let again = ask(&format!("\n  {first}\n"));
    assert!(again["score"].is_f64() && again["path"] == first, "{again}");
    drop(questions);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn predict_ends_where_nobody_reads_though_the_list_goes_on() {
    let place = trained();
    let mut command = place.command(PROGRAM);
    command.args("predict model - --device cpu".split(' '));
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = pipes.spawn().unwrap();
    drop(child.stdout.take());
    let mut questions = child.stdin.take().unwrap();
    questions.write_all(b"parts/train/good/000.png\n").unwrap();
    let started = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "still waits");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(ended.code(), Some(0));
    drop(questions);
}

#[test]
fn pictures_of_another_kind_are_told_apart() {
    let place = trained();
    let path = place.path("parts/train/good/000.png");
    let picture = image::open(&path).unwrap();
    let dark = picture.to_rgb8();
    let dark = image::RgbImage::from_fn(dark.width(), dark.height(), |x, y| {
        image::Rgb(dark.get_pixel(x, y).0.map(|v| v / 4))
    });
    dark.save(place.path("dark.png")).unwrap();
    let (width, height) = (picture.width(), picture.height());
    picture
        .crop_imm(0, 0, width, height / 2)
        .save(place.path("half.png"))
        .unwrap();
    for (file, word) in [
        ("dark.png", Some("far darker")),
        ("half.png", Some("width over height")),
        ("parts/train/good/000.png", None),
    ] {
        let json = place
            .run(&format!("predict model {file} --device cpu --json"))
            .json();
        let warnings = strings(&json["warnings"]);
        let is_said = |word: &str| warnings.iter().any(|warning| warning.contains(word));
        assert!(
            word.map_or(warnings.is_empty(), is_said),
            "{file}: {warnings:?}"
        );
    }
}

#[test]
fn results_are_never_inputs() {
    let place = trained();
    let line = "predict model parts/test/good --out parts/test/good --device cpu";
    refused(
        &place,
        line,
        1,
        &["parts/test/good", "--out", "among the parts"],
    );
    let line =
        "predict model parts/test/good/000.png --out ./parts/../parts/test/good --device cpu";
    refused(&place, line, 1, &["--out", "among the parts"]);
    let line = "evaluate model parts --report parts/report --device cpu";
    refused(
        &place,
        line,
        1,
        &["parts/report", "--report", "among the parts"],
    );
    place.write("mine/thesis.txt", "years of work");
    refused(
        &place,
        "demo --out mine --device cpu",
        1,
        &["mine", "thesis.txt", "new or empty folder"],
    );
    place
        .run("predict model parts/test/good --out parts/test/good/heat --device cpu")
        .ok();
}

#[test]
fn a_second_category_does_not_replace_the_first_ones_model_without_a_word() {
    let place = trained();
    std::fs::rename(place.path("parts"), place.path("nuts")).unwrap();
    let run = place.train("nuts --out model --set train.hold_out=0");
    assert!(
        run.err
            .contains("the model of `parts` will be replaced by one of `nuts`"),
        "{}",
        run.err
    );
    run.ok();
    let again = place.train("nuts --out model --set train.hold_out=0");
    assert!(!again.err.contains("will be replaced"), "{}", again.err);
}

#[test]
fn calibration_reads_features_that_are_known() {
    let place = trained();
    let weights = super::default_weights();
    if weights.contains("seeded") {
        crate::say!("without weights in the program features are not kept: NOT CHECKED");
        return;
    }
    let line = "calibrate model parts/train/good --device cpu --cache known";
    let first = place.run(line).ok();
    let entries = tree(&place.path("known"));
    assert_eq!(entries.len(), 3);
    assert_eq!(place.run(line).ok(), first);
    assert_eq!(tree(&place.path("known")), entries);
}

#[cfg(unix)]
#[test]
fn the_model_that_a_link_leads_to_is_replaced_not_the_link() {
    let place = trained();
    let (real, link) = (
        place.path("model/model.safetensors"),
        place.path("link/model.safetensors"),
    );
    std::fs::create_dir(place.path("link")).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let before = std::fs::read(&real).unwrap();
    place
        .run("threshold link --threshold 3.25 --device cpu")
        .ok();
    assert!(link.is_symlink());
    assert_ne!(std::fs::read(&real).unwrap(), before);
}

/// Two names that differ only in how their letters are composed.
#[cfg(target_os = "linux")]
#[test]
fn two_categories_of_one_name_are_refused_before_training() {
    let place = Workplace::new();
    for name in ["gr\u{fc}n", "gru\u{308}n"] {
        place.write(
            &format!("all/{name}/train/good/0.png"),
            "no picture, and not looked at",
        );
    }
    refused(
        &place,
        &super::train_line("all --out model"),
        1,
        &["same name", "rename one"],
    );
}

//! Options and settings that mean nothing, or name a place that cannot be written: told before the
//! work begins.

use super::bad_files::unchanged;
use super::{DIVERGING, SMALL, Workplace, train_line};

#[test]
fn unknown_words_are_wrong_usage() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    for (options, words) in [
        (
            "--device radv9000",
            &[
                "--device: no adapter's name contains \"radv9000\"",
                "auto, cpu",
            ][..],
        ),
        (
            "--device 99",
            &["--device: no adapter number 99", "auto, cpu"],
        ),
        (
            "--set teacher.hiden=64",
            &[
                "unknown configuration key `teacher.hiden`",
                "`teacher.hidden`",
            ],
        ),
        (
            "--set teacher.hidden=wide",
            &["teacher.hidden = \"wide\"", "expected a whole number"],
        ),
        (
            "--set teacher.hidden",
            &["`teacher.hidden`", "expected key=value"],
        ),
        (
            "--preset mvtec4d",
            &[
                "preset `mvtec4d` is unknown",
                "tiny, thorough, mvtec3d, mvtec2d",
            ],
        ),
        ("--category nut", &["--category nut: parts has parts"]),
        (
            "--set backbone.name=resnet18",
            &["no backbone `resnet18`", "efficientnet_b0"],
        ),
        (
            "--set backbone.tap=16",
            &["backbone.tap = 16", "blocks 0 to 15"],
        ),
    ] {
        let line = train_line(&format!("parts --out model {options}"));
        // The last device counts, and clap refuses two.
        let line = match options.starts_with("--device") {
            true => line.replacen("--device cpu", "", 1),
            false => line,
        };
        unchanged(&place, &line, 2, words, || place.run(&line));
    }
    place.train("parts --out model").ok();
    let picture = "parts/test/good/000.png";
    for (line, words) in [
        (
            format!("predict model {picture} --depth {picture}"),
            &["model: this model uses no --depth"][..],
        ),
        (
            "predict model --depth parts/test/good".into(),
            &["model: this model needs pictures"],
        ),
        (
            format!("predict model {picture} --device tpu"),
            &["--device: no adapter's name"],
        ),
        (
            "evaluate model parts --category nut".into(),
            &["--category nut: parts has parts"],
        ),
    ] {
        let line = match line.contains("--device") {
            true => line,
            false => line + " --device cpu",
        };
        unchanged(&place, &line, 2, words, || place.run(&line));
    }
    place.draw_3d("solid", 0, 2);
    place
        .train("solid --modality rgb+depth --out solid-model")
        .ok();
    let line = "predict solid-model solid/test/dent/rgb solid/test/bump/rgb \
                --depth solid/test/dent/xyz --device cpu --out heat";
    let words = ["2 pictures but 1 depth maps", "expected one for each"];
    unchanged(&place, line, 2, &words, || place.run(line));
    let line = "predict solid-model solid/test/dent/rgb --device cpu --out heat";
    unchanged(&place, line, 2, &["needs --depth maps"], || place.run(line));
}

#[test]
fn a_diverging_training_leaves_nothing() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    let line = train_line(&format!("parts --out model {DIVERGING}"));
    let words = [
        "the teacher's loss became",
        "try a lower train.learning_rate",
    ];
    unchanged(&place, &line, 1, &words, || place.run(&line));
}

#[test]
fn places_that_cannot_be_written_are_refused_before_the_work() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    place.train("parts --out model").ok();
    place.write("file", "x");
    std::fs::create_dir_all(place.path("taken/model.safetensors")).unwrap();
    std::fs::create_dir_all(place.path("report/report.html")).unwrap();
    let settings = SMALL.map(|s| format!(" --set {s}")).concat() + " " + DIVERGING;
    let below = "file is no folder";
    for (line, words) in [
        (
            train_line(&format!("parts --out file/below/it {DIVERGING}")),
            &["file/below/it: ", below, "--out"][..],
        ),
        (
            train_line(&format!("parts --out file {DIVERGING}")),
            &["file: ", below, "--out expects"],
        ),
        (
            train_line(&format!("parts --out taken {DIVERGING}")),
            &["taken/model.safetensors: is a folder", "--out"],
        ),
        (
            train_line(&format!("parts --cache file/cache {DIVERGING}")),
            &["file/cache: ", "cache folder"],
        ),
        (
            format!("demo --device cpu --out file/demo{settings}"),
            &["file/demo: ", below, "--out"],
        ),
        (
            "evaluate model parts --device cpu --report file/r".into(),
            &["file/r: ", below, "--report"],
        ),
        (
            "evaluate model parts --device cpu --report report".into(),
            &["report/report.html: is a folder"],
        ),
        (
            "predict model parts/test/good --device cpu --out file/heat".into(),
            &["file/heat: ", below, "--out"],
        ),
    ] {
        unchanged(&place, &line, 1, words, || place.run(&line));
    }
}

//! train, evaluate, calibrate and predict in every layout and modality.

use super::{Run, Workplace, tree};
use image::GenericImageView;
use serde_json::Value;

/// The figures that `evaluate --json` must give for every category, 0 to 1.
fn assert_figures(metrics: &Value) {
    for figure in ["image_auroc", "pixel_auroc", "aupro"] {
        let value = metrics[figure].as_f64();
        let value = value.unwrap_or_else(|| panic!("{figure}: {metrics}"));
        assert!((0.0..=1.0).contains(&value), "{figure}: {metrics}");
    }
}

/// One JSON object a line, and nothing else.
pub fn lines(run: Run) -> Vec<Value> {
    let out = run.ok();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    out.lines().map(parse).collect()
}

/// The raw map: width, height, scores.
fn raw_map(place: &Workplace, name: &str) -> (u32, u32, Vec<f32>) {
    let file = std::fs::File::open(place.path(name)).unwrap();
    let mut decoder = tiff::decoder::Decoder::new(file).unwrap();
    let (width, height) = decoder.dimensions().unwrap();
    match decoder.read_image().unwrap() {
        tiff::decoder::DecodingResult::F32(scores) => (width, height, scores),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn two_categories_of_mvtec_ad_from_training_to_verdict() {
    let place = Workplace::new();
    // Fewer parts than a batch: they still train.
    place.draw_ad("parts/bolt", 0, 3);
    place.draw_ad("parts/flange", 1, 2);
    let told = place.train("parts --out model").ok();
    for category in ["bolt", "flange"] {
        assert!(told.contains(&format!("{category}: model ")), "{told}");
        assert!(
            place
                .path(&format!("model/{category}/model.safetensors"))
                .is_file()
        );
    }

    // Figures for each category and their mean: a table for people, JSON for programs.
    let table = place.run("evaluate model parts --device cpu").ok();
    for word in [
        "image AUROC",
        "pixel AUROC",
        "AUPRO",
        "bolt",
        "flange",
        "mean",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let evaluated = place.run("evaluate model parts --device cpu --json --report report");
    let summary = evaluated.json();
    let categories = summary["categories"].as_array().unwrap();
    assert_eq!(categories.len(), 2);
    categories.iter().for_each(assert_figures);
    assert_eq!(
        (&categories[0]["category"], &categories[0]["parts"]),
        (&"bolt".into(), &7.into())
    );
    for figure in ["image_auroc", "pixel_auroc", "aupro", "best_f1"] {
        let values = categories.iter().map(|c| c[figure].as_f64().unwrap());
        let mean = values.sum::<f64>() / 2.0;
        let told = summary["mean"][figure].as_f64().unwrap();
        assert!((told - mean).abs() < 1e-12, "{figure}: {told}, not {mean}");
        let cell = format!("{:.2}", 100.0 * mean);
        assert!(
            table
                .lines()
                .any(|l| l.contains("mean") && l.contains(&cell)),
            "{table}"
        );
    }
    let written = std::fs::read(place.path("report/metrics.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), summary);
    let page = std::fs::read_to_string(place.path("report/report.html")).unwrap();
    let heat_maps = tree(&place.path("report/images"));
    let heat_maps: Vec<&String> = heat_maps
        .keys()
        .filter(|n| n.ends_with("heat.png"))
        .collect();
    assert_eq!(heat_maps.len(), 14);
    assert!(heat_maps.iter().all(|name| page.contains(*name)));

    let one = place.run("evaluate model parts --category flange --device cpu --json");
    assert_eq!(
        one.json()["categories"],
        Value::from(vec![categories[1].clone()])
    );

    // Half of the good parts may fail, then one in a thousand, which three cannot tell.
    let threshold = || {
        let line = "evaluate model/bolt parts/bolt --device cpu --json";
        place.run(line).json()["categories"][0]["threshold"]
            .as_f64()
            .unwrap()
    };
    let trained = threshold();
    let line = "calibrate model parts --category bolt --false-alarm-rate 0.5 --device cpu";
    assert!(
        place
            .run(line)
            .ok()
            .contains("50 % false alarms, from 3 good parts")
    );
    let half = threshold();
    assert!(half < trained, "{half} {trained}");
    place
        .run("calibrate model/bolt parts/bolt --false-alarm-rate 0.001 --device cpu")
        .ok();
    assert!(threshold() > trained);
}

#[test]
fn predict_takes_pictures_folders_and_a_list() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    place.train("parts --out model").ok();
    let list = "parts/test/good/000.png\n\nparts/test/dent\n";
    let line = "predict model parts/train/good/000.png parts/test/crack - --device cpu --out heat";
    let found = lines(place.run_with(&format!("{line} --json"), list));
    let paths: Vec<&str> = found.iter().map(|p| p["path"].as_str().unwrap()).collect();
    let expected = ["train/good", "test/crack", "test/good", "test/dent"];
    assert_eq!(paths, expected.map(|kind| format!("parts/{kind}/000.png")));

    // Four files of one name: each keeps its own heat map.
    let names = ["000", "000_2", "000_3", "000_4"];
    assert_eq!(tree(&place.path("heat")).len(), 8);
    for (prediction, name) in found.iter().zip(names) {
        assert_eq!(prediction["overlay"], format!("heat/{name}_heat.png"));
        assert_eq!(prediction["map"], format!("heat/{name}_map.tiff"));
        let heat = image::open(place.path(&format!("heat/{name}_heat.png"))).unwrap();
        assert_eq!(heat.dimensions(), (256, 256));
        let (width, height, scores) = raw_map(&place, &format!("heat/{name}_map.tiff"));
        // 64 pixels at stride 8, then eight times up.
        assert_eq!((width, height), (64, 64));
        assert!(scores.iter().all(|s| s.is_finite()) && scores.iter().any(|s| *s > 0.0));
        let (score, threshold) = (&prediction["score"], &prediction["threshold"]);
        let defective = score.as_f64().unwrap() > threshold.as_f64().unwrap();
        assert_eq!(prediction["defective"], defective);
    }

    // For people: a verdict a line; the threshold can be overridden.
    for (threshold, verdict) in [("0", "DEFECT"), ("1e9", "good")] {
        let line = format!("predict model parts/test/good --threshold {threshold} --device cpu");
        let told = place.run(&line).ok();
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.starts_with(verdict), "{told}");
        assert!(
            told.trim_end().ends_with("parts/test/good/000.png"),
            "{told}"
        );
    }
}

#[test]
fn mvtec_3d_with_every_modality() {
    let place = Workplace::new();
    place.draw_3d("parts", 0, 3);
    for (modality, what) in [
        ("rgb", "parts/test/dent/rgb"),
        ("depth", "--depth parts/test/dent/xyz"),
        (
            "rgb+depth",
            "parts/test/dent/rgb --depth parts/test/dent/xyz/000.tiff",
        ),
    ] {
        let told = place.train(&format!(
            "parts --modality {modality} --out {modality} --set score.image=auto"
        ));
        told.ok();
        let summary = place.run(&format!("evaluate {modality} parts --device cpu --json"));
        let summary = summary.json();
        assert_figures(&summary["categories"][0]);
        assert_eq!(summary["categories"][0]["defective"], 6);
        let told = place
            .run(&format!("calibrate {modality} parts --device cpu"))
            .ok();
        assert!(told.contains("from 2 good parts"), "{told}"); // those held back

        let line = format!("predict {modality} {what} --out heat-{modality} --json --device cpu");
        let found = lines(place.run(&line));
        assert_eq!(found.len(), 1);
        let heat = image::open(place.path(found[0]["overlay"].as_str().unwrap())).unwrap();
        assert_eq!(heat.dimensions(), (256, 256));
        let (_, _, scores) = raw_map(&place, found[0]["map"].as_str().unwrap());
        // With a foreground the score is the highest pixel, without one the mean.
        let score = found[0]["score"].as_f64().unwrap() as f32;
        let highest = scores.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(
            score == highest,
            modality != "rgb",
            "{modality}: {score} {highest}"
        );
    }
}

#[test]
fn sixteen_bit_depth_pictures() {
    let place = Workplace::new();
    place.draw_rgbd("parts", 0, 3);
    place
        .train("parts --modality rgb+depth --out model --set depth.unit_mm=0.1")
        .ok();
    let summary = place.run("evaluate model parts --device cpu --json --report report");
    assert_figures(&summary.json()["categories"][0]);
    let pictures = tree(&place.path("report/images"));
    let grey: Vec<&String> = pictures
        .keys()
        .filter(|name| name.ends_with("_depth.png"))
        .collect();
    assert_eq!(grey.len(), 7);
    place.run("calibrate model parts --device cpu").ok();
    let line =
        "predict model parts/test/bump/rgb --depth parts/test/bump/depth --json --device cpu";
    assert_eq!(lines(place.run(line)).len(), 1);

    // The same parts as xyz TIFF, which is in metres: nearly the same depth, so the same verdicts.
    place.draw_3d("xyz", 0, 3);
    let line = "predict model parts/test/bump/rgb --depth xyz/test/bump/xyz --json --device cpu";
    let tiff = lines(place.run(line))[0]["score"].as_f64().unwrap();
    let line = line.replace("xyz/test/bump/xyz", "parts/test/bump/depth");
    let png = lines(place.run(&line))[0]["score"].as_f64().unwrap();
    assert!((tiff / png - 1.0).abs() < 0.1, "{tiff} {png}");
}

/// The choices of the specification that no other test trains with (and no letterbox: the pictures
/// are square).
#[test]
fn every_choice_trains_scores_and_loads() {
    let place = Workplace::new();
    place.draw_3d("parts", 0, 3);
    for settings in [
        "student.kind=flow",
        "score.source=likelihood --set train.student_epochs=0",
        "train.loss_mean=all --set train.drop_last=false --set train.batch=2",
        "positional.channels=0",
        "input.standardise=false --set train.schedule=constant",
        "depth.mask=soft --set depth.dilation=1 --set depth.fill_passes=0",
        "input.resize=letterbox --set backbone.padding=symmetric",
    ] {
        let line = format!("parts --modality rgb+depth --out model --set {settings}");
        place.train(&line).ok();
        let summary = place.run("evaluate model parts --device cpu --json").json();
        assert_figures(&summary["categories"][0]);
        let line = "predict model parts/test/dent/rgb --depth parts/test/dent/xyz/000.tiff --json";
        let found = lines(place.run(&format!("{line} --device cpu")));
        assert!(
            found[0]["score"].as_f64().unwrap().is_finite(),
            "{settings}"
        );
        let config = place.run(&format!("config --set {settings}")).ok();
        let (key, value) = settings
            .split_once(' ')
            .map_or(settings, |s| s.0)
            .split_once('=')
            .unwrap();
        let key = key.split_once('.').unwrap().1;
        let mut lines = config.lines();
        let is_set = lines.any(|l| l.starts_with(&format!("{key} =")) && l.contains(value));
        assert!(is_set, "{config}");
    }
}

#[test]
fn a_data_set_without_what_the_model_looks_at_is_refused_before_work() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    let run = place.train("parts --modality depth --out model");
    assert_eq!(run.status, 1);
    for word in ["parts: train/good/", "has no depth map", "`--modality rgb`"] {
        assert!(run.err.contains(word), "{}", run.err);
    }
    assert!(!place.path("model").exists());
}

#[test]
fn demo_never_removes_parts_that_it_did_not_draw() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    let before = super::tree(&place.path("parts"));
    let settings = super::SMALL.map(|s| format!(" --set {s}")).concat();
    let weights = super::default_weights();
    let run = place.run(&format!("demo --out . --device cpu{settings}{weights}"));
    assert_eq!(run.status, 1);
    assert!(
        run.err.contains("expects a new or empty folder"),
        "{}",
        run.err
    );
    assert!(before == super::tree(&place.path("parts")));
}

//! The configuration: presets as in the specification, and refusals that help.

use std::path::Path;

use astray::Error;
use astray::detector::config::*;
use astray::detector::{Extractor, Features};
use astray::tensor::Device;
use astray::weights::Source;

fn message(result: astray::Result<impl std::fmt::Debug>) -> String {
    match result {
        Err(error @ Error::Usage(_)) => error.to_string(),
        other => panic!("expected a usage error, found {other:?}"),
    }
}

fn look(extractor: &Extractor, depth: &Path) -> astray::Result<Features> {
    extractor.features(extractor.read(None, Some(depth), None)?, None)
}

fn from_text(text: &str) -> astray::Result<Config> {
    Config::from_toml(text, Path::new("parts.toml"))
}

#[test]
fn presets_are_those_of_the_specification() {
    let flat = Config::preset("mvtec2d").unwrap();
    assert_eq!((flat.teacher.hidden, flat.teacher.clamp), (1024, 3.0));
    assert_eq!(flat.teacher.kernels, [3, 3, 3, 5]);
    assert_eq!(flat.train.teacher_epochs, 240);
    assert_eq!(flat.score.image, ImageScore::Mean);
    let solid = Config::preset("mvtec3d").unwrap();
    assert_eq!((solid.teacher.hidden, solid.teacher.clamp), (64, 1.9));
    assert_eq!(solid.train.student_epochs, 72);
    assert_eq!(solid.score.image, ImageScore::Max);
    assert_eq!(solid.input.modality, Modality::RgbDepth);
    for config in [&flat, &solid] {
        assert_eq!((config.student.width, config.student.blocks), (1024, 4));
        assert_eq!(config.student.slope, 0.2);
        assert_eq!(config.train.learning_rate, 2e-4);
        assert_eq!(config.train.weight_decay, 1e-5);
        // Not in the paper, so not in its presets.
        assert!(!config.input.standardise && config.train.hold_out == 0.0);
        assert!(!config.teacher.whitening && config.score.source == ScoreSource::Distance);
        assert_eq!(config.train.schedule, Schedule::Constant);
        assert_eq!(config.input.image_size, ImageSize::Pixels(768));
        assert_eq!(config.depth.size, 192);
    }
    for name in Config::PRESETS {
        let config = Config::preset(name).unwrap();
        assert_eq!(config.depth.background, Background::Plane);
    }
}

#[test]
fn presets_are_valid_and_survive_toml_and_json() {
    for name in Config::PRESETS {
        let mut config = Config::preset(name).unwrap();
        config.validate().unwrap();
        for tap in [
            "backbone.tap=4",
            "backbone.tap=[4, 10]",
            "backbone.tap=joined",
        ] {
            config.set(tap).unwrap();
            assert_eq!(from_text(&config.to_toml().unwrap()).unwrap(), config);
        }
        for auto in [
            "backbone.tap=auto",
            "input.image_size=auto",
            "input.white=auto",
        ] {
            config.set(auto).unwrap();
        }
        config.set("train.learning_rate=0.00031").unwrap();
        assert_eq!(from_text(&config.to_toml().unwrap()).unwrap(), config);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }
    let error = message(Config::preset("mvtec3"));
    assert!(error.contains("did you mean `mvtec3d`"), "{error}");
}

/// Every key takes another value, and only that value changes.
#[test]
fn every_choice_can_be_set() {
    let settings = [
        "input.modality=depth",
        "input.image_size=512",
        "input.resize=letterbox",
        "input.white=4095",
        "input.standardise=true",
        "depth.size=128",
        "depth.unshuffle=4",
        "depth.fill_passes=1",
        "depth.background=none",
        "depth.foreground_mm=5",
        "depth.dilation=1",
        "depth.mask=soft",
        "depth.unit_mm=0.1",
        "depth.float_unit_mm=1",
        "depth.invalid=9.5",
        "depth.kind=height",
        "backbone.name=efficientnet_b0",
        "backbone.tap=4",
        "backbone.padding=same456",
        "positional.channels=0",
        "teacher.blocks=2",
        "teacher.hidden=32",
        "teacher.kernels=3,5",
        "teacher.clamp=2.5",
        "teacher.whitening=true",
        "teacher.shrinkage=0.1",
        "student.kind=flow",
        "student.width=64",
        "student.blocks=8",
        "student.slope=0.01",
        "train.teacher_epochs=1",
        "train.student_epochs=2",
        "train.batch=4",
        "train.learning_rate=1e-3",
        "train.schedule=cosine",
        "train.weight_decay=0",
        "train.loss_mean=all",
        "train.drop_last=false",
        "train.hold_out=0.2",
        "train.calibration=folds",
        "train.seed=7",
        "score.image=mean",
        "score.top=0.1",
        "score.source=likelihood",
    ];
    let mut keys: Vec<&str> = settings.map(|s| s.split('=').next().unwrap()).to_vec();
    let mut known = Config::keys();
    keys.sort();
    known.sort();
    assert_eq!(keys, known);

    let preset = Config::preset("mvtec3d").unwrap();
    let lines = |config: &Config| -> Vec<String> {
        let text = config.to_toml().unwrap();
        text.lines().map(str::to_string).collect()
    };
    for setting in settings {
        let mut config = preset.clone();
        config.set(setting).unwrap();
        let (before, after) = (lines(&preset), lines(&config));
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert_eq!(changed, 1, "{setting}");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    let mut config = Config::preset("tiny").unwrap();
    for (setting, meant) in [
        ("teacher.hiden=64", "teacher.hidden"),
        ("hidden=64", "teacher.hidden"),
        ("train.lerning_rate=1", "train.learning_rate"),
        ("depth.foreground=7", "depth.foreground_mm"),
    ] {
        let error = message(config.set(setting));
        assert!(
            error.contains(&format!("did you mean `{meant}`")),
            "{error}"
        );
    }
    let error = message(config.set("teacher=1"));
    assert!(error.contains("unknown configuration key"), "{error}");
    let error = message(from_text("[teacher]\nhiden = 3\n"));
    assert!(error.starts_with("parts.toml: unknown"), "{error}");
    assert!(error.contains("teacher.hidden"), "{error}");
    let error = message(from_text("hidden = 3\n"));
    assert!(error.contains("teacher.hidden"), "{error}");
    assert_eq!(config, Config::preset("tiny").unwrap());
}

#[test]
fn wrong_values_are_refused_with_what_was_expected() {
    let mut config = Config::preset("tiny").unwrap();
    for (setting, expected) in [
        ("teacher.hidden=wide", "expected a whole number"),
        ("teacher.hidden=-3", "expected a whole number"),
        ("teacher.hidden=6.5", "expected a whole number"),
        ("teacher.clamp=soft", "expected a number"),
        ("train.drop_last=maybe", "expected true or false"),
        ("teacher.kernels=a,b", "expected a list of whole numbers"),
        ("depth.background=flat", "expected \"plane\" or \"none\""),
        ("train.schedule=warm", "expected \"constant\" or \"cosine\""),
        ("input.standardise=1", "expected true or false"),
        ("input.modality=xray", "\"rgb\", \"depth\", \"rgb+depth\""),
        (
            "input.image_size=large",
            "expected \"auto\" or a whole number of pixels",
        ),
        (
            "input.image_size=-64",
            "expected \"auto\" or a whole number of pixels",
        ),
        (
            "input.white=bright",
            "expected \"auto\" or the value of white, such as 4095 for 12 bits",
        ),
        (
            "backbone.tap=last",
            "expected \"auto\", \"joined\", a block index",
        ),
        ("backbone.name=3", "expected a text"),
        ("teacher.hidden", "expected key=value"),
    ] {
        let error = message(config.set(setting));
        assert!(error.contains(expected), "{setting}: {error}");
    }
    let error = message(from_text("[teacher\n"));
    assert!(error.contains("not valid TOML"), "{error}");
}

#[test]
fn combinations_that_cannot_work_are_refused() {
    for (settings, key) in [
        (vec!["teacher.blocks=3"], "teacher.kernels"),
        (vec!["teacher.kernels=3,3,3,4"], "teacher.kernels"),
        (vec!["input.image_size=700"], "input.image_size"),
        (vec!["input.image_size=0"], "input.image_size"),
        (vec!["input.white=0"], "input.white"),
        (vec!["input.white=-1"], "input.white"),
        (vec!["input.white=inf"], "input.white"),
        (vec!["depth.size=190"], "depth.size"),
        (vec!["depth.unshuffle=0"], "depth.unshuffle"),
        (
            vec![
                "input.modality=rgb+depth",
                "input.image_size=768",
                "depth.size=200",
            ],
            "input.image_size",
        ),
        (vec!["train.learning_rate=0"], "train.learning_rate"),
        (vec!["train.learning_rate=nan"], "train.learning_rate"),
        (vec!["train.weight_decay=-1"], "train.weight_decay"),
        (vec!["train.batch=0"], "train.batch"),
        (vec!["train.hold_out=0.6"], "train.hold_out"),
        (vec!["train.hold_out=nan"], "train.hold_out"),
        (vec!["train.student_epochs=0"], "train.student_epochs"),
        (vec!["student.slope=2"], "student.slope"),
        (vec!["positional.channels=30"], "positional.channels"),
    ] {
        let settings: Vec<String> = settings.into_iter().map(String::from).collect();
        let error = message(Config::load(None, None, &settings));
        assert!(error.starts_with(key), "{settings:?}: {error}");
    }
}

#[test]
fn preset_then_file_then_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parts.toml");
    let text = "preset = \"mvtec2d\"\n[teacher]\nhidden = 96\n[train]\nbatch = 2\n";
    std::fs::write(&path, text).unwrap();
    let settings = ["train.batch=3".to_string()];
    let config = Config::load(None, Some(&path), &settings).unwrap();
    assert_eq!(config.preset, "mvtec2d");
    assert_eq!((config.teacher.hidden, config.batch()), (96, 3));
    assert_eq!(config.train.teacher_epochs, 240);
    let config = Config::load(Some("mvtec3d"), Some(&path), &[]).unwrap();
    assert_eq!(config.preset, "mvtec3d");
    assert_eq!(
        (config.teacher.hidden, config.train.teacher_epochs),
        (96, 72)
    );
    let missing = Config::load(None, Some(&folder.path().join("none.toml")), &[]);
    assert!(missing.unwrap_err().to_string().contains("none.toml"));
}

#[test]
fn a_flow_student_takes_the_teachers_kernels() {
    let mut config = Config::preset("mvtec3d").unwrap();
    assert_eq!(config.student_kernels(), [3, 3, 3, 5]);
    config.student.blocks = 8;
    assert_eq!(config.student_kernels(), [3, 3, 3, 3, 3, 3, 3, 5]);
    config.student.blocks = 2;
    assert_eq!(config.student_kernels(), [3, 5]);
}

/// Where the part fills the picture there is no background to tell it apart from.
#[test]
fn without_a_background_the_whole_map_is_the_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slope.png");
    // The background plane through the corners is the slope itself: nothing stands out from it.
    let slope = image::ImageBuffer::from_fn(32, 32, |x, _| image::Luma([500 + 4 * x as u16]));
    slope.save(&path).unwrap();
    let mut config = Config::preset("tiny").unwrap();
    for setting in [
        "input.modality=depth",
        "depth.size=32",
        "depth.unshuffle=8",
        "depth.fill_passes=0",
    ] {
        config.set(setting).unwrap();
    }
    let depth = |config: &Config| {
        let extractor = Extractor::new(config, &Device::Cpu, &Source::Unsaid, &[]).unwrap();
        let features = look(&extractor, &path).unwrap();
        (extractor.depth(&path), features)
    };
    let (plane, features) = depth(&config);
    assert!(plane.unwrap().foreground.iter().all(|&f| f == 0));
    assert!(features.map.iter().all(|&z| z == 0.0));

    config.set("depth.background=none").unwrap();
    let (none, features) = depth(&config);
    assert!(none.unwrap().foreground.iter().all(|&f| f == 1));
    assert_eq!(features.mask, [1.0; 16]);
    // Centimetres around the mean: the slope runs over 31 steps of 4 mm.
    let (low, high) = features
        .map
        .iter()
        .fold((0f32, 0f32), |(low, high), &z| (low.min(z), high.max(z)));
    assert!(
        (low + 6.2).abs() < 1e-3 && (high - 6.2).abs() < 1e-3,
        "{low} {high}"
    );

    // With a free corner missing, the plane cannot be found and the message says what to set.
    let mut holes = slope.clone();
    for (x, y) in (0..8).flat_map(|x| (0..8).map(move |y| (x, y))) {
        holes.put_pixel(x, y, image::Luma([0u16]));
    }
    holes.save(&path).unwrap();
    config.set("depth.background=plane").unwrap();
    let extractor = Extractor::new(&config, &Device::Cpu, &Source::Unsaid, &[]).unwrap();
    let error = look(&extractor, &path).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("slope.png: the upper left corner"),
        "{error}"
    );
    assert!(error.contains("`--set depth.background=none`"), "{error}");
    let setting = error.split('`').nth(1).unwrap().strip_prefix("--set ");
    config.set(setting.unwrap()).unwrap();
    let extractor = Extractor::new(&config, &Device::Cpu, &Source::Unsaid, &[]).unwrap();
    look(&extractor, &path).unwrap();
}

#[test]
fn the_cosine_falls_from_one_to_nothing() {
    let cosine = [0.0, 0.25, 0.5, 0.75, 1.0].map(|done| Schedule::Cosine.factor(done));
    let expected = [1.0, 0.853_553_4, 0.5, 0.146_446_6, 0.0];
    for (found, expected) in cosine.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-7, "{cosine:?}");
    }
    assert_eq!(Schedule::Constant.factor(0.7), 1.0);
}

//! `input.white`: 10, 12 or 14 bits stored in 16 are as bright as they were taken.

use super::{Workplace, tree};
use astray::detector::Detector;
use astray::detector::config::White;
use astray::nn::weights::{Weights, write_safetensors};
use astray::tensor::Device;
use image::{DynamicImage, ImageBuffer, Rgb};

/// The drawn parts again in 16 bits, each number `factor` times as high.
fn deepen(place: &Workplace, from: &str, to: &str, factor: u16) {
    for (file, bytes) in tree(&place.path(from)) {
        let Some(bytes) = bytes else {
            std::fs::create_dir_all(place.path(to).join(&file)).unwrap();
            continue;
        };
        if file.contains("ground_truth") {
            place.write(&format!("{to}/{file}"), bytes);
        } else {
            let picture = image::open(place.path(from).join(&file)).unwrap().to_rgb8();
            let deep = ImageBuffer::<Rgb<u16>, _>::from_fn(256, 256, |x, y| {
                Rgb(picture.get_pixel(x, y).0.map(|v| u16::from(v) * factor))
            });
            deep.save(place.path(to).join(&file)).unwrap();
        }
    }
}

fn white(place: &Workplace, model: &str) -> White {
    let file = place.path(model).join("model.safetensors");
    let detector = Detector::load(&file, &Device::Cpu).unwrap();
    detector.config.input.white
}

/// Scores of the good part and of all others, by `evaluate`.
fn aurocs(place: &Workplace, model: &str, data: &str) -> serde_json::Value {
    let line = format!("evaluate {model} {data} --json --device cpu --report report_{data}");
    let found = place.run(&line).json();
    found["categories"].clone()
}

#[test]
fn white_follows_from_the_training_pictures() {
    let place = Workplace::new();
    place.draw_ad("eight", 0, 3);
    // 255 and 65535 are as far from these as they are from each other: the same shades, to the last bit.
    deepen(&place, "eight", "low", 1);
    deepen(&place, "eight", "high", 257);
    let low = place.train("low --out low_model");
    assert!(
        low.err
            .contains("note: pictures have 8 bits: white is 255\n"),
        "{}",
        low.err
    );
    let high = place.train("high --out high_model");
    let note = "note: pictures have 16 bits: white is 65535\n";
    assert!(high.err.contains(note), "{}", high.err);
    assert_eq!(white(&place, "low_model"), White::Value(255.0));
    assert_eq!(white(&place, "high_model"), White::Value(65535.0));
    let told = |run: super::Run, name: &str| {
        let out = run.ok().replace(&format!("{name}:"), "model:");
        out.replace(&format!("{name}_model"), "model")
    };
    assert_eq!(
        told(low, "low"),
        told(high, "high"),
        "as bright, so the same model"
    );
    let pixels = |data: &str| {
        let images = place.path(&format!("report_{data}/images"));
        let is_shown =
            |name: &String| name.contains("test_good_000_") && name.ends_with("_input.png");
        let name = tree(&images).into_keys().find(is_shown).unwrap();
        image::open(images.join(name)).unwrap().to_rgb8()
    };
    let scores = aurocs(&place, "low_model", "low");
    assert!(!scores.is_null());
    aurocs(&place, "high_model", "high");
    assert_eq!(
        pixels("low"),
        pixels("high"),
        "the report shows them as bright, too"
    );

    // Pictures of 8 bits have nothing to find.
    let eight = place.train("eight --out eight_model");
    assert!(!eight.err.contains("white"), "{}", eight.err);
    assert_eq!(white(&place, "eight_model"), White::Auto);

    // What exceeds white is named, each time that it is read, and only once.
    let line = "predict low_model high/test/good/000.png low/test/good/000.png --device cpu";
    let run = place.run(line);
    let words = "high/test/good/000.png: holds values up to ";
    assert_eq!(run.err.matches(words).count(), 1, "{}", run.err);
    assert!(
        run.err.contains("above the model's white (255)"),
        "{}",
        run.err
    );
    assert!(!run.err.contains("low/test/good/000.png"), "{}", run.err);
    // Beside the result, too.
    let json = place.run(&format!("{line} --json")).ok();
    let first = json.lines().next().unwrap();
    assert!(first.contains("above the model's white"), "{json}");
    for _ in 0..2 {
        let run = place.run("evaluate low_model high --cache cache --device cpu");
        assert_eq!(run.err.matches(words).count(), 1, "{}", run.err);
    }

    // A number that is given is taken, and nothing told.
    let run = place.train("low --out given --set input.white=510");
    assert!(!run.err.contains("white is"), "{}", run.err);
    assert_eq!(white(&place, "given"), White::Value(510.0));

    // Mixtures are warned of.
    std::fs::copy(
        place.path("eight/train/good/000.png"),
        place.path("low/train/good/000.png"),
    )
    .unwrap();
    let run = place.train("low --out mixed");
    assert!(
        run.err
            .contains("low/train/good/000.png has 8 bits, low/train/good/001.png has 16 bits"),
        "{}",
        run.err
    );
}

#[test]
fn float_pictures_have_a_white_too() {
    let place = Workplace::new();
    place.draw_ad("eight", 0, 3);
    for (name, factor) in [("unit", 1.0 / 255.0), ("counts", 8.0)] {
        for part in 0..3 {
            let file = format!("train/good/00{part}.png");
            let picture = image::open(place.path("eight").join(&file)).unwrap();
            let mut floats = picture.to_rgb32f();
            floats
                .iter_mut()
                .for_each(|v| *v = (*v * 255.0).round() * factor);
            let folder = place.path(name).join("train/good");
            std::fs::create_dir_all(&folder).unwrap();
            let picture = DynamicImage::from(floats);
            picture.save(folder.join(format!("00{part}.tiff"))).unwrap();
        }
    }
    let run = place.train("unit --out unit_model");
    assert!(
        run.err
            .contains("note: pictures hold numbers from 0 to 1: white is 1\n"),
        "{}",
        run.err
    );
    let run = place.train("counts --out counts_model");
    assert!(
        run.err
            .contains("note: pictures have 11 bits: white is 2047\n"),
        "{}",
        run.err
    );
    // A model of 8 bits cannot know the white of floats.
    place.train("eight --out eight_model").ok();
    let run = place.run(
        "predict eight_model counts/train/good/000.tiff unit/train/good/000.tiff --device cpu",
    );
    assert_eq!(run.status, 1);
    assert!(
        run.out.contains("which of them is white is not known"),
        "{}",
        run.out
    );
    assert_eq!(run.out.matches("ERROR").count(), 1, "{}", run.out);
}

#[test]
fn a_model_from_before_the_key_takes_all_16_bits() {
    let place = Workplace::new();
    place.draw_ad("eight", 0, 3);
    deepen(&place, "eight", "high", 257);
    place.train("high --out model").ok();
    let line = "predict model high/test/good/000.png --json --device cpu";
    let now = place.run(line).json();
    let file = place.path("model/model.safetensors");
    let model = Weights::read(&file).unwrap();
    let mut metadata = model.metadata.clone();
    let config = metadata["config"].replace("white = 65535.0\n", "");
    assert_ne!(config, metadata["config"]);
    metadata.insert("config".into(), config);
    let tensors = model.tensors.into_iter();
    let tensors: Vec<_> = tensors.map(|(n, a)| (n, a.shape, a.data)).collect();
    write_safetensors(&file, &tensors, metadata).unwrap();
    assert_eq!(white(&place, "model"), White::Auto);
    assert_eq!(place.run(line).json()["score"], now["score"]);
}

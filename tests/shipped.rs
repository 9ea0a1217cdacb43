//! The weights that come with the program, and what `auto` becomes beside other weights.

use std::path::{Path, PathBuf};

use astray::detector::config::{Config, ImageSize, Tap};
use astray::detector::{Choice, Extractor};
use astray::models::efficientnet::{Backbone, EfficientNet, Scheme};
use astray::nn::random::named_tensor;
use astray::nn::weights::{Weights, sha256, write_safetensors};
use astray::tensor::Device;
use astray::weights::shipped::{self, DEFAULT, Shipped};
use astray::weights::{Source, name_of};

/// The most that one of the files may have.
const MOST_BYTES: usize = 6_000_000;

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

fn are_there() -> bool {
    if DEFAULT.bytes.is_none() {
        crate::say!("built without the feature shipped-weights: its weights are NOT CHECKED");
    }
    DEFAULT.bytes.is_some()
}

fn drawn() -> &'static Shipped {
    shipped::named("astray-b0").unwrap()
}

#[test]
fn the_files_are_the_ones_that_the_readme_tells_of() {
    if !are_there() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for own in &shipped::ALL {
        let bytes = own.bytes.unwrap();
        let file = format!("{}.safetensors", own.name);
        assert!(bytes.len() <= MOST_BYTES, "{} bytes", bytes.len());
        assert!(std::fs::read(folder.join(&file)).unwrap() == bytes);
        assert_eq!(sha256(bytes), own.sha256, "{file}");
        let row = readme
            .lines()
            .find(|line| line.starts_with(&format!("| `{file}` |")));
        let row = row.unwrap_or_else(|| panic!("weights/README.md has no row for {file}"));
        assert!(row.contains(own.licence), "{row}");
        let told: Vec<&str> = row
            .split(['|', ' ', '`'])
            .filter(|word| word.len() == 64)
            .collect();
        // What it was made from, where that is a file.
        let source = own.read().unwrap().metadata.remove("source_sha256");
        let expected: Vec<&str> = [own.sha256].into_iter().chain(source.as_deref()).collect();
        assert_eq!(told, expected, "{row}");
        // Others' terms: the notice, the whole licence and what it was made from.
        if own.licence == "Apache-2.0" {
            for words in [
                expected[1],
                "Copyright (c) 2020, ML Illustrated",
                "END OF TERMS AND CONDITIONS",
            ] {
                assert!(own.licence_text.contains(words), "{words}");
            }
        }
    }
}

#[test]
fn they_are_the_networks_that_they_are_said_to_be() {
    if !are_there() {
        return;
    }
    // Of the names that go with `same` padding and ε = 1e-3.
    for (own, channels, scheme) in [
        (DEFAULT, 304, Scheme::EfficientNetPytorch),
        (drawn(), 112, Scheme::Timm),
    ] {
        let weights = own.read().unwrap();
        let network = astray::weights::network(&weights).unwrap();
        assert_eq!(network.name, own.network);
        assert_eq!(network.blocks.len() - 1, own.last);
        let tapped = Backbone::joined(own.network, own.last + 1).unwrap();
        assert_eq!((tapped.channels(), tapped.stride()), (channels, 16));
        assert_eq!(Scheme::recognise(&weights.tensors), Some(scheme));
        EfficientNet::load(&Device::Cpu, network, &weights, None).unwrap();
        let name = name_of(&weights.sha256).map(|(name, _)| name);
        assert_eq!(name.as_deref(), Some(own.name));
    }
    assert_eq!(DEFAULT.name, "efficientnet-lite0");
    assert_eq!(name_of(&sha256(b"")), None);
    for (spelt, name) in [
        ("astray-b0", Some("astray-b0")),
        ("Astray_B0", Some("astray-b0")),
        ("EfficientNet_Lite0", Some("efficientnet-lite0")),
        ("b0", None),
        ("efficientnet-lite1", None),
    ] {
        assert_eq!(shipped::named(spelt).map(|own| own.name), name, "{spelt}");
    }
}

#[test]
fn their_features_are_numbers_and_not_those_of_a_random_backbone() {
    if !are_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("a.png");
    let image = image::RgbImage::from_fn(96, 96, |x, y| {
        image::Rgb([2 * x as u8, 2 * y as u8, (x * y % 251) as u8])
    });
    image.save(&picture).unwrap();
    let features = |source: &Source, channels: usize| {
        let config = tiny(&["depth.size=48"]);
        let extractor =
            Extractor::new(&config, &Device::Cpu, source, &[picture.as_path()]).unwrap();
        assert_eq!((extractor.side(), extractor.channels()), (6, channels));
        let part = extractor.read(Some(&picture), None, None).unwrap();
        extractor.features(part, None).unwrap().map
    };
    let by_name = |own: &Shipped| Source::Named(own.name.into());
    for (source, channels) in [(Source::Unsaid, 304), (by_name(drawn()), 112)] {
        let shipped = features(&source, channels);
        assert!(shipped.iter().all(|v| v.is_finite()));
        // Every channel tells the places of the picture apart.
        for channel in 0..channels {
            let values = || shipped.iter().skip(channel).step_by(channels);
            let low = values().copied().fold(f32::MAX, f32::min);
            let high = values().copied().fold(f32::MIN, f32::max);
            assert!(low < high, "channel {channel} is {low} everywhere");
        }
    }
    let shipped = features(&Source::Unsaid, 304);
    assert!(shipped != features(&Source::Seeded, 304));
    assert!(shipped == features(&by_name(DEFAULT), 304));
}

fn tiny(settings: &[&str]) -> Config {
    let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
    Config::load(Some("tiny"), None, &settings).unwrap()
}

/// Every tensor of a network up to its tap.
fn tensors(network: &Backbone, scheme: Scheme) -> Tensors {
    let mut all = Tensors::new();
    let mut add = |name: String, shape: Vec<usize>| {
        let count = shape.iter().product();
        let fan_in = shape.iter().skip(1).product::<usize>() as f64;
        let data = match shape.len() {
            4 => named_tensor(&name, count, (6.0 / fan_in).sqrt(), 3),
            _ => vec![1.0; count],
        };
        all.push((name, shape, data));
    };
    let mut layer = |(conv, norm): (String, String), shape: [usize; 4]| {
        add(format!("{conv}.weight"), shape.into());
        for part in ["weight", "bias", "running_mean", "running_var"] {
            add(format!("{norm}.{part}"), vec![shape[0]]);
        }
    };
    layer(scheme.stem(), [network.stem, 3, 3, 3]);
    let mut squeezes = Vec::new();
    for (i, spec) in network.blocks.iter().enumerate() {
        let names = scheme.block(i, spec);
        let (k, hidden) = (spec.kernel, spec.hidden());
        if spec.fused && spec.expand == 1 {
            layer(names.project, [spec.c_out, spec.c_in, k, k]);
            continue;
        }
        if spec.fused {
            layer(names.expand, [hidden, spec.c_in, k, k]);
        } else {
            if spec.expand != 1 {
                layer(names.expand, [hidden, spec.c_in, 1, 1]);
            }
            layer(names.depthwise, [hidden, 1, k, k]);
        }
        layer(names.project, [spec.c_out, hidden, 1, 1]);
        if let Some(width) = spec.squeeze() {
            squeezes.push((names.se_reduce, [width, hidden, 1, 1]));
            squeezes.push((names.se_expand, [hidden, width, 1, 1]));
        }
    }
    for (name, shape) in squeezes {
        add(format!("{name}.weight"), shape.into());
        add(format!("{name}.bias"), vec![shape[0]]);
    }
    all
}

/// A file of a network up to a tap, without a word of what it is.
fn file(folder: &Path, name: &str, tap: Option<usize>, scheme: Scheme) -> PathBuf {
    let network = Backbone::new(name, tap).unwrap();
    let path = folder.join(format!("{name}.safetensors"));
    write_safetensors(&path, &tensors(&network, scheme), Default::default()).unwrap();
    path
}

fn chosen(config: &Config, source: &Source) -> (String, Tap, ImageSize) {
    let found = Choice::new(config, source).unwrap().config;
    let told = Choice::new(&found, source).unwrap().config;
    assert_eq!(found, told, "what is concrete stays as it is");
    (
        found.backbone.name,
        found.backbone.tap,
        found.input.image_size,
    )
}

fn refused(config: &Config, source: &Source, words: &[&str]) {
    let Err(error) = Choice::new(config, source) else {
        panic!("expected an error that says {words:?}")
    };
    assert_eq!(error.exit_code(), 2, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?}: {error}");
    }
}

#[test]
fn auto_is_what_the_weights_are() {
    let folder = tempfile::tempdir().unwrap();
    let b0 = |tap, side| {
        let (tap, side) = (Tap::Blocks(vec![tap]), ImageSize::Pixels(side));
        ("efficientnet_b0".to_string(), tap, side)
    };
    let lite0 = |taps: &[usize], side| {
        let (taps, side) = (Tap::Blocks(taps.into()), ImageSize::Pixels(side));
        ("efficientnet_lite0".to_string(), taps, side)
    };
    // Random, but as large as the default one; or as it was asked for.
    assert_eq!(chosen(&tiny(&[]), &Source::Seeded), lite0(&[10, 14], 384));
    let named = tiny(&["backbone.name=efficientnet_b0"]);
    let (_, joined, side) = lite0(&[10, 14], 384);
    let b0_joined = ("efficientnet_b0".to_string(), joined, side);
    assert_eq!(chosen(&named, &Source::Seeded), b0_joined);
    let sixth = tiny(&["backbone.name=efficientnet_b0", "backbone.tap=auto"]);
    assert_eq!(chosen(&sixth, &Source::Seeded), b0(14, 768));
    if are_there() {
        let unsaid = Source::Unsaid;
        assert_eq!(chosen(&tiny(&[]), &unsaid), lite0(&[10, 14], 384));
        let lite = ["backbone.name=efficientnet_lite0"];
        assert_eq!(chosen(&tiny(&lite), &unsaid), lite0(&[10, 14], 384));
        let last = tiny(&["backbone.tap=14"]);
        assert_eq!(chosen(&last, &unsaid), lite0(&[14], 768));
        let own = Source::Named(drawn().name.into());
        assert_eq!(chosen(&tiny(&[]), &own), b0(10, 384));
        assert_eq!(chosen(&named, &own), b0(10, 384));
        assert_eq!(chosen(&tiny(&["backbone.tap=4"]), &own), b0(4, 192));
        let smaller = tiny(&["depth.size=128"]);
        assert_eq!(chosen(&smaller, &own), b0(10, 256));
        let said = tiny(&["input.image_size=512"]);
        assert_eq!(chosen(&said, &own), b0(10, 512));
        // The same files beside the program.
        for (own, expected) in [(DEFAULT, lite0(&[10, 14], 384)), (drawn(), b0(10, 384))] {
            let copy = folder.path().join("copy.safetensors");
            std::fs::write(&copy, own.bytes.unwrap()).unwrap();
            assert_eq!(chosen(&tiny(&[]), &Source::Named(copy)), expected);
        }
    }
    // V2-B0 joined, and as the preset had it before.
    let v2 = file(folder.path(), "efficientnetv2_b0", None, Scheme::Keras);
    let v2 = Source::Named(v2);
    for (settings, taps, side, channels) in [
        (&[][..], &[12, 20][..], 384, 304),
        (&["backbone.tap=auto"], &[20], 768, 192),
    ] {
        let config = tiny(settings);
        let expected = (
            "efficientnetv2_b0".to_string(),
            Tap::Blocks(taps.into()),
            ImageSize::Pixels(side),
        );
        assert_eq!(chosen(&config, &v2), expected);
        let extractor = Extractor::new(&config, &Device::Cpu, &v2, &[]).unwrap();
        assert_eq!((extractor.side(), extractor.channels()), (24, channels));
    }
}

#[test]
fn a_file_that_may_be_several_networks_needs_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "efficientnet_b1", Some(1), Scheme::Timm);
    let source = Source::Named(path);
    let words = [
        "efficientnet_b1.safetensors: blocks 0 to 1 are the same in efficientnet_b1, efficientnet_b2",
        "`--set backbone.name=efficientnet_b1`",
    ];
    let tap = ["backbone.tap=1", "input.image_size=64"];
    refused(&tiny(&tap), &source, &words);
    for name in ["efficientnet_b1", "efficientnet_b2"] {
        let config = tiny(&[&tap[..], &[&format!("backbone.name={name}")]].concat());
        let extractor = Extractor::new(&config, &Device::Cpu, &source, &[]).unwrap();
        assert_eq!(extractor.network().unwrap().name, name);
    }
    // Cut where it is one network's alone, before the sixth stage ends: `auto` is its last block.
    let path = file(folder.path(), "efficientnet_b0", Some(6), Scheme::Timm);
    let load = |settings: &[&str]| {
        let source = Source::Named(path.clone());
        Extractor::new(&tiny(settings), &Device::Cpu, &source, &[])
    };
    for settings in [&[][..], &["backbone.tap=6"]] {
        let network = load(settings).unwrap().network().unwrap().clone();
        assert_eq!(
            (&*network.name, network.blocks.len()),
            ("efficientnet_b0", 7)
        );
    }
    load(&["backbone.name=efficientnet_b0"]).unwrap();
    let error = load(&["backbone.name=efficientnet_b0", "backbone.tap=14"]);
    let error = error.err().unwrap();
    let word = "the file ends with block 6: use `--set backbone.tap=6`";
    assert!(error.to_string().contains(word), "{error}");
    let error = load(&["backbone.name=efficientnet_b3"]).err().unwrap();
    let word = "use `--set backbone.name=efficientnet_b0 --set backbone.tap=6`";
    assert!(error.to_string().contains(word), "{error}");
}

#[test]
fn without_weights_there_is_one_network_only() {
    let paper = |name: &str| Config::preset(name).unwrap();
    let unsaid = Source::Unsaid;
    for preset in ["mvtec2d", "mvtec3d"] {
        let words = [
            "backbone.name = efficientnet_b5: without --weights there is only efficientnet-lite0, which is of efficientnet_lite0",
            "`--weights efficientnet-b5` after `astray weights fetch efficientnet-b5`",
            "`--set backbone.name=auto --set input.image_size=auto`",
            "`--weights seeded`",
        ];
        refused(&paper(preset), &unsaid, &words);
        Choice::new(&paper(preset), &Source::Seeded).unwrap();
    }
    let words = ["backbone.name = efficientnetv2_b0", "`--weights FILE`"];
    let v2 = tiny(&["backbone.name=efficientnetv2_b0"]);
    refused(&v2, &unsaid, &words);
    let words = [
        "backbone.tap = 15: without --weights there is only efficientnet-lite0, which ends with block 14",
        "`--weights FILE`",
    ];
    refused(&tiny(&["backbone.tap=15"]), &unsaid, &words);
    refused(&tiny(&["backbone.tap=[10,15]"]), &unsaid, &words);
    let words = [
        "backbone.name = efficientnet_b0: without --weights there is only efficientnet-lite0",
        "`--weights efficientnet-b0` after `astray weights fetch efficientnet-b0`",
    ];
    let b0 = |tap| tiny(&["backbone.name=efficientnet_b0", tap]);
    refused(&b0("backbone.tap=12"), &unsaid, &words);
    if are_there() {
        let words = [words[0], "use `--weights astray-b0`, `--weights", words[1]];
        refused(&b0("backbone.tap=10"), &unsaid, &words);
    }
    // What does not exist needs no weights.
    let words = ["no backbone `resnet18`"];
    refused(&tiny(&["backbone.name=resnet18"]), &unsaid, &words);
    if !are_there() {
        let words = [
            "built without weights of its own",
            "`shipped-weights`",
            "seeded",
        ];
        refused(&tiny(&[]), &unsaid, &words);
    }
}

#[test]
fn a_picture_that_does_not_go_with_the_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = file(folder.path(), "efficientnet_b0", Some(10), Scheme::Timm);
    let weights = Source::Named(whole);
    let open = |config: &Config| Extractor::new(config, &Device::Cpu, &weights, &[]);
    let refused = |config: &Config, words: &[&str]| {
        let error = open(config).err().unwrap();
        assert_eq!(error.exit_code(), 2, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word:?}: {error}");
        }
    };
    let words = [
        "input.image_size = 400: expected a multiple of 32",
        "\"auto\" made it depth.size / depth.unshuffle = 25 times the stride 16 of efficientnet_b0",
    ];
    refused(&tiny(&["backbone.tap=10", "depth.size=200"]), &words);
    // The paper's size for stride 32, with a network of stride 16.
    let mut config = Config::preset("mvtec3d").unwrap();
    config.set("backbone.name=auto").unwrap();
    config.set("backbone.tap=10").unwrap();
    let words = [
        "input.image_size = 768: expected 384 or \"auto\"",
        "the stride 16 of efficientnet_b0",
    ];
    refused(&config, &words);
    config.set("input.image_size=auto").unwrap();
    open(&config).unwrap();
    // Pictures alone may have any side of whole strides.
    config.set("input.image_size=768").unwrap();
    config.set("input.modality=rgb").unwrap();
    open(&config).unwrap();
}

#[test]
fn weights_know_the_length_of_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "efficientnet_b0", Some(0), Scheme::Timm);
    let weights = Weights::read(&path).unwrap();
    assert_eq!(weights.bytes, path.metadata().unwrap().len());
}

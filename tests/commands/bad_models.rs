//! Weights and models that cannot be used, or cannot be written.

use super::bad_files::{refused, unchanged};
use super::{SMALL, Tensors, Workplace, finish, train_line, tree};
use astray::nn::weights::{Weights, write_safetensors};

#[test]
fn weights_that_are_damaged_or_of_another_network() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    let refused_as = |edit: fn(&mut Tensors), options: &str, words: &[&str]| {
        place.weights("w.safetensors", 1, edit);
        let options = format!("--weights w.safetensors {options}");
        let train = train_line(&format!("parts --out model {options}"));
        for line in [train, format!("{} {options}", demo_line())] {
            refused(&place, &line, 1, &[&["w.safetensors: "], words].concat());
        }
    };
    let nan = |tensors: &mut Tensors| tensors.get_mut("conv_stem.weight").unwrap().1[7] = f32::NAN;
    refused_as(
        nan,
        "",
        &[
            "`conv_stem.weight` holds NaN at element 7",
            "expected finite",
        ],
    );
    refused_as(
        |_| (),
        "--set backbone.name=efficientnet_b3",
        &[
            "`conv_stem.weight` is [32, 3, 3, 3], not [40, 3, 3, 3] as in efficientnet_b3",
            "the file looks like efficientnet_b0 (timm names)",
            "`--set backbone.name=efficientnet_b0`",
        ],
    );
    // B1 has B0's widths and more blocks.
    refused_as(
        |_| (),
        "--set backbone.name=efficientnet_b1",
        &[
            "`blocks.0.1.",
            "of efficientnet_b1 is missing",
            "looks like efficientnet_b0",
        ],
    );
    let no_stem = |tensors: &mut Tensors| drop(tensors.remove("conv_stem.weight"));
    refused_as(
        no_stem,
        "",
        &["tensor `conv_stem.weight` of efficientnet_b0 is missing"],
    );
    let no_norm = |tensors: &mut Tensors| drop(tensors.remove("bn1.running_var"));
    refused_as(
        no_norm,
        "",
        &["tensor `bn1.running_var` of efficientnet_b0 is missing"],
    );
    let negative = |tensors: &mut Tensors| tensors.get_mut("bn1.running_var").unwrap().1[0] = -1.0;
    refused_as(
        negative,
        "",
        &["`bn1.running_var` is a variance", "below 0"],
    );
    let resnet = |tensors: &mut Tensors| {
        *tensors = [
            ("bn1.weight", 64),
            ("conv1.weight", 64),
            ("layer1.0.bn1.bias", 64),
        ]
        .map(|(name, n)| (name.to_string(), (vec![n], vec![1.0; n])))
        .into();
    };
    let words = [
        "no EfficientNet that is known",
        "timm",
        "bn1.weight",
        "layer1.0.bn1.bias",
    ];
    refused_as(resnet, "", &words);

    place.write("w.pth", "hello, these are no weights");
    let line = train_line("parts --out model --weights w.pth");
    let words = [
        "w.pth: not a weight file",
        "expected a safetensors file or a PyTorch",
    ];
    refused(&place, &line, 1, &words);
    let line = train_line("parts --out model --weights none.pth");
    refused(&place, &line, 1, &["none.pth: cannot read the weight file"]);

    // A model holds its backbone: other weights beside it are a mistake.
    place.weights("w.safetensors", 1, |_| ());
    place.weights("v.safetensors", 2, |_| ());
    place
        .train("parts --out model --weights w.safetensors")
        .ok();
    place
        .run("predict model parts/test/good --weights w.safetensors --device cpu")
        .ok();
    let line = "predict model parts/test/good --weights v.safetensors --device cpu --out heat";
    refused(
        &place,
        line,
        1,
        &["v.safetensors: sha256 ", "but the model was trained with"],
    );
}

fn demo_line() -> String {
    let settings = SMALL.map(|s| format!(" --set {s}")).concat();
    format!("demo --device cpu --out demo{settings}")
}

#[test]
fn model_files_that_cannot_be_read() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    place.train("parts --out good").ok();
    let bytes = std::fs::read(place.path("good/model.safetensors")).unwrap();
    let model = Weights::read(&place.path("good/model.safetensors")).unwrap();
    let mut newer = model.metadata.clone();
    newer.insert("format".into(), "999".into());
    newer.insert("astray".into(), "7.1.0".into());
    let mut older = model.metadata.clone();
    older.insert("format".into(), "1".into());
    let mut nameless = model.metadata.clone();
    nameless.remove("config");
    let mut unknown = model.metadata.clone();
    let config = unknown["config"].replace("hidden =", "hiden =");
    unknown.insert("config".into(), config);
    let mut blurred = model.metadata.clone();
    blurred.insert("threshold".into(), "about 3".into());
    let tensors: Vec<_> = model
        .tensors
        .into_iter()
        .map(|(n, a)| (n, a.shape, a.data))
        .collect();
    let write = |name: &str, metadata| {
        write_safetensors(&place.path(name), &tensors, metadata).unwrap();
    };
    write("newer.safetensors", newer);
    write("older.safetensors", older);
    write("nameless.safetensors", nameless);
    write("unknown.safetensors", unknown);
    write("blurred.safetensors", blurred);
    let hollow = &place.path("hollow.safetensors");
    write_safetensors(hollow, &tensors[1..], model.metadata.clone()).unwrap();
    let mut sick = tensors.clone();
    *sick.last_mut().unwrap().2.last_mut().unwrap() = f32::NAN;
    write_safetensors(&place.path("sick.safetensors"), &sick, model.metadata).unwrap();
    place.write("torch.safetensors", b"PK\x03\x04");
    place.write("bare.safetensors", b"\x02\0\0\0\0\0\0\0{}and more");
    place.write(
        "long.safetensors",
        b"\xff\xff\xff\xff\xff\xff\xff\xff{}and more",
    );
    place.write("cut.safetensors", &bytes[..bytes.len() / 2]);
    place.write("header.safetensors", &bytes[..100]);
    place.write("text.safetensors", "hello, this is no model");
    std::fs::create_dir(place.path("folder")).unwrap();
    let lost = format!("tensor `{}` ", tensors[0].0);
    for (model, words) in [
        (
            "newer.safetensors",
            &["astray 7.1.0 in format 999", "reads up to 4", "update it"][..],
        ),
        ("older.safetensors", &["in format 1", "train it again"]),
        (
            "nameless.safetensors",
            &["its metadata has no `config`", "`astray train`"],
        ),
        (
            "unknown.safetensors",
            &["damaged: its configuration", "`hiden`", "`hidden`"],
        ),
        ("sick.safetensors", &["holds NaN at element", "damaged"]),
        ("torch.safetensors", &["no model to load", "a PyTorch file"]),
        ("bare.safetensors", &["no model to load", "damaged"]),
        ("long.safetensors", &["no model to load", "damaged"]),
        ("blurred.safetensors", &["threshold is \"about 3\""]),
        (
            "hollow.safetensors",
            &[&lost, "is missing or of another shape", "damaged"],
        ),
        (
            "cut.safetensors",
            &["no model to load", "cut short or damaged", "copy"],
        ),
        (
            "header.safetensors",
            &["no model to load", "cut short or damaged"],
        ),
        (
            "text.safetensors",
            &[
                "no model to load",
                "not a weight file",
                "expected a safetensors",
            ],
        ),
        (
            "none",
            &["expected a model", "`astray train`", "there is none"],
        ),
        (
            "folder",
            &[
                "expected a model",
                "model.safetensors",
                "found a folder without one",
            ],
        ),
    ] {
        let start = format!("error: {model}: ");
        let words = [&[&*start], words].concat();
        for command in [
            "evaluate MODEL parts --report report --device cpu --json",
            "predict MODEL parts/test/good --out heat --device cpu --json",
            "calibrate MODEL parts --device cpu",
        ] {
            refused(&place, &command.replace("MODEL", model), 1, &words);
        }
    }
    // A folder of several models: the message names them.
    std::fs::create_dir(place.path("many")).unwrap();
    std::fs::rename(place.path("good"), place.path("many/bolt")).unwrap();
    let line = "predict many parts/test/good --out heat --device cpu";
    refused(
        &place,
        line,
        1,
        &["many: expected a model", "name one: many/bolt"],
    );
}

/// A limit on the size of files makes every write fail as a full disk does.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_model_and_nothing_else() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    place.train("parts --out model").ok();
    let on_a_full_disk = |line: &str| {
        let mut command = place.command("sh");
        let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
        command
            .args(["-c", script, super::PROGRAM])
            .args(line.split_whitespace());
        finish(&mut command, "")
    };
    for (line, file) in [
        (
            train_line("parts --out model --seed 5"),
            "model/model.safetensors",
        ),
        (train_line("parts --out new"), "new/model.safetensors"),
        (
            "calibrate model parts --false-alarm-rate 0.5 --device cpu".into(),
            "model/model.safetensors",
        ),
    ] {
        let words = [file, "cannot write the file", "free space"];
        unchanged(&place, &line, 1, &words, || on_a_full_disk(&line));
    }
    // The folder for heat maps is made; no part of one is left in it.
    let run = on_a_full_disk("predict model parts/test/good --out heat --device cpu");
    assert_eq!(run.status, 1);
    let message = "error: heat/000_heat.png: cannot be written";
    assert!(run.err.contains(message), "{}", run.err);
    assert!(tree(&place.path("heat")).is_empty());
    // The old model still works.
    place.run("predict model parts/test/good --device cpu").ok();
}

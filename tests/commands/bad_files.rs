//! Files that cannot be used: exit status 1, a message that names the file and says what was
//! expected, and nothing left behind.

use super::{DIVERGING, Run, SMALL, Tensors, Workplace, finish, train_line, tree};
use astray::nn::weights::{Weights, write_safetensors};
use image::{GrayImage, ImageBuffer, Luma};

/// Runs `line`, which must end with `status` and say all of `words`, without a trace in the folder.
fn refused(place: &Workplace, line: &str, status: i32, words: &[&str]) {
    unchanged(place, line, status, words, || place.run(line));
}

pub fn unchanged(
    place: &Workplace,
    what: &str,
    status: i32,
    words: &[&str],
    run: impl FnOnce() -> Run,
) {
    let before = tree(place.0.path());
    let run = run();
    assert_eq!(run.status, status, "{what}\n{}\n{}", run.out, run.err);
    assert_eq!(run.out, "", "{what}: results in spite of an error");
    let message = run.err.lines().last().unwrap_or_default();
    assert!(message.starts_with("error: "), "{what}: {}", run.err);
    for word in words {
        assert!(
            message.contains(word),
            "{what}: {word:?} is not in: {message}"
        );
    }
    let after = tree(place.0.path());
    let names = after
        .keys()
        .filter(|name| after.get(*name) != before.get(*name));
    assert!(
        before == after,
        "{what} left behind {:?}",
        names.collect::<Vec<_>>()
    );
}

#[test]
fn folders_that_hold_no_parts() {
    let place = Workplace::new();
    let train = |data: &str| train_line(&format!("{data} --out model --cache cache"));
    let layouts = ["expected MVTec AD", "MVTec 3D-AD", "depth/"];
    let with = |words: &[&'static str]| [&layouts[..], words].concat();
    refused(
        &place,
        &train("none"),
        1,
        &with(&["none: ", "found nothing of that name"]),
    );
    place.write("notes.txt", "hello");
    refused(
        &place,
        &train("notes.txt"),
        1,
        &with(&["notes.txt: ", "found a file"]),
    );
    std::fs::create_dir(place.path("empty")).unwrap();
    refused(
        &place,
        &train("empty"),
        1,
        &with(&["empty: ", "found an empty folder"]),
    );
    place.write("odd/pictures/a.png", "x");
    place.write("odd/readme.txt", "x");
    let found = "found 1 folders (pictures), 0 pictures, 1 other files";
    refused(&place, &train("odd"), 1, &with(&["odd: ", found]));
    std::fs::create_dir_all(place.path("parts/train/bad")).unwrap();
    let words = ["parts/train: no folder `good`", "found 1 folders (bad)"];
    refused(&place, &train("parts"), 1, &with(&words));
    std::fs::create_dir_all(place.path("parts/train/good")).unwrap();
    let words = [
        "parts/train/good: expected pictures (",
        "png",
        "found an empty folder",
    ];
    refused(&place, &train("parts"), 1, &words);

    // Parts without a test cannot be evaluated on.
    place.draw_ad("screw", 0, 2);
    place.train("screw --out model").ok();
    std::fs::remove_dir_all(place.path("screw/test")).unwrap();
    let evaluate = "evaluate model screw --report report --device cpu";
    refused(
        &place,
        evaluate,
        1,
        &["screw: no test parts", "expected a folder `test`"],
    );
}

/// A PNG and a BMP that are whole but for the pixels that their header announces.
fn absurd(side: u32) -> [(&'static str, Vec<u8>); 2] {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend([side.to_be_bytes(), side.to_be_bytes()].concat());
    png.extend([8, 2, 0, 0, 0]);
    let sum = crc32(&png[12..]);
    png.extend(sum.to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
    let mut bmp = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.extend([side.to_le_bytes(), side.to_le_bytes()].concat());
    bmp.extend([1, 0, 24, 0]);
    bmp.extend([0; 28]);
    [("huge.png", png), ("huge.bmp", bmp)]
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn pictures_that_are_cut_short_or_absurdly_large() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    place.train("parts --out model").ok();
    let picture = std::fs::read(place.path("parts/train/good/000.png")).unwrap();
    let [png, bmp] = absurd(100_000);
    let size = ["100000 x 100000", "16384"];
    for (name, bytes, words) in [
        (
            "cut.png",
            picture[..picture.len() / 2].to_vec(),
            &["cut short"][..],
        ),
        (png.0, png.1, &size),
        (bmp.0, bmp.1, &["too large", "(100000, 100000)"]),
        (
            "text.png",
            b"hello".to_vec(),
            &["not a picture", "expected one of bmp"],
        ),
        ("void.png", Vec::new(), &["the file is empty"]),
    ] {
        let words = |file: String| [&[&*file.leak()], words].concat();
        let file = format!("parts/train/good/{name}");
        place.write(&file, &bytes);
        let line = train_line("parts --out other --cache cache2");
        let made = place.run(&line);
        assert!(
            made.status == 1 && !place.path("other").exists(),
            "{}",
            made.err
        );
        let _ = std::fs::remove_dir_all(place.path("cache2"));
        refused(
            &place,
            &train_line("parts --out other"),
            1,
            &words(file.clone()),
        );
        std::fs::remove_file(place.path(&file)).unwrap();

        place.write(name, &bytes);
        let line = format!("predict model {name} --out heat --json --device cpu");
        refused(&place, &line, 1, &words(name.to_string()));
        std::fs::remove_file(place.path(name)).unwrap();

        let file = format!("parts/test/good/{name}");
        place.write(&file, &bytes);
        let line = "evaluate model parts --report report --device cpu";
        refused(&place, line, 1, &words(file.clone()));
        std::fs::remove_file(place.path(&file)).unwrap();
    }
    let line = "predict model parts/test/good/none.png --out heat --device cpu";
    refused(
        &place,
        line,
        1,
        &["parts/test/good/none.png: cannot be read"],
    );

    // A damaged picture that is held back for the threshold is found before the training.
    place.draw_3d("solid", 0, 2);
    place.write("solid/validation/good/rgb/000.png", &picture[..900]);
    let settings = format!("{DIVERGING} --modality rgb --out other");
    let words = ["solid/validation/good/rgb/000.png", "cut short"];
    refused(&place, &train_line(&format!("solid {settings}")), 1, &words);
}

#[test]
fn masks_of_another_size() {
    let place = Workplace::new();
    place.draw_ad("parts/a", 0, 2);
    place.draw_ad("parts/b", 0, 2);
    place.train("parts --out model").ok();
    let mask = "parts/b/ground_truth/dent/000_mask.png";
    GrayImage::new(255, 256).save(place.path(mask)).unwrap();
    let line = "evaluate model parts --report report --json --device cpu";
    let words = [
        mask,
        "the mask is 255 x 256 pixels, its picture 256 x 256",
        "the same size",
    ];
    refused(&place, line, 1, &words);
}

#[test]
fn depth_maps_without_a_corner_or_without_anything() {
    let place = Workplace::new();
    place.draw_rgbd("parts", 0, 2);
    let settings = "--modality depth --set depth.unit_mm=0.1";
    place.train(&format!("parts {settings} --out model")).ok();
    let file = "parts/train/good/depth/000.png";
    let corner = |x: u32, y: u32| if x > 120 && y > 120 { 0u16 } else { 5000 };
    let corner = ImageBuffer::from_fn(256, 256, |x, y| Luma([corner(x, y)]));
    let holes = ImageBuffer::from_fn(256, 256, |_, _| Luma([0u16]));
    for (map, words) in [
        (
            corner,
            &[
                "lower right corner",
                "64 pixels",
                "`--set depth.background=none`",
            ][..],
        ),
        (holes, &["only holes", "expected distances"]),
    ] {
        map.save(place.path(file)).unwrap();
        let words = [&[file], words].concat();
        refused(
            &place,
            &train_line(&format!("parts {settings} --out other")),
            1,
            &words,
        );
        let line = format!("predict model --depth {file} --out heat --device cpu");
        refused(&place, &line, 1, &words);
        refused(
            &place,
            "calibrate model parts/train --device cpu",
            1,
            &["parts/train"],
        );
    }
    // What the message advises works.
    let corner = ImageBuffer::from_fn(256, 256, |x, y| {
        Luma([if x + y > 300 { 0u16 } else { 5000 }])
    });
    corner.save(place.path(file)).unwrap();
    let line = format!("parts {settings} --out other --set depth.background=none");
    place.train(&line).ok();

    GrayImage::new(256, 256).save(place.path(file)).unwrap();
    let words = [file, "expected a depth map: grey with 16 bits", "L8"];
    refused(
        &place,
        &train_line(&format!("parts {settings} --out third")),
        1,
        &words,
    );
}

#[test]
fn weights_that_are_damaged_or_of_another_network() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    let refused_as = |edit: fn(&mut Tensors), options: &str, words: &[&str]| {
        place.weights("w.safetensors", 1, edit);
        for command in [train_line("parts --out model"), demo_line()] {
            let line = format!("{command} --weights w.safetensors {options}");
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
    write("nameless.safetensors", nameless);
    write("unknown.safetensors", unknown);
    write("blurred.safetensors", blurred);
    write_safetensors(
        &place.path("hollow.safetensors"),
        &tensors[1..],
        model.metadata,
    )
    .unwrap();
    place.write("cut.safetensors", &bytes[..bytes.len() / 2]);
    place.write("header.safetensors", &bytes[..100]);
    place.write("text.safetensors", "hello, this is no model");
    std::fs::create_dir(place.path("folder")).unwrap();
    let lost = format!("tensor `{}` ", tensors[0].0);
    for (model, words) in [
        (
            "newer.safetensors",
            &["astray 7.1.0 in format 999", "reads up to 1", "update it"][..],
        ),
        (
            "nameless.safetensors",
            &["its metadata has no `config`", "`astray train`"],
        ),
        (
            "unknown.safetensors",
            &["damaged: its configuration: unknown", "`teacher.hidden`"],
        ),
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
            "calibrate model parts --quantile 0.5 --device cpu".into(),
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

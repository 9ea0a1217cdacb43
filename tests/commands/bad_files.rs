//! Parts that cannot be used: exit status 1, a message that names the file and says what was
//! expected, and nothing left behind.

use super::{DIVERGING, Run, Workplace, train_line, tree};
use image::{GrayImage, ImageBuffer, Luma};

/// Runs `line`, which must end with `status` and say all of `words`, without a trace in the folder.
pub fn refused(place: &Workplace, line: &str, status: i32, words: &[&str]) {
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
        unjudged(&place, &line, &words(name.to_string()));
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
    let held_back = "parts/validation/good/depth/000.png";
    let sound = std::fs::read(place.path(held_back)).unwrap();
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
        unjudged(&place, &line, &words);
        map.save(place.path(held_back)).unwrap();
        let words = [&[held_back], &words[1..]].concat();
        refused(&place, "calibrate model parts --device cpu", 1, &words);
        place.write(held_back, &sound);
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

/// A part that cannot be judged is told in its line, and leaves nothing.
fn unjudged(place: &Workplace, line: &str, words: &[&str]) {
    let before = tree(&place.path("."));
    let run = place.run(line);
    assert_eq!(run.status, 1, "{line}: {}", run.err);
    for word in words {
        assert!(
            run.out.contains(word),
            "{line}: {word} is not in {}",
            run.out
        );
    }
    assert!(
        run.err.contains("1 of the parts could not be judged"),
        "{}",
        run.err
    );
    assert_eq!(tree(&place.path(".")), before, "{line}");
}

#[test]
fn one_bad_picture_does_not_stop_the_line() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    place.train("parts --out model").ok();
    let good = std::fs::read(place.path("parts/test/good/000.png")).unwrap();
    for (name, bytes) in [
        ("0.png", &good[..]),
        ("1.png", &good[..500]),
        ("2.png", &good),
    ] {
        place.write(&format!("line/{name}"), bytes);
    }
    let run = place.run("predict model line --json --device cpu");
    assert_eq!(run.status, 1);
    let lines: Vec<serde_json::Value> = run
        .out
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["path"], "line/1.png");
    assert!(lines[1]["error"].as_str().unwrap().contains("cut short"));
    assert!(lines[0]["score"].is_number() && lines[0]["score"] == lines[2]["score"]);
    let run = place.run("predict model line --device cpu");
    assert_eq!(
        run.out
            .lines()
            .filter(|line| line.starts_with("ERROR"))
            .count(),
        1
    );
}

#[test]
fn depth_maps_are_paired_by_name() {
    let place = Workplace::new();
    place.draw_3d("solid", 0, 2);
    place.train("solid --modality rgb+depth --out model").ok();
    let copy = |from: &str, to: &str| {
        std::fs::create_dir_all(place.path(to).parent().unwrap()).unwrap();
        std::fs::copy(place.path(from), place.path(to)).unwrap();
    };
    for (kind, name) in [("dent", "a"), ("bump", "b")] {
        copy(
            &format!("solid/test/{kind}/rgb/000.png"),
            &format!("rgb/{name}.png"),
        );
        copy(
            &format!("solid/test/{kind}/xyz/000.tiff"),
            &format!("depth/{name}.tiff"),
        );
    }
    let scores = |line: &str| -> Vec<(String, f64)> {
        let run = place.run(&format!("predict model {line} --json --device cpu"));
        let found = super::good::lines(run);
        let of =
            |line: &serde_json::Value| (line["path"].to_string(), line["score"].as_f64().unwrap());
        found.iter().map(of).collect()
    };
    let paired = scores("rgb --depth depth");
    // In another order, they are still partners.
    assert_eq!(scores("rgb --depth depth/b.tiff depth/a.tiff"), paired);
    std::fs::rename(place.path("depth/b.tiff"), place.path("depth/c.tiff")).unwrap();
    let line = "predict model rgb --depth depth --device cpu";
    refused(
        &place,
        line,
        1,
        &["rgb/b.png", "no depth map of the same name"],
    );
}

#[test]
fn an_empty_table_is_no_good_part() {
    let place = Workplace::new();
    place.draw_rgbd("parts", 0, 2);
    let settings = "--modality depth --set depth.unit_mm=0.1";
    place.train(&format!("parts {settings} --out model")).ok();
    let flat = ImageBuffer::from_fn(256, 256, |_, _| Luma([5000u16]));
    flat.save(place.path("flat.png")).unwrap();
    let run = place.run("predict model --depth flat.png --json --device cpu");
    assert_eq!(run.status, 1, "{}", run.err);
    let line: serde_json::Value = serde_json::from_str(run.out.trim()).unwrap();
    assert_eq!(line["part_found"], false);
    assert!(line["defective"].is_null());
    let run = place.run("predict model --depth flat.png --device cpu");
    assert!(run.out.starts_with("NO PART"), "{}", run.out);
    flat.save(place.path("parts/train/good/depth/000.png"))
        .unwrap();
    let run = place.train(&format!("parts {settings} --out other"));
    assert!(
        run.err.contains("train/good/000: no part found"),
        "{}",
        run.err
    );
}

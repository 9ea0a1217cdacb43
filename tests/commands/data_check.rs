//! `astray data check`: what a data set holds, and what stands out.

use super::bad_files::refused;
use super::{Workplace, tree};
use image::{Rgb, RgbImage};
use serde_json::Value;

/// A picture of dots that depend on `seed`, so that no two are alike.
fn dots(seed: u32, side: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        let cell = (x * 16 / side).wrapping_mul(7919)
            ^ (y * 16 / side).wrapping_mul(104_729)
            ^ seed.wrapping_mul(7);
        let value = 60 + (cell.wrapping_mul(2_654_435_761) >> 25) as u8;
        Rgb([value, value / 2 + 20, 90])
    })
}

fn finding<'a>(json: &'a Value, what: &str, part: &str) -> Option<&'a Value> {
    let findings = json[0]["findings"].as_array().unwrap();
    let names = |f: &Value| f["parts"].as_array().unwrap().iter().any(|p| p == part);
    findings.iter().find(|f| f["what"] == what && names(f))
}

#[test]
fn what_stands_out_is_found_and_nothing_else() {
    let place = Workplace::new();
    let save = |name: &str, picture: &RgbImage| {
        let path = place.path("parts").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(path).unwrap();
    };
    for i in 0..14 {
        save(&format!("train/good/{i:02}.png"), &dots(i, 96));
    }
    for i in 0..3 {
        save(&format!("test/good/{i}.png"), &dots(100 + i, 96));
        save(&format!("test/dent/{i}.png"), &dots(200 + i, 96));
        let mut mask = RgbImage::new(96, 96);
        mask.put_pixel(i, 9, Rgb([255; 3]));
        save(&format!("ground_truth/dent/{i}_mask.png"), &mask);
    }
    let line = "data check parts --json";
    let json = place.run(line).json();
    assert_eq!(json[0]["findings"], serde_json::json!([]), "{json:#}");
    let count = |key: &str| json[0][key].as_u64().unwrap();
    assert_eq!(
        (
            count("training"),
            count("calibration"),
            json[0]["folds"] == true
        ),
        (14, 0, true)
    );
    assert_eq!(
        (count("test_good"), count("test_defective"), count("masks")),
        (3, 3, 3)
    );
    let held_out = format!("{line} --set train.calibration=held-out");
    let json = place.run(&held_out).json();
    assert_eq!(
        (&json[0]["training"], &json[0]["calibration"]),
        (&13.into(), &1.into())
    );

    save("test/good/7.png", &dots(3, 96)); // learned, too
    save("test/good/8.jpg", &dots(4, 96)); // and again, saved anew
    save("train/good/50.png", &dots(50, 64));
    save(
        "train/good/51.png",
        &image::imageops::blur(&dots(51, 96), 4.0),
    );
    let dark = dots(52, 96);
    let dark = RgbImage::from_fn(96, 96, |x, y| Rgb(dark.get_pixel(x, y).0.map(|v| v / 5)));
    save("train/good/52.png", &dark);
    let grey = dots(53, 96);
    let grey = RgbImage::from_fn(96, 96, |x, y| Rgb([grey.get_pixel(x, y).0[0] / 2 + 40; 3]));
    save("train/good/53.png", &grey);
    save("ground_truth/dent/0_mask.png", &RgbImage::new(96, 96));
    save("ground_truth/dent/1_mask.png", &RgbImage::new(96, 95));
    place.write("parts/test/dent/2.png", "<html>not found</html>");
    let json = place.run(line).json();
    for (what, part, word) in [
        ("duplicate", "test/good/7", "in training and test"),
        ("near-duplicate", "test/good/8", "in training and test"),
        ("size", "train/good/50", "64 x 64, where most are 96 x 96"),
        ("sharpness", "train/good/51", "far from"),
        ("brightness", "train/good/52", "far from"),
        (
            "kind",
            "train/good/53",
            "8 bit grey, where most are 8 bit colour",
        ),
        ("mask", "test/dent/0", "marks nothing"),
        ("mask", "test/dent/1", "96 x 95"),
        ("unusable", "test/dent/2", "2.png"),
    ] {
        let found = finding(&json, what, part);
        let message = found.map_or("", |f| f["message"].as_str().unwrap());
        assert!(
            message.contains(word),
            "{what} {part}: {:#}",
            json[0]["findings"]
        );
    }
    // The page and its thumbnails; a picture that cannot be read has none.
    let text = place.run("data check parts --page look").ok();
    assert!(
        text.contains("duplicate: the same file, in training and test"),
        "{text}"
    );
    let page = String::from_utf8(std::fs::read(place.path("look/data.html")).unwrap()).unwrap();
    assert_eq!(page.matches("<img").count(), 25);
    assert_eq!(tree(&place.path("look/thumbnails")).len(), 25);
    assert!(page.contains("train/good/52") && page.contains("brightness"));
    refused(
        &place,
        "data check parts --page parts/look",
        1,
        &["--page", "among the parts"],
    );
    refused(&place, "data check none", 1, &["none", "expected MVTec AD"]);
}

#[test]
fn holes_in_depth_maps_and_depth_of_another_shape_are_found() {
    let place = Workplace::new();
    place.draw_rgbd("parts", 0, 3);
    let line = "data check parts --json --set input.modality=rgb+depth --set depth.unit_mm=0.1";
    let json = place.run(line).json();
    assert!(
        finding(&json, "holes", "train/good/000").is_none(),
        "{:#}",
        json[0]["findings"]
    );
    let path = place.path("parts/train/good/depth/000.png");
    let map = image::open(&path).unwrap().to_luma16();
    let (width, height) = map.dimensions();
    let holes = image::ImageBuffer::from_fn(width, height, |x, y| match x < width / 2 {
        true => image::Luma([0]),
        false => *map.get_pixel(x, y),
    });
    holes.save(&path).unwrap();
    let half = image::ImageBuffer::from_fn(width, height / 2, |x, y| *map.get_pixel(x, y));
    half.save(place.path("parts/train/good/depth/001.png"))
        .unwrap();
    let json = place.run(line).json();
    assert!(
        finding(&json, "holes", "train/good/000").is_some(),
        "{:#}",
        json[0]["findings"]
    );
    let shape = finding(&json, "unusable", "train/good/001").unwrap();
    assert!(
        shape["message"]
            .as_str()
            .unwrap()
            .contains("do not show the same"),
        "{shape}"
    );
}

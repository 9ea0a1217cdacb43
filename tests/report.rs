//! Drawn parts, overlays and the report page.

use std::collections::BTreeMap;
use std::path::Path;

use astray::cli::draw::{DefectKind, SIDE, draw_dataset, draw_sample, sample_count};
use astray::evaluate::overlay::*;
use astray::evaluate::report::*;

/// Every file below `dir`, by its path relative to it.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(dir)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                found.insert(name.replace('\\', "/"), std::fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn drawn_parts_have_the_layout_of_mvtec_3d_and_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let draw = |name: &str, seed| {
        let dir = folder.path().join(name);
        draw_dataset(&dir, seed, 3, 2, 1, || {}).unwrap();
        files(&dir)
    };
    let first = draw("a", 5);
    assert_eq!(sample_count(3, 2, 1), 3 + 2 + 2 + 6);
    assert_eq!(first.len(), (3 + 2) * 2 + (2 + 6) * 3);
    for name in [
        "train/good/rgb/002.png",
        "validation/good/xyz/001.tiff",
        "test/good/gt/001.png",
        "test/stain/rgb/000.png",
        "test/plugged_hole/gt/000.png",
    ] {
        assert!(first.contains_key(name), "{name}");
    }
    assert!(first == draw("b", 5), "the same seed gave other bytes");
    assert!(first != draw("c", 6), "another seed gave the same bytes");

    let xyz = Path::new("test/dent/xyz/000.tiff");
    let bytes = std::io::Cursor::new(&first[xyz.to_str().unwrap()]);
    let mut decoder = tiff::decoder::Decoder::new(bytes).unwrap();
    assert_eq!(decoder.dimensions().unwrap(), (256, 256));
    let tiff::decoder::DecodingResult::F32(values) = decoder.read_image().unwrap() else {
        panic!("not f32");
    };
    assert_eq!(values.len(), 3 * SIDE * SIDE);
    let again = draw_dataset(&folder.path().join("a"), 5, 3, 2, 1, || {});
    assert!(
        again
            .unwrap_err()
            .to_string()
            .contains("empty or new folder")
    );
}

/// Corners show the table, the part rises more than 7 mm, and some pixels are missing.
#[test]
fn drawn_depth_is_what_the_preprocessing_expects() {
    for stream in 0..8 {
        let sample = draw_sample(1, stream, None);
        let z = |row: usize, column: usize| sample.xyz[3 * (row * SIDE + column) + 2];
        let last = SIDE - 1;
        for (row, column) in [(0, 0), (0, last), (last, 0), (last, last)] {
            assert!((z(row, column) - 0.5).abs() < 0.003);
        }
        let plate = z(128, 128 + 72 - 20);
        assert!(plate == 0.0 || plate < 0.5 - 0.007, "{plate}");
        let high = (0..SIDE * SIDE).filter(|i| {
            let z = sample.xyz[3 * i + 2];
            z > 0.0 && z < 0.493
        });
        assert!((10_000..40_000).contains(&high.count()));
        let missing = (0..SIDE * SIDE).filter(|i| sample.xyz[3 * i + 2] == 0.0);
        assert!((100..4_000).contains(&missing.count()));
        assert!(sample.mask.iter().all(|m| *m == 0));
    }
}

/// A defect shows in the sensors that it should show in, inside its mask, and nowhere else.
#[test]
fn defects_show_where_they_should() {
    for kind in DefectKind::ALL {
        for stream in 0..10 {
            let good = draw_sample(3, stream, None);
            let bad = draw_sample(3, stream, Some(kind));
            let area = bad.mask.iter().filter(|m| **m == 255).count();
            assert!((80..1600).contains(&area), "{kind:?}: {area} pixels");
            // The sensors' noise is drawn after the defect and differs: 0.05 mm and 1.6 levels.
            let (mut colour, mut depth, mut counted) = (0.0, 0.0, 0.0f32);
            for i in 0..SIDE * SIDE {
                let levels: f32 = (0..3)
                    .map(|c| (f32::from(good.rgb[3 * i + c]) - f32::from(bad.rgb[3 * i + c])).abs())
                    .sum();
                let (a, b) = (good.xyz[3 * i + 2], bad.xyz[3 * i + 2]);
                let millimetres = 1000.0 * (a - b).abs();
                let seen = a > 0.0 && b > 0.0;
                if bad.mask[i] == 255 {
                    colour += levels / 3.0 / area as f32;
                    if seen {
                        depth += millimetres;
                        counted += 1.0;
                    }
                }
            }
            depth /= counted.max(1.0);
            assert_eq!(colour > 8.0, kind.in_rgb(), "{kind:?}: {colour} levels");
            assert_eq!(depth > 0.5, kind.in_depth(), "{kind:?}: {depth} mm");
        }
    }
}

#[test]
fn overlays_are_the_images_where_strength_is_0_and_hot_where_the_map_is() {
    let rgb = vec![100u8; 3 * 8 * 6];
    let mut map = vec![0.0f32; 12];
    map[5] = 1.0;
    let mut overlay = Overlay {
        range: (0.0, 1.0),
        strength: 0.0,
        threshold: None,
    };
    assert_eq!(overlay.draw(&rgb, (8, 6), &map, (4, 3)).unwrap(), rgb);
    overlay.strength = 1.0;
    let hot = overlay.draw(&rgb, (8, 6), &map, (4, 3)).unwrap();
    let red = |row: usize, column: usize| hot[3 * (row * 6 + column)];
    assert!(red(2, 4) > 150 && red(7, 0) < 100);
    overlay.threshold = Some(0.3);
    let marked = overlay.draw(&rgb, (8, 6), &map, (4, 3)).unwrap();
    let line = marked.chunks(3).filter(|p| *p == [64, 224, 255]).count();
    assert!((1..=8).contains(&line), "{line}");
    overlay.threshold = Some(2.0);
    assert_eq!(overlay.draw(&rgb, (8, 6), &map, (4, 3)).unwrap(), hot);
    assert!(overlay.draw(&rgb, (8, 7), &map, (4, 3)).is_err());
    assert!(overlay.draw(&rgb, (8, 6), &map[1..], (4, 3)).is_err());
}

/// Values of `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.
#[test]
fn maps_are_resized_as_pytorch_does() {
    let resized = resize_map(&[0.0, 1.0, 2.0, 3.0], (2, 2), (4, 4)).unwrap();
    let first_rows = [0.0, 0.25, 0.75, 1.0, 0.5, 0.75, 1.25, 1.5];
    assert_eq!(resized[..8], first_rows);
    assert_eq!(resize_map(&[7.0], (1, 1), (2, 3)).unwrap(), [7.0; 6]);
}

/// Three entries of matplotlib's table; brightness grows all the way.
#[test]
fn the_colour_map_is_inferno() {
    let luma = |t: f32| {
        let [r, g, b] = inferno(t);
        0.2126 * r + 0.7152 * g + 0.0722 * b
    };
    for (t, expected) in [
        (0.0, [0.001_462, 0.000_466, 0.013_866]),
        (128.0 / 255.0, [0.735_683, 0.215_906, 0.330_245]),
        (1.0, [0.988_362, 0.998_364, 0.644_924]),
    ] {
        for (found, expected) in inferno(t).iter().zip(expected) {
            assert!((found - expected).abs() < 0.025, "{t}: {found} {expected}");
        }
    }
    assert!((0..50).all(|i| luma(i as f32 / 50.0) < luma((i + 1) as f32 / 50.0)));
}

#[test]
fn maps_and_images_are_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.tiff");
    let map = [0.5, -1.0, f32::MAX, 3.25, 0.0, 1e-20];
    write_map(&path, &map, (2, 3)).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let mut decoder = tiff::decoder::Decoder::new(file).unwrap();
    assert_eq!(decoder.dimensions().unwrap(), (3, 2));
    let read = decoder.read_image().unwrap();
    assert!(matches!(read, tiff::decoder::DecodingResult::F32(v) if v == map));
    let pixels: Vec<u8> = (0..18).collect();
    let png = folder.path().join("a.png");
    write_png(&png, &pixels, (2, 3)).unwrap();
    assert_eq!(image::open(&png).unwrap().to_rgb8().into_raw(), pixels);
    let nowhere = folder.path().join("no/map.tiff");
    let error = write_map(&nowhere, &map, (2, 3)).unwrap_err();
    assert!(error.to_string().contains("map.tiff: cannot be written"));
    assert!(write_png(&png, &pixels, (2, 2)).is_err());
    assert_eq!(files(folder.path()).len(), 2, "a temporary file was left");
}

fn sample(kind: &str, index: usize, score: f32) -> ReportSample {
    ReportSample {
        category: "flange".into(),
        name: format!("{kind}/{index:03}"),
        kind: kind.into(),
        defective: kind != "good",
        score,
        input: Some(format!("images/{kind}_{index:03}_input.png")),
        overlay: Some(format!("images/{kind}_{index:03}_heat.png")),
        ..ReportSample::default()
    }
}

fn small_report() -> Report {
    let category = CategoryReport {
        name: "flange".into(),
        image_auroc: Some(0.9375),
        pixel_auroc: Some(0.981),
        aupro: None,
        threshold: Some(0.5),
        ..CategoryReport::default()
    };
    Report {
        title: "Parts <b>&</b> \"defects\"".into(),
        notes: vec!["The backbone is random & was seeded with 0.".into()],
        categories: vec![category],
        samples: vec![
            sample("good", 0, 0.1),
            sample("good", 1, 0.7),
            sample("dent", 0, 0.9),
            sample("dent", 1, 0.2),
            sample("stain", 0, f32::NAN),
        ],
        losses: vec![LossCurve {
            name: "Teacher".into(),
            values: vec![3.0, 2.0, f32::NAN, 1.0],
        }],
        details: vec![("Seed".into(), "0".into())],
    }
}

#[test]
fn the_report_says_what_it_was_given() {
    let page = small_report().to_html();
    let count = |text: &str| page.matches(text).count();
    for (text, times) in [
        (
            "<title>Parts &lt;b&gt;&amp;&lt;/b&gt; &quot;defects&quot;</title>",
            1,
        ),
        ("random &amp; was seeded", 1),
        ("93.8<small> %</small>", 1),
        ("<p class=\"number\">–</p>", 1),
        ("5 parts tested: 2 good, 3 defective.", 1),
        ("class=\"card\"", 5),
        (">false alarm<", 1),
        (">missed<", 1),
        (">defect found<", 2),
        (">passed<", 1),
        (">not a number<", 1),
        ("threshold 0.500", 1),
        ("src=\"images/dent_001_heat.png\"", 1),
    ] {
        assert_eq!(count(text), times, "{text}");
    }
    // Highest score first; what is no number before all.
    let order = [
        "stain/000</h3>",
        "dent/000</h3>",
        "good/001</h3>",
        "dent/001</h3>",
    ];
    let places = order.map(|name| page.find(name).unwrap());
    assert!(places.is_sorted(), "{places:?}");
}

/// Nothing is fetched, no number is broken, every element is closed.
#[test]
fn the_report_stands_alone() {
    for report in [small_report(), Report::default()] {
        let page = report.to_html();
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("//www"));
        for broken in ["\"NaN\"", "=\"inf", "LNaN", "MNaN", "NaN%", "inf%"] {
            let shown = page.replace("data-score=\"NaN\"", "");
            assert!(!shown.contains(broken), "{broken}");
        }
        for tag in [
            "section", "figure", "article", "div", "svg", "p", "span", "dl", "main",
        ] {
            let opened = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(
                opened,
                page.matches(&format!("</{tag}>")).count(),
                "<{tag}>"
            );
        }
    }
}

/// One good part scores above one of two defective ones: half of the square is under the curve.
#[test]
fn the_curve_of_found_defects_is_exact() {
    let mut report = small_report();
    report.samples = vec![
        sample("dent", 0, 0.9),
        sample("good", 0, 0.6),
        sample("dent", 1, 0.2),
    ];
    let page = report.to_html();
    assert!(page.contains("d=\"M40.0 250.0L40.0 130.0L300.0 130.0L300.0 10.0\""));
    assert!(page.contains("cx=\"300.0\" cy=\"130.0\""));
    report.samples.pop();
    report.samples.pop();
    assert!(!report.to_html().contains("class=\"chance\""));
}

#[test]
fn several_categories_get_a_table_and_a_choice() {
    let mut report = small_report();
    let mut second = report.categories[0].clone();
    second.name = "ring".into();
    second.image_auroc = Some(0.5);
    report.categories.push(second);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    report.write(&path).unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page.contains("<option value=\"ring\">"));
    assert!(page.contains("<tr class=\"mean\"><th>Mean</th><td>71.9<small>"));
}

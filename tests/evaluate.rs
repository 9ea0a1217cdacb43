//! AUROC against scikit-learn, AUPRO against its definition, thresholds and tables
//! (tests/reference/data, made by tools/reference_data.py).

use astray::evaluate::aupro::components;
use astray::evaluate::conformal::quantile;
use astray::evaluate::{Counts, Metrics, PixelScores, Summary, auroc, best_f1};
use serde_json::Value;

use crate::data::{reference_u8, uniform};

fn reference() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/reference/data/metrics.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn quantized(score: f64, levels: f64) -> f32 {
    match levels {
        0.0 => score as f32,
        levels => (score * levels).floor() as f32,
    }
}

fn assert_near(what: &str, found: f64, expected: &Value) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (found - expected).abs() < 1e-12,
        "{what}: {found}, expected {expected}"
    );
}

#[test]
fn auroc_with_ties_equals_scikit_learn() {
    for case in reference()["auroc"].as_array().unwrap() {
        let (seed, n) = (case["seed"].as_u64().unwrap(), case["n"].as_u64().unwrap());
        let levels = case["levels"].as_f64().unwrap();
        let labels: Vec<bool> = uniform(seed + 1000, n as usize)
            .iter()
            .map(|&u| u < 0.3)
            .collect();
        let scores: Vec<f32> = uniform(seed, n as usize)
            .iter()
            .zip(&labels)
            .map(|(u, &label)| quantized(u + 0.25 * f64::from(u8::from(label)), levels))
            .collect();
        let found = auroc(&scores, &labels).unwrap().unwrap();
        assert_near(&format!("seed {seed}"), found, &case["auroc"]);
    }
}

#[test]
fn pixel_auroc_and_aupro_equal_their_definitions() {
    for case in reference()["pixels"].as_array().unwrap() {
        let number = |key: &str| case[key].as_u64().unwrap();
        let (seed, width, height) = (number("seed"), number("width"), number("height"));
        let mut pixels = PixelScores::new();
        for i in 0..number("images") {
            let mask = reference_u8("masks.safetensors", &format!("mask_{seed}_{i}"));
            let noise = uniform(seed * 10 + i, (width * height) as usize);
            let scores: Vec<f32> = noise
                .iter()
                .zip(&mask)
                .map(|(u, &m)| quantized(u + 0.3 * f64::from(m), case["levels"].as_f64().unwrap()))
                .collect();
            pixels.add("part", width as usize, &scores, &mask).unwrap();
        }
        assert_eq!(pixels.defects() as u64, number("defects"), "seed {seed}");
        assert_near("auroc", pixels.auroc().unwrap(), &case["auroc"]);
        for limit in ["0.05", "0.3", "1.0"] {
            let found = pixels.aupro(limit.parse().unwrap()).unwrap().unwrap();
            let key = format!("aupro_{limit}");
            assert_near(&format!("seed {seed}, {key}"), found, &case[&key]);
        }
    }
}

#[test]
fn auroc_of_simple_cases() {
    let area = |scores: &[f32], labels: &[bool]| auroc(scores, labels).unwrap();
    let half = [false, false, true, true];
    assert_eq!(area(&[1.0, 2.0, 3.0, 4.0], &half), Some(1.0));
    assert_eq!(area(&[4.0, 3.0, 2.0, 1.0], &half), Some(0.0));
    assert_eq!(area(&[1.0; 4], &half), Some(0.5));
    assert_eq!(area(&[-0.0, -1.0, 0.0, 5.0], &half), Some(0.875));
    assert_eq!(
        area(&[f32::NEG_INFINITY, -1.0, 2.0, f32::INFINITY], &half),
        Some(1.0)
    );
    assert_eq!(area(&[1.0, 2.0], &[true, true]), None);
    assert_eq!(area(&[], &[]), None);
    let error = |r: astray::Result<Option<f64>>| r.unwrap_err().to_string();
    assert!(error(auroc(&[1.0, f32::NAN], &[true, false])).contains("score 1 is NaN"));
    assert!(error(auroc(&[1.0], &[true, false])).contains("expected 1 labels"));
}

#[test]
fn bad_maps_are_refused_whole() {
    let mut pixels = PixelScores::new();
    pixels
        .add("a", 2, &[0.1, 0.9, 0.2, 0.3], &[0, 1, 0, 0])
        .unwrap();
    let before = pixels.auroc();
    let error = pixels.add("part_9", 2, &[0.5, 9.0, 0.7, f32::NAN], &[0, 0, 1, 1]);
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("part_9") && message.contains("row 1, column 1"),
        "{message}"
    );
    assert!(pixels.add("b", 2, &[0.1; 4], &[0; 6]).is_err());
    assert!(pixels.add("b", 3, &[0.1; 4], &[0; 4]).is_err());
    assert_eq!((pixels.auroc(), pixels.defects()), (before, 1));
    assert!(pixels.aupro(0.0).is_err() && pixels.aupro(1.5).is_err());
    let mut good = PixelScores::new();
    good.add("good", 2, &[0.1; 4], &[0; 4]).unwrap();
    assert_eq!((good.auroc(), good.aupro(0.3).unwrap()), (None, None));
}

#[test]
fn diagonal_pixels_are_one_defect() {
    #[rustfmt::skip]
    let mask = [
        1, 0, 0, 1,
        0, 1, 0, 0,
        1, 0, 0, 1,
    ];
    let (labels, areas) = components(&mask, 4);
    assert_eq!(labels, [1, 0, 0, 2, 0, 1, 0, 0, 1, 0, 0, 3]);
    assert_eq!(areas, [3, 1, 1]);
}

#[test]
fn quantiles_equal_numpy() {
    let scores: Vec<f32> = uniform(61, 37).iter().map(|&u| u as f32).collect();
    for pair in reference()["quantiles"].as_array().unwrap() {
        let found = f64::from(quantile(&scores, pair[0].as_f64().unwrap()));
        assert!((found - pair[1].as_f64().unwrap()).abs() < 1e-7);
    }
}

#[test]
fn verdicts_are_counted() {
    let scores = [0.1, 0.5, 0.9, f32::NAN, 0.5, 0.6];
    let labels = [false, false, false, true, true, true];
    let counts = Counts::of(&scores, &labels, 0.5);
    let expected = Counts {
        found: 2,
        missed: 1,
        false_alarms: 1,
        passed: 2,
    };
    assert_eq!(counts, expected);
    assert_eq!(counts.f1(), Some(4.0 / 6.0));
    assert_eq!(Counts::of(&[0.7], &[false], 0.5).f1(), None);
}

#[test]
fn best_f1_is_that_of_the_best_threshold() {
    let scores: Vec<f32> = uniform(71, 60)
        .iter()
        .map(|&u| (u * 20.0).floor() as f32)
        .collect();
    let labels: Vec<bool> = uniform(72, 60)
        .iter()
        .zip(&scores)
        .map(|(&u, &s)| u * 20.0 < f64::from(s))
        .collect();
    let f1 = |threshold: f32| {
        let flagged = |i: &usize| scores[*i] > threshold;
        let hits = (0..60).filter(flagged).filter(|&i| labels[i]).count() as f64;
        let all = (0..60).filter(flagged).count() + labels.iter().filter(|l| **l).count();
        2.0 * hits / all as f64
    };
    let best = best_f1(&scores, &labels).unwrap().unwrap();
    assert_eq!(best.f1, f1(best.threshold));
    let tried = (-1..=20).map(|t| f1(t as f32 + 0.5));
    assert_eq!(best.f1, tried.fold(0.0, f64::max));
    let all = best_f1(&[1.0, 1.0], &[true, true]).unwrap().unwrap();
    assert!(all.threshold < 1.0 && all.f1 == 1.0);
    assert_eq!(best_f1(&[1.0], &[false]).unwrap(), None);
    assert!(best_f1(&[f32::NAN], &[true]).is_err());
}

#[test]
fn the_table_shows_a_dash_where_nothing_was_measured() {
    let category = |name: &str, image_auroc, aupro| Metrics {
        category: name.to_string(),
        parts: 10,
        defective: 4,
        image_auroc,
        aupro,
        ..Metrics::default()
    };
    let summary = Summary::new(vec![
        category("screw", Some(0.9), Some(0.5)),
        category("road", Some(0.7), None),
    ]);
    assert_eq!(summary.mean.image_auroc, Some(0.8));
    assert_eq!(summary.mean.aupro, Some(0.5));
    assert_eq!((summary.mean.pixel_auroc, summary.mean.parts), (None, 20));
    let table = summary.table();
    let cells = |name: &str| -> Vec<&str> {
        let line = table.lines().find(|line| line.contains(name)).unwrap();
        line.split(['│', '┆', '|'])
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .collect()
    };
    assert_eq!(cells("road")[..6], ["road", "10", "4", "70.00", "–", "–"]);
    assert_eq!(
        cells("mean")[..6],
        ["mean", "20", "8", "80.00", "–", "50.00"]
    );
    let json = serde_json::to_string(&summary).unwrap();
    assert!(json.contains("\"pixel_auroc\":null"));
    assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary);
}

//! Thresholds: folds, few parts, a part that stands out, known defects, and what is refused.

use super::Workplace;
use super::bad_files::refused;
use super::good::lines;
use serde_json::Value;

fn shown(place: &Workplace, options: &str) -> Value {
    place
        .run(&format!("threshold model --device cpu --json {options}"))
        .json()
}

/// A data set whose good training parts are `n` variants of those that are drawn.
fn draw(place: &Workplace, n: u8) {
    place.draw_ad("parts", 0, 3);
    let file = |i: u8| place.path(&format!("parts/train/good/{i:03}.png"));
    let drawn: Vec<image::DynamicImage> = (0..3).map(|i| image::open(file(i)).unwrap()).collect();
    for i in 3..n {
        let lit = drawn[usize::from(i % 3)].brighten(i32::from(i * 7 % 23) - 11);
        lit.save(file(i)).unwrap();
    }
}

#[test]
fn every_good_part_is_scored_by_networks_that_had_not_seen_it() {
    let place = Workplace::new();
    draw(&place, 9);
    let told = place
        .train("parts --out model --set train.calibration=auto")
        .ok();
    assert!(
        told.contains("each scored by networks that had not seen it"),
        "{told}"
    );
    let before = shown(&place, "--false-alarm-rate 0.05");
    assert_eq!(before["origin"], "folds");
    let counted =
        before["parts"].as_u64().unwrap() as usize + before["outliers"].as_array().unwrap().len();
    assert_eq!(counted, 9);
    assert_eq!(before["parts_needed"], 19);
    let threshold = before["threshold"].as_f64().unwrap();
    let interval = before["extrapolated"].as_array().unwrap();
    assert!(
        interval[0].as_f64().unwrap() <= threshold && threshold <= interval[1].as_f64().unwrap()
    );

    // The data set that it was trained on says nothing new: the scores stay, the rate changes.
    let line = "calibrate model parts --false-alarm-rate 0.4 --device cpu";
    assert!(place.run(line).ok().contains("40 % false alarms, from"));
    let after = shown(&place, "");
    assert_eq!(
        (&after["origin"], &after["parts"]),
        (&before["origin"], &before["parts"])
    );
    assert!(after["extrapolated"].is_null());
    assert!(after["threshold"].as_f64().unwrap() < threshold);
    // Other good parts do.
    let line = "calibrate model parts/train/good --device cpu";
    place.run(line).ok();
    assert_eq!(shown(&place, "")["origin"], "given");
    // The folds' scores are gone, and no part was kept back.
    let told = place.run("calibrate model parts --device cpu").ok();
    assert!(told.contains("good parts that were trained on"), "{told}");
    assert_eq!(shown(&place, "")["origin"], "trained-on");
}

#[test]
fn the_line_moves_without_pictures_and_every_command_draws_it_alike() {
    let place = Workplace::new();
    draw(&place, 24);
    place
        .train("parts --out model --set train.hold_out=0.5")
        .ok();
    let place_of = |options: &str| shown(&place, options)["threshold"].as_f64().unwrap();
    let (loose, strict) = (
        place_of("--false-alarm-rate 0.3"),
        place_of("--false-alarm-rate 0.1"),
    );
    assert!(loose < strict, "{loose} {strict}");
    assert_eq!(place_of(""), strict);

    let defects = shown(&place, "--known-defects parts/test/dent parts/test/crack");
    let rates = defects["rates"].as_array().unwrap();
    let found: Vec<u64> = rates.iter().map(|r| r["found"].as_u64().unwrap()).collect();
    assert!(found.is_sorted(), "{found:?}"); // the more false alarms, the more is found
    let scored =
        lines(place.run("predict model parts/test/dent parts/test/crack --device cpu --json"));
    assert!(
        rates
            .iter()
            .all(|r| r["defects"].as_u64().unwrap() as usize == scored.len())
    );
    for rate in rates {
        let threshold = rate["threshold"].as_f64().unwrap();
        let above = scored
            .iter()
            .filter(|p| p["score"].as_f64().unwrap() > threshold);
        assert_eq!(rate["found"].as_u64().unwrap() as usize, above.count());
    }
    assert_eq!(place_of(""), strict); // nothing was learned from them

    // Verdict, p-value and regions: predict and evaluate say the same.
    let tested = place.run("evaluate model parts --device cpu --json").json();
    let results = tested["categories"][0]["results"].as_array().unwrap();
    let counts = &tested["categories"][0]["counts"];
    let called = |is_defective: bool, defective: bool| {
        let fits = results
            .iter()
            .filter(|r| r["is_defective"] == is_defective && r["defective"] == defective);
        fits.count() as u64
    };
    assert_eq!(counts["found"], called(true, true));
    assert_eq!(counts["missed"], called(true, false));
    assert_eq!(counts["false_alarms"], called(false, true));
    assert_eq!(counts["passed"], called(false, false));
    for part in &scored {
        let path = part["path"].as_str().unwrap();
        let name = path.trim_start_matches("parts/").trim_end_matches(".png");
        let same = results.iter().find(|r| r["name"] == name).unwrap();
        for key in ["score", "defective", "p_value", "regions"] {
            assert_eq!(part[key], same[key], "{name} {key}");
        }
        assert_eq!(
            part["defective"],
            part["p_value"].as_f64().unwrap() <= 0.1,
            "{name}"
        );
        for region in part["regions"].as_array().unwrap() {
            let p = region["p_value"].as_f64().unwrap();
            assert!(p <= 0.1, "{name} {p}");
        }
    }

    assert_eq!(shown(&place, "--threshold -3.5")["is_set_by_hand"], true);
    let called = lines(place.run("predict model parts/test/good --device cpu --json"));
    assert!(called.iter().all(|p| p["threshold"] == -3.5));
}

#[test]
fn what_no_threshold_follows_from_is_refused() {
    let place = Workplace::new();
    draw(&place, 12);
    let hold_out = "--set train.hold_out=0.1";
    let one_of_twelve = super::train_line(&format!("parts --out model {hold_out}"));
    let words = ["parts", "1 for the threshold", "train.calibration=folds"];
    refused(&place, &one_of_twelve, 1, &words);
    place
        .train("parts --out model --set train.hold_out=0.5")
        .ok();
    let cases: [(&str, i32, &[&str]); 4] = [
        (
            "threshold model --false-alarm-rate 0.01 --strict --device cpu",
            1,
            &["--strict", "it takes 99"],
        ),
        (
            "calibrate model parts --false-alarm-rate 0.01 --strict --device cpu",
            1,
            &["--strict", "it takes 99"],
        ),
        (
            "calibrate model parts/test/dent --device cpu",
            1,
            &["parts/test/dent", "defective parts", "--known-defects"],
        ),
        (
            "threshold model --known-defects parts/none --device cpu",
            1,
            &["parts/none"],
        ),
    ];
    for (line, status, words) in cases {
        refused(&place, line, status, words);
    }
    // One part, and copies of one part.
    let good = |name: &str, copies: usize| {
        std::fs::create_dir(place.path(name)).unwrap();
        for i in 0..copies {
            let to = place.path(name).join(format!("{i}.png"));
            std::fs::copy(place.path("parts/test/good/000.png"), to).unwrap();
        }
    };
    good("one", 1);
    good("copies", 4);
    let line = "calibrate model one --device cpu";
    refused(&place, line, 1, &["at least two good parts", "found 1"]);
    let line = "calibrate model copies --device cpu";
    refused(&place, line, 1, &["all 4 good parts score"]);
}

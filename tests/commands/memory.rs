//! `--max-memory`, and what a prediction takes.

use super::Workplace;
use serde_json::Value;

#[test]
fn training_takes_smaller_batches_or_says_what_it_needs() {
    let place = Workplace::new();
    place.draw_3d("parts", 0, 3);
    let run = place.train("parts --out whole --set train.batch=3 --max-memory 256MiB");
    assert!(!run.err.contains("--max-memory"), "{}", run.err);
    run.ok();
    let run = place.train("parts --out less --set train.batch=3 --max-memory 199550KiB");
    assert!(
        run.err.contains("batches of 2 parts instead of 3")
            || run.err.contains("batches of 1 parts instead of 3"),
        "{}",
        run.err
    );
    run.ok();
    let run = place.train("parts --out none --max-memory 64KiB");
    assert_eq!(run.status, 1, "{}", run.err);
    for words in [
        "--max-memory: training needs about",
        "MiB for one part at a time",
    ] {
        assert!(run.err.contains(words), "{words}: {}", run.err);
    }
    assert!(!place.path("none").exists());
}

/// With a network large enough that what its tensors take shows.
#[test]
fn on_the_cpu_no_more_is_resident_than_was_allowed() {
    let place = Workplace::new();
    let wide = "--preset tiny --set teacher.hidden=256 --set student.width=512 \
                --set backbone.name=efficientnet_b0 --set backbone.tap=10 --set train.batch=8";
    for (limit, shrinks) in [(2000, false), (640, true)] {
        let run = place.run(&format!(
            "profile train {wide} --device cpu --max-memory {limit}MiB --json profile.json"
        ));
        assert_eq!(
            run.err.contains("--max-memory: batches of"),
            shrinks,
            "{}",
            run.err
        );
        run.ok();
        let profile = std::fs::read(place.path("profile.json")).unwrap();
        let profile: Value = serde_json::from_slice(&profile).unwrap();
        let Some(bytes) = profile["peak_resident_bytes"].as_u64() else {
            crate::say!("this system does not tell what memory a process takes: NOT CHECKED");
            return;
        };
        // The parameters and Adam's moments alone are more than the least.
        let range = 200 << 20..limit << 20;
        assert!(range.contains(&bytes), "{limit} MiB allowed: {bytes}");
    }
}

#[test]
fn a_gpu_allocates_no_more_than_it_may() {
    let place = Workplace::new();
    let run = place.run("selftest --device 0 --operator add --max-memory 1KiB --json");
    assert_eq!(run.status, 1, "{}", run.err);
    assert!(
        run.out.contains("where --max-memory allows 1024"),
        "{}",
        run.out
    );
    place
        .run("selftest --device 0 --operator add --max-memory 1MiB")
        .ok();
    for line in [
        "selftest --device cpu --max-memory 1MiB",
        "bench add --device cpu --max-memory 1MiB",
    ] {
        let run = place.run(line);
        assert!(run.err.contains("one part at a time"), "{}", run.err);
    }
    let run = place.run("selftest --device cpu --tune");
    assert!(run.err.contains("--tune: this is for a GPU"), "{}", run.err);
    let run = place.run("selftest --max-memory lots");
    assert_eq!(run.status, 2, "{}", run.err);
    assert!(run.err.contains("2GiB"), "{}", run.err);
}

/// The paper's presets at 768², weights included: ONNX Runtime takes 1.0 and 1.5 gigabytes.
#[test]
fn a_prediction_on_the_cpu_stays_small() {
    let place = Workplace::new();
    place.draw_3d("parts", 0, 1);
    for (preset, depth, least, most) in [
        ("mvtec3d", " --depth parts/test/good/xyz", 400, 650),
        ("mvtec2d", "", 550, 850),
    ] {
        let short =
            "--set train.teacher_epochs=1 --set train.student_epochs=1 --set depth.unit_mm=0.1";
        let paper = format!("--preset {preset} --weights seeded --device cpu");
        place
            .run(&format!("train parts --out {preset} {paper} {short}"))
            .ok();
        let part = format!("parts/test/good/rgb{depth}");
        let options = "--device cpu --rounds 1 --json profile.json";
        place
            .run(&format!("profile predict {preset} {part} {options}"))
            .ok();
        let profile = std::fs::read(place.path("profile.json")).unwrap();
        let profile: Value = serde_json::from_slice(&profile).unwrap();
        let Some(bytes) = profile["peak_resident_bytes"].as_u64() else {
            crate::say!("this system does not tell what memory a process takes: NOT CHECKED");
            return;
        };
        // The weights alone are more than the least: less would be a measurement that does not work.
        let range = least * 1_000_000..most * 1_000_000;
        assert!(range.contains(&bytes), "{preset}: {bytes}");
    }
}

//! `--precision f16`.

use super::{Run, Workplace, train_line};
use astray::nn::weights::Weights;
use half::f16;
use serde_json::Value;

fn lines(run: Run) -> Vec<Value> {
    let out = run.ok();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    out.lines().map(parse).collect()
}

#[test]
fn half_precision_gives_the_same_scores_and_verdicts() {
    let place = Workplace::new();
    place.draw_3d("parts", 0, 3);
    place.train("parts --out model --modality rgb+depth").ok();
    let predict = |options: &str| {
        let parts = ["good", "dent", "bump", "stain"].map(|kind| format!("parts/test/{kind}"));
        let [rgb, depth] = ["rgb", "xyz"].map(|what| {
            let folders = parts.iter().map(|part| format!("{part}/{what}"));
            let there = folders.filter(|folder| place.path(folder).is_dir());
            there.collect::<Vec<_>>().join(" ")
        });
        let line = format!("predict model {rgb} --depth {depth} --json");
        place.run(&format!("{line} {options}"))
    };
    let single = lines(predict("--device 0"));
    let half = lines(predict("--device 0 --precision f16"));
    assert!(single.len() > 1 && single.len() == half.len(), "{single:?}");
    let mut differ = false;
    for (a, b) in single.iter().zip(&half) {
        let score = |line: &Value| line["score"].as_f64().unwrap();
        let off = (score(a) - score(b)).abs() / score(a);
        assert!(off < 1e-2, "{a}\n{b}");
        assert_eq!(a["defective"], b["defective"], "{a}\n{b}");
        differ |= off > 0.0;
    }
    // Otherwise nothing was f16.
    assert!(differ, "{single:?}");

    // With the threshold beside the highest score, that part is scored in f32, and all the others as before.
    let exact = lines(predict("--device cpu"));
    let score = |line: &Value| line["score"].as_f64().unwrap();
    let worst = |a: &usize, b: &usize| score(&exact[*a]).total_cmp(&score(&exact[*b]));
    let nearest = (0..exact.len()).max_by(worst).unwrap();
    let threshold = 1.00001 * score(&exact[nearest]);
    let run = predict(&format!(
        "--device 0 --precision f16 --threshold {threshold}"
    ));
    assert!(run.err.contains("scored again in f32"), "{}", run.err);
    for (i, line) in lines(run).iter().enumerate() {
        let off = (score(&half[i]) / threshold - 1.0).abs();
        let expected = if off <= 1e-2 { &exact[i] } else { &half[i] };
        assert_eq!(line["score"], expected["score"], "{i} {off}");
        assert!(i != nearest || off <= 1e-2 && line["defective"] == false);
    }
}

#[test]
fn half_precision_is_for_gpus() {
    let place = Workplace::new();
    let run = place.run("selftest --device cpu --precision f16");
    assert_eq!(run.status, 2, "{}", run.err);
    assert!(
        run.err.contains("--precision f16: this is for a GPU"),
        "{}",
        run.err
    );
    let run = place.run("train parts --device cpu --precision f16");
    assert_eq!(run.status, 2, "{}", run.err);
    assert!(run.err.contains("this is for a GPU"), "{}", run.err);
    let told = place.run("selftest --device 0 --precision f16 --operator depthwise");
    let told = told.ok();
    assert!(told.contains("all 16 cases passed"), "{told}");
}

#[test]
fn a_model_trained_in_f16_is_one_of_f32_that_scores() {
    let place = Workplace::new();
    place.draw_3d("parts", 0, 3);
    place.weights("b0.safetensors", 0, |_| ());
    let train = |precision: &str| {
        // Fused scores are differences, small ones have larger errors; and whitening stretches what f16 rounded: the
        // student's first weights are then 1.2 % apart.
        let more = "--set train.teacher_epochs=6 --set train.student_epochs=6 --device 0 \
                    --set score.source=distance --set teacher.whitening=false";
        let line = format!("parts --out {precision} --weights b0.safetensors --modality rgb+depth");
        let line = train_line(&format!("{line} {more} --precision {precision}"));
        place.run(&line.replace(" --device cpu", "")).ok();
        Weights::read(&place.path(precision).join("model.safetensors")).unwrap()
    };
    let (single, half) = (train("f32"), train("f16"));
    assert!(single.tensors.keys().eq(half.tensors.keys()));
    let mut networks = 0;
    for (name, a) in &single.tensors {
        let b = &half.tensors[name];
        assert_eq!(a.shape, b.shape, "{name}");
        let is_rounded = |v: &&f32| f16::from_f32(**v).to_f32() == **v;
        if name.starts_with("backbone.") {
            assert!(a.data == b.data, "{name}: the backbone is not learned");
        } else if name.ends_with("weight") {
            networks += 1;
            let kept = b.data.iter().filter(|v| !is_rounded(v)).count();
            assert!(2 * kept > b.data.len(), "{name} was rounded");
            let pairs = a.data.iter().zip(&b.data);
            let off: f32 = pairs.map(|(a, b)| (a - b).powi(2)).sum();
            let norm: f32 = a.data.iter().map(|a| a * a).sum();
            assert!(off > 0.0 && off < 1e-4 * norm, "{name}: {off} of {norm}");
        }
    }
    assert!(networks > 10, "{networks}");
    let scores = |options: &str| {
        let parts = "parts/test/dent/rgb --depth parts/test/dent/xyz --json";
        let found = lines(place.run(&format!("predict f16 {parts} {options}")));
        let score = |line: &Value| line["score"].as_f64().unwrap();
        found.iter().map(score).collect::<Vec<_>>()
    };
    let (on_half, on_cpu) = (scores("--device 0 --precision f16"), scores("--device cpu"));
    assert!(!on_half.is_empty());
    for (a, b) in on_half.iter().zip(&on_cpu) {
        assert!((a - b).abs() < 1e-2 * b, "{a} {b}");
    }
}

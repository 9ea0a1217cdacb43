//! `astray profile` and `astray bench`: files that are well-formed and add up; a gate that closes on
//! a regression and not on noise.

use super::{SMALL, Workplace};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn profile(place: &Workplace, line: &str) -> (String, Value) {
    let settings: String = SMALL.map(|s| format!(" --set {s}")).concat();
    let files = "--json p.json --csv p.csv --trace t.json --html p.html";
    let out = place.run(&format!("profile {line}{settings} {files}")).ok();
    (out, read(place, "p.json"))
}

fn read(place: &Workplace, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(place.path(name)).unwrap()).unwrap()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("a number, not {value}"))
}

fn sum(list: &Value, key: &str) -> f64 {
    list.as_array()
        .unwrap()
        .iter()
        .map(|v| number(&v[key]))
        .sum()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}

/// JSON, CSV, trace and page of one run tell the same.
fn adds_up(place: &Workplace, p: &Value) {
    let kernels = p["kernels"].as_array().unwrap();
    assert!(kernels.len() > 20, "{p:#}");
    assert!(near(sum(&p["kernels"], "share"), 1.0));
    assert!(near(
        sum(&p["kernels"], "seconds"),
        number(&p["kernel_seconds"])
    ));
    let wall: f64 = p["wall"].as_array().unwrap().iter().map(number).sum();
    let explained = number(&p["kernel_seconds"]) / wall;
    assert!(
        near(explained, number(&p["explained"])) && explained < 1.0,
        "{explained}"
    );
    assert_eq!(p["stray_launches"], 0);
    for k in kernels {
        let rate = number(&k["flops"]) * number(&k["calls"]) / number(&k["seconds"]) / 1e9;
        assert!(near(rate, number(&k["gflops"])), "{k:#}");
        assert_eq!(sum(&k["rounds"], "calls"), number(&k["calls"]));
        let percent = number(&k["percent_of_roof"]);
        assert!(percent > 0.0 && percent < 1e4, "{k:#}");
    }

    let csv = std::fs::read_to_string(place.path("p.csv")).unwrap();
    let mut rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = rows.next().unwrap();
    let at = |name: &str| names.iter().position(|n| *n == name).unwrap();
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), kernels.len());
    assert!(rows.iter().all(|row| row.len() == names.len()));
    let seconds: f64 = rows
        .iter()
        .map(|r| r[at("seconds")].parse::<f64>().unwrap())
        .sum();
    assert!((seconds / number(&p["kernel_seconds"]) - 1.0).abs() < 1e-4);
    let estimated = p["estimated"].to_string();
    assert!(rows.iter().all(|row| row[at("estimated")] == estimated));

    let page = std::fs::read_to_string(place.path("p.html")).unwrap();
    assert!(page.contains("<svg class=\"roofline\"") && page.contains("GB/s, copies"));
    assert!(!page.contains("NaN") && !page.contains("http"), "{page}");
    assert_eq!(page.contains("Times are estimated"), p["estimated"] == true);
    let (found, rows) = (page.matches("<title>").count() - 1, kernels.len());
    let moving = kernels
        .iter()
        .filter(|k| number(&k["flops"]) == 0.0)
        .count();
    assert_eq!(found, rows - moving, "a dot for each kernel that computes");
}

/// The events of the trace, all inside the last round.
fn trace(place: &Workplace, p: &Value) -> Vec<Value> {
    let trace = read(place, "t.json");
    let events = trace["traceEvents"].as_array().unwrap();
    let complete: Vec<Value> = events.iter().filter(|e| e["ph"] == "X").cloned().collect();
    let wall = 1e6 * p["wall"].as_array().unwrap().last().map(number).unwrap();
    for e in &complete {
        let (start, time) = (number(&e["ts"]), number(&e["dur"]));
        assert!(
            start >= 0.0 && time >= 0.0 && start + time <= wall + 1e3,
            "{e:#}"
        );
    }
    complete
}

/// The names of the host's threads that did what is `wanted`. Every track has one name.
fn threads(place: &Workplace, wanted: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let trace = read(place, "t.json");
    let events = trace["traceEvents"].as_array().unwrap();
    let on_host = || events.iter().filter(|e| e["pid"] == 1);
    let mut found = BTreeSet::new();
    for event in on_host().filter(|e| e["ph"] == "X") {
        let is_name = |e: &&Value| e["name"] == "thread_name" && e["tid"] == event["tid"];
        let names: Vec<&Value> = on_host().filter(is_name).collect();
        assert_eq!(names.len(), 1, "{event:#}: {names:#?}");
        if wanted(event) {
            found.insert(names[0]["args"]["name"].as_str().unwrap().to_string());
        }
    }
    found
}

/// Whichever thread's span comes first: `main` has the kernels (`kind`), another one decodes.
fn tracks_have_their_names(place: &Workplace, kind: &str) {
    let main = BTreeSet::from(["main".to_string()]);
    assert_eq!(threads(place, |e| e["cat"] == kind), main);
    assert_eq!(threads(place, |e| e["name"] == "score"), main);
    let decoding = threads(place, |e| e["name"] == "decode");
    assert_eq!(decoding.len(), 1, "{decoding:?}");
    assert_ne!(decoding, main);
}

#[test]
fn a_cpu_profile_adds_up() {
    let place = Workplace::new();
    let (out, p) = profile(
        &place,
        "--device cpu --rounds 2 --set input.modality=rgb+depth",
    );
    assert!(
        out.contains("kernels explain") && out.contains("roof, measured"),
        "{out}"
    );
    assert!(!out.contains("estimated"), "{out}");
    assert_eq!(
        (&p["estimated"], &p["device"]),
        (&json!(false), &json!("cpu"))
    );
    adds_up(&place, &p);
    let events = trace(&place, &p);
    let names: Vec<&str> = events.iter().map(|e| e["name"].as_str().unwrap()).collect();
    for name in ["decode", "prepare depth", "score", "conv2d forward"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(!names.contains(&"load model"), "only before the rounds");
    tracks_have_their_names(&place, "kernel");
    let variants = p["kernels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| &k["variant"]);
    assert!(variants.into_iter().any(|v| v == "unfolded"));
    let page = std::fs::read_to_string(place.path("p.html")).unwrap();
    assert!(page.contains("<circle class=\"k4\""), "bottleneck's colour");
    assert!(!out.contains("f16") && !page.contains("In f16"), "{out}");
}

#[test]
fn a_gpu_profile_has_a_time_for_every_launch() {
    let place = Workplace::new();
    let (_, p) = profile(&place, "predict --device 0 --rounds 2");
    assert_eq!(p["estimated"], false);
    adds_up(&place, &p);
    let events = trace(&place, &p);
    let launches = events.iter().filter(|e| e["pid"] == 2).count();
    assert_eq!(2.0 * launches as f64, sum(&p["kernels"], "launches"));
    let names: Vec<&str> = events.iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"upload") && names.contains(&"read-back"),
        "{names:?}"
    );
    assert!(number(&p["peak_device_bytes"]) > 0.0);
    tracks_have_their_names(&place, "record");
}

#[test]
fn without_timestamps_times_are_labelled_estimated() {
    let place = Workplace::new();
    let (out, p) = profile(&place, "predict --device 0 --no-timestamps --rounds 1");
    assert!(out.contains("ESTIMATED"), "{out}");
    assert_eq!(p["estimated"], true);
    adds_up(&place, &p);
    let names: Vec<Value> = trace(&place, &p)
        .iter()
        .map(|e| e["name"].clone())
        .collect();
    assert!(
        names.contains(&json!("load model")),
        "one round is the first: {names:?}"
    );
}

#[test]
fn a_training_is_profiled_and_leaves_nothing() {
    let place = Workplace::new();
    let (_, p) = profile(&place, "train --device cpu --set train.batch=4");
    let kernels = p["kernels"].as_array().unwrap();
    for entry in ["backward_weight", "backward_input", "backward", "step"] {
        assert!(kernels.iter().any(|k| k["entry"] == entry), "{entry}");
    }
    adds_up(&place, &p);
    let mut left: Vec<String> = std::fs::read_dir(place.path("."))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["p.csv", "p.html", "p.json", "t.json"]);
}

/// A profile of one kernel whose calls took these times, a list for each round.
fn made_up(place: &Workplace, name: &str, device: &str, rounds: &[&[f64]]) {
    let samples: Vec<Value> = rounds
        .iter()
        .map(|times| {
            let s = astray::profile::Sample::of(times);
            json!({"calls": s.calls, "mean_ln": s.mean_ln, "var_ln": s.var_ln})
        })
        .collect();
    let calls: usize = rounds.iter().map(|r| r.len()).sum();
    let seconds: f64 = rounds.iter().flat_map(|r| r.iter()).sum();
    let profile = json!({
        "program": "astray", "job": "made up", "device": device, "threads": 2, "estimated": false,
        "roof": {"gb_per_s": 10.0, "gflops": 100.0, "estimated": false},
        // Too different from each other for a verdict.
        "wall": [1.0, 2.0, 1.5], "kernel_seconds": seconds, "explained": 0.9,
        "peak_device_bytes": null, "peak_resident_bytes": null, "stray_launches": 0, "steps": [],
        "kernels": [{
            "op": "conv2d", "entry": "forward", "shapes": "1x8x8x8", "variant": "", "calls": calls,
            "launches": 0, "seconds": seconds, "share": 1.0, "flops": 1e6, "bytes": 1e6,
            "gflops": 1.0, "gb_per_s": 1.0, "intensity": 1.0, "percent_of_roof": 10.0,
            "bound": "memory", "rounds": samples,
        }],
    });
    place.write(name, profile.to_string());
}

const QUICK: [&[f64]; 3] = [
    &[1.00e-3, 1.01e-3],
    &[0.99e-3, 1.00e-3],
    &[1.01e-3, 1.02e-3],
];
const SLOW: [&[f64]; 3] = [
    &[1.20e-3, 1.21e-3],
    &[1.19e-3, 1.20e-3],
    &[1.21e-3, 1.22e-3],
];
/// The same 20 % in the mean, but the rounds differ by more.
const NOISY: [&[f64]; 3] = [
    &[0.70e-3, 0.72e-3],
    &[1.20e-3, 1.10e-3],
    &[1.90e-3, 1.95e-3],
];

#[test]
fn diff_closes_the_gate_on_a_regression_and_not_on_noise() {
    let place = Workplace::new();
    for (name, rounds) in [("quick", QUICK), ("slow", SLOW), ("noisy", NOISY)] {
        made_up(&place, name, "cpu", &rounds);
    }
    // One round: the calls are the samples.
    made_up(&place, "one", "cpu", &QUICK[..1]);
    made_up(
        &place,
        "long",
        "cpu",
        &[&[1.20e-3, 1.21e-3, 1.20e-3, 1.21e-3, 1.20e-3, 1.21e-3]],
    );
    made_up(
        &place,
        "short",
        "cpu",
        &[&[1.00e-3, 1.01e-3, 1.00e-3, 1.01e-3, 1.00e-3, 1.01e-3]],
    );
    for (line, status) in [
        ("quick slow --fail-over 5", 1),
        ("quick slow --fail-over 25", 0), // 20 % is not over 25 %
        ("quick slow", 0),                // no gate
        ("slow quick --fail-over 5", 0),  // quicker is no regression
        ("quick noisy --fail-over 5", 0),
        ("quick quick --fail-over 0", 0),
        ("short long --fail-over 5", 1),
        ("long short --fail-over 5", 0),
        ("one long --fail-over 500", 0),
    ] {
        let run = place.run(&format!("profile diff {line}"));
        assert_eq!(run.status, status, "{line}\n{}\n{}", run.out, run.err);
        assert_eq!(
            run.out.contains("REGRESSION"),
            status == 1,
            "{line}\n{}",
            run.out
        );
    }
    let found = place.run("profile diff quick slow --json").json();
    let change = &found["kernels"][0];
    let (low, high) = (
        number(&change["interval"][0]),
        number(&change["interval"][1]),
    );
    let ratio = number(&change["ratio"]);
    assert!(
        (ratio - 1.2).abs() < 0.01 && low < ratio && ratio < high,
        "{found:#}"
    );
    assert!(low > 1.1 && high < 1.3, "{found:#}");
    let of = |of: &str, n: usize| json!({"of": of, "before": n, "after": n});
    assert_eq!(change["samples"], of("rounds", 3));
    assert_eq!(change["regression"], false, "there is no gate");
    let found = place.run("profile diff short long --json").json();
    assert_eq!(found["kernels"][0]["samples"], of("calls", 6));
    assert_eq!(found["wall"]["samples"], of("rounds", 3));
    let by_call = "intervals are too narrow";
    let out = place.run("profile diff short long").ok();
    assert!(
        out.contains("6 + 6 calls") && out.contains(by_call),
        "{out}"
    );
    let out = place.run("profile diff quick slow").ok();
    assert!(
        out.contains("3 + 3 rounds") && !out.contains(by_call),
        "{out}"
    );
}

#[test]
fn diff_sees_a_kernel_that_replaced_another() {
    let place = Workplace::new();
    for (name, rounds, op) in [
        ("quick", QUICK, "conv2d"),
        ("slow", SLOW, "other"),
        ("same", QUICK, "other"),
    ] {
        made_up(&place, name, "cpu", &rounds);
        let mut profile = read(&place, name);
        profile["kernels"][0]["op"] = json!(op);
        place.write(name, profile.to_string());
    }
    let run = place.run("profile diff quick slow --fail-over 5");
    assert_eq!(run.status, 1, "{}", run.out);
    assert!(run.out.contains("gone: conv2d") && run.out.contains("new: other"));
    let run = place.run("profile diff quick same --fail-over 5");
    assert_eq!(run.status, 0, "{}", run.out);
}

#[test]
fn diff_refuses_what_cannot_be_compared() {
    let place = Workplace::new();
    made_up(&place, "cpu", "cpu", &QUICK);
    made_up(&place, "gpu", "a GPU", &SLOW);
    let run = place.run("profile diff cpu gpu --fail-over 5");
    assert_eq!(run.status, 2, "{}", run.err);
    assert!(
        run.err.contains("device: cpu, and a GPU") && run.err.contains("--force"),
        "{}",
        run.err
    );
    let forced = place.run("profile diff cpu gpu --fail-over 5 --force");
    assert_eq!(forced.status, 1, "{}", forced.err);
    assert!(forced.out.contains("note: device"), "{}", forced.out);
    place.write("broken", "{\"program\": 1}");
    let run = place.run("profile diff cpu broken");
    assert!(
        run.status == 1 && run.err.contains("broken: no profile"),
        "{}",
        run.err
    );
}

#[test]
fn diff_says_where_it_cannot_tell() {
    let place = Workplace::new();
    for (name, time) in [("once", 1e-3), ("slow", 1e-1)] {
        made_up(&place, name, "cpu", &[&[time]]);
        let mut profile = read(&place, name);
        profile["wall"] = json!([1.0]);
        place.write(name, profile.to_string());
    }
    let run = place.run("profile diff once slow");
    assert!(run.ok().contains("too few calls"));
    let run = place.run("profile diff once slow --fail-over 5");
    let told = run.status == 2 && run.err.contains("too few rounds");
    assert!(told, "{} {}", run.status, run.err);
    for wrong in ["nan", "-5", "inf", "much"] {
        let run = place.run(&format!("profile diff once slow --fail-over={wrong}"));
        let told = run.status == 2 && run.err.contains("expected percent");
        assert!(told, "{wrong}: {}", run.err);
    }
    made_up(&place, "three", "cpu", &QUICK);
    made_up(&place, "slower", "a GPU", &SLOW);
    let run = place.run("profile diff three slower --fail-over 5 --force --json");
    let found: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((run.status, &found["regressions"]), (1, &json!(2)));
    assert_eq!(found["notes"], json!(["device: cpu, and a GPU"]));
    assert_eq!(found["kernels"].as_array().unwrap().len(), 1);
}

#[test]
fn bench_lists_what_its_help_promises() {
    let place = Workplace::new();
    place
        .run("bench add --device cpu --seconds 0 --json b.json")
        .ok();
    let list = read(&place, "b.json");
    let help = place.run("bench --help").ok();
    let first = &list[0];
    for key in first.as_object().unwrap().keys() {
        assert!(help.contains(key.as_str()), "{key} is not in\n{help}");
    }
    for m in list.as_array().unwrap() {
        assert_eq!(
            (&m["kind"], &m["device"]),
            (&json!("operator"), &json!("cpu"))
        );
        let [p50, p99] = ["p50_ms", "p99_ms"].map(|key| number(&m[key]));
        assert!(
            0.0 < p50 && p50 <= p99 && number(&m["cold_ms"]) > 0.0,
            "{m:#}"
        );
        assert!(
            near(number(&m["per_second"]) * p50, 1e3 * number(&m["batch"])),
            "{m:#}"
        );
        assert!(
            number(&m["runs"]) >= 3.0 && number(&m["gb_per_s"]) > 0.0,
            "{m:#}"
        );
    }
    let depth = place
        .run("bench depth-800 --device cpu --seconds 0 --json b.json")
        .ok();
    assert!(depth.contains("800x800, 15 % holes"), "{depth}");
    let run = place.run("bench nothing-like-it");
    assert!(
        run.status == 2 && run.err.contains("extractor-b5-768"),
        "{}",
        run.err
    );
}

#[test]
fn in_half_precision_the_same_work_moves_half_the_bytes() {
    let place = Workplace::new();
    let work = |precision: &str| {
        let line = format!("predict --device 0 --rounds 1 --precision {precision}");
        let (out, profile) = profile(&place, &line);
        let page = std::fs::read_to_string(place.path("p.html")).unwrap();
        // Matrix units that are faster are the roof.
        let roof = &profile["roof"];
        if number(&roof["gflops"]) < roof["matrix_gflops"].as_f64().unwrap_or(0.0) {
            assert!(out.contains("that of the matrix units") && precision == "f16");
        }
        let notes = match out.contains("that of the matrix units") {
            true => [(&out, "matrix units "), (&page, "In f16: the roof is that")],
            false => [
                (&out, "can exceed 100 %"),
                (&page, "In f16: the roof is f32"),
            ],
        };
        for (text, note) in notes {
            assert_eq!(text.contains(note), precision == "f16", "{note}\n{out}");
        }
        let total = |op: &str, key: &str| -> f64 {
            let kernels = profile["kernels"].as_array().unwrap();
            let of_op = kernels.iter().filter(|k| k["op"] == op);
            of_op.map(|k| number(&k[key]) * number(&k["calls"])).sum()
        };
        let maps = total("resize", "bytes");
        (total("conv2d", "flops"), total("conv2d", "bytes"), maps)
    };
    let (single, half) = (work("f32"), work("f16"));
    // Maps of distances are f32 either way.
    assert!(
        single.2 > 0.0 && near(single.2, half.2),
        "{single:?} {half:?}"
    );
    assert!(
        single.0 > 0.0 && near(single.0, half.0),
        "{single:?} {half:?}"
    );
    assert!(near(single.1, 2.0 * half.1), "{single:?} {half:?}");
    let run = place.run("bench conv2d --device cpu --precision f16");
    assert_eq!(run.status, 2, "{}", run.err);
    assert!(
        run.err.contains("--precision f16: this is for a GPU"),
        "{}",
        run.err
    );
}

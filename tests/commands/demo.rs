//! `astray demo` is the same work every time.

use super::shipped::{DRAWN, are_there};
use super::{SMALL, Workplace, default_weights, tree};

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let place = Workplace::new();
    let settings = SMALL.map(|s| format!(" --set {s}")).concat();
    let demo = |name: &str, seed: u64| {
        let weights = default_weights();
        let line = format!("demo --out {name} --seed {seed} --device cpu{settings}{weights}");
        let run = place.run(&line);
        if are_there() {
            assert_eq!(run.err.matches(DRAWN).count(), 1, "{}", run.err);
            let page = std::fs::read_to_string(place.path(name).join("report.html")).unwrap();
            assert!(page.contains("The backbone is astray-b0"), "{page}");
        }
        let told = run.ok();
        assert!(told.contains(&format!("{name}/report.html")), "{told}");
        let read = |file: &str| std::fs::read(place.path(name).join(file)).unwrap();
        (read("metrics.json"), read("model.safetensors"))
    };
    let first = demo("a", 1);
    assert!(tree(&place.path("a")).contains_key("report.html"));
    // A second run into the same folder replaces the first.
    assert!(first == demo("a", 1), "the same seed gave other bytes");
    let other = demo("b", 2);
    assert!(first.0 != other.0, "another seed gave the same metrics");
}

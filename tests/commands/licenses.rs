//! What the program contains, and on what terms.

use super::Workplace;
use super::shipped::are_there;
use astray::weights::shipped;
use std::collections::BTreeSet;

const OWN: &str = include_str!("../../LICENSE");
const CRATES: &str = include_str!("../../src/cli/licenses/crates.txt");
const LOCK: &str = include_str!("../../Cargo.lock");

#[test]
fn the_program_tells_what_it_contains_and_on_what_terms() {
    let place = Workplace::new();
    let text = place.run("licenses").ok();
    for name in ["licence", "licences", "license"] {
        assert_eq!(place.run(name).ok(), text, "{name}");
    }
    let told = place.run("licenses --json").json();
    assert!(text.contains(OWN), "{text}");
    assert_eq!(told["program"]["licence"], "MIT");
    assert_eq!(told["program"]["text"], OWN);
    assert_eq!(told["program"]["version"], env!("CARGO_PKG_VERSION"));
    let weights = told["weights"].as_array().unwrap();
    match are_there() {
        true => {
            assert_eq!(weights.len(), shipped::ALL.len());
            for (own, told) in shipped::ALL.iter().zip(weights) {
                for (key, value) in [
                    ("name", own.name),
                    ("licence", own.licence),
                    ("origin", own.origin),
                    ("sha256", own.sha256),
                    ("text", own.licence_text),
                ] {
                    assert_eq!(told[key], value, "{key}");
                    assert!(text.contains(value), "{key}: {value}");
                }
            }
            let name = weights[0]["name"].as_str();
            assert_eq!(name, Some("efficientnet-lite0"));
        }
        false => {
            assert!(weights.is_empty());
            assert!(
                text.contains("Weights: this program contains none"),
                "{text}"
            );
        }
    }
    let crates = told["crates"].as_array().unwrap();
    let has = |name: &str| crates.iter().any(|told| told["name"] == name);
    for (name, linked) in [
        ("wgpu", true),
        ("clap", true),
        ("rustls", true),
        // For tests, and what the compiler alone runs.
        ("criterion", false),
        ("proptest", false),
        ("serde_derive", false),
        ("astray", false),
    ] {
        assert_eq!(has(name), linked, "{name}");
    }
    for told in crates {
        let part = |key: &str| told[key].as_str().unwrap();
        assert!(part("licence").len() > 2, "{told}");
        let line = |line: &str| {
            let words: Vec<&str> = line.split("  ").map(str::trim).collect();
            words.first() == Some(&part("name")) && line.contains(part("version"))
        };
        assert!(text.lines().any(line), "{told}");
    }
    let run = place.run("licenses everything");
    assert_eq!(run.status, 2, "{}", run.err);
}

/// Name and version of every package in `Cargo.lock` but our own.
fn locked(lock: &'static str) -> BTreeSet<(&'static str, &'static str)> {
    let packages = lock.split("[[package]]\n").skip(1);
    let others = packages.filter(|package| package.contains("\nsource = "));
    let second = |line: Option<&'static str>| line.and_then(|line| line.split('"').nth(1)).unwrap();
    others
        .map(|package| {
            let mut lines = package.lines();
            (second(lines.next()), second(lines.next()))
        })
        .collect()
}

#[test]
fn the_list_of_crates_is_that_of_the_lock_file() {
    let listed = |text: &'static str| -> BTreeSet<(&str, &str)> {
        let cells = text.lines().map(|line| line.split('\t'));
        cells
            .map(|mut cells| (cells.next().unwrap(), cells.next().unwrap()))
            .collect()
    };
    let advice = "python tools/licenses.py writes src/cli/licenses/crates.txt anew";
    let (locked, listed) = (locked(LOCK), listed(CRATES));
    let apart: Vec<_> = locked.symmetric_difference(&listed).collect();
    assert!(apart.is_empty(), "{advice}: {apart:?}");
    assert!(locked.len() > 100);
    for line in CRATES.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let known = |system: &str| ["linux", "macos", "windows"].contains(&system);
        match cells[..] {
            [_, _, _] => {}
            [_, _, licence, systems] => {
                assert!(licence != "-" && systems.split(' ').all(known), "{line}");
            }
            _ => panic!("{line}"),
        }
    }
}

//! The software driver with subgroups of 4 and of 16; the other tests run its own, 8 on most machines.

use super::{PROGRAM, Workplace};
use astray::ops::conv2d::Variant;
use serde_json::Value;

#[test]
fn the_selftest_passes_whatever_the_width_of_a_subgroup() {
    let place = Workplace::new();
    for (bits, width) in [("128", 4), ("512", 16)] {
        let astray = |line: &str| {
            let mut command = place.command(PROGRAM);
            command
                .args(line.split(' '))
                .env("LP_NATIVE_VECTOR_WIDTH", bits);
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let report: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            (output.status, report)
        };
        let (_, devices) = astray("devices --json");
        let adapters = devices["adapters"].as_array().unwrap();
        let found = adapters
            .iter()
            .find(|a| a["name"].as_str().unwrap().contains("llvmpipe"));
        let Some(adapter) = found else {
            eprintln!("NOT RUN: Mesa's llvmpipe is not present, and only its subgroups can be set");
            return;
        };
        assert_eq!(adapter["subgroups"][0], width, "{adapter:#}");
        let check = |options: &str| {
            let (status, report) = astray(&format!("selftest --device llvmpipe --json{options}"));
            assert!(status.success(), "{bits} bits{options}: {report:#}");
            assert_eq!(report["passed"], true, "{bits} bits{options}: {report:#}");
        };
        check("");
        for variant in Variant::ALL {
            // Matrix units are not on this adapter; the driver's own width runs all of them in f16 too.
            if ![Variant::Matrix, Variant::Direct].contains(&variant) {
                check(&format!(" --operator conv2d --variant {}", variant.name()));
            }
        }
        check(" --operator depthwise --variant plain");
    }
}

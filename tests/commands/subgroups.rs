//! The software driver with subgroups of 4, 8 and 16; the other tests run its own alone, 8 on most machines.

use super::{PROGRAM, Workplace};
use astray::ops::conv2d::Variant;
use serde_json::Value;

const WIDTHS: [(&str, u64); 3] = [("128", 4), ("256", 8), ("512", 16)];

/// Runs `astray <line>`, in vectors of so many bits where they are given.
fn astray(place: &Workplace, bits: Option<&str>, line: &str) -> Value {
    let mut command = place.command(PROGRAM);
    command.args(line.split_whitespace());
    if let Some(bits) = bits {
        command.env("LP_NATIVE_VECTOR_WIDTH", bits);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = || format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{bits:?} {line}: {}", told());
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{bits:?} {line}: {e}: {}", told()))
}

/// What the driver says of itself, where it is there.
fn llvmpipe(place: &Workplace, bits: Option<&str>) -> Option<Value> {
    let devices = astray(place, bits, "devices --json");
    let mut adapters = devices["adapters"].as_array().unwrap().iter();
    let found = adapters.find(|a| a["name"].as_str().unwrap().contains("llvmpipe"));
    found.cloned()
}

#[test]
fn the_selftest_passes_whatever_the_width_of_a_subgroup() {
    let place = Workplace::new();
    let Some(own) = llvmpipe(&place, None) else {
        crate::say!(
            "Mesa's llvmpipe is not present, and only its subgroups can be set: other widths are NOT CHECKED"
        );
        return;
    };
    for (bits, width) in WIDTHS {
        let adapter = llvmpipe(&place, Some(bits)).unwrap();
        assert_eq!(adapter["subgroups"][0], width, "{bits} bits: {adapter:#}");
        let check = |options: &str| {
            let line = format!("selftest --device llvmpipe --json {options}");
            let report = astray(&place, Some(bits), &line);
            assert_eq!(report["passed"], true, "{bits} bits {options}: {report:#}");
        };
        match adapter["f16"] == true {
            true => check("--precision f16"),
            false => crate::say!("subgroups of {width}: llvmpipe has no f16, which is NOT CHECKED"),
        }
        // The rest `operators.rs` runs in the width that the driver takes by itself.
        if own["subgroups"][0] == width {
            continue;
        }
        check("");
        for variant in Variant::ALL {
            // Matrix units are not on this adapter; the driver's own width runs all of them in f16 too.
            if ![Variant::Matrix, Variant::Direct].contains(&variant) {
                check(&format!("--operator conv2d --variant {}", variant.name()));
            }
        }
        check("--operator depthwise --variant plain");
        // Sums in slices: those of an inverted bottleneck's layers, and those that a coupling adds up itself.
        for operator in ["bottleneck", "coupling"] {
            check(&format!("--operator {operator} --variant split"));
        }
    }
}

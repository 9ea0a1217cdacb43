//! `ASTRAY_ISA`: the kernels that narrower machines run.

use super::{PROGRAM, Workplace};
use astray::cpu::isa::Isa;
use serde_json::Value;

fn selftest(isa: &str) -> std::process::Output {
    let place = Workplace::new();
    let mut command = place.command(PROGRAM);
    command.args(["selftest", "--device", "cpu", "--json"]);
    command.env("ASTRAY_ISA", isa).output().unwrap()
}

#[test]
fn every_instruction_set_of_this_machine_passes_the_selftest() {
    let widest = Isa::check().unwrap();
    let mut errors = Vec::new();
    let place = Workplace::new();
    for isa in Isa::ALL.into_iter().filter(|isa| *isa <= widest) {
        let output = selftest(isa.name());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {text}", isa.name());
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["passed"], true, "{}: {report:#}", isa.name());
        errors.push(report["cases"].clone());
        let mut devices = place.command(PROGRAM);
        let devices = devices.args(["devices", "--json"]);
        let devices = devices.env("ASTRAY_ISA", isa.name()).output().unwrap();
        let devices: Value = serde_json::from_slice(&devices.stdout).unwrap();
        assert_eq!(devices["cpu"]["simd"], isa.name());
    }
    // AVX2 and AVX-512 sum in the same order; the baseline has no fused multiply-add.
    if widest > Isa::Baseline {
        assert_ne!(errors.first(), errors.last());
    }
}

#[test]
fn an_unknown_instruction_set_is_wrong_usage() {
    let output = selftest("avx1024");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let expected = "ASTRAY_ISA=\"avx1024\": this machine can run baseline";
    assert!(told.contains(expected), "{told}");
}

//! Every operator case on every device, with fresh inputs and poisoned buffers.

use astray::gpu;
use astray::selftest::{cases, check};
use astray::tensor::Device;

fn all_pass(device: &Device) {
    let mut failed = Vec::new();
    for case in cases() {
        for seed in [1, 2] {
            let outcome = check(&case, device, seed);
            if !outcome.passed() {
                failed.push(format!("{outcome:?}"));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} failed on {}:\n{}",
        failed.len(),
        device.name(),
        failed.join("\n")
    );
}

#[test]
fn cpu_matches_the_plain_loops() {
    all_pass(&Device::Cpu);
}

/// Fails, not skips, where there is no adapter: CI installs the software Vulkan driver.
#[test]
fn gpu_matches_the_plain_loops() {
    assert!(
        !gpu::adapters().is_empty(),
        "no adapter: install a Vulkan driver (Debian: mesa-vulkan-drivers)"
    );
    let poisoned = gpu::Options {
        poison: true,
        ..Default::default()
    };
    for adapter in gpu::adapters() {
        let device = Device::Gpu(gpu::open(adapter.index, &poisoned).unwrap());
        all_pass(&device);
    }
}

//! How many kernels a flow launches: a real GPU spends longer on starting its small ones than on
//! running them.

use astray::gpu::{self, Options};
use astray::models::positional::positional_encoding;
use astray::models::real_nvp::{RealNvp, RealNvpConfig};
use astray::nn::optimiser::Optimiser;
use astray::ops::adam::Adam;
use astray::ops::{likelihood::likelihood, sum::sum};
use astray::tape::Tape;
use astray::tensor::{Device, Tensor};

fn flow(device: &Device, blocks: usize) -> (RealNvp, Tensor, Tensor) {
    let config = RealNvpConfig {
        channels: 16,
        condition: 4,
        hidden: 8,
        kernels: vec![3; blocks],
        alpha: 1.9,
    };
    let net = RealNvp::init(device, config, "teacher.", 0).unwrap();
    let x = Tensor::full(device, [2, 3, 3, 16], 0.5).unwrap();
    (net, x, positional_encoding(device, [2, 3, 3], 4).unwrap())
}

fn launches(device: &Device) -> u64 {
    match device {
        Device::Cpu => 0,
        Device::Gpu(gpu) => gpu.launches(),
    }
}

/// Launches of a forward pass, the second time.
fn forward(device: &Device, blocks: usize) -> u64 {
    let (net, x, place) = flow(device, blocks);
    let mut before = 0;
    for _ in 0..2 {
        before = launches(device);
        let tape = Tape::inference();
        let (x, place) = (tape.constant(&x), tape.constant(&place));
        net.forward(&tape, &x, Some(&place)).unwrap();
    }
    launches(device) - before
}

/// Launches of a training step, the second one.
fn step(device: &Device, blocks: usize) -> u64 {
    let (mut net, x, place) = flow(device, blocks);
    let mask = Tensor::full(device, [2, 3, 3, 1], 1.0).unwrap();
    let mut adam = Optimiser::new(Adam {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
    });
    let mut before = 0;
    for _ in 0..2 {
        before = launches(device);
        let tape = Tape::training();
        let (xv, place) = (tape.constant(&x), tape.constant(&place));
        let (z, log_det) = net.forward(&tape, &xv, Some(&place)).unwrap();
        let map = likelihood(&tape, &z, &log_det, &mask).unwrap();
        let loss = sum(&tape, &map, 1.0).unwrap();
        adam.minimise(net.parameters(), tape, &loss).unwrap();
    }
    launches(device) - before
}

#[test]
fn a_pair_of_blocks_is_fewer_than_twenty_launches_and_by_winograd_thirty() {
    // Split sums are what a hardware adapter takes for one small map.
    for (variant, few, most) in [
        ("direct", 20, 120),
        ("tile64", 20, 120),
        ("split", 20, 140),
        // Transforms are launches of their own: worth it for maps that keep a device busy.
        ("winograd2", 31, 170),
        ("winograd4", 31, 170),
    ] {
        let options = Options {
            variant: Some(variant.into()),
            ..Options::default()
        };
        let device = Device::Gpu(gpu::open(0, &options).unwrap());
        let pair = |count: fn(&Device, usize) -> u64| count(&device, 4) - count(&device, 2);
        let (forward, step) = (pair(forward), pair(step));
        assert!(forward < few, "{variant} forward: {forward} launches");
        // With every gradient, weights packed anew, and Adam on ten parameters a block.
        assert!(step <= most, "{variant} training step: {step} launches");
        crate::say!(
            "{variant}, a pair of blocks: {forward} launches forward, {step} in a training step"
        );
    }
}

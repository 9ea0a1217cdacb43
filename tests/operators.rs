//! Every operator case on every device, with fresh inputs and poisoned buffers.

use astray::gpu;
use astray::kernel::Cost;
use astray::nn::random::named_tensor;
use astray::ops::conv2d::{Conv2d, Padding, Variant, conv2d};
use astray::ops::sum::sum;
use astray::profile::record;
use astray::selftest::{Case, cases, check};
use astray::tape::Tape;
use astray::tensor::{Device, Shape, Tensor};

fn all_pass(device: &Device) {
    pass(device, &cases(), &[1, 2]);
}

fn pass(device: &Device, cases: &[Case], seeds: &[u64]) {
    let mut failed = Vec::new();
    for case in cases {
        for &seed in seeds {
            let outcome = check(case, device, seed);
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
    astray::cpu::pool::poison();
    all_pass(&Device::Cpu);
}

/// The roof is taken from the cost that an operator tells; a case counts its own from the shapes.
#[test]
fn every_operator_tells_the_cost_of_its_shapes() {
    for case in cases() {
        let forward = || {
            let tape = Tape::inference();
            let inputs = case.inputs.iter().map(|input| {
                let x = Tensor::full(&Device::Cpu, input.shape, 1.0)?;
                Ok(tape.constant(&x))
            });
            let inputs = inputs.collect::<astray::Result<Vec<_>>>()?;
            (case.run)(&tape, &inputs)
        };
        let (_, recording) = record(&Device::Cpu, true, forward).unwrap();
        let of_it = recording.calls.iter().filter(|c| c.op == case.operator);
        let told = of_it.fold(Cost::default(), |sum, call| sum + call.cost);
        assert_eq!(told, case.cost, "{} {}", case.operator, case.name);
    }
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
        all_pass(&Device::Gpu(gpu::open(adapter.index, &poisoned).unwrap()));
        if adapter.f16 {
            let half = gpu::Options {
                half: true,
                ..poisoned.clone()
            };
            let device = Device::Gpu(gpu::open(adapter.index, &half).unwrap());
            all_pass(&device);
            let x = Tensor::full(&device, [4], 1.0).unwrap();
            let tape = Tape::inference();
            let refused = sum(&tape, &tape.constant(&x), 1.0).unwrap_err().to_string();
            assert!(refused.contains("f32 alone"), "{refused}");
        }
    }
}

fn forced(adapter: usize, variant: Variant, half: bool) -> Device {
    let options = gpu::Options {
        poison: true,
        half,
        variant: Some(variant.name().into()),
        ..Default::default()
    };
    Device::Gpu(gpu::open(adapter, &options).unwrap())
}

#[test]
fn every_variant_of_the_convolution_matches_the_plain_loops() {
    let mut cases = cases();
    cases.retain(|case| ["conv2d", "depthwise", "bottleneck", "coupling"].contains(&case.operator));
    for adapter in gpu::adapters() {
        for variant in Variant::ALL {
            pass(&forced(adapter.index, variant, false), &cases, &[3]);
            if adapter.f16 {
                pass(&forced(adapter.index, variant, true), &cases, &[3]);
            }
        }
    }
}

/// Output and gradients of a convolution too large for differences.
fn with_gradients(
    device: &Device,
    x: [usize; 4],
    weight: [usize; 4],
    conv: Conv2d,
) -> Vec<Vec<f32>> {
    let tensor = |name: &str, shape: Shape| {
        let data = named_tensor(name, shape.len(), 1.0, 7);
        Tensor::new(device, shape, data).unwrap()
    };
    let inputs = [
        tensor("x", x.into()),
        tensor("weight", weight.into()),
        tensor("bias", [weight[3]].into()),
    ];
    let tape = Tape::training();
    let [x, weight, bias] = inputs.each_ref().map(|t| tape.leaf(t));
    let y = conv2d(&tape, &x, &weight, &bias, None, conv).unwrap();
    let gradients = tape
        .backward_from(&[(&y, tensor("grad", y.tensor().shape()))])
        .unwrap();
    let of_inputs = inputs.iter().map(|t| gradients.of(t).unwrap().to_vec());
    let all = std::iter::once(y.tensor().to_vec()).chain(of_inputs);
    all.map(|values| values.unwrap()).collect()
}

fn off(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f32| f64::from(x).powi(2);
    let error: f64 = found.iter().zip(expected).map(|(f, e)| square(f - e)).sum();
    (error / expected.iter().map(|&e| square(e)).sum::<f64>()).sqrt()
}

#[test]
fn gradients_of_every_variant_agree_with_the_plain_ones_at_the_edges_of_tiles() {
    let strided = |padding| Conv2d {
        stride: 2,
        ..Conv2d::new(padding)
    };
    for (x, weight, conv) in [
        (
            [3, 13, 10, 65],
            [3, 3, 65, 63],
            Conv2d::new(Padding::zeros(1)),
        ),
        (
            [2, 9, 11, 64],
            [3, 3, 64, 65],
            Conv2d::new(Padding::replicate(1)),
        ),
        (
            [1, 23, 17, 5],
            [5, 5, 5, 129],
            strided(Padding::asymmetric(1, 2)),
        ),
        (
            [2, 8, 8, 130],
            [1, 1, 130, 64],
            Conv2d::new(Padding::zeros(0)),
        ),
    ] {
        for adapter in gpu::adapters() {
            // In f16 a result and what it is folded from are rounded; of weights neither is.
            for (half, tolerances) in [(false, [1e-5; 4]), (true, [1e-3, 1e-3, 1e-5, 1e-5])] {
                if half && !adapter.f16 {
                    continue;
                }
                let run = |variant| {
                    let device = forced(adapter.index, variant, half);
                    with_gradients(&device, x, weight, conv)
                };
                let plain = run(Variant::Plain);
                for variant in Variant::ALL {
                    for ((found, plain), tolerance) in
                        run(variant).iter().zip(&plain).zip(tolerances)
                    {
                        let error = off(found, plain);
                        assert!(
                            error < tolerance,
                            "{variant:?} {x:?} {weight:?}, f16 {half}: {error:e}"
                        );
                    }
                }
            }
        }
    }
}

//! Every kernel tells what it is, on both devices alike; times are counted once.

use astray::Result;
use astray::cpu::roof::Params;
use astray::gpu;
use astray::kernel::{Cost, kernel, step};
use astray::profile::{Recording, record};
use astray::selftest::{Case, cases};
use astray::tape::{Tape, Var};
use astray::tensor::{Device, Tensor};
use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

fn first_gpu() -> Device {
    let options = gpu::Options::default();
    Device::Gpu(gpu::open(0, &options).expect("a Vulkan driver (Debian: mesa-vulkan-drivers)"))
}

/// Forward and, where there is one, backward.
fn run(case: &Case, device: &Device) -> Result<()> {
    let tape = Tape::training();
    let ramp = |n: usize| (0..n).map(|i| 0.1 + 0.01 * (i % 50) as f32).collect();
    let inputs = case.inputs.iter().map(|input| {
        let x = Tensor::new(device, input.shape, ramp(input.shape.len()))?;
        Ok(match input.gradient {
            true => tape.leaf(&x),
            false => tape.constant(&x),
        })
    });
    let inputs = inputs.collect::<Result<Vec<Var>>>()?;
    let outputs = (case.run)(&tape, &inputs)?;
    let seeds = outputs.iter().map(|y| {
        let grad = Tensor::full(device, y.tensor().shape(), 1.0)?;
        Ok((y, grad))
    });
    let seeds = seeds.collect::<Result<Vec<_>>>()?;
    tape.backward_from(&seeds).map(drop)
}

/// (operator, direction, shapes, operations, bytes) of every call, in order.
fn announced(recording: &Recording) -> Vec<(String, String, String, u64, u64)> {
    let calls = recording.calls.iter().map(|c| {
        let (op, entry, shapes) = (c.op.clone(), c.entry.clone(), c.shapes.clone());
        (op, entry, shapes, c.cost.flops, c.cost.bytes)
    });
    calls.collect()
}

#[test]
fn every_operator_is_annotated_and_alike_on_both_devices() {
    let gpu = first_gpu();
    let mut seen = BTreeSet::new();
    for case in cases() {
        let name = format!("{} {}", case.operator, case.name);
        let of = |device: &Device| {
            let ((), recording) = record(device, true, || run(&case, device)).unwrap();
            recording
        };
        let (on_cpu, on_gpu) = (of(&Device::Cpu), of(&gpu));
        // One kernel on the CPU, the operators that it is made of on the GPU.
        if case.operator != "bottleneck" {
            assert_eq!(announced(&on_cpu), announced(&on_gpu), "{name}");
        }
        assert!(on_gpu.strays.is_empty(), "{name}: {:?}", on_gpu.strays);
        assert!(!on_gpu.estimated, "{name}");
        for call in &on_gpu.calls {
            assert!(
                !call.launches.is_empty(),
                "{name}: {call:?} launched nothing"
            );
            assert!(
                call.launches.iter().all(|l| !l.at.time.is_zero()),
                "{name}: {call:?}"
            );
        }
        for (op, entry, shapes, _, bytes) in announced(&on_cpu) {
            assert!(
                !entry.is_empty() && !shapes.is_empty() && bytes > 0,
                "{name}: {op}"
            );
            seen.insert(op);
        }
        assert!(seen.contains(case.operator), "{name}: {seen:?}");
    }
    let operators: BTreeSet<String> = cases().iter().map(|c| c.operator.to_string()).collect();
    assert_eq!(seen, operators);
}

#[test]
fn a_launch_outside_of_a_kernel_is_found() {
    let device = first_gpu();
    let Device::Gpu(gpu) = &device else {
        unreachable!()
    };
    let launch = || -> Result<()> {
        let (from, to) = (gpu.upload(&[1.0; 256])?, gpu.alloc(256)?);
        let params = Params {
            count: 64,
            rounds: 1,
        };
        let text = include_str!("../shaders/roof.wgsl");
        let pass = gpu.pass("roof", text).entry("copy");
        pass.read(&from).write(&to).params(&params).run(64)
    };
    let ((), alone) = record(&device, true, launch).unwrap();
    assert_eq!((alone.strays.len(), alone.calls.len()), (1, 0));
    let inside = || {
        let _kernel = kernel("roof", "copy", &["256"], Cost::new(0, 512));
        launch()
    };
    for timestamps in [true, false] {
        let ((), inside) = record(&device, timestamps, inside).unwrap();
        assert_eq!((inside.strays.len(), inside.calls.len()), (0, 1));
        assert_eq!(inside.estimated, !timestamps);
        let call = &inside.calls[0];
        assert_eq!(call.launches[0].entry, "copy");
        assert_eq!(call.time(), call.launches[0].at.time);
        let end = call.launches[0].at.start + call.time();
        assert!(end <= inside.wall + Duration::from_millis(1), "{inside:?}");
    }
}

#[test]
fn nested_work_is_counted_once() {
    let long = Duration::from_millis(20);
    let job = || {
        let _step = step("outer");
        let _outer = kernel("outer", "forward", &["1"], Cost::new(1, 1));
        sleep(long);
        {
            let _inner = kernel("inner", "forward", &["1"], Cost::new(1, 1));
            sleep(2 * long);
        }
        Ok(())
    };
    let ((), recording) = record(&Device::Cpu, true, job).unwrap();
    let [outer, inner] = &recording.calls[..] else {
        panic!("{recording:?}");
    };
    assert!(
        inner.time() >= 2 * long && outer.time() >= long,
        "{recording:?}"
    );
    assert!(outer.host.time >= 3 * long);
    assert!(
        outer.time() + inner.time() <= outer.host.time,
        "{recording:?}"
    );
    assert!(recording.steps[0].own < long, "{recording:?}");
    assert!(outer.host.time <= recording.wall);
}

#[test]
fn the_roof_counts_every_multiply_add() {
    let Device::Gpu(gpu) = first_gpu() else {
        unreachable!()
    };
    let start: Vec<f32> = (0..1024).map(|i| i as f32 / 100.0).collect();
    let (from, to) = (gpu.upload(&start).unwrap(), gpu.alloc(1024).unwrap());
    let params = Params {
        count: 256,
        rounds: 3,
    };
    let text = include_str!("../shaders/roof.wgsl");
    let pass = gpu.pass("roof", text).entry("arithmetic");
    pass.read(&from)
        .write(&to)
        .params(&params)
        .run(256)
        .unwrap();
    let chain = |x: f32| (0..16 * 3).fold(f64::from(x), |x, _| x * 0.999 + 0.001);
    for (x, found) in start.iter().zip(gpu.read(&to).unwrap()) {
        let expected = chain(*x) + chain(x + 1.0);
        assert!(
            (f64::from(found) - expected).abs() < 1e-5 * expected,
            "{x}: {found}, {expected}"
        );
    }
}

/// Where there are matrix units: on the llvmpipe of Mesa 26, not of older ones.
#[test]
fn the_roof_of_matrix_units_counts_every_product() {
    let options = |half| gpu::Options {
        poison: true,
        half,
        ..Default::default()
    };
    let mut found = 0;
    for half in [false, true] {
        let adapters = gpu::adapters();
        let able = adapters
            .iter()
            .filter(|a| a.matrix_side(half).is_some() && (a.f16 || !half));
        for adapter in able {
            let gpu = gpu::open(adapter.index, &options(half)).unwrap();
            let side = adapter.matrix_side(half).unwrap() as usize;
            // Exact in f16, and so are their sums in f32.
            let value = |i: usize| ((i * 7 + i / side) % 15) as f32 - 7.0;
            let source: Vec<f32> = (0..6 * side * side).map(value).collect();
            let from = gpu.upload(&source).unwrap();
            let (groups, products) = (5, 8);
            let to = gpu.alloc_f32(groups * 8 * products * side * side).unwrap();
            let params = Params {
                count: groups as u32,
                rounds: 3,
            };
            let text = include_str!("../shaders/roof/matrix.wgsl");
            let pass = gpu.pass("roof/matrix", text).read(&from).write(&to);
            pass.constant("THREADS", (8 * gpu.lanes()).into())
                .params(&params)
                .groups([groups as u32, 1, 1])
                .unwrap();
            let sums = gpu.read(&to).unwrap();
            let at = |matrix: usize, row: usize, column: usize| {
                source[(matrix * side + row) * side + column]
            };
            for (i, sum) in sums.iter().enumerate() {
                let (matrix, row, column) = (i / side / side % products, i / side % side, i % side);
                let terms =
                    (0..side).map(|k| at(matrix / 2, row, k) * at(4 + matrix % 2, k, column));
                assert_eq!(*sum, 3.0 * terms.sum::<f32>(), "{i} of {side}");
            }
            found += 1;
        }
    }
    if found == 0 {
        crate::say!("no adapter has matrix units: their roof is NOT CHECKED");
    }
}

/// Run by itself it is the first in its process: no other recording has made tracing ask every thread.
#[test]
fn what_another_thread_meets_first_is_recorded_all_the_same() {
    fn mine() {
        let _step = tracing::trace_span!(target: "astray::step", "step", name = "mine").entered();
    }
    let work = || {
        std::thread::spawn(mine).join().unwrap();
        mine();
        Ok(())
    };
    let ((), recording) = record(&Device::Cpu, true, work).unwrap();
    let names: Vec<&str> = recording.steps.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["mine"], "the other thread's is not recorded");
}

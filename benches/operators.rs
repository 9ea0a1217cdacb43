//! The heaviest operators at the sizes of the models, on the CPU: `cargo bench --bench operators`.
//! Criterion's "thrpt" is GFLOP/s, printed as Gelem/s.

use astray::nn::random::named_tensor;
use astray::ops::conv2d::{self, Conv2d, Padding, conv2d};
use astray::ops::depthwise::{self, depthwise};
use astray::tape::{Tape, Var};
use astray::tensor::{Device, Shape, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn tensor(name: &str, shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let data = named_tensor(name, shape.len(), 1.0, 0);
    Tensor::new(&Device::Cpu, shape, data).expect("memory for a benchmark")
}

/// Forward, and forward with every gradient.
fn convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv2d");
    for (name, n, side, c_in, kernel, c_out) in [
        ("3x3 128 to 128, 24x24, batch 8", 8, 24, 128, 3, 128),
        ("3x3 1024 to 1024, 24x24", 1, 24, 1024, 3, 1024),
        ("1x1 40 to 240, 192x192", 1, 192, 40, 1, 240),
        ("1x1 304 to 1824, 24x24", 1, 24, 304, 1, 1824),
    ] {
        let x = tensor("x", [n, side, side, c_in]);
        let weight = tensor("weight", [kernel, kernel, c_in, c_out]);
        let bias = tensor("bias", [c_out]);
        let conv = Conv2d::new(Padding::zeros(kernel / 2));
        let run = |tape: &Tape| -> Var {
            let [x, weight, bias] = [&x, &weight, &bias].map(|t| tape.leaf(t));
            conv2d(tape, &x, &weight, &bias, None, conv).expect("shapes that fit")
        };
        let y = Shape::from([n, side, side, c_out]);
        let cost = conv2d::cost(x.shape(), weight.shape(), y);
        group.throughput(Throughput::Elements(cost.flops));
        group.bench_function(name, |b| b.iter(|| run(&Tape::inference())));
        if n > 1 {
            group.throughput(Throughput::Elements(3 * cost.flops));
            group.bench_function(format!("{name}, with gradients"), |b| {
                b.iter(|| {
                    let tape = Tape::training();
                    let y = run(&tape);
                    let grad = y.tensor().clone();
                    black_box(tape.backward_from(&[(&y, grad)]).expect("gradients"));
                })
            });
        }
    }
    group.finish();
}

fn depthwise_convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("depthwise");
    let (x, weight) = (
        tensor("x", [1, 48, 48, 1056]),
        tensor("weight", [5, 5, 1056]),
    );
    let bias = tensor("bias", [1056]);
    let cost = depthwise::cost(x.shape(), weight.shape(), x.shape());
    group.throughput(Throughput::Elements(cost.flops));
    group.bench_function("5x5 1056, 48x48", |b| {
        b.iter(|| {
            let tape = Tape::inference();
            let [x, weight, bias] = [&x, &weight, &bias].map(|t| tape.constant(t));
            let conv = Conv2d::new(Padding::zeros(2));
            depthwise(&tape, &x, &weight, &bias, conv).expect("shapes that fit")
        })
    });
    group.finish();
}

criterion_group!(operators, convolutions, depthwise_convolutions);
criterion_main!(operators);

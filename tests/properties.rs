//! What holds for every flow and every layout, on random ones.

mod flow;
mod flows;
mod layouts;

use astray::nn::random::Random;
use astray::tensor::{Device, Shape, Tensor};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

const CPU: &Device = &Device::Cpu;

fn tensor(shape: impl Into<Shape>, random: &mut Random) -> Tensor {
    let shape = shape.into();
    let data = (0..shape.len()).map(|_| random.normal() as f32).collect();
    Tensor::new(CPU, shape, data).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let data = tensor.to_vec().unwrap();
    data.into_iter().map(f64::from).collect()
}

fn rms(values: &[f64]) -> f64 {
    (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt()
}

/// ‖found − expected‖ / ‖expected‖.
fn relative(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let off: Vec<f64> = found.iter().zip(expected).map(|(f, e)| f - e).collect();
    rms(&off) / rms(expected)
}

/// Runs a property on the same `cases` examples every time.
fn hold<S: Strategy>(
    cases: u32,
    strategy: S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(2),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if let Err(error) = TestRunner::new(config).run(&strategy, property) {
        panic!("{error}");
    }
}

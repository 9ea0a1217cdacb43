//! Runs one case on one device and measures how far it is off.

use super::{Array, Case};
use crate::Result;
use crate::nn::random::Random;
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Tensor};
use serde::Serialize;

/// How far off a case was: ‖found − reference‖ / ‖reference‖, the worst over all outputs.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub operator: &'static str,
    pub case: String,
    pub forward: f64,
    /// `None` where nothing is differentiated.
    pub gradient: Option<f64>,
    pub tolerance: f64,
    /// Why the operator did not run at all.
    pub error: Option<String>,
}

impl Outcome {
    /// NaN never passes.
    pub fn passed(&self) -> bool {
        let within = |e: f64| e <= self.tolerance;
        self.error.is_none() && within(self.forward) && self.gradient.is_none_or(within)
    }
}

/// 1e-5 on the CPU, 1e-4 on a GPU, and in f16 two roundings: of a result, and of what is summed up to
/// it where the sum is split, the border repeated, or an activation lies before. The reference sees rounded
/// inputs, and sums are f32.
fn tolerance(device: &Device) -> f64 {
    match device {
        _ if device.is_half() => 2.0 * 2.0_f64.powi(-11),
        Device::Cpu => 1e-5,
        Device::Gpu(_) => 1e-4,
    }
}

/// Runs a case with inputs made from `seed`.
pub fn check(case: &Case, device: &Device, seed: u64) -> Outcome {
    let outcome = |forward, gradient, error| Outcome {
        operator: case.operator,
        case: case.name.clone(),
        forward,
        gradient,
        tolerance: tolerance(device),
        error,
    };
    match measure(case, device, seed) {
        Ok((forward, gradient)) => outcome(forward, gradient, None),
        Err(error) => outcome(f64::NAN, None, Some(error.to_string())),
    }
}

fn measure(case: &Case, device: &Device, seed: u64) -> Result<(f64, Option<f64>)> {
    let mut random = Random::new(seed);
    let inputs: Vec<Array> = case
        .inputs
        .iter()
        .map(|input| {
            let mut array = Array::zeros(input.shape);
            for x in &mut array.data {
                let u = 2.0 * random.uniform() - 1.0;
                let away = u.signum() * (0.01 + 0.99 * u.abs());
                // Rounded here, so that reference and operator see the same numbers.
                let single = (away * input.scale as f64 + input.offset as f64) as f32;
                *x = match device.is_half() && !input.exact {
                    true => half::f16::from_f32(single).to_f64(),
                    false => single as f64,
                };
            }
            array
        })
        .collect();
    let expected = (case.reference)(&inputs);

    let tape = Tape::training();
    let tensors = (inputs.iter().zip(&case.inputs))
        .map(|(array, input)| match input.exact {
            true => Tensor::new_f32(device, array.shape, single(array)),
            false => Tensor::new(device, array.shape, single(array)),
        })
        .collect::<Result<Vec<_>>>()?;
    let vars: Vec<Var> = (case.inputs.iter().zip(&tensors))
        .map(|(input, tensor)| {
            if input.gradient {
                tape.leaf(tensor)
            } else {
                tape.constant(tensor)
            }
        })
        .collect();
    let outputs = (case.run)(&tape, &vars)?;
    assert_eq!(
        outputs.len(),
        expected.len(),
        "{} {}: outputs",
        case.operator,
        case.name
    );
    let mut forward = 0.0;
    for (output, expected) in outputs.iter().zip(&expected) {
        forward = worse(forward, distance(output.tensor(), expected)?);
    }
    if case.inputs.iter().all(|input| !input.gradient) {
        return Ok((forward, None));
    }

    // Outputs that are not on the tape, such as running statistics, pass no gradient back.
    let mut directions: Vec<Array> = expected.iter().map(|e| e.map(|_| 0.0)).collect();
    for (direction, output) in directions
        .iter_mut()
        .zip(&outputs)
        .filter(|(_, o)| o.is_recorded())
    {
        for x in &mut direction.data {
            let single = (2.0 * random.uniform() - 1.0) as f32;
            *x = match output.tensor().is_half() {
                true => half::f16::from_f32(single).to_f64(),
                false => single as f64,
            };
        }
    }
    let mut seeds = Vec::new();
    for (output, direction) in outputs.iter().zip(&directions) {
        let direction = Tensor::new_like(output.tensor(), direction.shape, single(direction))?;
        seeds.push((output, direction));
    }
    let gradients = tape.backward_from(&seeds)?;
    let mut gradient = 0.0;
    for (i, tensor) in tensors
        .iter()
        .enumerate()
        .filter(|(i, _)| case.inputs[*i].gradient)
    {
        let expected = central_difference(case, &inputs, i, &directions);
        let error = match gradients.of(tensor) {
            Some(found) => distance(found, &expected)?,
            None => f64::INFINITY,
        };
        gradient = worse(gradient, error);
    }
    Ok((forward, Some(gradient)))
}

fn single(array: &Array) -> Vec<f32> {
    array.data.iter().map(|&x| x as f32).collect()
}

/// NaN wins.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// Relative to the reference's norm; absolute where that is zero; infinite where shapes differ.
fn distance(found: &Tensor, expected: &Array) -> Result<f64> {
    if found.shape() != expected.shape {
        return Ok(f64::INFINITY);
    }
    let found = found.to_vec()?;
    let off: f64 = found
        .iter()
        .zip(&expected.data)
        .map(|(&f, e)| (f as f64 - e).powi(2))
        .sum();
    let norm: f64 = expected.data.iter().map(|e| e * e).sum();
    Ok(if norm > 0.0 {
        (off / norm).sqrt()
    } else {
        off.sqrt()
    })
}

/// d⟨outputs, directions⟩ / d input `which`, by central differences of the f64 reference.
fn central_difference(case: &Case, inputs: &[Array], which: usize, directions: &[Array]) -> Array {
    let mut inputs = inputs.to_vec();
    let mut gradient = inputs[which].map(|_| 0.0);
    let along = |inputs: &[Array]| -> f64 {
        let outputs = (case.reference)(inputs);
        let pairs = outputs.iter().zip(directions);
        pairs
            .flat_map(|(o, d)| o.data.iter().zip(&d.data))
            .map(|(o, d)| o * d)
            .sum()
    };
    for i in 0..gradient.data.len() {
        let x = inputs[which].data[i];
        let h = 1e-6 * x.abs().max(1.0);
        inputs[which].data[i] = x + h;
        let above = along(&inputs);
        inputs[which].data[i] = x - h;
        let below = along(&inputs);
        inputs[which].data[i] = x;
        gradient.data[i] = (above - below) / (2.0 * h);
    }
    gradient
}

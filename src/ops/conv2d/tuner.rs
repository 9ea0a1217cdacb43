//! Measures the kernels on a problem and takes the fastest that computes the right thing.

use super::variant::Variant;
use crate::Result;
use crate::gpu::{Buffer, Gpu};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For all problems of an opened GPU; what is left over waits for the next run.
const BUDGET: Duration = Duration::from_secs(1);
/// ‖found − expected‖ / ‖expected‖ that is put down to rounding.
const TOLERANCE: f64 = 1e-3;
const REPEATS: usize = 3;

/// A problem: its name in the cache, what runs it, and the lengths of the inputs that are drawn.
pub(super) struct Problem<'a> {
    pub name: &'a str,
    pub candidates: &'a [Variant],
    pub inputs: &'a [u32],
    pub run: &'a dyn Fn(Variant, &[Buffer]) -> Result<Buffer>,
}

/// The fastest candidate whose result agrees with the plain kernel's; `None` where no time is left or
/// none agrees.
pub(super) fn fastest(gpu: &Arc<Gpu>, problem: &Problem) -> Result<Option<Variant>> {
    if let Some(name) = gpu.choices().get(problem.name) {
        let known = problem.candidates.iter().find(|v| v.name() == name);
        if let Some(&known) = known {
            return Ok(Some(known));
        }
    }
    if gpu.choices().spent() > BUDGET {
        return Ok(None);
    }
    let start = Instant::now();
    let chosen = measure(
        gpu,
        problem,
        start + BUDGET.saturating_sub(gpu.choices().spent()),
    );
    gpu.choices().spend(start.elapsed());
    let chosen = chosen?;
    if let Some(variant) = chosen {
        gpu.choices().set(problem.name, variant.name());
    }
    Ok(chosen)
}

fn measure(gpu: &Arc<Gpu>, problem: &Problem, until: Instant) -> Result<Option<Variant>> {
    let inputs = (problem.inputs.iter())
        .map(|&len| gpu.upload(&noise(len)))
        .collect::<Result<Vec<_>>>()?;
    let expected = gpu.read(&(problem.run)(Variant::Plain, &inputs)?)?;
    let mut best: Option<(Duration, Variant)> = None;
    for &variant in problem.candidates {
        if Instant::now() > until {
            break;
        }
        let found = (problem.run)(variant, &inputs).and_then(|y| gpu.read(&y));
        let error = match found {
            Ok(found) => distance(&found, &expected),
            Err(error) => {
                tracing::warn!(
                    "{} on {}: {error}; it is not used",
                    variant.name(),
                    problem.name
                );
                continue;
            }
        };
        if error.is_nan() || error > TOLERANCE {
            tracing::warn!(
                "{} is off by {error:.1e} on {}; it is not used",
                variant.name(),
                problem.name
            );
            continue;
        }
        for _ in 0..REPEATS {
            let start = Instant::now();
            (problem.run)(variant, &inputs)?;
            gpu.wait()?;
            let time = start.elapsed();
            if best.is_none_or(|(least, _)| time < least) {
                best = Some((time, variant));
            }
        }
    }
    Ok(best.map(|(_, variant)| variant))
}

/// Uniform in ±1 (a linear congruential generator).
pub(super) fn noise(len: u32) -> Vec<f32> {
    let mut state = len;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let error: f64 = found.iter().zip(expected).map(|(f, e)| square(f - e)).sum();
    let norm: f64 = expected.iter().map(|&e| square(e)).sum();
    match found.len() == expected.len() && norm > 0.0 {
        true => (error / norm).sqrt(),
        false => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{self, Options};

    /// Candidates compute what `value` says; the plain kernel computes ones.
    fn chosen(name: &str, value: impl Fn(Variant) -> f32) -> Option<Variant> {
        let cache = tempfile::tempdir().expect("a folder");
        let options = Options {
            tune: true,
            cache: Some(cache.path().into()),
            ..Options::default()
        };
        let gpu = gpu::open(0, &options).expect("an adapter");
        let run = |variant, _: &[Buffer]| match variant {
            Variant::Plain => gpu.upload(&[1.0; 3]),
            variant => gpu.upload(&[value(variant); 3]),
        };
        let problem = Problem {
            name,
            candidates: &[Variant::Direct, Variant::Tile64, Variant::Split],
            inputs: &[5],
            run: &run,
        };
        fastest(&gpu, &problem).expect("a measurement")
    }

    #[test]
    fn a_wrong_kernel_never_wins() {
        let wrong = |bad: f32| move |variant| if variant == Variant::Split { 1.0 } else { bad };
        for (name, bad) in [
            ("wrong", 1.01),
            ("nan", f32::NAN),
            ("infinite", f32::INFINITY),
        ] {
            assert_eq!(chosen(name, wrong(bad)), Some(Variant::Split), "{name}");
        }
        assert_eq!(chosen("all wrong", |_| 2.0), None);
    }
}

//! Measures the kernels on a problem and takes the fastest that computes the right thing.

use super::plan::Plan;
use crate::gpu::{Buffer, Gpu};
use crate::kernel::{Cost, kernel};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The distance that is put down to rounding.
const TOLERANCE: f64 = 1e-3;
const REPEATS: usize = 3;
/// One run is enough of a kernel that takes longer.
const LONG: Duration = Duration::from_millis(250);
/// What a measurement should take at least.
const ROW: Duration = Duration::from_millis(2);
/// Products of the pixels that are compared with the formula, and bounds for their number. All elements
/// must be finite.
const PRODUCTS: usize = 50_000_000;
const PIXELS: [usize; 2] = [8, 64];

/// The channels of a pixel, from the inputs.
type Pixel<'a> = dyn Fn(&[Vec<f32>], usize) -> Vec<f64> + 'a;

/// A problem: its name in the cache, what runs it, the lengths of the inputs that are drawn, pixels and
/// channels of the result, the products in a pixel, and its channels as the formula says.
pub(super) struct Problem<'a> {
    pub name: &'a str,
    pub candidates: &'a [Plan],
    pub inputs: &'a [u32],
    pub outputs: [usize; 2],
    pub products: usize,
    pub run: &'a dyn Fn(Plan, &[Buffer]) -> Result<Buffer>,
    pub pixel: &'a Pixel<'a>,
}

/// The fastest candidate that computes the right thing; `None` while not all are measured, or where
/// none does.
pub(super) fn fastest(gpu: &Arc<Gpu>, problem: &Problem) -> Option<Plan> {
    // For all problems of an opened GPU: no kernel is begun after it. The next run goes on.
    let budget = gpu.tuning();
    let known = gpu.choices().get(problem.name);
    let missing = |plan: &&Plan| !known.contains_key(&plan.name());
    let missing: Vec<Plan> = problem.candidates.iter().filter(missing).copied().collect();
    let left = budget.saturating_sub(gpu.choices().spent());
    if !missing.is_empty() && !left.is_zero() {
        let start = Instant::now();
        if let Err(error) = measure(gpu, problem, &missing, start + left) {
            tracing::warn!("{} is not measured: {error}", problem.name);
        }
        gpu.choices().spend(start.elapsed());
    }
    let times = gpu.choices().get(problem.name);
    let mut best: Option<(f64, Plan)> = None;
    for &plan in problem.candidates {
        if let Some(time) = *times.get(&plan.name())?
            && best.is_none_or(|(least, _)| time < least)
        {
            best = Some((time, plan));
        }
    }
    best.map(|(_, plan)| plan)
}

/// Adds what it finds to the GPU's choices.
fn measure(gpu: &Arc<Gpu>, problem: &Problem, missing: &[Plan], until: Instant) -> Result<()> {
    // A profile tells it from the work itself.
    let _kernel = kernel("tuner", "measure", &[problem.name], Cost::default());
    let drawn: Vec<Vec<f32>> = problem.inputs.iter().map(|&len| noise(len)).collect();
    let inputs = drawn.iter().map(|input| gpu.upload(input));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let [pixels, channels] = problem.outputs;
    let wanted = (PRODUCTS / problem.products.max(1)).clamp(PIXELS[0], PIXELS[1]);
    // The last one, and others all over the result: multiples of the golden ratio.
    let golden = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize % pixels;
    let compared = std::iter::once(pixels - 1).chain((0..wanted.min(pixels)).map(golden));
    let compared: Vec<usize> = compared.collect();
    let expected: Vec<f64> = compared
        .iter()
        .flat_map(|&pixel| (problem.pixel)(&drawn, pixel))
        .collect();
    let is_right = |found: &[f32]| {
        let whole = found.len() == pixels * channels && found.iter().all(|y| y.is_finite());
        let picked = |&pixel: &usize| &found[pixel * channels..][..channels];
        whole && {
            let picked: Vec<f32> = compared.iter().flat_map(picked).copied().collect();
            distance(&picked, &expected) <= TOLERANCE
        }
    };
    for &plan in missing {
        if Instant::now() > until {
            break;
        }
        let time = match time(gpu, problem, plan, &inputs, &is_right) {
            // Another run may have more room, or a device that answers.
            Err(error @ Error::OutOfMemory { .. }) => return Err(error),
            Err(error) if gpu.is_lost() => return Err(error),
            Err(error) => {
                tracing::warn!("{} on {}: {error}", plan.name(), problem.name);
                None
            }
            Ok(None) => {
                tracing::warn!("{} is wrong on {}", plan.name(), problem.name);
                None
            }
            Ok(time) => time,
        };
        gpu.choices().set(problem.name, &plan.name(), time);
    }
    Ok(())
}

/// Milliseconds; `None` where the result is wrong.
fn time(
    gpu: &Arc<Gpu>,
    problem: &Problem,
    plan: Plan,
    inputs: &[Buffer],
    is_right: &dyn Fn(&[f32]) -> bool,
) -> Result<Option<f64>> {
    // Or a kernel that writes nothing would be given the memory that holds the last one's answer.
    let nothing = vec![f32::NAN; problem.outputs.iter().product()];
    drop([gpu.upload(&nothing)?, gpu.upload_f32(&nothing)?]);
    let found = gpu.read(&(problem.run)(plan, inputs)?)?;
    if !is_right(&found) {
        return Ok(None);
    }
    let mut least = Duration::MAX;
    // Short ones several in a row: to submit one takes time of its own.
    let mut row = 1;
    for _ in 0..REPEATS {
        let start = Instant::now();
        for _ in 0..row {
            (problem.run)(plan, inputs)?;
        }
        gpu.wait()?;
        least = least.min(start.elapsed() / row);
        if least > LONG {
            break;
        }
        row = (ROW.as_nanos() / least.as_nanos().max(1)).clamp(1, 8) as u32;
    }
    Ok(Some(least.as_secs_f64() * 1e3))
}

/// Uniform in ±1 and exact in f16, though sums of them are not (a linear congruential generator).
pub(super) fn noise(len: u32) -> Vec<f32> {
    let mut state = len;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let uniform = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
        half::f16::from_f32(uniform).to_f32()
    };
    (0..len).map(next).collect()
}

/// ‖found − expected‖ / ‖expected‖
pub(super) fn distance(found: &[f32], expected: &[f64]) -> f64 {
    let error: f64 = found
        .iter()
        .zip(expected)
        .map(|(&f, e)| (f64::from(f) - e).powi(2))
        .sum();
    let norm: f64 = expected.iter().map(|e| e * e).sum();
    match found.len() == expected.len() && norm > 0.0 {
        true => (error / norm).sqrt(),
        false => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::super::variant::Variant;
    use super::*;
    use crate::gpu::{self, Options};
    use std::cell::RefCell;

    const BUDGET: Duration = Duration::from_secs(1);
    const DIRECT: Plan = Plan {
        variant: Variant::Direct,
        slices: 1,
    };
    const TILE: Plan = Plan {
        variant: Variant::Tile64,
        slices: 1,
    };
    const SLICED: Plan = Plan {
        variant: Variant::Tile64,
        slices: 3,
    };
    const CANDIDATES: [Plan; 3] = [DIRECT, TILE, SLICED];

    fn opened(cache: &tempfile::TempDir) -> Arc<Gpu> {
        let options = Options {
            tune: Some(BUDGET),
            cache: Some(cache.path().into()),
            ..Options::default()
        };
        gpu::open(0, &options).expect("an adapter")
    }

    /// Where every element should be 1.
    fn choose(gpu: &Arc<Gpu>, run: &dyn Fn(Plan) -> Result<Buffer>) -> Option<Plan> {
        let problem = Problem {
            name: "ones",
            candidates: &CANDIDATES,
            inputs: &[5],
            outputs: [3, 1],
            products: 1,
            run: &|plan, _| run(plan),
            pixel: &|_, _| vec![1.0],
        };
        fastest(gpu, &problem)
    }

    #[test]
    fn a_wrong_kernel_never_wins() {
        for bad in [
            &[1.01; 3][..],
            &[f32::NAN; 3],
            &[1.0, f32::INFINITY, 1.0],
            &[1.0; 2],
        ] {
            let cache = tempfile::tempdir().expect("a folder");
            let gpu = opened(&cache);
            let mixed = |plan| match plan {
                SLICED => gpu.upload(&[1.0; 3]),
                _ => gpu.upload(bad),
            };
            assert_eq!(choose(&gpu, &mixed), Some(SLICED), "{bad:?}");
            let cache = tempfile::tempdir().expect("a folder");
            let gpu = opened(&cache);
            assert_eq!(choose(&gpu, &|_| gpu.upload(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn a_kernel_that_writes_nothing_never_wins() {
        let cache = tempfile::tempdir().expect("a folder");
        let gpu = opened(&cache);
        let run = |plan| match plan {
            TILE => gpu.alloc(3),
            _ => gpu.upload(&[1.0; 3]),
        };
        choose(&gpu, &run);
        assert_eq!(gpu.choices().get("ones")["tile64"], None);
    }

    #[test]
    fn nothing_is_chosen_before_all_are_measured_and_the_next_run_goes_on() {
        let cache = tempfile::tempdir().expect("a folder");
        let gpu = opened(&cache);
        let asked = RefCell::new(Vec::new());
        // The first one takes all the time there is.
        let slow = |plan| {
            asked.borrow_mut().push(plan);
            std::thread::sleep(BUDGET);
            gpu.upload(&[1.0; 3])
        };
        assert_eq!(choose(&gpu, &slow), None);
        assert_eq!(choose(&gpu, &slow), None);
        assert_eq!(asked.take(), [DIRECT; 2]);
        let gpu = opened(&cache);
        let quick = |plan| {
            asked.borrow_mut().push(plan);
            gpu.upload(&[1.0; 3])
        };
        let chosen = choose(&gpu, &quick);
        assert!(chosen.is_some() && chosen != Some(DIRECT));
        assert!(!asked.take().contains(&DIRECT));
    }
}

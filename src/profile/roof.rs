//! What the device can do at best, measured here: copying, multiply-adds in registers, products on matrix units.

use crate::Result;
use crate::cpu::roof::{self as cpu, Params};
use crate::gpu::Gpu;
use crate::kernel::Cost;
use crate::tensor::Device;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SHADER: &str = include_str!("../../shaders/roof.wgsl");
const MATRICES: &str = include_str!("../../shaders/roof/matrix.wgsl");
/// Larger than any cache, smaller than any binding.
const COPIED: usize = 1 << 24;
/// The best run counts of all in this time, in which an idle GPU's clock rises.
const WARM_UP: Duration = Duration::from_millis(200);
/// And of at least so many.
const RUNS: usize = 5;
/// Runs grow until one takes this long.
const LONG_ENOUGH: Duration = Duration::from_millis(8);

/// Operations of a thread of the shader's `arithmetic` in a round.
const FLOPS: u64 = 2 * 8 * 16;

/// Workgroups that multiply matrices, each of so many subgroups that make so many products in a round: enough for
/// any device, and 33 MB of sums.
const WORKGROUPS: u32 = 512;
const SUBGROUPS: u32 = 8;
const PRODUCTS: u32 = 8;

/// The limits of a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roof {
    /// Bytes read and written, 10⁹ a second.
    pub gb_per_s: f64,
    /// In f32 without matrix units: 10⁹ operations a second, a multiply-add being two.
    pub gflops: f64,
    /// On matrix units in the precision of the run, where kernels can use them.
    #[serde(default)]
    pub matrix_gflops: Option<f64>,
    /// By the host's clock: lower than the truth.
    pub estimated: bool,
}

impl Roof {
    /// Without `timestamps` by the host's clock; [`tells_time`] says whether there are any to be trusted.
    /// The CPU has no other clock.
    ///
    /// # Errors
    /// As the device.
    pub fn measure(device: &Device, timestamps: bool) -> Result<Self> {
        match device {
            Device::Cpu => Self::of_cpu(),
            Device::Gpu(gpu) => Self::of_gpu(gpu, timestamps),
        }
    }

    fn of_cpu() -> Result<Self> {
        let (from, mut to) = (vec![1.0; COPIED], vec![0.0; COPIED]);
        let copy = best(|| {
            let start = Instant::now();
            cpu::copy(&from, &mut to);
            Ok(start.elapsed())
        })?;
        let mut params = Params {
            count: 4 * rayon::current_num_threads() as u32,
            rounds: 1 << 12,
        };
        let run = |params: &Params| {
            let start = Instant::now();
            std::hint::black_box(cpu::arithmetic(params));
            start.elapsed()
        };
        while run(&params) < LONG_ENOUGH {
            params.rounds *= 2;
        }
        let arithmetic = best(|| Ok(run(&params)))?;
        Ok(Self {
            gb_per_s: rate(8 * COPIED as u64, copy),
            gflops: rate(cpu::flops(&params), arithmetic),
            matrix_gflops: None,
            estimated: false,
        })
    }

    fn of_gpu(gpu: &Arc<Gpu>, timestamps: bool) -> Result<Self> {
        let floats = COPIED.min(gpu.max_elements() / 4 * 4);
        let (from, to) = (gpu.upload_f32(&vec![0.5; floats])?, gpu.alloc_f32(floats)?);
        let launch = |entry: &'static str, count: usize, rounds: u32| {
            let params = Params {
                count: count as u32,
                rounds,
            };
            let pass = gpu.pass("roof", SHADER).entry(entry);
            let pass = pass.read(&from).write(&to).params(&params);
            timed(gpu, timestamps, || pass.run(count))
        };
        // So many rounds at least, or reading and writing `x` would count.
        let count = floats / 32;
        let arithmetic = |rounds| launch("arithmetic", count, rounds);
        let rounds = enough_rounds(16, arithmetic)?;
        // First, as it raises the clock the most.
        let (time, estimated) = best(|| arithmetic(rounds))?;
        let copy = best(|| launch("copy", floats / 4, 1))?;
        let flops = FLOPS * count as u64 * u64::from(rounds);
        Ok(Self {
            gb_per_s: rate(8 * floats as u64, copy.0),
            gflops: rate(flops, time),
            matrix_gflops: of_matrices(gpu, timestamps)?,
            estimated,
        })
    }

    /// The most operations a second that anything can reach.
    pub fn peak(&self) -> f64 {
        self.gflops.max(self.matrix_gflops.unwrap_or(0.0))
    }

    /// What the percentages of a run in f16 (`half`) do not tell by themselves.
    pub fn note(&self, half: bool) -> Option<&'static str> {
        match (self.peak() > self.gflops, half) {
            (true, _) => {
                Some("the roof is that of the matrix units, also for kernels that do not use them")
            }
            (false, true) => Some("the roof is f32's: kernels in f16 can exceed 100 %"),
            (false, false) => None,
        }
    }

    /// The most operations a second that work of this cost can reach.
    fn attainable(&self, cost: Cost) -> f64 {
        self.peak().min(self.gb_per_s * intensity(cost))
    }

    /// Does moving the bytes take longer than the operations?
    pub fn is_memory_bound(&self, cost: Cost) -> bool {
        self.gb_per_s * intensity(cost) < self.peak()
    }

    /// How near work that took `seconds` comes to the roof, in percent. Above 100 where data stay in a cache,
    /// or where fewer operations give the same result (Winograd).
    pub fn percent(&self, cost: Cost, seconds: f64) -> f64 {
        let ideal = match cost.flops {
            0 => cost.bytes as f64 / self.gb_per_s,
            flops => flops as f64 / self.attainable(cost),
        };
        100.0 * ideal / 1e9 / seconds
    }
}

impl fmt::Display for Roof {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (copies, gflops) = (self.gb_per_s, self.gflops);
        write!(
            f,
            "copies {copies:.1} GB/s, f32 multiply-adds {gflops:.0} GFLOP/s"
        )?;
        if let Some(gflops) = self.matrix_gflops {
            write!(f, ", matrix units {gflops:.0} GFLOP/s")?;
        }
        match self.estimated {
            true => write!(f, " (estimated)"),
            false => Ok(()),
        }
    }
}

/// Products of matrices that stay in registers: 10⁹ operations a second.
fn of_matrices(gpu: &Arc<Gpu>, timestamps: bool) -> Result<Option<f64>> {
    let Some(side) = gpu.report().matrix_side(gpu.is_half()) else {
        return Ok(None);
    };
    let area = side * side;
    // Numbers of any kind: a unit that multiplies zeros runs cooler.
    let source: Vec<f32> = (0..6 * area)
        .map(|i| (i * 37 % 64) as f32 / 64.0 - 0.5)
        .collect();
    let source = gpu.upload(&source)?;
    let sums = WORKGROUPS * SUBGROUPS * PRODUCTS * area;
    let sums = gpu.alloc_f32(sums as usize)?;
    let launch = |rounds| {
        let params = Params {
            count: WORKGROUPS,
            rounds,
        };
        let pass = gpu.pass("roof/matrix", MATRICES);
        let pass = pass.constant("THREADS", (SUBGROUPS * gpu.lanes()).into());
        let pass = pass.read(&source).write(&sums).params(&params);
        timed(gpu, timestamps, || pass.groups([WORKGROUPS, 1, 1]))
    };
    let rounds = enough_rounds(64, launch)?;
    let (time, _) = best(|| launch(rounds))?;
    let products = u64::from(WORKGROUPS * SUBGROUPS * PRODUCTS) * u64::from(rounds);
    Ok(Some(rate(2 * products * u64::from(area * side), time)))
}

/// What one launch takes, and whether that is by the host's clock.
fn timed(
    gpu: &Gpu,
    timestamps: bool,
    launch: impl FnOnce() -> Result<()>,
) -> Result<(Duration, bool)> {
    gpu.wait()?;
    gpu.start_timing(timestamps);
    launch()?;
    let timings = gpu.stop_timing()?;
    Ok((timings.launches[0].time, timings.estimated))
}

/// From `least` on, twice as many until they take long enough. Each number twice: the first launch of all can
/// take long for reasons of its own.
fn enough_rounds(least: u32, launch: impl Fn(u32) -> Result<(Duration, bool)>) -> Result<u32> {
    let mut rounds = least;
    while rounds < 1 << 14 && launch(rounds)?.min(launch(rounds)?).0 < LONG_ENOUGH {
        rounds *= 2;
    }
    Ok(rounds)
}

/// Operations per byte.
pub fn intensity(cost: Cost) -> f64 {
    cost.flops as f64 / cost.bytes.max(1) as f64
}

/// Does this device tell the time? Some GPU drivers offer timestamps and return zeros; on the CPU the host's
/// clock is the device's.
///
/// # Errors
/// As the device.
pub fn tells_time(device: &Device) -> Result<bool> {
    let Device::Gpu(gpu) = device else {
        return Ok(true);
    };
    let buffer = gpu.upload_f32(&[0.0; 4096])?;
    let to = gpu.alloc_f32(4096)?;
    gpu.start_timing(true);
    let params = Params {
        count: 1024,
        rounds: 1,
    };
    let pass = gpu.pass("roof", SHADER).entry("copy");
    pass.read(&buffer).write(&to).params(&params).run(1024)?;
    let timings = gpu.stop_timing()?;
    Ok(!timings.estimated && timings.launches.iter().any(|l| !l.time.is_zero()))
}

/// Repeats for [`WARM_UP`].
fn best<T: Ord>(mut run: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let mut best = run()?;
    let mut runs = 1;
    while runs < RUNS || start.elapsed() < WARM_UP {
        best = best.min(run()?);
        runs += 1;
    }
    Ok(best)
}

fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_nanos().max(1) as f64
}

//! Recordings summed up by kernel and shape: the file that is kept and compared, and its CSV.

use super::{Recording, Roof, intensity};
use crate::kernel::Cost;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What `astray profile --json` writes. Times are seconds, sizes bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Profile {
    pub program: String,
    /// What ran, in words; profiles of different jobs are not compared.
    pub job: String,
    pub device: String,
    pub threads: usize,
    /// Computed in f16. Files of older versions do not say, and their roof is f32's all the same.
    #[serde(default)]
    pub half: bool,
    /// GPU times by the host's clock: too long by the way there and back.
    pub estimated: bool,
    pub roof: Roof,
    /// Wall time of each round.
    pub wall: Vec<f64>,
    /// Time in kernels, all rounds.
    pub kernel_seconds: f64,
    /// The part of the wall time that kernels explain, 0 to 1.
    pub explained: f64,
    /// The most that the GPU's pool had given out at one time.
    pub peak_device_bytes: Option<u64>,
    /// The most memory of the process that was resident, where the system tells.
    pub peak_resident_bytes: Option<u64>,
    /// Launches outside of any kernel's span: a mistake in an operator.
    pub stray_launches: usize,
    /// The longest first.
    pub kernels: Vec<Kernel>,
    pub steps: Vec<StepTotal>,
}

/// All calls of one kernel with one set of shapes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kernel {
    pub op: String,
    pub entry: String,
    pub shapes: String,
    /// The way it took, where there are several.
    pub variant: String,
    pub calls: usize,
    /// On the GPU, all calls together; 0 on the CPU.
    pub launches: usize,
    pub seconds: f64,
    /// Of the time in kernels, 0 to 1.
    pub share: f64,
    /// Of one call.
    pub flops: f64,
    /// Of one call, each read or written once.
    pub bytes: f64,
    pub gflops: f64,
    pub gb_per_s: f64,
    /// Operations per byte.
    pub intensity: f64,
    pub percent_of_roof: f64,
    /// `memory` or `arithmetic`: which part of the roof is above it.
    pub bound: String,
    /// One for each round: what a comparison needs to know of the calls' times.
    pub rounds: Vec<Sample>,
}

/// The calls of one round: their number, mean and variance of the logarithm of their seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub calls: usize,
    pub mean_ln: f64,
    pub var_ln: f64,
}

/// Work that is no kernel, all rounds together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StepTotal {
    pub name: String,
    pub calls: usize,
    pub seconds: f64,
    /// Without kernels and steps inside.
    pub own_seconds: f64,
}

/// What a profile tells beside the times.
#[derive(Clone, Debug)]
pub struct About {
    pub job: String,
    pub device: String,
    pub half: bool,
    pub roof: Roof,
    pub peak_device_bytes: Option<u64>,
    pub peak_resident_bytes: Option<u64>,
}

#[derive(Default)]
struct Sum {
    variants: Vec<String>,
    launches: usize,
    cost: Cost,
    /// Seconds of each call, by round.
    times: Vec<Vec<f64>>,
}

impl Profile {
    pub fn new(rounds: &[Recording], about: About) -> Self {
        let mut sums: BTreeMap<[&str; 3], Sum> = BTreeMap::new();
        for (round, recording) in rounds.iter().enumerate() {
            for call in &recording.calls {
                let key = [&*call.op, &*call.entry, &*call.shapes];
                let sum = sums.entry(key).or_default();
                let variant = call.variant();
                if !variant.is_empty() && !sum.variants.contains(&variant) {
                    sum.variants.push(variant);
                }
                sum.launches += call.launches.len();
                sum.cost = sum.cost + call.cost;
                sum.times.resize(rounds.len(), Vec::new());
                sum.times[round].push(call.time().as_secs_f64());
            }
        }
        let seconds = |sum: &Sum| sum.times.iter().flatten().sum::<f64>();
        let kernel_seconds: f64 = sums.values().map(seconds).sum();
        let wall: Vec<f64> = rounds.iter().map(|r| r.wall.as_secs_f64()).collect();
        let mut kernels: Vec<Kernel> = sums
            .into_iter()
            .map(|([op, entry, shapes], sum)| Kernel {
                op: op.into(),
                entry: entry.into(),
                shapes: shapes.into(),
                ..sum.kernel(kernel_seconds, &about.roof)
            })
            .collect();
        kernels.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Self {
            program: concat!("astray ", env!("CARGO_PKG_VERSION")).into(),
            job: about.job,
            device: about.device,
            threads: rayon::current_num_threads(),
            half: about.half,
            estimated: rounds.iter().any(|r| r.estimated),
            roof: about.roof,
            explained: kernel_seconds / wall.iter().sum::<f64>().max(f64::MIN_POSITIVE),
            wall,
            kernel_seconds,
            peak_device_bytes: about.peak_device_bytes,
            peak_resident_bytes: about.peak_resident_bytes,
            stray_launches: rounds.iter().map(|r| r.strays.len()).sum(),
            kernels,
            steps: steps(rounds),
        }
    }

    /// Reads what `--json` wrote.
    ///
    /// # Errors
    /// A file that is missing or no profile.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        let wrong = |e| {
            Error::file(
                path,
                format!("no profile from `astray profile --json`: {e}"),
            )
        };
        serde_json::from_slice(&text).map_err(wrong)
    }

    /// One line for each kernel.
    pub fn to_csv(&self) -> String {
        let mut csv = String::from(
            "op,entry,shapes,variant,calls,launches,seconds,share,gflops,gb_per_s,intensity,\
             percent_of_roof,bound,estimated\n",
        );
        for k in &self.kernels {
            let numbers = [
                k.seconds,
                k.share,
                k.gflops,
                k.gb_per_s,
                k.intensity,
                k.percent_of_roof,
            ];
            let fields = [&k.op, &k.entry, &k.shapes, &k.variant].map(|text| quoted(text));
            let numbers = numbers.map(|n| format!("{n:.6e}"));
            let counts = format!("{},{}", k.calls, k.launches);
            csv += &format!(
                "{},{counts},{},{},{}\n",
                fields.join(","),
                numbers.join(","),
                k.bound,
                self.estimated
            );
        }
        csv
    }
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    }
}

impl Sum {
    fn kernel(&self, all: f64, roof: &Roof) -> Kernel {
        let calls: usize = self.times.iter().map(Vec::len).sum();
        let seconds: f64 = self.times.iter().flatten().sum();
        let rate = |count: u64| count as f64 / seconds.max(f64::MIN_POSITIVE) / 1e9;
        let per_call = |count: u64| count as f64 / calls as f64;
        Kernel {
            variant: self.variants.join(" | "),
            calls,
            launches: self.launches,
            seconds,
            share: seconds / all.max(f64::MIN_POSITIVE),
            flops: per_call(self.cost.flops),
            bytes: per_call(self.cost.bytes),
            gflops: rate(self.cost.flops),
            gb_per_s: rate(self.cost.bytes),
            intensity: intensity(self.cost),
            percent_of_roof: roof.percent(self.cost, seconds.max(f64::MIN_POSITIVE)),
            bound: match roof.is_memory_bound(self.cost) {
                true => "memory".into(),
                false => "arithmetic".into(),
            },
            rounds: self.times.iter().map(|times| Sample::of(times)).collect(),
            ..Kernel::default()
        }
    }
}

impl Sample {
    pub fn of(seconds: &[f64]) -> Self {
        // A clock that did not move says: shorter than a nanosecond.
        let logs: Vec<f64> = seconds.iter().map(|s| s.max(1e-9).ln()).collect();
        let n = logs.len().max(1) as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let squares: f64 = logs.iter().map(|l| (l - mean).powi(2)).sum();
        Self {
            calls: logs.len(),
            mean_ln: mean,
            var_ln: squares / (n - 1.0).max(1.0),
        }
    }
}

fn steps(rounds: &[Recording]) -> Vec<StepTotal> {
    let mut totals: BTreeMap<&str, StepTotal> = BTreeMap::new();
    for step in rounds.iter().flat_map(|r| &r.steps) {
        let total = totals.entry(&step.name).or_default();
        total.name.clone_from(&step.name);
        total.calls += 1;
        total.seconds += step.at.time.as_secs_f64();
        total.own_seconds += step.own.as_secs_f64();
    }
    let mut totals: Vec<StepTotal> = totals.into_values().collect();
    totals.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    totals
}

/// Lets [`peak_resident_bytes`] start anew, where the system can (Linux: see proc(5), `clear_refs`).
pub fn forget_peak_resident() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory of this process that was resident, where `/proc` tells.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kilobytes)
}

//! Repeated runs of one piece of work: the first, the usual and the slow ones.

use super::record::record;
use super::roof::Roof;
use crate::Result;
use crate::kernel::Cost;
use crate::tensor::Device;
use serde::Serialize;
use std::time::{Duration, Instant};

/// More runs tell nothing new.
const MOST: usize = 1000;

/// Work that can be run again and again, reading its result back where that is part of it.
pub type Work<'a> = Box<dyn FnMut() -> Result<()> + 'a>;

/// What `astray bench --json` lists, an object for each case and batch size.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub name: String,
    /// `operator` or `model`
    pub kind: &'static str,
    /// `cpu`, or the adapter's name
    pub device: String,
    pub batch: usize,
    /// Of the inputs, as in `1x24x24x64 64`
    pub shape: String,
    /// The first run: pipelines that no case before it used are compiled, memory is touched for the first time. As
    /// cold as a fresh process where it is the only case; what a driver keeps on disk it keeps
    pub cold_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub runs: usize,
    /// Pictures (or calls, where the batch is 1) a second, by the median
    pub per_second: f64,
    /// Operations of all kernels, 10⁹ a second, by the median
    pub gflops: f64,
    /// Bytes of all kernels, 10⁹ a second, by the median
    pub gb_per_s: f64,
    /// Of what the device can do at this intensity; see `roof`
    pub percent_of_roof: f64,
}

/// What is measured.
pub struct Case<'a> {
    pub name: String,
    pub kind: &'static str,
    pub batch: usize,
    pub shape: String,
    pub work: Work<'a>,
}

/// Runs a case for `time`, at least three times, and once more to count its operations.
///
/// # Errors
/// Those of the work.
pub fn measure(mut case: Case, device: &Device, roof: &Roof, time: Duration) -> Result<Measured> {
    let mut once = || -> Result<f64> {
        let start = Instant::now();
        (case.work)()?;
        device.wait()?;
        Ok(1e3 * start.elapsed().as_secs_f64())
    };
    let cold_ms = once()?;
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || (start.elapsed() < time && times.len() < MOST) {
        times.push(once()?);
    }
    times.sort_by(f64::total_cmp);
    let ((), recording) = record(device, true, &mut case.work)?;
    let costs = recording.calls.iter().map(|call| call.cost);
    let cost = costs.fold(Cost::default(), |sum, cost| sum + cost);
    let p50_ms = quantile(&times, 0.5);
    Ok(Measured {
        name: case.name,
        kind: case.kind,
        device: device.name().to_string(),
        batch: case.batch,
        shape: case.shape,
        cold_ms,
        p50_ms,
        p99_ms: quantile(&times, 0.99),
        runs: times.len(),
        per_second: 1e3 * case.batch as f64 / p50_ms,
        gflops: cost.flops as f64 / p50_ms / 1e6,
        gb_per_s: cost.bytes as f64 / p50_ms / 1e6,
        percent_of_roof: ideal_seconds(&recording, roof) / p50_ms * 1e5,
    })
}

/// What the kernels would take at the roof, one by one.
fn ideal_seconds(recording: &super::Recording, roof: &Roof) -> f64 {
    let ideal = |call: &super::Call| roof.percent(call.cost, 1.0) / 100.0;
    recording
        .calls
        .iter()
        .map(ideal)
        .fold(0.0, |sum, s| sum + s)
}

/// Of sorted values, between neighbours.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

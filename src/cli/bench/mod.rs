//! `astray bench`: operators and whole models, timed on one device.

mod models;
mod operators;

use super::args::Bench;
use super::{device, output, print};
use crate::files::write_atomic;
use crate::profile::{Case, Measured, Roof, measure, tells_time};
use crate::tensor::Device;
use crate::{Error, Result};
use comfy_table::{CellAlignment, Table, presets};
use std::time::Duration;

/// A case that is made only when its turn has come: models are large.
struct Plan {
    name: String,
    kind: &'static str,
    batch: usize,
    make: Make,
}

/// Makes a case of this batch size.
type Make = Box<dyn Fn(&Device, usize) -> Result<Made>>;

/// The shapes of the inputs, and what is run.
struct Made {
    shape: String,
    work: crate::profile::Work<'static>,
}

pub fn run(args: &Bench) -> Result<u8> {
    if let Some(file) = &args.json {
        output::check_file("--json", file)?;
    }
    let plans = wanted(args)?;
    let device = device::open_to_score(&args.device, args.precision.value, false)?;
    let roof = Roof::measure(&device, tells_time(&device)?)?;
    let bar = super::progress::Progress::new("bench", plans.len());
    let time = Duration::from_secs_f64(args.seconds);
    let mut found = Vec::new();
    for plan in plans {
        bar.set_message(plan.name.clone());
        let made = (plan.make)(&device, plan.batch)?;
        let case = Case {
            name: plan.name,
            kind: plan.kind,
            batch: plan.batch,
            shape: made.shape,
            work: made.work,
        };
        found.push(measure(case, &device, &roof, time)?);
        bar.inc();
    }
    bar.finish();
    if let Some(file) = &args.json {
        write_atomic(file, super::json(&found)?.as_bytes())?;
    }
    print(&format!("{}: {roof}", device.name()))?;
    if let Some(note) = roof.note(device.is_half()) {
        print(&format!("note: {note}"))?;
    }
    print(&table(&found))?;
    Ok(0)
}

fn wanted(args: &Bench) -> Result<Vec<Plan>> {
    let mut plans = models::plans(&args.batch);
    plans.extend(operators::plans(&args.batch, args.repack));
    let Some(filter) = &args.filter else {
        return Ok(plans);
    };
    let names: Vec<String> = plans.iter().map(|plan| plan.name.clone()).collect();
    // `student` means the model of that name, and not `student-step` as well.
    match names.contains(filter) {
        true => plans.retain(|plan| plan.name == *filter),
        false => plans.retain(|plan| plan.name.contains(filter.as_str())),
    }
    if plans.is_empty() {
        return Err(Error::usage(format!(
            "{filter}: no case has this in its name; there are, among others, {}",
            names[..names.len().min(12)].join(", ")
        )));
    }
    Ok(plans)
}

fn table(found: &[Measured]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "case", "batch", "shape", "cold ms", "p50 ms", "p99 ms", "/s", "GFLOP/s", "GB/s", "% roof",
    ]);
    for m in found {
        table.add_row([
            m.name.clone(),
            m.batch.to_string(),
            m.shape.clone(),
            format!("{:.3}", m.cold_ms),
            format!("{:.3}", m.p50_ms),
            format!("{:.3}", m.p99_ms),
            format!("{:.1}", m.per_second),
            format!("{:.1}", m.gflops),
            format!("{:.1}", m.gb_per_s),
            format!("{:.0}", m.percent_of_roof),
        ]);
    }
    for column in [1, 3, 4, 5, 6, 7, 8, 9] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

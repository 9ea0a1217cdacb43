//! `astray devices`: what can compute here, and what `--device auto` takes.

use super::args::{DeviceChoice, Devices};
use super::device::select;
use super::print;
use crate::Result;
use crate::cpu::isa::Isa;
use crate::gpu::{self, AdapterReport};
use comfy_table::{Table, presets};
use serde::Serialize;

#[derive(Serialize)]
struct Report {
    cpu: Cpu,
    adapters: Vec<AdapterReport>,
    chosen: Chosen,
}

#[derive(Serialize)]
struct Cpu {
    cores: usize,
    simd: &'static str,
}

/// What `--device auto` takes.
#[derive(Serialize)]
struct Chosen {
    /// "cpu", or the adapter's name.
    name: String,
    /// The adapter's number.
    index: Option<usize>,
    why: &'static str,
}

pub fn run(args: &Devices) -> Result<u8> {
    let adapters = gpu::adapters();
    let report = Report {
        cpu: Cpu {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            simd: Isa::get().name(),
        },
        chosen: chosen(&adapters)?,
        adapters,
    };
    if args.json {
        print(&super::json(&report)?)?;
    } else {
        print(&text(&report))?;
    }
    Ok(0)
}

fn chosen(adapters: &[AdapterReport]) -> Result<Chosen> {
    let hardware = adapters.iter().filter(|a| a.hardware).count();
    Ok(match select(&DeviceChoice::Auto, adapters)? {
        Some(adapter) => Chosen {
            name: adapter.name.clone(),
            index: Some(adapter.index),
            why: match hardware {
                1 => "it is the only hardware GPU",
                _ => "it is the first hardware GPU, discrete before integrated",
            },
        },
        None => Chosen {
            name: "cpu".into(),
            index: None,
            why: match adapters.len() {
                0 => "there is no GPU",
                _ => "there is no hardware GPU, and software adapters are slower than the CPU",
            },
        },
    })
}

fn text(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["--device", "Name", "Kind", "Backend", "Supports"]);
    let cpu = &report.cpu;
    table.add_row([
        "cpu".to_string(),
        "cpu".into(),
        "Cpu".into(),
        "native".into(),
        format!("{} cores\n{}", cpu.cores, cpu.simd),
    ]);
    for adapter in &report.adapters {
        table.add_row([
            adapter.index.to_string(),
            adapter.name.clone(),
            match adapter.hardware {
                true => adapter.kind.clone(),
                false => "software".into(),
            },
            format!("{}\n{}", adapter.backend, adapter.driver),
            supports(adapter),
        ]);
    }
    let Chosen { name, index, why } = &report.chosen;
    let index = index.map_or(String::new(), |i| format!(" (number {i})"));
    format!("{table}\n--device auto: {name}{index}: {why}")
}

fn supports(adapter: &AdapterReport) -> String {
    let mut list = Vec::new();
    let mut flag = |is: bool, name: &str| list.extend(is.then(|| name.to_string()));
    flag(adapter.f16, "f16");
    flag(adapter.timestamps, "timestamps");
    flag(adapter.immediates, "immediates");
    if let Some([min, max]) = adapter.subgroups {
        list.push(match min == max {
            true => format!("subgroups of {min}"),
            false => format!("subgroups of {min} to {max}"),
        });
    }
    let matrices = adapter.cooperative_matrices.iter();
    list.extend(matrices.map(|m| format!("matrix {m}")));
    list.push(format!(
        "bindings to {} MiB",
        adapter.max_binding_bytes >> 20
    ));
    list.push(format!(
        "{} KiB workgroup memory",
        adapter.max_workgroup_bytes >> 10
    ));
    list.join("\n")
}

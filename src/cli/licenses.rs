//! `astray licenses`: what the program contains, and on what terms.

use super::args::Licenses;
use crate::Result;
use crate::weights::shipped::{Shipped, held};
use std::fmt::Write;

/// Made by `tools/licenses.py`: name, version, licence, and the systems whose program it is linked into.
const CRATES: &str = include_str!("licenses/crates.txt");
const OWN: &str = include_str!("../../LICENSE");
const LICENCE: &str = env!("CARGO_PKG_LICENSE");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A crate that is linked into this program.
struct Linked {
    name: &'static str,
    version: &'static str,
    licence: &'static str,
}

pub fn run(args: &Licenses) -> Result<u8> {
    let text = match args.json {
        true => super::json(&object())?,
        false => text(),
    };
    super::print(text.trim_end())?;
    Ok(0)
}

/// Systems that were not asked about are taken for Linux, whose crates they mostly have.
fn linked() -> impl Iterator<Item = Linked> {
    let system = match std::env::consts::OS {
        known @ ("macos" | "windows") => known,
        _ => "linux",
    };
    CRATES.lines().filter_map(move |line| {
        let mut cells = line.split('\t');
        let linked = Linked {
            name: cells.next()?,
            version: cells.next()?,
            licence: cells.next()?,
        };
        let systems = cells.next()?;
        systems
            .split(' ')
            .any(|known| known == system)
            .then_some(linked)
    })
}

fn object() -> serde_json::Value {
    let weights = |shipped: &Shipped| {
        serde_json::json!({
            "name": shipped.name, "network": shipped.network, "last_block": shipped.last,
            "trained_on": shipped.training, "licence": shipped.licence, "origin": shipped.origin,
            "sha256": shipped.sha256, "bytes": shipped.bytes.map(<[u8]>::len),
            "text": shipped.licence_text,
        })
    };
    let linked = |linked: Linked| {
        serde_json::json!({
            "name": linked.name, "version": linked.version, "licence": linked.licence,
        })
    };
    serde_json::json!({
        "program": {"name": "astray", "version": VERSION, "licence": LICENCE, "text": OWN},
        "weights": held().map(weights).collect::<Vec<_>>(),
        "crates": self::linked().map(linked).collect::<Vec<_>>(),
    })
}

fn text() -> String {
    let mut text = format!("astray {VERSION}: {LICENCE}\n\n{OWN}\n");
    if held().next().is_none() {
        text += "Weights: this program contains none (it was built without cargo's feature `shipped-weights`).\n\n";
    }
    for shipped in held() {
        let Shipped {
            name,
            network,
            last,
            licence,
            origin,
            ..
        } = shipped;
        let (training, sha256) = (shipped.training, shipped.sha256);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "Weights {name}: {licence}\n\
             blocks 0 to {last} of {network}, trained on {training}\n\
             origin: {origin}\n\
             sha256 of the file: {sha256}\n"
        );
        match shipped.licence_text == OWN {
            true => text += "The licence is astray's, see above.\n\n",
            false => _ = writeln!(text, "{}", shipped.licence_text),
        }
    }
    text += "Crates that are linked into the program, beside Rust's standard library (MIT OR Apache-2.0); their \
             texts are in the packages, which `cargo vendor` fetches:\n\n";
    let width = |part: fn(&Linked) -> &'static str| {
        let lengths = linked().map(|l| part(&l).len());
        lengths.max().unwrap_or_default()
    };
    let (name, version) = (width(|l| l.name), width(|l| l.version));
    for linked in linked() {
        let _ = writeln!(
            text,
            "{:name$}  {:version$}  {}",
            linked.name, linked.version, linked.licence
        );
    }
    text
}

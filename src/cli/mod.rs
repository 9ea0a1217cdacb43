//! The command line: each command is a file with `run(&args) -> Result<exit status>`.

pub mod args;
mod backbone;
mod bench;
mod calibrate;
mod config;
mod data;
mod demo;
pub mod device;
mod devices;
pub mod draw;
mod evaluate;
mod job;
mod licenses;
mod lists;
mod output;
mod pictures;
mod predict;
mod profile;
mod progress;
mod selftest;
mod threshold;
mod train;
mod weights;

use crate::cpu::isa::Isa;
use crate::detector::Detector;
use crate::weights::Source;
use crate::{Error, Result};
use args::{Cli, Command, DataJob};
use clap::Parser;
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Parses the arguments of this process and runs the command. Wrong arguments and `--help` end the
/// process here (status 2 and 0).
///
/// # Errors
/// Those of the command; [`Error::exit_code`] says with what status to end.
pub fn run() -> Result<u8> {
    let command = Cli::parse().command;
    Isa::check()?;
    if !matches!(command, Command::Profile(_)) {
        log_to_stderr(); // the profiler subscribes itself beside the logger
    }
    match command {
        Command::Config(args) => config::run(&args),
        Command::Data(args) => match args.job {
            DataJob::Check(args) => data::run(&args),
        },
        Command::Weights(args) => weights::run(&args.job),
        Command::Licenses(args) => licenses::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Threshold(args) => threshold::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}

/// `RUST_LOG` says what is logged; our warnings and others' errors where it is not set.
fn logger<S>() -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(wanted) if !wanted.is_empty() => EnvFilter::new(wanted),
        _ => EnvFilter::new("error,astray=warn"),
    };
    let logger = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false);
    logger.with_filter(filter)
}

fn log_to_stderr() {
    // Fails only where a logger is there already: then that one serves.
    let _ = tracing_subscriber::registry().with(logger()).try_init();
}

/// Writes lines to standard output. A reader that has read enough (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    is_printed(text).map(|_| ())
}

/// As [`print()`]; does anybody read?
fn is_printed(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::failed(format!("standard output: {error}"))),
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::failed(format!("JSON: {e}")))
}

/// `--weights` beside a model, which holds its backbone: they must be those it was trained with.
fn check_weights(detector: &Detector, weights: Option<&Path>) -> Result<()> {
    let Some(path) = weights else { return Ok(()) };
    let found = match Source::of(weights) {
        Source::Seeded if detector.extractor.is_seeded() => return Ok(()),
        Source::Seeded => "random".into(),
        _ => format!("sha256 {}", crate::weights::read(path)?.sha256),
    };
    if found.strip_prefix("sha256 ") == Some(detector.extractor.origin()) {
        return Ok(());
    }
    let origin = backbone::named(&detector.extractor);
    let message = format!("{found}, but the model was trained with {origin}");
    Err(Error::file(path, message))
}

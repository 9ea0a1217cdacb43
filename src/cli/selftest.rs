//! `astray selftest`: every operator on one device against plain loops in f64.

use super::args::Selftest;
use super::{device, print};
use crate::selftest::{Case, Outcome, cases, check};
use crate::{Error, Result};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

#[derive(Serialize)]
struct Report {
    device: String,
    /// Are activations and weights f16?
    half: bool,
    seed: u64,
    passed: bool,
    operators: Vec<Summary>,
    /// Every case; errors that are not a number are null.
    cases: Vec<Outcome>,
}

/// All cases of one operator.
#[derive(Serialize)]
struct Summary {
    operator: &'static str,
    cases: usize,
    failed: usize,
    /// The worst relative error of an output.
    forward: f64,
    /// The worst relative error of a gradient, `None` where nothing is differentiated.
    gradient: Option<f64>,
    tolerance: f64,
}

/// Exit status 1 when a case fails.
pub fn run(args: &Selftest) -> Result<u8> {
    let cases = wanted(cases(), args.operator.as_deref())?;
    // Poisoned: an element that a kernel forgets to write is NaN, and NaN never passes.
    let device = device::open_to_score(&args.device, args.precision.value, true)?;
    let bar = ProgressBar::new(cases.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let mut outcomes = Vec::with_capacity(cases.len());
    for case in &cases {
        bar.set_message(case.operator);
        outcomes.push(check(case, &device, args.seed));
        bar.inc(1);
    }
    bar.finish_and_clear();

    let report = Report {
        device: device.name().to_string(),
        half: device.is_half(),
        seed: args.seed,
        passed: outcomes.iter().all(Outcome::passed),
        operators: summaries(&outcomes),
        cases: outcomes,
    };
    if args.json {
        print(&super::json(&report)?)?;
    } else {
        print(&text(&report))?;
    }
    Ok(u8::from(!report.passed))
}

fn wanted(all: Vec<Case>, operator: Option<&str>) -> Result<Vec<Case>> {
    let Some(operator) = operator else {
        return Ok(all);
    };
    let mut names: Vec<&str> = all.iter().map(|case| case.operator).collect();
    names.dedup();
    if !names.contains(&operator) {
        return Err(Error::usage(format!(
            "--operator: there is no operator \"{operator}\"; expected one of {}",
            names.join(", ")
        )));
    }
    let of_it = all.into_iter().filter(|case| case.operator == operator);
    Ok(of_it.collect())
}

/// In the order of first appearance.
fn summaries(outcomes: &[Outcome]) -> Vec<Summary> {
    let mut list: Vec<Summary> = Vec::new();
    for outcome in outcomes {
        let at = list.iter().position(|s| s.operator == outcome.operator);
        let at = at.unwrap_or_else(|| {
            list.push(Summary {
                operator: outcome.operator,
                cases: 0,
                failed: 0,
                forward: 0.0,
                gradient: None,
                tolerance: outcome.tolerance,
            });
            list.len() - 1
        });
        let summary = &mut list[at];
        summary.cases += 1;
        summary.failed += usize::from(!outcome.passed());
        summary.forward = worse(summary.forward, outcome.forward);
        if let Some(gradient) = outcome.gradient {
            summary.gradient = Some(worse(summary.gradient.unwrap_or(0.0), gradient));
        }
    }
    list
}

/// NaN, which `f64::max` would drop, is the worst.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    a.max(b)
}

fn text(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "Operator",
        "Cases",
        "Worst forward error",
        "Worst gradient error",
        "Tolerance",
        "Verdict",
    ]);
    for summary in &report.operators {
        table.add_row([
            summary.operator.to_string(),
            summary.cases.to_string(),
            format!("{:.1e}", summary.forward),
            gradient(summary.gradient),
            format!("{:.0e}", summary.tolerance),
            match summary.failed {
                0 => "passed".into(),
                failed => format!("{failed} FAILED"),
            },
        ]);
    }
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut lines = vec![table.to_string()];
    let failed: Vec<_> = report.cases.iter().filter(|c| !c.passed()).collect();
    for case in &failed {
        let what = match &case.error {
            Some(error) => error.clone(),
            None => format!(
                "forward {:.1e}, gradient {}, tolerance {:.0e}",
                case.forward,
                gradient(case.gradient),
                case.tolerance
            ),
        };
        lines.push(format!("FAILED {} {}: {what}", case.operator, case.case));
    }
    let all = report.cases.len();
    lines.push(match failed.len() {
        0 => format!("{}: all {all} cases passed", report.device),
        failed => format!("{}: {failed} of {all} cases failed", report.device),
    });
    lines.join("\n")
}

fn gradient(error: Option<f64>) -> String {
    error.map_or("-".into(), |e| format!("{e:.1e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(operator: &'static str, forward: f64, gradient: Option<f64>) -> Outcome {
        Outcome {
            operator,
            case: format!("{forward}"),
            forward,
            gradient,
            tolerance: 1e-5,
            error: None,
        }
    }

    #[test]
    fn a_summary_holds_the_worst_case_and_nan_is_worst() {
        let list = summaries(&[
            outcome("add", 1e-7, None),
            outcome("conv2d", f64::NAN, Some(1e-6)),
            outcome("conv2d", 1e-6, Some(1e-3)),
            outcome("add", 1e-6, None),
        ]);
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].cases, list[0].failed), (2, 0));
        assert_eq!((list[0].forward, list[0].gradient), (1e-6, None));
        assert_eq!((list[1].cases, list[1].failed), (2, 2));
        assert!(list[1].forward.is_nan());
        assert_eq!(list[1].gradient, Some(1e-3));
    }

    #[test]
    fn failing_cases_are_listed() {
        let outcomes = vec![
            outcome("add", 1e-7, None),
            outcome("add", 0.5, Some(f64::NAN)),
        ];
        let report = Report {
            device: "cpu".into(),
            half: false,
            seed: 0,
            passed: false,
            operators: summaries(&outcomes),
            cases: outcomes,
        };
        let text = text(&report);
        assert!(
            text.contains("FAILED add 0.5: forward 5.0e-1, gradient NaN"),
            "{text}"
        );
        assert!(text.ends_with("cpu: 1 of 2 cases failed"), "{text}");
    }

    #[test]
    fn an_operator_can_be_picked_and_an_unknown_one_is_wrong_usage() {
        let picked = wanted(cases(), Some("coupling")).unwrap();
        assert!(!picked.is_empty() && picked.iter().all(|c| c.operator == "coupling"));
        let error = wanted(cases(), Some("conv3d")).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("conv2d"), "{error}");
    }
}

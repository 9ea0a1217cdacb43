//! Two profiles compared, kernel by kernel, with the confidence that their samples allow.

use super::{Kernel, Profile, Sample};
use serde::Serialize;

/// Student's t for 99 % of both sides, by degrees of freedom from 1.
const T_99: [f64; 30] = [
    63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012,
    2.977, 2.947, 2.921, 2.898, 2.878, 2.861, 2.845, 2.831, 2.819, 2.807, 2.797, 2.787, 2.779,
    2.771, 2.763, 2.756, 2.750,
];

/// The second profile's time over the first's.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    pub op: String,
    pub entry: String,
    pub shapes: String,
    /// Both, where they differ.
    pub variant: String,
    /// Seconds of one call, geometric means.
    pub before: f64,
    pub after: f64,
    pub ratio: f64,
    /// Of the ratio, 99 %; `None` where there are too few calls to tell.
    pub interval: Option<[f64; 2]>,
    /// Of the first profile's kernel time.
    pub share: f64,
}

impl Change {
    /// Slower by more than `percent`, with 99 % confidence?
    pub fn is_regression(&self, percent: f64) -> bool {
        self.interval
            .is_some_and(|[low, _]| low > 1.0 + percent / 100.0)
    }
}

/// Of whole profiles.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// Wall time of one round.
    pub wall: Change,
    /// Of all kernels of a round, those included that are in one profile only.
    pub together: Change,
    /// Those in both, the greatest share first.
    pub kernels: Vec<Change>,
    /// Those in one only, as `op entry shapes`.
    pub gone: Vec<String>,
    pub new: Vec<String>,
}

/// What forbids a comparison: another device, job, or way of taking the time.
pub fn mismatches(a: &Profile, b: &Profile) -> Vec<String> {
    let pairs = [
        ("device", &a.device, &b.device),
        ("job", &a.job, &b.job),
        ("threads", &a.threads.to_string(), &b.threads.to_string()),
        (
            "estimated",
            &a.estimated.to_string(),
            &b.estimated.to_string(),
        ),
    ];
    let differ = pairs.into_iter().filter(|(_, a, b)| a != b);
    differ
        .map(|(what, a, b)| format!("{what}: {a}, and {b}"))
        .collect()
}

pub fn diff(a: &Profile, b: &Profile) -> Diff {
    let find = |profile: &Profile, k: &Kernel| {
        let same = |other: &&Kernel| {
            (&other.op, &other.entry, &other.shapes) == (&k.op, &k.entry, &k.shapes)
        };
        profile.kernels.iter().find(same).cloned()
    };
    let missing = |from: &Profile, of: &Profile| {
        let missing = of.kernels.iter().filter(|k| find(from, k).is_none());
        missing
            .map(|k| format!("{} {} {}", k.op, k.entry, k.shapes))
            .collect()
    };
    let kernels = a.kernels.iter().filter_map(|before| {
        let after = find(b, before)?;
        let (ratio, interval) = ratio(&before.rounds, &after.rounds)?;
        Some(Change {
            variant: match before.variant == after.variant {
                true => before.variant.clone(),
                false => format!("{} → {}", before.variant, after.variant),
            },
            op: before.op.clone(),
            entry: before.entry.clone(),
            shapes: before.shapes.clone(),
            share: before.share,
            ..Change::of(&before.rounds, &after.rounds, ratio, interval)
        })
    });
    let whole = |name: &str, before: Vec<f64>, after: Vec<f64>| {
        let [before, after] = [before, after].map(|rounds| -> Vec<Sample> {
            rounds.into_iter().map(|s| Sample::of(&[s])).collect()
        });
        let (ratio, interval) = ratio(&before, &after).unwrap_or((f64::NAN, None));
        Change {
            op: name.into(),
            share: 1.0,
            ..Change::of(&before, &after, ratio, interval)
        }
    };
    Diff {
        kernels: kernels.collect(),
        gone: missing(b, a),
        new: missing(a, b),
        wall: whole("wall time", a.wall.clone(), b.wall.clone()),
        together: whole("all kernels", together(a), together(b)),
    }
}

/// Seconds of all kernels in each round, from the geometric means of their calls.
fn together(profile: &Profile) -> Vec<f64> {
    let of_round = |round: usize| {
        let samples = profile.kernels.iter().filter_map(|k| k.rounds.get(round));
        let ran = samples.filter(|s| s.calls > 0);
        ran.map(|s| s.calls as f64 * s.mean_ln.exp()).sum()
    };
    let rounds = (0..profile.wall.len()).map(of_round);
    rounds.filter(|&seconds: &f64| seconds > 0.0).collect()
}

impl Change {
    fn of(before: &[Sample], after: &[Sample], ratio: f64, interval: Option<[f64; 2]>) -> Self {
        Self {
            op: String::new(),
            entry: String::new(),
            shapes: String::new(),
            variant: String::new(),
            before: pooled(before).mean_ln.exp(),
            after: pooled(after).mean_ln.exp(),
            ratio,
            interval,
            share: 0.0,
        }
    }
}

/// Welch's interval for the difference of logarithms. Rounds are the samples where both sides have
/// three or more, for calls of one round are slow together; else the calls.
fn ratio(before: &[Sample], after: &[Sample]) -> Option<(f64, Option<[f64; 2]>)> {
    let ran = |samples: &[Sample]| -> Vec<Sample> {
        samples.iter().copied().filter(|s| s.calls > 0).collect()
    };
    let (before, after) = (ran(before), ran(after));
    if before.is_empty() || after.is_empty() {
        return None;
    }
    let by_round = before.len().min(after.len()) >= 3;
    let of = |samples: &[Sample]| match by_round {
        true => {
            let means: Vec<f64> = samples.iter().map(|s| s.mean_ln.exp()).collect();
            Sample::of(&means)
        }
        false => pooled(samples),
    };
    let (a, b) = (of(&before), of(&after));
    let difference = b.mean_ln - a.mean_ln;
    let interval =
        half_width(a, b).map(|half| [difference - half, difference + half].map(f64::exp));
    Some((difference.exp(), interval))
}

/// All calls together.
fn pooled(samples: &[Sample]) -> Sample {
    let calls: usize = samples.iter().map(|s| s.calls).sum();
    let n = calls.max(1) as f64;
    let mean = samples
        .iter()
        .map(|s| s.calls as f64 * s.mean_ln)
        .sum::<f64>()
        / n;
    let squares = samples.iter().map(|s| {
        let calls = s.calls as f64;
        (calls - 1.0).max(0.0) * s.var_ln + calls * (s.mean_ln - mean).powi(2)
    });
    Sample {
        calls,
        mean_ln: mean,
        var_ln: squares.sum::<f64>() / (n - 1.0).max(1.0),
    }
}

fn half_width(a: Sample, b: Sample) -> Option<f64> {
    if a.calls.min(b.calls) < 2 {
        return None;
    }
    let [(va, na), (vb, nb)] = [a, b].map(|s| (s.var_ln / s.calls as f64, s.calls as f64));
    let variance = va + vb;
    if variance == 0.0 {
        return Some(0.0);
    }
    let freedom = variance.powi(2) / (va.powi(2) / (na - 1.0) + vb.powi(2) / (nb - 1.0));
    Some(student_t(freedom) * variance.sqrt())
}

fn student_t(freedom: f64) -> f64 {
    match T_99.get((freedom.floor() as usize).max(1) - 1) {
        Some(&t) => t,
        None => 2.576 + 4.9 / freedom,
    }
}

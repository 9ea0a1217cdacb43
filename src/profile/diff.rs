//! Two profiles compared, kernel by kernel, with the confidence that their samples allow.

use super::welch::Welch;
use super::{Kernel, Profile, Sample};
use serde::Serialize;

/// Beyond each end of a 99 % interval, and for a verdict that is wrong.
const TAIL: f64 = 0.005;
/// So many rounds on both sides are the samples; of fewer too little is known.
const ROUNDS: usize = 3;

/// The second profile's time over the first's.
#[derive(Clone, Debug, Default, Serialize)]
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
    /// Of this ratio alone, 99 %; `None` where there are too few samples to tell.
    pub interval: Option<[f64; 2]>,
    /// What the interval comes from.
    pub samples: Samples,
    /// Of the first profile's kernel time.
    pub share: f64,
    /// Slower by more than is allowed: see [`Diff::judge`].
    pub regression: bool,
    #[serde(skip)]
    welch: Option<Welch>,
}

/// What was taken as independent of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Samples {
    /// `rounds`, or `calls` where there are fewer than three rounds: calls of one round are slow together, so
    /// their interval is too narrow.
    pub of: &'static str,
    pub before: usize,
    pub after: usize,
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

impl Diff {
    /// Kernels, all of them together, and the job.
    pub fn all(&self) -> impl Iterator<Item = &Change> {
        self.kernels.iter().chain([&self.together, &self.wall])
    }

    /// Marks what is slower by more than `percent`.
    ///
    /// Among many kernels some leave their interval by chance, so the verdicts are Holm's: the clearest must
    /// be so clear that it would do among all, the next among those that are left, and so on. With more than
    /// 99 % confidence none of those marked is a false alarm.
    pub fn judge(&mut self, percent: f64) {
        let limit = (1.0 + percent / 100.0).ln();
        let whole = [&mut self.together, &mut self.wall];
        let mut tested = Vec::new();
        for change in self.kernels.iter_mut().chain(whole) {
            change.regression = false;
            if let Some(welch) = change.welch {
                tested.push((welch.p_above(limit), change));
            }
        }
        tested.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut left = tested.len();
        for (p, change) in tested {
            if p > TAIL / left as f64 {
                break;
            }
            change.regression = true;
            left -= 1;
        }
    }
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
        Some(Change {
            variant: match before.variant == after.variant {
                true => before.variant.clone(),
                false => format!("{} → {}", before.variant, after.variant),
            },
            op: before.op.clone(),
            entry: before.entry.clone(),
            shapes: before.shapes.clone(),
            share: before.share,
            ..Change::of(&before.rounds, &after.rounds)?
        })
    });
    let whole = |name: &str, before: Vec<f64>, after: Vec<f64>| {
        let [before, after] = [before, after].map(|rounds| -> Vec<Sample> {
            rounds.into_iter().map(|s| Sample::of(&[s])).collect()
        });
        let unknown = Change {
            ratio: f64::NAN,
            ..Change::default()
        };
        Change {
            op: name.into(),
            share: 1.0,
            ..Change::of(&before, &after).unwrap_or(unknown)
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
    /// Without names and share; `None` where one side never ran. Rounds are the samples where there are
    /// enough of them, or where each has one call; else the calls.
    fn of(before: &[Sample], after: &[Sample]) -> Option<Self> {
        let ran = |samples: &[Sample]| -> Vec<Sample> {
            samples.iter().copied().filter(|s| s.calls > 0).collect()
        };
        let (before, after) = (ran(before), ran(after));
        if before.is_empty() || after.is_empty() {
            return None;
        }
        let enough = before.len().min(after.len()) >= ROUNDS;
        let by_round = enough || before.iter().chain(&after).all(|s| s.calls == 1);
        let of = |samples: &[Sample]| match by_round {
            true => {
                let means: Vec<f64> = samples.iter().map(|s| s.mean_ln.exp()).collect();
                Sample::of(&means)
            }
            false => pooled(samples),
        };
        let (a, b) = (of(&before), of(&after));
        let welch = Welch::new(a, b);
        Some(Self {
            before: pooled(&before).mean_ln.exp(),
            after: pooled(&after).mean_ln.exp(),
            ratio: (b.mean_ln - a.mean_ln).exp(),
            interval: welch.map(|welch| welch.interval(TAIL).map(f64::exp)),
            samples: Samples {
                of: if by_round { "rounds" } else { "calls" },
                before: a.calls,
                after: b.calls,
            },
            welch,
            ..Self::default()
        })
    }
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

#[cfg(test)]
mod tests {
    use super::super::Roof;
    use super::*;
    use crate::nn::random::Random;

    /// 100 kernels of a millisecond; the logarithms of a kernel's rounds differ by `noise`.
    fn profile(random: &mut Random, rounds: usize, noise: f64) -> Profile {
        let mut kernels = Vec::new();
        for i in 0..100 {
            let mut kernel = Kernel {
                op: format!("kernel {i}"),
                ..Kernel::default()
            };
            for _ in 0..rounds {
                kernel.rounds.push(Sample {
                    calls: 4,
                    mean_ln: 1e-3f64.ln() + noise * random.normal(),
                    var_ln: 1e-4,
                });
            }
            kernels.push(kernel);
        }
        Profile {
            program: String::new(),
            job: String::new(),
            device: String::new(),
            threads: 1,
            half: false,
            estimated: false,
            roof: Roof {
                gb_per_s: 1.0,
                gflops: 1.0,
                matrix_gflops: None,
                estimated: false,
            },
            wall: vec![1.0; rounds],
            kernel_seconds: 0.1,
            explained: 0.1,
            peak_device_bytes: None,
            peak_resident_bytes: None,
            stray_launches: 0,
            kernels,
            steps: Vec::new(),
        }
    }

    fn regressions(found: &Diff) -> Vec<&str> {
        let worse = found.all().filter(|change| change.regression);
        worse.map(|change| change.op.as_str()).collect()
    }

    #[test]
    fn noise_in_a_hundred_kernels_is_no_regression() {
        let mut random = Random::new(1);
        let mut by_chance = 0;
        for rounds in [3, 5, 3, 5, 3, 5, 3, 5, 3, 5] {
            let before = profile(&mut random, rounds, 0.1);
            let mut found = diff(&before, &profile(&mut random, rounds, 0.1));
            let slower = |c: &&Change| c.interval.is_some_and(|[low, _]| low > 1.0);
            by_chance += found.all().filter(slower).count();
            for percent in [5.0, 0.0] {
                found.judge(percent);
                assert!(regressions(&found).is_empty(), "{percent} %: {found:#?}");
            }
        }
        assert!(by_chance > 0, "a gate on each interval would stay open too");
    }

    #[test]
    fn one_kernel_of_a_hundred_that_takes_twice_as_long_is_found() {
        let mut random = Random::new(2);
        for noise in [0.01, 0.05] {
            let before = profile(&mut random, 5, noise);
            let mut after = profile(&mut random, 5, noise);
            for round in &mut after.kernels[17].rounds {
                round.mean_ln += 2.0f64.ln();
            }
            let mut found = diff(&before, &after);
            found.judge(5.0);
            assert_eq!(regressions(&found), ["kernel 17"]);
            found.judge(300.0);
            assert!(regressions(&found).is_empty());
        }
    }

    #[test]
    fn a_regression_lies_above_the_limit_with_its_whole_interval() {
        let mut random = Random::new(3);
        let before = profile(&mut random, 5, 0.03);
        let mut after = profile(&mut random, 5, 0.03);
        for (i, kernel) in after.kernels.iter_mut().enumerate() {
            for round in &mut kernel.rounds {
                round.mean_ln += 0.005 * i as f64;
            }
        }
        let mut found = diff(&before, &after);
        found.judge(5.0);
        let (marked, others): (Vec<&Change>, Vec<&Change>) =
            found.all().partition(|change| change.regression);
        let above = |c: &&Change| c.interval.is_some_and(|[low, _]| low > 1.05);
        assert!(!marked.is_empty() && marked.iter().all(above), "{found:#?}");
        assert!(
            others.iter().any(above),
            "clear alone, not among a hundred: {found:#?}"
        );
    }

    #[test]
    fn samples_are_rounds_where_there_are_enough() {
        let of = |calls: usize, rounds: usize| {
            let sample = Sample {
                calls,
                mean_ln: -7.0,
                var_ln: 0.0,
            };
            let rounds = vec![sample; rounds];
            let change = Change::of(&rounds, &rounds).unwrap();
            let Samples { of, before, .. } = change.samples;
            (of, before, change.interval.is_some())
        };
        assert_eq!(of(4, 3), ("rounds", 3, true));
        assert_eq!(of(4, 2), ("calls", 8, true));
        assert_eq!(of(4, 1), ("calls", 4, true));
        // A call in each: the same thing.
        assert_eq!(of(1, 2), ("rounds", 2, true));
        assert_eq!(of(1, 1), ("rounds", 1, false));
    }
}

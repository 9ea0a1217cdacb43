//! Welch's test: do two samples of unequal variance differ, and by how much?

use super::Sample;
use std::f64::consts::FRAC_PI_2;

/// Beyond so many degrees of freedom Student's t is the normal distribution for our purposes.
const MOST_FREEDOM: f64 = 1000.0;
/// Of an integral, an even number.
const STEPS: usize = 400;
/// Halvings of the range in which a quantile lies.
const HALVINGS: usize = 40;

/// The mean of one sample less that of the other, and how well it is known.
#[derive(Clone, Copy, Debug)]
pub struct Welch {
    difference: f64,
    /// The standard error of `difference`.
    error: f64,
    /// Degrees of freedom, from 1.
    freedom: f64,
}

impl Welch {
    /// `None` where a sample has fewer than two values: nothing is known of its variance.
    pub fn new(before: Sample, after: Sample) -> Option<Self> {
        if before.calls.min(after.calls) < 2 {
            return None;
        }
        let [(va, na), (vb, nb)] =
            [before, after].map(|s| (s.var_ln / s.calls as f64, s.calls as f64));
        let variance = va + vb;
        let freedom = match variance > 0.0 {
            true => variance.powi(2) / (va.powi(2) / (na - 1.0) + vb.powi(2) / (nb - 1.0)),
            false => na.min(nb) - 1.0,
        };
        Some(Self {
            difference: after.mean_ln - before.mean_ln,
            error: variance.sqrt(),
            freedom: freedom.clamp(1.0, MOST_FREEDOM),
        })
    }

    /// Around the difference: the truth is below it with a probability of `tail`, and above it with the same.
    pub fn interval(&self, tail: f64) -> [f64; 2] {
        let half = self.error * quantile(tail, self.freedom);
        [self.difference - half, self.difference + half]
    }

    /// The probability to see such a difference, or a greater one, where the truth is `limit`.
    pub fn p_above(&self, limit: f64) -> f64 {
        let beyond = self.difference - limit;
        match (self.error > 0.0, beyond > 0.0) {
            (true, _) => upper_tail(beyond / self.error, self.freedom),
            // No value differs from the others of its sample.
            (false, true) => 0.0,
            (false, false) => 1.0,
        }
    }
}

/// The probability that Student's t is above `t`.
///
/// With t = √freedom · cot φ its density becomes sin(φ)^(freedom - 1) on 0 to π, up to a factor: no
/// gamma functions, and no integral to infinity.
fn upper_tail(t: f64, freedom: f64) -> f64 {
    let half = integral(FRAC_PI_2, freedom);
    let tail = integral(freedom.sqrt().atan2(t.abs()), freedom) / (2.0 * half);
    match t > 0.0 {
        true => tail,
        false => 1.0 - tail,
    }
}

/// The t that is exceeded with a probability of `tail`, below ½.
fn quantile(tail: f64, freedom: f64) -> f64 {
    let wanted = tail * 2.0 * integral(FRAC_PI_2, freedom);
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        match integral(middle, freedom) < wanted {
            true => low = middle,
            false => high = middle,
        }
    }
    freedom.sqrt() / high.tan()
}

/// Of sin(x)^(freedom - 1) from 0 to `end`, by Simpson's rule.
fn integral(end: f64, freedom: f64) -> f64 {
    let step = end / STEPS as f64;
    let mut sum = 0.0;
    for i in 0..=STEPS {
        let weight = match i {
            0 | STEPS => 1.0,
            _ if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        sum += weight * (i as f64 * step).sin().powf(freedom - 1.0);
    }
    sum * step / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // 99.5 %, from printed tables.
        for (freedom, t) in [
            (1.0, 63.657),
            (2.0, 9.925),
            (3.0, 5.841),
            (4.0, 4.604),
            (8.0, 3.355),
            (30.0, 2.750),
            (120.0, 2.617),
            (1000.0, 2.581),
        ] {
            let found = quantile(0.005, freedom);
            assert!((found / t - 1.0).abs() < 3e-4, "{freedom}: {found}, {t}");
            let tail = upper_tail(found, freedom);
            assert!((tail / 0.005 - 1.0).abs() < 1e-6, "{freedom}: {tail}");
        }
    }

    #[test]
    fn tails_have_their_closed_forms() {
        for t in [-3.0f64, 0.0, 0.5, 4.0, 100.0] {
            let one = 0.5 - t.atan() / std::f64::consts::PI;
            let two = 0.5 - t / (2.0 * (2.0 + t * t).sqrt());
            for (freedom, expected) in [(1.0, one), (2.0, two)] {
                let found = upper_tail(t, freedom);
                assert!((found / expected - 1.0).abs() < 1e-6, "{t} {freedom}");
            }
        }
    }

    #[test]
    fn values_that_do_not_vary_decide_by_themselves() {
        let sample = |seconds: f64| Sample::of(&[seconds, seconds]);
        let same = Welch::new(sample(1.0), sample(1.0)).unwrap();
        assert_eq!((same.p_above(0.0), same.interval(0.005)), (1.0, [0.0; 2]));
        let twice = Welch::new(sample(1.0), sample(2.0)).unwrap();
        assert_eq!((twice.p_above(0.5), twice.p_above(0.7)), (0.0, 1.0));
        assert!(Welch::new(sample(1.0), Sample::of(&[1.0])).is_none());
    }
}

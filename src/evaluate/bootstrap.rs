//! How far a figure would scatter with other parts of the same kind (Efron 1979, percentiles).

use super::conformal::quantile;
use crate::nn::random::Random;

/// Drawn with replacement so often.
const DRAWS: usize = 1000;

/// The interval of 95 % of `figure` over test sets drawn from this one, good and defective parts each among themselves.
/// The same parts give the same interval. `None` where the figure is not defined.
pub fn interval(
    scores: &[f32],
    labels: &[bool],
    figure: impl Fn(&[f32], &[bool]) -> Option<f64>,
) -> Option<[f64; 2]> {
    let of = |wanted: bool| -> Vec<f32> {
        let pairs = scores.iter().zip(labels);
        pairs
            .filter(|(_, l)| **l == wanted)
            .map(|(s, _)| *s)
            .collect()
    };
    let (good, defective) = (of(false), of(true));
    let labels: Vec<bool> = [vec![false; good.len()], vec![true; defective.len()]].concat();
    let mut random = Random::new(labels.len() as u64);
    let mut draw = |from: &[f32]| -> Vec<f32> {
        from.iter()
            .map(|_| from[random.below(from.len())])
            .collect()
    };
    let mut drawn = || figure(&[draw(&good), draw(&defective)].concat(), &labels);
    let found: Option<Vec<f32>> = (0..DRAWS).map(|_| drawn().map(|f| f as f32)).collect();
    found.map(|found| [0.025, 0.975].map(|q| f64::from(quantile(&found, q))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_binomial_distribution() {
        // Recall of 40 of 50: a binomial share has a standard error of 0.0566.
        let scores: Vec<f32> = (0..100).map(|i| f32::from(u8::from(i < 40))).collect();
        let labels: Vec<bool> = (0..100).map(|i| i < 50).collect();
        let recall = |scores: &[f32], labels: &[bool]| {
            let hits = scores.iter().zip(labels).filter(|(s, l)| **l && **s > 0.5);
            Some(hits.count() as f64 / 50.0)
        };
        let [low, high] = interval(&scores, &labels, recall).unwrap();
        assert!(
            (low - 0.689).abs() < 0.03 && (high - 0.911).abs() < 0.03,
            "{low} {high}"
        );
        assert_eq!(interval(&scores, &labels, recall), Some([low, high]));
        assert_eq!(interval(&scores, &labels, |_, _| None), None);
    }
}

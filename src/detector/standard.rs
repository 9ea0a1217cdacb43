//! Features of mean 0 and variance 1 per channel, as data-dependent initialisation gives them to a
//! flow (Kingma & Dhariwal 2018, section 3.1): a flow whose log-scales are clamped spends its first
//! epochs on the scale of its input, which is known before.

use super::Features;
use crate::models::whitening::Moments;
use nalgebra::{DMatrix, DVector};
use std::borrow::Cow;

/// The affine map of every channel: (x − mean) · scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Standard {
    pub mean: Vec<f32>,
    pub scale: Vec<f32>,
}

impl Standard {
    /// From the foreground of good parts. A constant channel is only shifted.
    pub fn of(parts: &[Features], channels: usize) -> Self {
        let (mut weight, mut sum, mut squares) = (0.0, vec![0.0; channels], vec![0.0; channels]);
        for part in parts {
            for (pixel, &m) in part.map.chunks_exact(channels).zip(&part.mask) {
                let m = f64::from(m);
                weight += m;
                for (c, &x) in pixel.iter().enumerate() {
                    sum[c] += m * f64::from(x);
                    squares[c] += m * f64::from(x) * f64::from(x);
                }
            }
        }
        let weight = weight.max(1e-12);
        let mean: Vec<f64> = sum.iter().map(|s| s / weight).collect();
        let scale = squares.iter().zip(&mean).map(|(s, mean)| {
            let (square, var) = (s / weight, s / weight - mean * mean);
            // What is left of a constant channel is rounding.
            match var > 1e-10 * square {
                true => (1.0 / var.sqrt()) as f32,
                false => 1.0,
            }
        });
        Self {
            scale: scale.collect(),
            mean: mean.iter().map(|&m| m as f32).collect(),
        }
    }

    /// A map `[side,side,C]`, standardised.
    pub fn apply(&self, map: &[f32]) -> Vec<f32> {
        let mut out = map.to_vec();
        for pixel in out.chunks_exact_mut(self.mean.len()) {
            for ((x, mean), scale) in pixel.iter_mut().zip(&self.mean).zip(&self.scale) {
                *x = (*x - mean) * scale;
            }
        }
        out
    }
}

/// Mean and covariance of the foreground of good parts, standardised where `standard` is given.
pub(super) fn moments(parts: &[Features], standard: Option<&Standard>, channels: usize) -> Moments {
    let mut covariance = DMatrix::<f64>::zeros(channels, channels);
    let (mut weight, mut sum) = (0.0, DVector::<f64>::zeros(channels));
    for part in parts {
        let map = match standard {
            Some(standard) => Cow::Owned(standard.apply(&part.map)),
            None => Cow::Borrowed(&part.map),
        };
        let foreground: Vec<(&[f32], f64)> = (map.chunks_exact(channels).zip(&part.mask))
            .map(|(pixel, &m)| (pixel, f64::from(m)))
            .filter(|(_, m)| *m > 0.0)
            .collect();
        // Columns are pixels, weighted by the root of the mask.
        let values = foreground.iter().flat_map(|(pixel, m)| {
            let root = m.sqrt();
            pixel.iter().map(move |&x| root * f64::from(x))
        });
        let pixels = DMatrix::from_iterator(channels, foreground.len(), values);
        covariance.gemm(1.0, &pixels, &pixels.transpose(), 1.0);
        for (column, (_, m)) in pixels.column_iter().zip(&foreground) {
            sum.axpy(m.sqrt(), &column, 1.0);
            weight += m;
        }
    }
    let weight = weight.max(1e-12);
    let mean = sum / weight;
    let covariance = covariance / weight - &mean * mean.transpose();
    Moments {
        mean: mean.as_slice().to_vec(),
        covariance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_foreground_gets_mean_0_and_variance_1_and_a_constant_channel_is_shifted() {
        let part = |values: [f32; 3]| Features {
            map: values.iter().flat_map(|&x| [x, 1e4, -3.0 * x]).collect(),
            mask: vec![1.0, 1.0, 0.0],
            part_found: true,
        };
        // The third pixel is background: it counts for nothing.
        let parts = [part([1.0, 3.0, 1e9]), part([7.0, 9.0, -1e9])];
        let standard = Standard::of(&parts, 3);
        assert_eq!(standard.mean, [5.0, 1e4, -15.0]);
        assert_eq!(standard.scale[1], 1.0);
        let pixels: Vec<Vec<f32>> = parts
            .iter()
            .flat_map(|p| standard.apply(&p.map[..6]))
            .collect::<Vec<f32>>()
            .chunks(3)
            .map(<[f32]>::to_vec)
            .collect();
        for c in [0, 2] {
            let mean = pixels.iter().map(|p| p[c]).sum::<f32>() / 4.0;
            let var = pixels.iter().map(|p| p[c] * p[c]).sum::<f32>() / 4.0;
            assert!(
                mean.abs() < 1e-6 && (var - 1.0).abs() < 1e-6,
                "{mean} {var}"
            );
        }
        assert!(pixels.iter().all(|p| p[1] == 0.0));
    }

    #[test]
    fn moments_are_those_of_the_standardised_foreground() {
        let channels = 3;
        let mut random = crate::nn::random::Random::new(5);
        let part = |mask: [f32; 3]| Features {
            map: (0..9).map(|_| random.normal() as f32 + 2.0).collect(),
            mask: mask.to_vec(),
            part_found: true,
        };
        let parts = [[1.0, 0.0, 1.0], [0.25, 1.0, 1.0]].map(part);
        for standard in [None, Some(Standard::of(&parts, channels))] {
            let found = moments(&parts, standard.as_ref(), channels);
            let (mut weight, mut mean, mut square) = (0.0, [0.0; 3], [[0.0; 3]; 3]);
            for part in &parts {
                let map = standard
                    .as_ref()
                    .map_or(part.map.clone(), |s| s.apply(&part.map));
                for (pixel, &m) in map.chunks(channels).zip(&part.mask) {
                    weight += f64::from(m);
                    for i in 0..3 {
                        mean[i] += f64::from(m * pixel[i]);
                        for j in 0..3 {
                            square[i][j] +=
                                f64::from(m) * f64::from(pixel[i]) * f64::from(pixel[j]);
                        }
                    }
                }
            }
            for i in 0..3 {
                assert!((found.mean[i] - mean[i] / weight).abs() < 1e-6);
                for j in 0..3 {
                    let expected = square[i][j] / weight - mean[i] * mean[j] / weight / weight;
                    let found = found.covariance[(i, j)];
                    assert!((found - expected).abs() < 1e-5, "{found} {expected}");
                }
            }
        }
    }
}

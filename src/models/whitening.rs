//! The teacher's first layer: an invertible linear map of the channels, after which features of good parts are
//! uncorrelated and of variance 1 (Kessy, Lewin & Strimmer 2018). It is found from the data before the training,
//! as the 1×1 convolutions of Glow are (Kingma & Dhariwal 2018, section 3.2): a short training of couplings whose
//! log-scales are clamped does not find it.

use crate::nn::layers::Conv;
use crate::ops::conv2d::{Conv2d, Padding, conv2d};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Tensor};
use crate::{Error, Result};
use nalgebra::{DMatrix, SymmetricEigen};

/// y = W·(x − mean): `[N,H,W,C]` → `[N,H,W,C]`, a 1×1 convolution.
#[derive(Clone, Debug)]
pub struct Whitening {
    conv: Conv,
    /// ln |det W|, which each pixel adds to the flow's.
    log_det: f32,
}

/// What is known of good features: their mean `[C]` and covariance `[C,C]`.
pub struct Moments {
    pub mean: Vec<f64>,
    pub covariance: DMatrix<f64>,
}

impl Moments {
    /// Those of the first `channels` alone: the others are left as they are, but for the shrinkage. A folded depth
    /// map's channels are nearly one: whitened, a dent that moves them all would count as one channel of hundreds.
    pub fn of_first(mut self, channels: usize) -> Self {
        for i in channels..self.mean.len() {
            self.mean[i] = 0.0;
            self.covariance.row_mut(i).fill(0.0);
            self.covariance.column_mut(i).fill(0.0);
            self.covariance[(i, i)] = 1.0;
        }
        self
    }
}

impl Whitening {
    /// ZCA, W = V·(Λ + shrinkage·mean λ)^(-1/2)·Vᵀ of the covariance V·Λ·Vᵀ: of all whitenings that which changes
    /// the features least. Directions that vary less than `shrinkage` of the mean are noise, or too rarely seen:
    /// they are not blown up.
    ///
    /// # Errors
    /// [`Error::Failed`] for moments that are no numbers, [`Error::OutOfMemory`].
    pub fn of(device: &Device, moments: Moments, shrinkage: f64) -> Result<Self> {
        let channels = moments.mean.len();
        let typical = moments.covariance.trace() / channels as f64;
        let is_finite = moments.mean.iter().all(|m| m.is_finite()) && typical.is_finite();
        if !is_finite {
            return Err(Error::failed(
                "whitening: the features of the good parts are no numbers",
            ));
        }
        // Features that are all alike stay as they are.
        let (typical, shrinkage) = if typical > 0.0 {
            (typical, shrinkage)
        } else {
            (1.0, 1.0)
        };
        let eigen = SymmetricEigen::new(moments.covariance);
        let scales = (eigen.eigenvalues).map(|l| (l.max(0.0) + shrinkage * typical).powf(-0.5));
        let vectors = &eigen.eigenvectors;
        let matrix = vectors * DMatrix::from_diagonal(&scales) * vectors.transpose();
        let shift = -(&matrix * nalgebra::DVector::from_vec(moments.mean));
        let log_det = scales.iter().map(|s| s.ln()).sum::<f64>() as f32;
        // Symmetric: rows are columns.
        let weight = matrix.iter().map(|&w| w as f32).collect();
        Self::new(
            device,
            weight,
            shift.iter().map(|&b| b as f32).collect(),
            log_det,
        )
    }

    /// From weight `[C_in,C_out]`, bias `[C]` and ln |det W|.
    ///
    /// # Errors
    /// [`Error::Shape`] for a weight that is not square, [`Error::OutOfMemory`].
    pub fn new(device: &Device, weight: Vec<f32>, bias: Vec<f32>, log_det: f32) -> Result<Self> {
        let channels = bias.len();
        let conv = Conv {
            weight: Tensor::parameter(device, [1, 1, channels, channels], weight)?,
            bias: Tensor::parameter(device, [channels], bias)?,
        };
        Ok(Self { conv, log_det })
    }

    /// Weight `[C_in,C_out]`, bias `[C]` and ln |det W|, as they are saved.
    ///
    /// # Errors
    /// As [`Tensor::unrounded`].
    pub fn values(&self) -> Result<(Vec<f32>, Vec<f32>, f32)> {
        Ok((
            self.conv.weight.unrounded()?,
            self.conv.bias.unrounded()?,
            self.log_det,
        ))
    }

    /// y and the log-determinant of each pixel `[N,H,W,1]`.
    ///
    /// # Errors
    /// As [`crate::ops::conv2d::conv2d`].
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<(Var, Var)> {
        let [n, h, w, _] = x.tensor().shape().nhwc("whitening")?;
        let [weight, bias] = [&self.conv.weight, &self.conv.bias].map(|t| tape.constant(t));
        let y = conv2d(
            tape,
            x,
            &weight,
            &bias,
            None,
            Conv2d::new(Padding::zeros(0)),
        )?;
        let log_det = vec![self.log_det; n * h * w];
        let log_det = Tensor::new_f32(x.tensor().device(), [n, h, w, 1], log_det)?;
        Ok((y, tape.constant(&log_det)))
    }

    /// Undoes [`Whitening::forward`]; the log-determinant is that of the inverse.
    ///
    /// # Errors
    /// [`Error::Failed`] for a weight that has no inverse, and as the operators.
    pub fn inverse(&self, tape: &Tape, y: &Var) -> Result<(Var, Var)> {
        let (weight, bias, log_det) = self.values()?;
        let channels = bias.len();
        let matrix =
            DMatrix::from_row_iterator(channels, channels, weight.iter().map(|&w| f64::from(w)));
        let inverse = (matrix.try_inverse())
            .ok_or_else(|| Error::failed("whitening: its matrix has no inverse"))?;
        // y = xW + b, as rows.
        let bias =
            nalgebra::RowDVector::from_iterator(channels, bias.iter().map(|&b| f64::from(b)));
        let shift = -(bias * &inverse);
        let weight = inverse.transpose().iter().map(|&w| w as f32).collect();
        let undone = Self::new(
            self.conv.weight.device(),
            weight,
            shift.iter().map(|&b| b as f32).collect(),
            -log_det,
        )?;
        undone.forward(tape, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::random::Random;

    fn run(whitening: &Whitening, x: &[f32], channels: usize) -> Vec<f32> {
        let tape = Tape::inference();
        let shape = [1, 1, x.len() / channels, channels];
        let x = tape.constant(&Tensor::new(&Device::Cpu, shape, x.to_vec()).unwrap());
        let (y, _) = whitening.forward(&tape, &x).unwrap();
        y.tensor().to_vec().unwrap()
    }

    /// Covariance [[2.5, 1.5], [1.5, 2.5]]: eigenvalues 4 and 1 along (1, 1) and (1, -1).
    #[test]
    fn two_channels_are_as_by_hand() {
        let moments = Moments {
            mean: vec![1.0, -2.0],
            covariance: DMatrix::from_row_slice(2, 2, &[2.5, 1.5, 1.5, 2.5]),
        };
        let whitening = Whitening::of(&Device::Cpu, moments, 0.2).unwrap();
        // The mean eigenvalue is 2.5: 0.5 is added.
        let (along, across) = (4.5_f64.powf(-0.5), 1.5_f64.powf(-0.5));
        let found = run(&whitening, &[2.0, -1.0, 2.0, -3.0], 2);
        for (found, expected) in found.iter().zip([along, along, across, -across]) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found:?}");
        }
        let log_det = f64::from(whitening.values().unwrap().2);
        assert!((log_det - (along * across).ln()).abs() < 1e-6, "{log_det}");
    }

    #[test]
    fn channels_behind_the_first_are_left_alone() {
        let moments = Moments {
            mean: vec![1.0, -2.0, 5.0],
            covariance: DMatrix::from_row_slice(
                3,
                3,
                &[4.0, 0.0, 1.9, 0.0, 1.0, 0.5, 1.9, 0.5, 1.0],
            ),
        };
        let whitening = Whitening::of(&Device::Cpu, moments.of_first(2), 1e-9).unwrap();
        let y = run(&whitening, &[3.0, -1.0, 7.0], 3);
        for (found, expected) in y.iter().zip([1.0, 1.0, 7.0]) {
            assert!((found - expected).abs() < 1e-5, "{y:?}");
        }
    }

    #[test]
    fn channels_become_uncorrelated() {
        let (channels, pixels) = (5, 4000);
        let mut random = Random::new(3);
        let mut normal = |n: usize| (0..n).map(|_| random.normal()).collect::<Vec<f64>>();
        let mix = DMatrix::from_vec(channels, channels, normal(channels * channels));
        let x = mix * DMatrix::from_vec(channels, pixels, normal(channels * pixels));
        let mean = x.column_mean();
        let centred =
            DMatrix::from_columns(&x.column_iter().map(|c| c - &mean).collect::<Vec<_>>());
        let moments = Moments {
            mean: mean.as_slice().to_vec(),
            covariance: &centred * centred.transpose() / pixels as f64,
        };
        let whitening = Whitening::of(&Device::Cpu, moments, 1e-9).unwrap();
        let values: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        let y = run(&whitening, &values, channels);
        let y = DMatrix::from_iterator(channels, pixels, y.iter().map(|&v| f64::from(v)));
        let covariance = &y * y.transpose() / pixels as f64;
        let off = (covariance - DMatrix::identity(channels, channels)).amax();
        assert!(off < 1e-3, "{off}");
    }

    #[test]
    fn what_is_constant_is_only_shifted() {
        let whitening = |diagonal: [f64; 2]| {
            let moments = Moments {
                mean: vec![7.0; 2],
                covariance: DMatrix::from_diagonal(&nalgebra::DVector::from_row_slice(&diagonal)),
            };
            Whitening::of(&Device::Cpu, moments, 0.01)
        };
        let y = run(&whitening([2.0, 0.0]).unwrap(), &[8.0, 7.0], 2);
        assert!(
            (y[0] - 2.01_f32.powf(-0.5)).abs() < 1e-5 && y[1].abs() < 1e-5,
            "{y:?}"
        );
        assert_eq!(
            run(&whitening([0.0; 2]).unwrap(), &[8.0, 6.5], 2),
            [1.0, -0.5]
        );
        let error = whitening([f64::NAN, 1.0]).unwrap_err();
        assert!(error.to_string().contains("no numbers"), "{error}");
    }
}

//! Layers that learn: a convolution and a batch norm, with PyTorch's default initialisation.

use super::random::named_tensor;
use crate::Result;
use crate::ops::batch_norm::{Running, batch_norm};
use crate::ops::conv2d::{Conv2d, conv2d};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor};

/// A convolution's parameters: weight `[kh,kw,C_in,C_out]`, bias `[C_out]`.
#[derive(Clone, Debug)]
pub struct Conv {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Conv {
    /// Uniform ±1/√fan_in for weight (Kaiming, a = √5) and bias, as `torch.nn.Conv2d` starts.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn init(device: &Device, name: &str, shape: [usize; 4], seed: u64) -> Result<Self> {
        let [kh, kw, c_in, c_out] = shape;
        let bound = 1.0 / ((kh * kw * c_in) as f64).sqrt();
        let tensor = |part: &str, shape: Shape| {
            let data = named_tensor(&format!("{name}.{part}"), shape.len(), bound, seed);
            Tensor::parameter(device, shape, data)
        };
        Ok(Self {
            weight: tensor("weight", shape.into())?,
            bias: tensor("bias", [c_out].into())?,
        })
    }

    /// To be overwritten.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn zeros(device: &Device, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        Ok(Self {
            weight: Tensor::full(device, shape, 0.0)?,
            bias: Tensor::full(device, [shape.channels()], 0.0)?,
        })
    }

    /// Runs it, its parameters being leaves of the tape.
    ///
    /// # Errors
    /// As [`conv2d`].
    pub fn run(&self, tape: &Tape, x: &Var, conv: Conv2d) -> Result<Var> {
        self.run_with_residual(tape, x, None, conv)
    }

    /// As [`Conv::run`], with a residual added after the activation.
    ///
    /// # Errors
    /// As [`conv2d`].
    pub fn run_with_residual(
        &self,
        tape: &Tape,
        x: &Var,
        residual: Option<&Var>,
        conv: Conv2d,
    ) -> Result<Var> {
        conv2d(
            tape,
            x,
            &tape.leaf(&self.weight),
            &tape.leaf(&self.bias),
            residual,
            conv,
        )
    }

    pub fn parameters<'a>(&'a mut self, name: &str, list: &mut Parameters<'a>) {
        list.push((format!("{name}.weight"), &mut self.weight));
        list.push((format!("{name}.bias"), &mut self.bias));
    }
}

/// Tensors by name, as they are trained and saved.
pub type Parameters<'a> = Vec<(String, &'a mut Tensor)>;

/// A batch norm's parameters and running statistics, each `[C]`.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub running: Running,
    pub epsilon: f32,
    pub momentum: f32,
}

impl BatchNorm {
    /// Weight 1, bias 0, running mean 0 and variance 1; ε 1e-5, momentum 0.1 (`torch.nn.BatchNorm2d`).
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn init(device: &Device, channels: usize) -> Result<Self> {
        let full = |value| Tensor::full(device, [channels], value);
        let running = |value| Tensor::new_f32(device, [channels], vec![value; channels]);
        let running = Running {
            mean: running(0.0)?,
            var: running(1.0)?,
        };
        Ok(Self {
            weight: full(1.0)?,
            bias: full(0.0)?,
            running,
            epsilon: 1e-5,
            momentum: 0.1,
        })
    }

    /// Normalises with the batch's statistics and updates the running ones.
    ///
    /// # Errors
    /// As [`batch_norm`].
    pub fn train(&mut self, tape: &Tape, x: &Var) -> Result<Var> {
        let (weight, bias) = (tape.leaf(&self.weight), tape.leaf(&self.bias));
        let (y, running) = batch_norm(
            tape,
            x,
            &weight,
            &bias,
            &self.running,
            self.epsilon,
            self.momentum,
        )?;
        self.running = running;
        Ok(y)
    }

    /// The convolution that does what `conv` and then this batch norm do when not training.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the parameters cannot be read back.
    pub fn fold(&self, conv: &Conv) -> Result<Conv> {
        let [weight, bias, mean, var] = [
            &self.weight,
            &self.bias,
            &self.running.mean,
            &self.running.var,
        ]
        .map(Tensor::unrounded);
        let (weight, bias, mean, var) = (weight?, bias?, mean?, var?);
        let scale: Vec<f64> = (weight.iter().zip(&var))
            .map(|(&w, &v)| w as f64 / (v as f64 + self.epsilon as f64).sqrt())
            .collect();
        let mut kernel = conv.weight.unrounded()?;
        for row in kernel.chunks_exact_mut(scale.len()) {
            row.iter_mut()
                .zip(&scale)
                .for_each(|(w, s)| *w = (*w as f64 * s) as f32);
        }
        let mut shift = conv.bias.unrounded()?;
        for (c, b) in shift.iter_mut().enumerate() {
            *b = ((*b as f64 - mean[c] as f64) * scale[c] + bias[c] as f64) as f32;
        }
        let device = conv.weight.device();
        Ok(Conv {
            weight: Tensor::parameter(device, conv.weight.shape(), kernel)?,
            bias: Tensor::parameter(device, conv.bias.shape(), shift)?,
        })
    }

    pub fn parameters<'a>(&'a mut self, name: &str, list: &mut Parameters<'a>) {
        list.push((format!("{name}.weight"), &mut self.weight));
        list.push((format!("{name}.bias"), &mut self.bias));
    }

    /// The running statistics, which are saved but not trained.
    pub fn buffers<'a>(&'a mut self, name: &str, list: &mut Parameters<'a>) {
        list.push((format!("{name}.running_mean"), &mut self.running.mean));
        list.push((format!("{name}.running_var"), &mut self.running.var));
    }
}

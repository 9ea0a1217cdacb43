//! Adam over a model's parameters; for those in f16 with a scaled loss (Micikevicius et al., "Mixed
//! precision training"; `torch.amp.GradScaler`).

use super::layers::Parameters;
use crate::ops::adam::{Adam, Scaled, adam, check};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::HashMap;

/// Where the loss's scale begins, and after so many good steps it is doubled.
const SCALE: f32 = 65536.0;
const GOOD_STEPS: u32 = 2000;

/// With a scale below this gradients that fit are zeros.
const SMALLEST: f32 = 1.0 / 65536.0;

/// Adam's moments, by parameter name.
pub struct Optimiser {
    pub adam: Adam,
    step: u32,
    moments: HashMap<String, (Tensor, Tensor)>,
    scale: Scale,
}

/// What the loss is multiplied by in f16, and the good steps since it changed.
struct Scale {
    value: f32,
    good: u32,
}

impl Scale {
    fn update(&mut self, overflow: bool) {
        self.good += 1;
        let factor = match (overflow, self.good) {
            (true, _) => 0.5,
            (false, GOOD_STEPS) => 2.0,
            (false, _) => return,
        };
        (self.value, self.good) = (self.value * factor, 0);
    }
}

impl Optimiser {
    pub fn new(adam: Adam) -> Self {
        Self {
            adam,
            step: 0,
            moments: HashMap::new(),
            scale: Scale {
                value: SCALE,
                good: 0,
            },
        }
    }

    /// What the loss is multiplied by where parameters are f16.
    pub fn scale(&self) -> f32 {
        self.scale.value
    }

    /// One step down the gradient of `loss` `[1]`, which it gives back unread, so that a device need not be
    /// waited for; parameters that no gradient reached stay as they are. In f16 a gradient that overflows makes
    /// the step one of none, and the scale is halved: that is read in every step, as PyTorch does.
    ///
    /// # Errors
    /// As [`adam`] and the gradients; [`Error::Failed`] where gradients in f16 overflow at any scale.
    pub fn minimise(&mut self, parameters: Parameters, tape: Tape, loss: &Var) -> Result<Tensor> {
        let device = loss.tensor().device();
        let scaled = match device.is_half() {
            true => Some(Scaled::new(device, self.scale.value)?),
            false => None,
        };
        let scale = scaled.as_ref().map_or(1.0, |scaled| scaled.scale);
        let mut gradients = tape.backward_scaled(loss, scale)?;
        let mut reached = Vec::new();
        for (name, parameter) in parameters {
            if let Some(gradient) = gradients.take(parameter) {
                reached.push((name, parameter, gradient));
            }
        }
        if let Some(scaled) = &scaled {
            // All before the first parameter changes.
            for (_, _, gradient) in &reached {
                check(gradient, scaled)?;
            }
        }
        self.step += 1;
        for (name, parameter, gradient) in reached {
            if !self.moments.contains_key(&name) {
                let (device, shape) = (parameter.device(), parameter.shape());
                let zero = || Tensor::new_f32(device, shape, vec![0.0; shape.len()]);
                self.moments.insert(name.clone(), (zero()?, zero()?));
            }
            if let Some((m, v)) = self.moments.get_mut(&name) {
                let scaled = scaled.as_ref();
                adam(parameter, m, v, &gradient, self.step, &self.adam, scaled)?;
            }
        }
        if let Some(scaled) = scaled {
            let overflow = scaled.overflow().item()? != 0.0;
            self.step -= u32::from(overflow);
            self.scale.update(overflow);
            if self.scale.value < SMALLEST {
                return Err(Error::failed(
                    "gradients overflow f16, however small the loss is scaled; train with `--precision f32`",
                ));
            }
        }
        Ok(loss.tensor().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_doubled_after_2000_good_steps_in_a_row() {
        let mut scale = Scale {
            value: SCALE,
            good: 0,
        };
        let mut steps = |good: u32, overflow: bool| {
            (0..good).for_each(|_| scale.update(false));
            if overflow {
                scale.update(true);
            }
            scale.value / SCALE
        };
        assert_eq!(steps(1999, true), 0.5);
        assert_eq!(steps(1999, false), 0.5);
        assert_eq!(steps(1, false), 1.0);
        assert_eq!(steps(1999, false), 1.0);
        assert_eq!(steps(1, true), 1.0);
    }
}

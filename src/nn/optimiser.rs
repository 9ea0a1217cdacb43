//! Adam over a model's parameters.

use super::layers::Parameters;
use crate::Result;
use crate::ops::adam::{Adam, adam};
use crate::tape::Gradients;
use crate::tensor::Tensor;
use std::collections::HashMap;

/// Adam's moments, by parameter name.
pub struct Optimiser {
    pub adam: Adam,
    step: u32,
    moments: HashMap<String, (Tensor, Tensor)>,
}

impl Optimiser {
    pub fn new(adam: Adam) -> Self {
        Self {
            adam,
            step: 0,
            moments: HashMap::new(),
        }
    }

    /// One step; parameters that no gradient reached stay as they are.
    ///
    /// # Errors
    /// As [`adam`].
    pub fn step(&mut self, parameters: Parameters, mut gradients: Gradients) -> Result<()> {
        self.step += 1;
        for (name, parameter) in parameters {
            let Some(gradient) = gradients.take(parameter) else {
                continue;
            };
            if !self.moments.contains_key(&name) {
                let zero = || Tensor::full(parameter.device(), parameter.shape(), 0.0);
                self.moments.insert(name.clone(), (zero()?, zero()?));
            }
            if let Some((m, v)) = self.moments.get_mut(&name) {
                adam(parameter, m, v, &gradient, self.step, &self.adam)?;
            }
        }
        Ok(())
    }
}

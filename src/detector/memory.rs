//! How much memory a training step takes, and the batch that fits.

use super::Extractor;
use super::config::{Config, StudentKind};
use crate::tensor::Device;
use crate::{Error, Result};

/// A parameter, its gradient, two moments, and the two packed forms that convolutions keep of it. In f16 it
/// is five and a half: parameter and packed forms are halves, its f32 are there as well.
const PER_PARAMETER: usize = 6;

/// f32 that a network needs: for its parameters, and for each pixel of a batch.
struct Need {
    parameters: usize,
    per_pixel: usize,
}

impl Need {
    fn flow(config: &Config, channels: usize, kernels: &[usize]) -> Self {
        let (condition, hidden) = (config.positional.channels, config.teacher.hidden);
        let carried = channels + 2 * condition;
        let taps: usize = kernels.iter().map(|k| k * k).sum();
        Self {
            parameters: taps * hidden * (carried + 2 * channels),
            // What the tape keeps of each block: halves, hidden layers, scales and shifts, couplings.
            per_pixel: kernels.len() * (2 * carried + 2 * hidden + 2 * channels)
                // Gradients on their way.
                + 4 * (carried + hidden),
        }
    }

    fn cnn(config: &Config, channels: usize) -> Self {
        let (width, blocks) = (config.student.width, config.student.blocks);
        let seen = channels + config.positional.channels;
        Self {
            parameters: 9 * width * (seen + 2 * blocks * width + channels),
            // Of each block: two convolutions, batch norms and activations, and their sum.
            per_pixel: seen + width + blocks * 7 * width + channels + 4 * width,
        }
    }
}

impl Extractor {
    /// The bytes that a training step takes, features of `parts` parts included where they are in the
    /// same memory.
    pub fn training_bytes(&self, parts: usize, batch: usize) -> u64 {
        let (config, channels) = (&self.config, self.channels());
        let pixels = self.side() * self.side();
        let teacher = Need::flow(config, channels, &config.teacher.kernels);
        let student = match config.student.kind {
            StudentKind::Cnn => Need::cnn(config, channels),
            StudentKind::Flow => Need::flow(config, channels, &config.student_kernels()),
        };
        let step = |need: &Need| {
            PER_PARAMETER * need.parameters + batch * pixels * (need.per_pixel + 2 * channels)
        };
        // The teacher stays, without its moments, while the student learns.
        let larger = step(&teacher).max(step(&student) + 2 * teacher.parameters);
        let host = match self.device {
            Device::Cpu => parts * pixels * (2 * channels + 1),
            Device::Gpu(_) => 0,
        };
        4 * (larger + host) as u64
    }

    /// Shrinks `train.batch` so that training on `parts` parts takes no more than `limit` bytes. The
    /// smaller batch, where it had to shrink.
    ///
    /// # Errors
    /// [`Error::Failed`] saying what is needed where one part at a time does not fit.
    pub fn limit_memory(&mut self, parts: usize, limit: u64) -> Result<Option<usize>> {
        let wanted = self.config.train.batch;
        let fits = (1..=wanted)
            .rev()
            .find(|&batch| self.training_bytes(parts, batch) <= limit);
        let Some(batch) = fits else {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            return Err(Error::failed(format!(
                "--max-memory: training needs about {} MiB for one part at a time, and {} MiB are allowed; \
                 allow more, or use a smaller teacher.hidden, student.width or input.image_size",
                mib(self.training_bytes(parts, 1)),
                limit >> 20
            )));
        };
        self.config.train.batch = batch;
        Ok((batch < wanted).then_some(batch))
    }
}

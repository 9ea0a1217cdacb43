//! How much memory a training step takes, and the batch that fits: estimated on the CPU, tried out on a GPU,
//! where what kernels keep of weights and in between depends on which of them run.

use super::config::Batch;
use super::config::{Config, StudentKind};
use super::{Extractor, Features, train};
use crate::cpu::pool::WAITING;
use crate::models::efficientnet::Backbone;
use crate::tensor::{Device, Tensor};
use crate::{Error, Result};

/// A parameter, its gradient, two moments, and what convolutions pack of it on their way.
const PER_PARAMETER: usize = 6;

/// What is resident on the CPU beside tensors: the program with its weights, the memory that waits to be used
/// again, and what the gaps between tensors take (a quarter after the features of 320 parts).
const PROGRAM: u64 = 64 << 20;
const GAPS: f64 = 1.3;

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

/// f32 of the maps that live at once when the network looks at a picture of `side` pixels: those of its largest
/// block, and two pictures that wait for it.
fn looking(network: &Backbone, side: usize) -> usize {
    let picture = 3 * side * side;
    let map = |side: usize, channels: usize| side * side * channels;
    let mut side = side.div_ceil(2);
    let mut most = picture + map(side, network.stem);
    for block in &network.blocks {
        let input = map(side, block.c_in);
        side = side.div_ceil(block.stride);
        most = most.max(input + map(side, block.hidden() + block.c_out));
    }
    most + 2 * picture
}

impl Extractor {
    /// The bytes that are resident at most while the CPU trains, features of `parts` parts and the network that
    /// makes them included.
    fn training_bytes(&self, parts: usize, batch: usize) -> u64 {
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
        let (mut network, mut looks) = (0, 0);
        if let Some(mut net) = self.net.clone() {
            looks = looking(net.backbone(), self.image_side(&net));
            network = net.parameters().iter().map(|(_, t)| t.shape().len()).sum();
        }
        // The features of all parts come before the first step.
        let tensors = larger.max(looks) + network + parts * pixels * (2 * channels + 1);
        (GAPS * 4.0 * tensors as f64) as u64 + PROGRAM + 4 * WAITING as u64
    }

    /// Shrinks `train.batch` so that training on `parts` parts takes no more than `limit` bytes, to which a
    /// GPU was opened. The smaller batch, where it had to shrink.
    ///
    /// # Errors
    /// [`Error::Failed`] saying what is needed where one part at a time does not fit; on a GPU those of the
    /// operators, too.
    pub fn limit_memory(&mut self, parts: usize, limit: u64) -> Result<Option<usize>> {
        let wanted = self.config.batch();
        let mut batch = wanted.min(parts.max(1));
        while !self.fits(parts, batch, limit)? {
            if batch == 1 {
                return Err(self.does_not_fit(parts, limit));
            }
            batch = match self.device {
                Device::Cpu => batch - 1,
                Device::Gpu(_) => batch / 2,
            };
        }
        if batch == wanted.min(parts.max(1)) {
            return Ok(None);
        }
        self.config.train.batch = Batch::Of(batch);
        Ok(Some(batch))
    }

    fn does_not_fit(&self, parts: usize, limit: u64) -> Error {
        let needed = match self.device {
            Device::Cpu => {
                let bytes = self.training_bytes(parts, 1);
                format!("about {} MiB", bytes.div_ceil(1 << 20))
            }
            Device::Gpu(_) => "more".into(),
        };
        Error::failed(format!(
            "--max-memory: training needs {needed} for one part at a time, and {} MiB are allowed; allow more, \
             or use a smaller teacher.hidden, student.width or input.image_size",
            limit >> 20
        ))
    }

    fn fits(&self, parts: usize, batch: usize, limit: u64) -> Result<bool> {
        match self.device {
            Device::Cpu => Ok(self.training_bytes(parts, batch) <= limit),
            Device::Gpu(_) => match self.rehearse(batch) {
                Err(Error::OutOfMemory { .. }) => Ok(false),
                rehearsed => rehearsed.map(|()| true),
            },
        }
    }

    /// The features of a blank picture, and two steps of the teacher and of the student on a blank batch, with
    /// networks that are thrown away: all that a training keeps on the device, and no more than minutes of it.
    fn rehearse(&self, batch: usize) -> Result<()> {
        if let Some(net) = &self.net {
            let side = self.image_side(net);
            net.forward(&Tensor::full(&self.device, [1, side, side, 3], 0.0)?)?;
        }
        let pixels = self.side() * self.side();
        let blank = Features {
            map: vec![0.0; pixels * self.channels()],
            mask: vec![1.0; pixels],
            part_found: true,
        };
        let mut short = self.clone();
        let choices = &mut short.config.train;
        // In the first step there are no moments yet.
        choices.teacher_epochs = choices.teacher_epochs.min(2);
        choices.student_epochs = choices.student_epochs.min(2);
        choices.batch = Batch::Of(batch);
        choices.learning_rate = 0.0;
        train(short, &vec![blank; batch], &mut |_| ()).map(drop)
    }
}

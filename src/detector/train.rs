//! Training: the teacher by likelihood, then the student against the frozen teacher (spec section 7).

use super::config::{Config, LossMean, StudentKind};
use super::model::{StudentNet, flow_sizes, place, student_sizes};
use super::{Detector, Extractor, Features, Fusion, Standard, standard};
use crate::kernel::step;
use crate::models::efficientnet::Backbone;
use crate::models::real_nvp::RealNvp;
use crate::models::student::Student;
use crate::models::whitening::Whitening;
use crate::nn::layers::Parameters;
use crate::nn::optimiser::Optimiser;
use crate::nn::random::Random;
use crate::ops::{adam::Adam, distance::distance, likelihood::likelihood, sum::sum};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Tensor};
use crate::{Error, Result};

/// A device is waited for after so many steps, to read their losses: in between it has always something to do.
const STEPS_UNREAD: usize = 8;

/// Mean loss of every epoch.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    pub teacher: Vec<f32>,
    pub student: Vec<f32>,
}

/// Told to the caller after every epoch.
pub struct Progress {
    pub stage: &'static str,
    pub epoch: usize,
    pub epochs: usize,
    pub loss: f32,
}

/// One batch on the device.
struct Batch {
    x: Tensor,
    mask: Tensor,
    place: Option<Tensor>,
    /// One over what the loss is averaged over.
    weight: f32,
    members: Vec<usize>,
}

struct Batches<'a> {
    config: &'a Config,
    device: &'a Device,
    standard: Option<&'a Standard>,
    parts: &'a [Features],
    side: usize,
    channels: usize,
    /// The last batch's.
    place: Option<Tensor>,
}

impl Batches<'_> {
    /// The members of each batch of an epoch, shuffled by the seed. The last incomplete batch is
    /// dropped, unless it is the only one.
    fn epoch(&self, stage: u64, epoch: usize) -> Vec<Vec<usize>> {
        let seed = self.config.train.seed
            ^ stage.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ (epoch as u64) << 20;
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        Random::new(seed).shuffle(&mut order);
        let size = self.config.batch();
        let mut batches: Vec<Vec<usize>> = order.chunks(size).map(<[usize]>::to_vec).collect();
        if self.config.train.drop_last
            && batches.len() > 1
            && !self.parts.len().is_multiple_of(size)
        {
            batches.pop();
        }
        batches
    }

    /// The positional encoding of `n` parts.
    fn place(&mut self, n: usize) -> Result<Option<Tensor>> {
        let known = self.place.as_ref().map(|place| place.shape().dims()[0]);
        if known != Some(n) {
            self.place = place(self.config, self.device, [n, self.side, self.side])?;
        }
        Ok(self.place.clone())
    }

    fn load(&mut self, members: Vec<usize>) -> Result<Batch> {
        let _step = step("batch");
        let (n, side) = (members.len(), self.side);
        let (mut map, mut mask) = (Vec::new(), Vec::new());
        for part in members.iter().map(|&i| &self.parts[i]) {
            match self.standard {
                Some(standard) => map.extend(standard.apply(&part.map)),
                None => map.extend_from_slice(&part.map),
            }
            mask.extend_from_slice(&part.mask);
        }
        let over = match self.config.train.loss_mean {
            LossMean::Foreground => mask.iter().sum::<f32>(),
            LossMean::All => mask.len() as f32,
        };
        let place = self.place(n)?;
        let x = Tensor::new(self.device, [n, side, side, self.channels], map)?;
        let mask = Tensor::new_f32(self.device, [n, side, side, 1], mask)?;
        Ok(Batch {
            x,
            mask,
            place,
            weight: 1.0 / over.max(1.0),
            members,
        })
    }

    /// Runs `train` on every batch of every epoch, with the learning rate of the moment.
    fn run(
        &mut self,
        stage: &'static str,
        epochs: usize,
        tell: &mut dyn FnMut(Progress),
        mut train: impl FnMut(&Batch, f64) -> Result<Tensor>,
    ) -> Result<Vec<f32>> {
        let mut losses = Vec::new();
        for epoch in 0..epochs {
            let batches = self.epoch(stage.len() as u64, epoch);
            let count = batches.len() as f32;
            let (mut loss, mut unread) = (0.0, Vec::new());
            for (i, members) in batches.into_iter().enumerate() {
                let done = (epoch as f64 + f64::from(i as u32) / f64::from(count)) / epochs as f64;
                let choices = &self.config.train;
                let rate = choices.learning_rate * choices.schedule.factor(done);
                let batch = self.load(members)?;
                let _step = step(stage);
                unread.push(train(&batch, rate)?);
                if unread.len() == STEPS_UNREAD {
                    loss += read(&mut unread)? / count;
                }
            }
            loss += read(&mut unread)? / count;
            if !loss.is_finite() {
                return Err(Error::failed(format!(
                    "the {stage}'s loss became {loss} in epoch {}; try a lower train.learning_rate",
                    epoch + 1
                )));
            }
            losses.push(loss);
            tell(Progress {
                stage,
                epoch: epoch + 1,
                epochs,
                loss,
            });
        }
        Ok(losses)
    }
}

/// The sum of losses; none is left.
fn read(unread: &mut Vec<Tensor>) -> Result<f32> {
    let losses = Tensor::all_to_vec(&unread.iter().collect::<Vec<_>>())?;
    unread.clear();
    Ok(losses.iter().flatten().sum())
}

/// The student while it learns.
#[allow(clippy::large_enum_variant)]
enum Learner {
    Cnn(Student),
    Flow(RealNvp),
}

impl Learner {
    fn new(config: &Config, device: &Device, channels: usize) -> Result<Self> {
        let (name, seed) = ("student.", config.train.seed);
        Ok(match config.student.kind {
            StudentKind::Cnn => {
                let sizes = student_sizes(config, channels);
                Self::Cnn(Student::init(device, sizes, name, seed)?)
            }
            StudentKind::Flow => {
                let sizes = flow_sizes(config, channels, config.student_kernels());
                Self::Flow(RealNvp::init(device, sizes, name, seed)?)
            }
        })
    }

    /// `x` as the teacher's whitening leaves it.
    fn forward(&mut self, tape: &Tape, x: &Var, place: Option<&Var>) -> Result<Var> {
        match self {
            Self::Cnn(student) => student.train(tape, x, place),
            Self::Flow(flow) => Ok(flow.forward(tape, x, place)?.0),
        }
    }

    fn parameters(&mut self) -> Parameters<'_> {
        match self {
            Self::Cnn(student) => student.parameters(),
            Self::Flow(flow) => flow.parameters(),
        }
    }

    /// The network for scoring.
    fn finish(self) -> Result<StudentNet> {
        Ok(match self {
            Self::Cnn(student) => StudentNet::Cnn(student.fold()?),
            Self::Flow(flow) => StudentNet::Flow(flow),
        })
    }
}

/// Trains a detector on the features of good parts.
///
/// # Errors
/// No parts, a loss that is no number, or a device that gave up.
pub fn train(
    extractor: Extractor,
    parts: &[Features],
    tell: &mut dyn FnMut(Progress),
) -> Result<(Detector, Losses)> {
    if parts.is_empty() {
        return Err(Error::failed("there are no good parts to train on"));
    }
    let (config, device) = (extractor.config.clone(), extractor.device.clone());
    let (side, channels) = (extractor.side(), extractor.channels());
    let standard = (config.input.standardise).then(|| Standard::of(parts, channels));
    let mut batches = Batches {
        config: &config,
        device: &device,
        standard: standard.as_ref(),
        parts,
        side,
        channels,
        place: None,
    };
    let optimiser = || {
        Optimiser::new(Adam {
            learning_rate: config.train.learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: config.train.weight_decay,
        })
    };

    let sizes = flow_sizes(&config, channels, config.teacher.kernels.clone());
    let whitening = match config.teacher.whitening {
        true => {
            let of_picture = extractor.network().map_or(0, Backbone::channels);
            let moments = standard::moments(parts, standard.as_ref(), channels);
            let moments = moments.of_first(of_picture);
            let shrinkage = config.teacher.shrinkage;
            Some(Whitening::of(&device, moments, shrinkage)?)
        }
        false => None,
    };
    let mut teacher =
        RealNvp::init(&device, sizes, "teacher.", config.train.seed)?.whitened_by(whitening);
    let mut adam = optimiser();
    let teacher_losses = batches.run(
        "teacher",
        config.train.teacher_epochs,
        tell,
        |batch, rate| {
            adam.adam.learning_rate = rate;
            let tape = Tape::training();
            let place = batch.place.as_ref().map(|place| tape.constant(place));
            let (z, log_det) = teacher.forward(&tape, &tape.constant(&batch.x), place.as_ref())?;
            let loss = sum(
                &tape,
                &likelihood(&tape, &z, &log_det, &batch.mask)?,
                batch.weight,
            )?;
            adam.minimise(teacher.parameters(), tape, &loss)
        },
    )?;

    // The frozen teacher's answers do not change: they are computed once.
    let mut answers = Vec::with_capacity(parts.len());
    if config.train.student_epochs > 0 {
        for i in 0..parts.len() {
            let batch = batches.load(vec![i])?;
            let tape = Tape::inference();
            let place = batch.place.as_ref().map(|place| tape.constant(place));
            answers.push(
                teacher
                    .forward(&tape, &tape.constant(&batch.x), place.as_ref())?
                    .0
                    .tensor()
                    .to_vec()?,
            );
        }
    }
    let mut student = Learner::new(&config, &device, channels)?;
    let mut adam = optimiser();
    let student_losses = batches.run(
        "student",
        config.train.student_epochs,
        tell,
        |batch, rate| {
            adam.adam.learning_rate = rate;
            let answer = batch
                .members
                .iter()
                .flat_map(|&i| &answers[i])
                .copied()
                .collect();
            let answer = Tensor::new(&device, batch.x.shape(), answer)?;
            let tape = Tape::training();
            let place = batch.place.as_ref().map(|place| tape.constant(place));
            let (x, _) = teacher.whiten(&tape, &tape.constant(&batch.x))?;
            let y = student.forward(&tape, &x, place.as_ref())?;
            let loss = sum(
                &tape,
                &distance(&tape, &y, &answer, &batch.mask)?,
                batch.weight,
            )?;
            adam.minimise(student.parameters(), tape, &loss)
        },
    )?;
    let detector = Detector {
        place: place(&config, &device, [1, side, side])?,
        config,
        device,
        extractor,
        standard,
        teacher,
        student: student.finish()?,
        fusion: None,
        calibration: None,
        learned: None,
        threshold: None,
        map_threshold: None,
    };
    Ok((
        detector,
        Losses {
            teacher: teacher_losses,
            student: student_losses,
        },
    ))
}

impl Detector {
    /// With seeded networks that learned nothing: for measurements, which do not depend on weights.
    ///
    /// # Errors
    /// As [`train`].
    pub fn untrained(mut extractor: Extractor) -> Result<Self> {
        let (side, channels) = (extractor.side(), extractor.channels());
        let blank = Features {
            map: vec![0.0; side * side * channels],
            mask: vec![1.0; side * side],
            part_found: true,
        };
        let config = extractor.config.clone();
        extractor.config.train.teacher_epochs = 0;
        extractor.config.train.student_epochs = 0;
        let (mut detector, _) = train(extractor, &[blank], &mut |_| ())?;
        detector.fusion = Some(Fusion::unscaled());
        detector.config = config.clone();
        detector.extractor.config = config;
        Ok(detector)
    }
}

//! Every choice a user can make (the rows marked ◆ in the specification), as one TOML document.
//!
//! Precedence: preset, then configuration file, then `--set key=value`. [`Config`] is plain data;
//! the reading and the refusing are in `merge`.

mod choices;
mod merge;

pub use choices::*;

use serde::{Deserialize, Serialize};

use crate::data::{DepthKind, Meaning};
use crate::{Error, Result};

/// The whole configuration; it is stored in the model file, so that a detector predicts with what
/// it was trained with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The preset that the other values started from; a label only.
    pub preset: String,
    pub input: Input,
    pub depth: Depth,
    pub backbone: Backbone,
    pub positional: Positional,
    pub teacher: Teacher,
    pub student: Student,
    pub train: Train,
    pub score: Score,
}

/// What a part is photographed with, and the square that its image is resized to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub modality: Modality,
    /// `"auto"`, or the side of the square image in pixels; a multiple of 32.
    pub image_size: ImageSize,
    pub resize: Resize,
    /// `"auto"`, or which value is white in pictures of more than 8 bits.
    #[serde(default)]
    pub white: White,
    /// Scale every feature channel to mean 0 and variance 1 over the good parts. Not in the paper.
    pub standardise: bool,
}

impl Input {
    /// The value of white in pictures of more than 8 bits, where it is known.
    pub fn white(&self) -> Option<f32> {
        self.white.value().map(|white| white as f32)
    }
}

/// How a depth map becomes a model input and a foreground mask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Depth {
    /// Side of the square depth map, in pixels.
    pub size: usize,
    /// Side of the squares that are folded into channels: the map has `size / unshuffle` per side.
    pub unshuffle: usize,
    /// How often missing pixels are filled from their neighbours.
    pub fill_passes: usize,
    pub background: Background,
    /// A pixel further than this from the background plane belongs to the part, in millimetres.
    pub foreground_mm: f64,
    /// Side of the square that the foreground is dilated with, in pixels; 1 leaves it as it is.
    pub dilation: usize,
    pub mask: Mask,
    /// Millimetres per count of an integer depth image (16-bit PNG), and of a map of floats (metres).
    pub unit_mm: f64,
    #[serde(default = "default_float_unit_mm")]
    pub float_unit_mm: f64,
    /// Numbers that mark what was not measured, beside NaN, infinity, the type's highest, and 0.
    #[serde(default)]
    pub invalid: Vec<f64>,
    /// What depth is measured from.
    #[serde(default)]
    pub kind: DepthKind,
}

impl Depth {
    /// What the numbers in a file mean.
    pub fn meaning(&self) -> Meaning {
        Meaning {
            scale: self.unit_mm / 1000.0,
            float_scale: self.float_unit_mm / 1000.0,
            invalid: self.invalid.clone(),
            kind: self.kind,
        }
    }
}

/// The frozen feature extractor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// `"auto"`, which is the network of the weights, or its name.
    pub name: String,
    /// `"auto"`, `"joined"`, or the 0-based index of the block whose output is taken, or a list of them.
    pub tap: Tap,
    pub padding: Padding,
}

/// The positional encoding that both networks are conditioned on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Positional {
    /// A multiple of 4; 0 turns the encoding off.
    pub channels: usize,
}

/// The normalizing flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    pub blocks: usize,
    /// Width of the subnets' hidden layer.
    pub hidden: usize,
    /// Kernel side of each block, odd.
    pub kernels: Vec<usize>,
    /// α of the soft clamp of log-scales.
    pub clamp: f64,
    /// Does a linear layer that whitens the features come first? Not in the paper.
    #[serde(default)]
    pub whitening: bool,
    /// Added to the eigenvalues of the whitening's covariance, as a share of their mean.
    #[serde(default = "default_shrinkage")]
    pub shrinkage: f64,
}

/// The network that imitates the teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Student {
    pub kind: StudentKind,
    /// Channels between the first and last convolution (`cnn`).
    pub width: usize,
    /// Residual blocks (`cnn`) or coupling blocks (`flow`).
    pub blocks: usize,
    /// Slope of the leaky ReLU for negative inputs (`cnn`).
    pub slope: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    pub teacher_epochs: usize,
    pub student_epochs: usize,
    /// `"auto"`, or how many parts a step of training sees.
    pub batch: Batch,
    pub learning_rate: f64,
    pub schedule: Schedule,
    /// Added to the gradient as an L2 term, as PyTorch's `Adam` does.
    pub weight_decay: f64,
    pub loss_mean: LossMean,
    /// Drop an epoch's last incomplete batch, unless nothing would remain.
    pub drop_last: bool,
    /// The share of the good parts that is kept back for the threshold where a data set has no
    /// validation parts. 0 sets the threshold from the training parts, which score too low.
    pub hold_out: f64,
    /// Which good parts the threshold comes from.
    #[serde(default)]
    pub calibration: CalibrationParts,
    pub seed: u64,
}

/// From the networks' outputs to one number per image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    pub image: ImageScore,
    /// The share of the map whose mean `top` is.
    #[serde(default = "default_top")]
    pub top: f64,
    pub source: ScoreSource,
}

// What models that were made before these keys are read with, and presets begin with.
fn default_shrinkage() -> f64 {
    0.01
}

fn default_float_unit_mm() -> f64 {
    1000.0
}

fn default_top() -> f64 {
    0.05
}

impl Config {
    /// The presets' names, smallest first.
    pub const PRESETS: [&str; 4] = ["tiny", "thorough", "mvtec3d", "mvtec2d"];

    /// The named preset (spec section 7).
    ///
    /// # Errors
    /// An unknown name; the message lists the known ones.
    pub fn preset(name: &str) -> Result<Self> {
        match name {
            "mvtec2d" => Ok(Self::mvtec2d()),
            "mvtec3d" => Ok(Self::mvtec3d()),
            "tiny" => Ok(Self::tiny()),
            "thorough" => Ok(Self::thorough()),
            _ => Err(Error::usage(format!(
                "preset `{name}` is unknown{}; expected one of {}",
                merge::did_you_mean(name, Self::PRESETS),
                Self::PRESETS.join(", ")
            ))),
        }
    }

    /// MVTec AD as in the paper: RGB only, a wide teacher, the mean as the image's score.
    fn mvtec2d() -> Self {
        Self {
            preset: "mvtec2d".into(),
            input: Input {
                modality: Modality::Rgb,
                image_size: ImageSize::Pixels(768),
                resize: Resize::Stretch,
                white: White::Auto,
                standardise: false,
            },
            depth: Depth {
                size: 192,
                unshuffle: 8,
                fill_passes: 3,
                background: Background::Plane,
                foreground_mm: 7.0,
                dilation: 8,
                mask: Mask::Binary,
                unit_mm: 1.0,
                float_unit_mm: default_float_unit_mm(),
                invalid: Vec::new(),
                kind: DepthKind::Distance,
            },
            backbone: Backbone {
                name: "efficientnet_b5".into(),
                tap: Tap::Auto,
                padding: Padding::Auto,
            },
            positional: Positional { channels: 32 },
            teacher: Teacher {
                blocks: 4,
                hidden: 1024,
                kernels: vec![3, 3, 3, 5],
                clamp: 3.0,
                whitening: false,
                shrinkage: default_shrinkage(),
            },
            student: Student {
                kind: StudentKind::Cnn,
                width: 1024,
                blocks: 4,
                slope: 0.2,
            },
            train: Train {
                teacher_epochs: 240,
                student_epochs: 240,
                batch: Batch::Of(8),
                learning_rate: 2e-4,
                schedule: Schedule::Constant,
                weight_decay: 1e-5,
                loss_mean: LossMean::Foreground,
                drop_last: true,
                hold_out: 0.0,
                calibration: CalibrationParts::HeldOut,
                seed: 0,
            },
            score: Score {
                image: ImageScore::Mean,
                top: default_top(),
                source: ScoreSource::Distance,
            },
        }
    }

    /// MVTec 3D-AD as in the paper: RGB and depth, a narrow teacher, the maximum as the score.
    fn mvtec3d() -> Self {
        let mut config = Self::mvtec2d();
        config.preset = "mvtec3d".into();
        config.input.modality = Modality::RgbDepth;
        config.teacher.hidden = 64;
        config.teacher.clamp = 1.9;
        config.train.teacher_epochs = 72;
        config.train.student_epochs = 72;
        config.score.image = ImageScore::Max;
        config
    }

    /// A small student and a short training, for two CPU cores and a small backbone: the one that comes
    /// with the program, where there are no other weights.
    fn tiny() -> Self {
        let mut config = Self::mvtec3d();
        config.preset = "tiny".into();
        config.input.modality = Modality::Rgb;
        config.input.standardise = true;
        config.input.image_size = ImageSize::Auto;
        config.backbone.name = AUTO.into();
        config.backbone.tap = Tap::Joined;
        // The student looks around, too: half of the blocks need not.
        config.teacher.kernels = vec![3, 1, 3, 1];
        config.student.width = 128;
        config.student.blocks = 2;
        config.train.teacher_epochs = 12;
        config.train.student_epochs = 16;
        config.train.batch = Batch::Auto;
        config.train.learning_rate = 1e-3;
        config.train.schedule = Schedule::Cosine;
        config.train.hold_out = 0.1;
        config.train.calibration = CalibrationParts::Auto;
        config.teacher.whitening = true;
        config.score.image = ImageScore::Top;
        config.score.source = ScoreSource::Fusion;
        config
    }

    /// As `tiny`, with wider networks and a longer training: about fourteen times the work.
    fn thorough() -> Self {
        let mut config = Self::tiny();
        config.preset = "thorough".into();
        config.teacher.hidden = 128;
        config.student.width = 256;
        config.student.blocks = 4;
        config.train.teacher_epochs = 48;
        config.train.student_epochs = 64;
        config
    }

    /// The configuration as the TOML document that [`Config::from_toml`] reads back.
    ///
    /// # Errors
    /// Values that TOML cannot hold: a seed above 2^63 - 1.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::usage(format!("configuration: {e}")))
    }

    /// Kernel sides of a student that is itself a flow: the teacher's, with its first kernel
    /// repeated at the front for a deeper one and its first blocks left out for a shallower one.
    pub fn student_kernels(&self) -> Vec<usize> {
        let kernels = &self.teacher.kernels;
        let extra = self.student.blocks.saturating_sub(kernels.len());
        let skip = kernels.len().saturating_sub(self.student.blocks);
        let first = kernels.first().copied().unwrap_or(3);
        let mut all = vec![first; extra];
        all.extend(kernels.iter().skip(skip));
        all
    }

    /// Pixels along a side of the depth map once it is folded into channels.
    pub fn depth_map_side(&self) -> usize {
        self.depth.size / self.depth.unshuffle
    }

    /// Parts in a step of training.
    pub fn batch(&self) -> usize {
        self.train.batch.size(self.input.modality)
    }

    /// Pixels along a side of the picture that a backbone of this stride sees.
    pub fn image_side(&self, stride: usize) -> usize {
        match self.input.image_size {
            ImageSize::Auto => self.depth_map_side() * stride,
            ImageSize::Pixels(side) => side,
        }
    }

    /// Checks what one value alone cannot show.
    ///
    /// # Errors
    /// The first rule that is broken: key, value found, what was expected.
    pub fn validate(&self) -> Result<()> {
        let (input, depth, teacher) = (&self.input, &self.depth, &self.teacher);
        let at_least_one = [
            ("depth.size", depth.size),
            ("depth.unshuffle", depth.unshuffle),
            ("depth.dilation", depth.dilation),
            ("teacher.blocks", teacher.blocks),
            ("teacher.hidden", teacher.hidden),
            ("student.width", self.student.width),
            ("student.blocks", self.student.blocks),
            ("train.batch", self.batch()),
            ("train.teacher_epochs", self.train.teacher_epochs),
        ];
        for (key, value) in at_least_one {
            check(value >= 1, key, value, "at least 1")?;
        }
        let positive = [
            ("depth.foreground_mm", depth.foreground_mm),
            ("depth.unit_mm", depth.unit_mm),
            ("depth.float_unit_mm", depth.float_unit_mm),
            ("teacher.clamp", teacher.clamp),
            ("teacher.shrinkage", teacher.shrinkage),
            ("train.learning_rate", self.train.learning_rate),
            ("input.white", input.white.value().unwrap_or(1.0)),
        ];
        for (key, value) in positive {
            let holds = value.is_finite() && value > 0.0;
            check(holds, key, value, "a number above 0")?;
        }
        let decay = self.train.weight_decay;
        let holds = decay.is_finite() && decay >= 0.0;
        check(holds, "train.weight_decay", decay, "0 or above")?;
        let share = self.train.hold_out;
        let holds = (0.0..=0.5).contains(&share);
        check(holds, "train.hold_out", share, "a number from 0 to 0.5")?;
        let top = self.score.top;
        let holds = top > 0.0 && top <= 1.0;
        check(holds, "score.top", top, "a number above 0, 1 at most")?;
        let slope = self.student.slope;
        let holds = (0.0..=1.0).contains(&slope);
        check(holds, "student.slope", slope, "a number from 0 to 1")?;

        let holds = depth.size <= 8192 && depth.size.is_multiple_of(depth.unshuffle);
        let expected = format!("a multiple of depth.unshuffle = {}", depth.unshuffle);
        check(holds, "depth.size", depth.size, &expected)?;
        if let ImageSize::Pixels(side) = input.image_size {
            self.check_side(side)?;
        }
        let channels = self.positional.channels;
        let expected = "a multiple of 4, or 0 to turn the encoding off";
        check(
            channels.is_multiple_of(4),
            "positional.channels",
            channels,
            expected,
        )?;

        let found = format!("{:?}", teacher.kernels);
        let expected = format!("one kernel for each of teacher.blocks = {}", teacher.blocks);
        let holds = teacher.kernels.len() == teacher.blocks;
        check(holds, "teacher.kernels", &found, &expected)?;
        let holds = teacher.kernels.iter().all(|k| k % 2 == 1);
        check(holds, "teacher.kernels", &found, "odd kernel sides")?;

        let holds = self.train.student_epochs >= 1 || self.score.source == ScoreSource::Likelihood;
        let expected = "at least 1 (0 needs score.source = \"likelihood\")";
        let epochs = self.train.student_epochs;
        check(holds, "train.student_epochs", epochs, expected)?;
        let holds = self.train.seed <= i64::MAX as u64;
        check(holds, "train.seed", self.train.seed, "at most 2^63 - 1")
    }
}

impl Config {
    fn check_side(&self, side: usize) -> Result<()> {
        let holds = side.is_multiple_of(32) && (32..=8192).contains(&side);
        let expected = "a multiple of 32 from 32 to 8192";
        check(holds, "input.image_size", side, expected)?;
        if self.input.modality != Modality::RgbDepth {
            return Ok(());
        }
        let map = self.depth_map_side();
        let stride = side / map;
        let holds = stride * map == side && [2, 4, 8, 16, 32].contains(&stride);
        let expected = format!(
            "a side so that depth.size / depth.unshuffle ({map} here) is input.image_size / stride, \
             where the backbone's stride is 2, 4, 8, 16 or 32; \"auto\" is such a side"
        );
        check(holds, "input.image_size", side, &expected)
    }
}

fn check(holds: bool, key: &str, found: impl std::fmt::Display, expected: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{key} = {found}: expected {expected}"
    )))
}

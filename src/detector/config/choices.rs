//! The choices that are one of a few words, spelt in TOML as they are spelt here.

use serde::{Deserialize, Serialize};

/// What the sensor gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Modality {
    #[serde(rename = "rgb")]
    Rgb,
    #[serde(rename = "depth")]
    Depth,
    #[serde(rename = "rgb+depth")]
    RgbDepth,
}

impl Modality {
    pub fn has_rgb(self) -> bool {
        self != Self::Depth
    }

    pub fn has_depth(self) -> bool {
        self != Self::Rgb
    }
}

/// How an image that is not square becomes square (spec section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    Stretch,
    Letterbox,
}

/// What the part is told apart from (spec section 3, steps 3 and 4): the surface through the depth
/// map's four corners, or nothing, where the part fills the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Background {
    Plane,
    None,
}

/// The foreground mask at feature resolution: the paper's 0 or 1, or the released code's
/// fractions (spec section 3, step 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    Binary,
    Soft,
}

/// Padding of the backbone's stride-2 convolutions (spec section 2); `auto` goes with the naming
/// scheme of the weights. `same456` is that of efficientnet_pytorch 0.7, fixed for the native size
/// of the backbone: 456 for B5, from B0 to B7 224, 240, 260, 300, 380, 456, 528, 600 (V2-B0,
/// which that package lacks: 224).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    Auto,
    Same,
    Symmetric,
    Same456,
}

/// Table 5: the paper's convolutional student, or one of the teacher's own architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StudentKind {
    Cnn,
    Flow,
}

/// What the teacher's loss is averaged over (spec section 5): the paper's foreground pixels, or
/// the released code's all pixels, the background counting 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossMean {
    Foreground,
    All,
}

/// Which good parts the threshold comes from: those that are kept back (`train.hold_out`, or the data set's validation
/// parts); or all, in turn, each scored by networks that learned from the others ([`super::super::folds`]). `auto` takes
/// folds where there are no validation parts and at most 40 to train on: there a few parts are too few for a threshold,
/// and further trainings are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationParts {
    Auto,
    #[default]
    HeldOut,
    Folds,
}

impl CalibrationParts {
    /// Are there folds for so many good parts?
    pub fn are_folds(self, training: usize, validation: usize) -> bool {
        match self {
            Self::Auto => validation == 0 && training <= 40,
            Self::HeldOut => false,
            Self::Folds => validation == 0,
        }
    }
}

/// The learning rate over each network's training: as it is, or falling to 0 along half a cosine
/// (Loshchilov & Hutter 2017, without restarts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    Constant,
    Cosine,
}

impl Schedule {
    /// What the learning rate is multiplied by, `done` of the training (0 to 1) being over.
    pub fn factor(self, done: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine => 0.5 + 0.5 * (std::f64::consts::PI * done).cos(),
        }
    }
}

/// One score for an image (spec section 8); `auto` is `max` where a foreground mask exists and
/// `mean` where none does. `top` is the mean of the highest 5 % of the map: small defects do not
/// drown in it as in the mean, and one odd pixel does not decide as in the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageScore {
    Auto,
    Max,
    Mean,
    Top,
}

/// Student-teacher distance, the teacher's negative log-likelihood alone, or both, each on the scale of good
/// parts ([`crate::detector::Fusion`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreSource {
    Distance,
    Likelihood,
    Fusion,
}

/// Which blocks of the backbone give the features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Blocks", into = "Blocks")]
pub enum Tap {
    /// The last block of the sixth stage, for B5 block 35; where the weights end before, their last.
    Auto,
    /// The last blocks of the fifth and sixth stage, at strides 16 and 32, as far as the weights go.
    Joined,
    /// The outputs of these blocks, counted from 0, ascending: joined along channels, at the size of the first.
    Blocks(Vec<usize>),
}

impl Tap {
    /// The blocks, where they are given.
    pub fn blocks(&self) -> Option<&[usize]> {
        match self {
            Self::Auto | Self::Joined => None,
            Self::Blocks(blocks) => Some(blocks),
        }
    }
}

/// What the word `joined` stands for in TOML.
const JOINED: &str = "joined";

/// [`Tap`] as TOML spells it: `"auto"`, `"joined"`, a number or a list of numbers.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Blocks {
    One(usize),
    Several(Vec<usize>),
    Word(String),
}

impl TryFrom<Blocks> for Tap {
    type Error = String;

    fn try_from(value: Blocks) -> Result<Self, String> {
        match value {
            Blocks::One(block) => Ok(Self::Blocks(vec![block])),
            Blocks::Several(blocks) => Ok(Self::Blocks(blocks)),
            Blocks::Word(word) if word == AUTO => Ok(Self::Auto),
            Blocks::Word(word) if word == JOINED => Ok(Self::Joined),
            Blocks::Word(_) => {
                Err("neither a number, a list of numbers, \"auto\" nor \"joined\"".into())
            }
        }
    }
}

impl From<Tap> for Blocks {
    fn from(tap: Tap) -> Self {
        match tap {
            Tap::Auto => Self::Word(AUTO.into()),
            Tap::Joined => Self::Word(JOINED.into()),
            Tap::Blocks(blocks) if blocks.len() == 1 => Self::One(blocks[0]),
            Tap::Blocks(blocks) => Self::Several(blocks),
        }
    }
}

/// Side of the square that a picture is resized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrAuto", into = "NumberOrAuto")]
pub enum ImageSize {
    /// The side at which the features' map is as fine as the depth map's: `depth.size /
    /// depth.unshuffle` times the backbone's stride.
    Auto,
    /// So many pixels.
    Pixels(usize),
}

/// What the word `auto` stands for in TOML, beside numbers and names.
pub const AUTO: &str = "auto";

/// [`ImageSize`] as TOML spells it: `"auto"` or a number.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum NumberOrAuto {
    Number(usize),
    Word(String),
}

impl NumberOrAuto {
    /// None for `auto`.
    fn number(self) -> Result<Option<usize>, String> {
        match self {
            Self::Number(number) => Ok(Some(number)),
            Self::Word(word) if word == AUTO => Ok(None),
            Self::Word(_) => Err("neither a number nor \"auto\"".into()),
        }
    }

    fn of(number: Option<usize>) -> Self {
        match number {
            Some(number) => Self::Number(number),
            None => Self::Word(AUTO.into()),
        }
    }
}

/// Parts in a step of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrAuto", into = "NumberOrAuto")]
pub enum Batch {
    /// 2 pictures, or 8 parts with depth: a short training on pictures takes too few steps of 8, with depth it does not
    /// gain by more (benches/NOTEBOOK.md, "How many steps").
    Auto,
    Of(usize),
}

impl Batch {
    /// How many for parts that are looked at so.
    pub fn size(self, modality: Modality) -> usize {
        match self {
            Self::Auto if modality.has_depth() => 8,
            Self::Auto => 2,
            Self::Of(size) => size,
        }
    }
}

/// Which value is white in pictures of more than 8 bits; in those of 8 it is 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ValueOrAuto", into = "ValueOrAuto")]
pub enum White {
    /// The smallest 2ᵏ − 1 that holds the training pictures, or 1 where none holds more. In a model: they had 8 bits, or
    /// it is older than this key; white is then the highest number of 16 bits, and 1 of floats.
    #[default]
    Auto,
    Value(f64),
}

impl White {
    /// None where it is not known.
    pub fn value(self) -> Option<f64> {
        match self {
            Self::Auto => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// [`White`] as TOML spells it: `"auto"` or a number.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ValueOrAuto {
    Value(f64),
    Word(String),
}

impl TryFrom<ValueOrAuto> for White {
    type Error = String;

    fn try_from(value: ValueOrAuto) -> Result<Self, String> {
        match value {
            ValueOrAuto::Value(value) => Ok(Self::Value(value)),
            ValueOrAuto::Word(word) if word == AUTO => Ok(Self::Auto),
            ValueOrAuto::Word(_) => Err("neither a number nor \"auto\"".into()),
        }
    }
}

impl From<White> for ValueOrAuto {
    fn from(white: White) -> Self {
        match white {
            White::Auto => Self::Word(AUTO.into()),
            White::Value(value) => Self::Value(value),
        }
    }
}

impl TryFrom<NumberOrAuto> for Batch {
    type Error = String;

    fn try_from(value: NumberOrAuto) -> Result<Self, String> {
        Ok(value.number()?.map_or(Self::Auto, Self::Of))
    }
}

impl From<Batch> for NumberOrAuto {
    fn from(batch: Batch) -> Self {
        Self::of(match batch {
            Batch::Auto => None,
            Batch::Of(size) => Some(size),
        })
    }
}

impl TryFrom<NumberOrAuto> for ImageSize {
    type Error = String;

    fn try_from(value: NumberOrAuto) -> Result<Self, String> {
        Ok(value.number()?.map_or(Self::Auto, Self::Pixels))
    }
}

impl From<ImageSize> for NumberOrAuto {
    fn from(size: ImageSize) -> Self {
        Self::of(match size {
            ImageSize::Auto => None,
            ImageSize::Pixels(side) => Some(side),
        })
    }
}

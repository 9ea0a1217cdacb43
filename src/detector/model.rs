//! A trained detector and its file: one safetensors file with backbone, teacher, student and
//! threshold; the configuration, the program's version and the backbone's origin in its metadata.

use super::backbone::network;
use super::config::{Config, StudentKind};
use super::{Calibration, Extractor, Fusion, LEARNED, Learned, Standard};
use crate::kernel::step;
use crate::models::efficientnet::{EfficientNet, Padding};
use crate::models::positional::positional_encoding;
use crate::models::real_nvp::{RealNvp, RealNvpConfig};
use crate::models::student::{FoldedStudent, StudentConfig};
use crate::models::whitening::Whitening;
use crate::nn::layers::Parameters;
use crate::nn::tensor_file::TensorFile;
use crate::nn::weights::write_safetensors;
use crate::tensor::{Device, Tensor};
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// Counts up when older programs could not read the file any more.
const FORMAT: u32 = 4;
/// The oldest that is still read: keys that it lacks have a value that changes nothing.
const OLDEST: u32 = 3;

const MEAN: &str = "features.mean";
const SCALE: &str = "features.scale";
/// The entry of the metadata that holds the scales of a fused score.
const FUSION: &str = "fusion";
/// That which holds the scores of good parts.
const CALIBRATION: &str = "calibration";
/// Weight, bias and ln |det W|.
const WHITENING: [&str; 3] = ["whitening.weight", "whitening.bias", "whitening.log_det"];

/// The student for scoring: the paper's CNN, its batch norms folded, or a flow like the teacher
/// (Table 5).
#[allow(clippy::large_enum_variant)]
pub enum StudentNet {
    Cnn(FoldedStudent),
    Flow(RealNvp),
}

impl StudentNet {
    /// To be overwritten.
    fn zeros(config: &Config, device: &Device, channels: usize) -> Result<Self> {
        Ok(match config.student.kind {
            StudentKind::Cnn => {
                let sizes = student_sizes(config, channels);
                Self::Cnn(FoldedStudent::zeros(device, &sizes)?)
            }
            StudentKind::Flow => {
                let sizes = flow_sizes(config, channels, config.student_kernels());
                Self::Flow(RealNvp::zeros(device, sizes)?)
            }
        })
    }

    fn parameters(&mut self) -> Parameters<'_> {
        match self {
            Self::Cnn(student) => student.parameters(),
            Self::Flow(flow) => flow.parameters(),
        }
    }
}

/// The sizes of a flow that a configuration asks for.
pub(super) fn flow_sizes(config: &Config, channels: usize, kernels: Vec<usize>) -> RealNvpConfig {
    RealNvpConfig {
        channels,
        condition: config.positional.channels,
        hidden: config.teacher.hidden,
        kernels,
        alpha: config.teacher.clamp as f32,
    }
}

/// The sizes of the convolutional student that a configuration asks for.
pub(super) fn student_sizes(config: &Config, channels: usize) -> StudentConfig {
    StudentConfig {
        channels,
        condition: config.positional.channels,
        width: config.student.width,
        blocks: config.student.blocks,
        slope: config.student.slope as f32,
    }
}

/// The positional encoding of a batch `[n,side,side]`, where the configuration has one.
pub(super) fn place(config: &Config, device: &Device, shape: [usize; 3]) -> Result<Option<Tensor>> {
    match config.positional.channels {
        0 => Ok(None),
        channels => positional_encoding(device, shape, channels).map(Some),
    }
}

/// A trained detector.
pub struct Detector {
    pub config: Config,
    pub(super) device: Device,
    pub extractor: Extractor,
    /// Applied to features first, where `input.standardise` is set.
    pub(super) standard: Option<Standard>,
    pub(super) teacher: RealNvp,
    pub(super) student: StudentNet,
    /// The positional encoding that both are given.
    pub(super) place: Option<Tensor>,
    /// `None` before calibration, and where `score.source` is another.
    pub(super) fusion: Option<Fusion>,
    pub(super) calibration: Option<Calibration>,
    /// `None` of models that are older than [`Learned`].
    pub learned: Option<Learned>,
    /// A part that scores higher is defective; `None` before calibration.
    pub threshold: Option<f32>,
    /// Where a map is defective; `None` before calibration.
    pub map_threshold: Option<f32>,
}

impl Detector {
    /// All tensors by name; the order is the file's.
    fn tensors(&mut self, mut visit: impl FnMut(String, &mut Tensor) -> Result<()>) -> Result<()> {
        if let Some(net) = &mut self.extractor.net {
            net.parameters()
                .into_iter()
                .try_for_each(|(name, t)| visit(format!("backbone.{name}"), t))?;
        }
        self.teacher
            .parameters()
            .into_iter()
            .try_for_each(|(name, t)| visit(format!("teacher.{name}"), t))?;
        self.student
            .parameters()
            .into_iter()
            .try_for_each(|(name, t)| visit(format!("student.{name}"), t))
    }

    /// Writes the model, whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let mut list = Vec::new();
        if let Some(standard) = &self.standard {
            for (name, values) in [(MEAN, &standard.mean), (SCALE, &standard.scale)] {
                list.push((name.into(), vec![values.len()], values.clone()));
            }
        }
        if let Some(whitening) = self.teacher.whitening() {
            let (weight, bias, log_det) = whitening.values()?;
            let channels = bias.len();
            let shapes = [vec![channels, channels], vec![channels], vec![1]];
            let values = [weight, bias, vec![log_det]];
            for ((name, shape), values) in WHITENING.into_iter().zip(shapes).zip(values) {
                list.push((name.into(), shape, values));
            }
        }
        self.tensors(|name, tensor| {
            list.push((name, tensor.shape().dims().to_vec(), tensor.unrounded()?));
            Ok(())
        })?;
        let mut metadata = HashMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("astray".to_string(), env!("CARGO_PKG_VERSION").to_string()),
            ("config".to_string(), self.config.to_toml()?),
            ("backbone".to_string(), self.extractor.origin.clone()),
        ]);
        if let Some(net) = &self.extractor.net {
            metadata.insert("padding".to_string(), format!("{:?}", net.padding()));
        }
        metadata.extend(
            self.fusion
                .map(|fusion| (FUSION.to_string(), fusion.to_text())),
        );
        if let Some(calibration) = &self.calibration {
            metadata.insert(CALIBRATION.to_string(), calibration.to_text()?);
        }
        if let Some(learned) = &self.learned {
            let text = serde_json::to_string(learned);
            let text = text.map_err(|e| Error::failed(format!("JSON: {e}")))?;
            metadata.insert(LEARNED.to_string(), text);
        }
        for (key, value) in [
            ("threshold", self.threshold),
            ("map_threshold", self.map_threshold),
        ] {
            metadata.extend(value.map(|value| (key.to_string(), value.to_string())));
        }
        write_safetensors(path, &list, metadata)
    }

    /// Reads a model.
    ///
    /// # Errors
    /// [`Error::File`] when it is no model, cut short, damaged, or from a newer version.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let _step = step("load model");
        let mut file = TensorFile::open(path).map_err(|error| match error {
            Error::File { message, .. } => {
                Error::file(path, format!("no model to load: {message}"))
            }
            other => other,
        })?;
        let metadata = file.metadata();
        let entry = |key: &str| {
            let missing = || {
                Error::file(
                    path,
                    format!(
                        "no model of astray: its metadata has no `{key}`; make one with `astray train`"
                    ),
                )
            };
            metadata.get(key).ok_or_else(missing)
        };
        let format: u32 = entry("format")?.parse().unwrap_or(u32::MAX);
        if format > FORMAT {
            let message = format!(
                "written by astray {} in format {}; this is astray {}, which reads up to {FORMAT}: update it",
                entry("astray")?,
                entry("format")?,
                env!("CARGO_PKG_VERSION")
            );
            return Err(Error::file(path, message));
        }
        if format < OLDEST {
            let message = format!("made by an older astray in format {format}: train it again");
            return Err(Error::file(path, message));
        }
        // Complete, or refused: what a preset says today is not what the model was trained with.
        let config: Config = toml::from_str(entry("config")?).map_err(|e| {
            let message = format!("the model is damaged: its configuration: {}", e.message());
            Error::file(path, message)
        })?;
        config
            .validate()
            .map_err(|e| Error::file(path, format!("the model is damaged: {e}")))?;
        let origin = entry("backbone")?.clone();
        let mut extractor = Extractor {
            config: config.clone(),
            device: device.clone(),
            net: None,
            origin,
        };
        if config.input.modality.has_rgb() {
            let padding = entry("padding")?;
            let known = [Padding::Same, Padding::Symmetric, Padding::Same456];
            let padding = known.into_iter().find(|p| format!("{p:?}") == *padding);
            let padding = padding.ok_or_else(|| Error::file(path, "its padding is unknown"))?;
            let network = network(&config)
                .map_err(|e| Error::file(path, format!("the model is damaged: {e}")))?;
            extractor.net = Some(EfficientNet::zeros(device, network, padding)?);
        }
        let (side, channels) = (extractor.side(), extractor.channels());
        let standard = match config.input.standardise {
            true => Some(Standard {
                mean: file.read(MEAN, &[channels])?,
                scale: file.read(SCALE, &[channels])?,
            }),
            false => None,
        };
        let whitening = match config.teacher.whitening {
            true => {
                let [weight, bias, log_det] = WHITENING;
                Some(Whitening::new(
                    device,
                    file.read(weight, &[channels, channels])?,
                    file.read(bias, &[channels])?,
                    file.read(log_det, &[1])?[0],
                )?)
            }
            false => None,
        };
        let fusion = metadata.get(FUSION).map(|text| {
            Fusion::from_text(text).ok_or_else(|| {
                let message =
                    format!("the model is damaged: its {FUSION} is {text:?}, no two scales");
                Error::file(path, message)
            })
        });
        let fusion = fusion.transpose()?;
        let calibration = metadata.get(CALIBRATION).map(|text| {
            Calibration::from_text(text).ok_or_else(|| {
                Error::file(
                    path,
                    format!(
                        "the model is damaged: its {CALIBRATION} is no record of good parts' scores"
                    ),
                )
            })
        });
        let calibration = calibration.transpose()?;
        let learned = metadata.get(LEARNED).map(|text| {
            serde_json::from_str(text)
                .map_err(|e| Error::file(path, format!("the model is damaged: its {LEARNED}: {e}")))
        });
        let learned: Option<Learned> = learned.transpose()?;
        let number = |key: &str| -> Result<Option<f32>> {
            let damaged = |text: &String| {
                let message = format!("the model is damaged: its {key} is {text:?}, no number");
                Error::file(path, message)
            };
            let text = metadata.get(key);
            let parse = |text: &String| {
                let value = text.parse().ok().filter(|v: &f32| v.is_finite());
                value.ok_or_else(|| damaged(text))
            };
            text.map(parse).transpose()
        };
        let (threshold, map_threshold) = (number("threshold")?, number("map_threshold")?);
        let mut detector = Self {
            teacher: RealNvp::zeros(
                device,
                flow_sizes(&config, channels, config.teacher.kernels.clone()),
            )?
            .whitened_by(whitening),
            student: StudentNet::zeros(&config, device, channels)?,
            place: place(&config, device, [1, side, side])?,
            config,
            device: device.clone(),
            extractor,
            standard,
            fusion,
            calibration,
            learned,
            threshold,
            map_threshold,
        };
        detector.tensors(|name, tensor| {
            let values = file.read(&name, tensor.shape().dims())?;
            *tensor = Tensor::new(tensor.device(), tensor.shape(), values)?;
            Ok(())
        })?;
        Ok(detector)
    }

    /// The scores of good parts and the line that follows; `None` before calibration, and of models that are older than
    /// [`Calibration`].
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// Draws the lines for parts and for maps.
    pub fn set_calibration(&mut self, calibration: Calibration) {
        self.threshold = Some(calibration.line().threshold);
        self.map_threshold = Some(calibration.map_line().threshold);
        self.calibration = Some(calibration);
    }
}

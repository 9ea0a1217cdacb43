//! From files to the maps that teacher and student see.

use super::backbone::{Choice, check_picture};
use super::config::{self, Config, White};
use super::white;
use crate::data::look::Look;
use crate::data::{
    Background, Cache, Depth, DepthMap, DepthMask, DepthOptions, Key, Rgb, preprocess,
    resize::Resize,
};
use crate::kernel::step;
use crate::models::efficientnet::{Backbone, EfficientNet, Padding};
use crate::ops::unshuffle::unshuffle;
use crate::tape::Tape;
use crate::tensor::{Device, Tensor};
use crate::weights::Source;
use crate::{Error, Result};
use std::path::Path;

/// Counts up when the same picture gives other features: old cache entries are then not found.
const FEATURES: u32 = 5;

/// Pictures that a seeded backbone is calibrated on, all at once, and their pixels at most: of large ones fewer.
const CALIBRATION_PICTURES: usize = 8;
const CALIBRATION_PIXELS: usize = 8 * 384 * 384;

/// What is known of one part: features `[side,side,C]` and the foreground mask `[side,side]`.
#[derive(Clone, Debug)]
pub struct Features {
    pub map: Vec<f32>,
    pub mask: Vec<f32>,
    /// Does anything stand out of the background? Always, where there is no depth. Where nothing does, the whole is
    /// looked at.
    pub part_found: bool,
}

/// One part, read but not yet seen by the network.
pub struct Part {
    picture: Option<Picture>,
    depth: Option<Depth>,
    /// `None` where no picture was decoded.
    pub seen: Option<Seen>,
}

impl Part {
    /// That its picture exceeds white, in words.
    pub fn excess(&self) -> Option<&str> {
        self.seen.as_ref()?.excess.as_deref()
    }
}

/// What was noticed of a picture while it was read.
pub struct Seen {
    pub look: Look,
    /// That it exceeds white, in words.
    pub excess: Option<String>,
}

enum Picture {
    /// Features out of the cache.
    Known(Vec<f32>),
    /// A normalised picture `[side,side,3]`, and where its features go in the cache.
    New(Vec<f32>, Option<Key>),
}

/// The frozen front of a detector.
#[derive(Clone)]
pub struct Extractor {
    /// Where there is a network, nothing in it is `auto`.
    pub(super) config: Config,
    pub(super) device: Device,
    pub(super) net: Option<EfficientNet>,
    /// sha256 of the weight file, or how the backbone was seeded.
    pub(super) origin: String,
}

fn padding(choice: config::Padding) -> Option<Padding> {
    match choice {
        config::Padding::Auto => None,
        config::Padding::Same => Some(Padding::Same),
        config::Padding::Symmetric => Some(Padding::Symmetric),
        config::Padding::Same456 => Some(Padding::Same456),
    }
}

pub(super) fn resize(choice: config::Resize) -> Resize {
    match choice {
        config::Resize::Stretch => Resize::Stretch,
        config::Resize::Letterbox => Resize::Letterbox,
    }
}

impl Extractor {
    /// With weights from `source`; a seeded backbone is calibrated on `pictures`. Depth alone needs no
    /// backbone.
    ///
    /// # Errors
    /// Weights or pictures that cannot be used, see [`Choice::new`].
    pub fn new(
        config: &Config,
        device: &Device,
        source: &Source,
        pictures: &[&Path],
    ) -> Result<Self> {
        let mut extractor = Self {
            config: config.clone(),
            device: device.clone(),
            net: None,
            origin: "none".into(),
        };
        if !config.input.modality.has_rgb() {
            return Ok(extractor);
        }
        let choice = Choice::new(config, source)?;
        extractor.config = choice.config;
        if extractor.config.input.white == White::Auto {
            extractor.config.input.white = white::auto(pictures)?;
        }
        let (network, padding) = (choice.network, padding(config.backbone.padding));
        match choice.weights {
            Some(weights) => {
                let net = EfficientNet::load(device, network, &weights, padding)?;
                check_picture(config, &extractor.config, net.backbone())?;
                extractor.origin = weights.sha256;
                extractor.net = Some(net);
            }
            None => {
                let seed = config.train.seed;
                // By the CPU: the same network on every device.
                let mut net = EfficientNet::seeded(&Device::Cpu, network, padding, seed)?;
                check_picture(config, &extractor.config, net.backbone())?;
                let side = extractor.image_side(&net);
                let most = (CALIBRATION_PIXELS / (side * side)).clamp(1, CALIBRATION_PICTURES);
                let step = pictures.len().div_ceil(most).max(1);
                let chosen = pictures.iter().step_by(step);
                let mut batch = Vec::new();
                for path in chosen.clone() {
                    batch.extend(extractor.picture(&net, path)?.0);
                }
                let shape = [chosen.count(), side, side, 3];
                net.calibrate(&Tensor::new(&Device::Cpu, shape, batch)?)?;
                extractor.origin = format!("seeded {seed}");
                extractor.net = Some(net.on(device)?);
            }
        }
        Ok(extractor)
    }

    /// Pixels along a side of the picture that the network sees.
    pub(super) fn image_side(&self, net: &EfficientNet) -> usize {
        self.config.image_side(net.backbone().stride())
    }

    /// As it was given, but nothing is `auto` that the network decides.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The network up to its tap; depth alone needs none.
    pub fn network(&self) -> Option<&Backbone> {
        self.net.as_ref().map(EfficientNet::backbone)
    }

    /// Is the backbone random?
    pub fn is_seeded(&self) -> bool {
        self.origin.starts_with("seeded")
    }

    /// sha256 of the weight file, or how the backbone was seeded.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Pixels along a side of the feature map.
    pub fn side(&self) -> usize {
        match &self.net {
            Some(net) => self.image_side(net) / net.backbone().stride(),
            None => self.config.depth_map_side(),
        }
    }

    /// Channels of the features.
    pub fn channels(&self) -> usize {
        let rgb = self.net.as_ref().map_or(0, |net| net.backbone().channels());
        let depth = self.config.depth.unshuffle * self.config.depth.unshuffle;
        rgb + if self.config.input.modality.has_depth() {
            depth
        } else {
            0
        }
    }

    /// A picture at the size of the input, normalised, `[side,side,3]`.
    fn picture(&self, net: &EfficientNet, path: &Path) -> Result<(Vec<f32>, Seen)> {
        let side = self.image_side(net);
        let normalisation = &net.backbone().normalisation;
        let resize = resize(self.config.input.resize);
        let picture = Rgb::load(path, self.config.input.white())?;
        let seen = Seen {
            look: Look::of(&picture),
            excess: self.excess(&picture),
        };
        let (fitted, _) = picture.fit(side, side, resize, normalisation);
        Ok((fitted.normalize(normalisation), seen))
    }

    fn excess(&self, picture: &Rgb) -> Option<String> {
        let white = self.config.input.white()?;
        let brightest = picture.brightest().filter(|&brightest| brightest > 1.0)?;
        Some(format!(
            "holds values up to {}, above the model's white ({white}): were the training pictures taken with fewer bits? \
             (input.white)",
            brightest * white
        ))
    }

    /// A depth map as the network sees it.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn depth(&self, path: &Path) -> Result<Depth> {
        let options = self.depth_options();
        let map = DepthMap::load(path, &self.config.depth.meaning())?;
        preprocess(&map, &options, path)
    }

    /// How depth maps are prepared.
    pub fn depth_options(&self) -> DepthOptions {
        let depth = &self.config.depth;
        DepthOptions {
            fill_passes: depth.fill_passes,
            background: match depth.background {
                config::Background::Plane => Background::Plane,
                config::Background::None => Background::None,
            },
            foreground_distance: depth.foreground_mm / 1000.0,
            dilation: depth.dilation,
            size: depth.size,
            map_size: self.side(),
            mask: match depth.mask {
                config::Mask::Binary => DepthMask::Binary,
                config::Mask::Soft => DepthMask::Soft,
            },
            resize: resize(self.config.input.resize),
        }
    }

    /// Reads one part: what is looked up in `cache`, or decoded and resized.
    ///
    /// # Errors
    /// A file that is missing or cannot be used.
    pub fn read(
        &self,
        rgb: Option<&Path>,
        depth: Option<&Path>,
        cache: Option<&Cache>,
    ) -> Result<Part> {
        let needs = |what: &str| {
            let part = rgb.or(depth).unwrap_or(Path::new("a part"));
            let message = format!("the model needs {what} of every part, and this one has none");
            Error::file(part, message)
        };
        let (picture, seen) = match &self.net {
            Some(net) => {
                let path = rgb.ok_or_else(|| needs("a picture"))?;
                let (picture, seen) = self.read_picture(net, path, cache)?;
                (Some(picture), seen)
            }
            None => (None, None),
        };
        let depth = match self.config.input.modality.has_depth() {
            true => Some(self.depth(depth.ok_or_else(|| needs("a depth map"))?)?),
            false => None,
        };
        Ok(Part {
            picture,
            depth,
            seen,
        })
    }

    fn read_picture(
        &self,
        net: &EfficientNet,
        path: &Path,
        cache: Option<&Cache>,
    ) -> Result<(Picture, Option<Seen>)> {
        // A seeded backbone is another one for every set of pictures.
        let Some(cache) = cache.filter(|_| !self.is_seeded()) else {
            return self.read_new(net, path, None);
        };
        let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        let precision = if self.device.is_half() { " f16" } else { "" };
        let how = format!(
            "{FEATURES} {} taps {:?} {:?} {} {:?} {:?}{precision}",
            net.backbone().name,
            net.backbone().taps,
            net.padding(),
            self.image_side(net),
            self.config.input.resize,
            self.config.input.white
        );
        let key = cache.key(&[&bytes, self.origin.as_bytes(), how.as_bytes()]);
        match cache.get(&key, &self.picture_shape(net)) {
            Some(features) => Ok((Picture::Known(features), None)),
            None => self.read_new(net, path, Some(key)),
        }
    }

    /// One that exceeds white is not cached: it would come out of it without a word.
    fn read_new(
        &self,
        net: &EfficientNet,
        path: &Path,
        key: Option<Key>,
    ) -> Result<(Picture, Option<Seen>)> {
        let (pixels, seen) = self.picture(net, path)?;
        let key = key.filter(|_| seen.excess.is_none());
        Ok((Picture::New(pixels, key), Some(seen)))
    }

    fn picture_shape(&self, net: &EfficientNet) -> [usize; 3] {
        [self.side(), self.side(), net.backbone().channels()]
    }

    /// The features of a part. Those of a picture that was not in `cache` are added to it; a cache
    /// that cannot be written costs time, not the run.
    ///
    /// # Errors
    /// As the operators; [`Error::NotFinite`] where a picture's are not.
    pub fn features(&self, part: Part, cache: Option<&Cache>) -> Result<Features> {
        let _step = step("features");
        let side = self.side();
        let picture = match (&self.net, part.picture) {
            (Some(net), Some(picture)) => Some(self.rgb_features(net, picture, cache)?),
            _ => None,
        };
        let Some(depth) = part.depth else {
            return Ok(Features {
                map: picture.unwrap_or_default(),
                mask: vec![1.0; side * side],
                part_found: true,
            });
        };
        let size = self.config.depth.size;
        let d = self.config.depth.unshuffle;
        let tape = Tape::inference();
        let map = tape.constant(&Tensor::new(&Device::Cpu, [1, size, size, 1], depth.depth)?);
        let unshuffled = unshuffle(&tape, &map, d)?.tensor().to_vec()?;
        let map = match picture {
            None => unshuffled,
            Some(picture) => {
                let channels = picture.len() / (side * side);
                let pixels = picture.chunks(channels).zip(unshuffled.chunks(d * d));
                pixels
                    .flat_map(|(rgb, depth)| rgb.iter().chain(depth).copied())
                    .collect()
            }
        };
        let part_found = depth.mask.iter().any(|&m| m > 0.0);
        let mask = match part_found {
            true => depth.mask,
            false => vec![1.0; side * side],
        };
        Ok(Features {
            map,
            mask,
            part_found,
        })
    }

    fn rgb_features(
        &self,
        net: &EfficientNet,
        picture: Picture,
        cache: Option<&Cache>,
    ) -> Result<Vec<f32>> {
        let (features, key) = match picture {
            Picture::Known(features) => (features, None),
            Picture::New(pixels, key) => {
                let size = self.image_side(net);
                let x = Tensor::new(&self.device, [1, size, size, 3], pixels)?;
                (net.forward(&x)?.to_vec()?, key)
            }
        };
        let advice = match self.device.is_half() {
            true => "something became too large for f16: use `--precision f32`",
            false => "the backbone's weights are out of all proportion: use others",
        };
        Error::check_finite(&features, f32::INFINITY, || {
            ("the features of a picture".into(), advice)
        })?;
        if let (Some(cache), Some(key)) = (cache, key)
            && let Err(error) = cache.put(&key, &self.picture_shape(net), &features)
            && cache.is_first_failure()
        {
            tracing::warn!("features are not cached: {error}");
        }
        Ok(features)
    }
}

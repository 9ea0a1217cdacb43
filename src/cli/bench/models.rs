//! Whole models with seeded weights: forward, a training step, a prediction from files.

use super::{Made, Plan};
use crate::Result;
use crate::cli::draw;
use crate::data::{DepthMap, preprocess};
use crate::detector::config::{Config, Modality};
use crate::detector::{Detector, Extractor, read_ahead};
use crate::models::efficientnet::{Backbone, EfficientNet};
use crate::models::positional::positional_encoding;
use crate::models::real_nvp::{RealNvp, RealNvpConfig};
use crate::models::student::{Student, StudentConfig};
use crate::nn::optimiser::Optimiser;
use crate::nn::random::{Random, named_tensor};
use crate::ops::{adam::Adam, distance::distance, likelihood::likelihood, sum::sum};
use crate::tape::Tape;
use crate::tensor::{Device, Shape, Tensor};
use crate::weights::Source;
use std::path::{Path, PathBuf};

pub fn plans(batches: &[usize]) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut add = |name: &str, batches: &[usize], make: fn(&Device, usize) -> Result<Made>| {
        plans.extend(batches.iter().map(|&batch| Plan {
            name: name.to_string(),
            kind: "model",
            batch,
            make: Box::new(make),
        }));
    };
    add("extractor-b5-768", batches, extractor);
    add("teacher-2d", batches, |device, n| {
        teacher("mvtec2d", device, n)
    });
    add("teacher-3d", batches, |device, n| {
        teacher("mvtec3d", device, n)
    });
    add("teacher-2d-step", batches, |device, n| {
        teacher_step("mvtec2d", device, n)
    });
    add("teacher-3d-step", batches, |device, n| {
        teacher_step("mvtec3d", device, n)
    });
    add("student", batches, student);
    add("student-step", batches, student_step);
    add("predict-2d", batches, |device, n| {
        predict("mvtec2d", device, n)
    });
    add("predict-3d", batches, |device, n| {
        predict("mvtec3d", device, n)
    });
    add("depth-800", &[1], |device, _| depth(device, 800));
    plans
}

fn random(device: &Device, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    Tensor::new(device, shape, named_tensor(name, shape.len(), 1.0, 0))
}

fn extractor(device: &Device, n: usize) -> Result<Made> {
    let backbone = Backbone::new("efficientnet_b5", None)?;
    // By the CPU: the device is to see the network for the first time when the clock runs.
    let mut net = EfficientNet::seeded(&Device::Cpu, backbone, None, 0)?;
    net.calibrate(&random(&Device::Cpu, "picture", [1, 768, 768, 3])?)?;
    let net = net.on(device)?;
    let x = random(device, "pictures", [n, 768, 768, 3])?;
    Ok(Made {
        shape: x.shape().to_string(),
        work: Box::new(move || net.forward(&x)?.to_vec().map(drop)),
    })
}

/// Features, positional encoding and mask of a preset, and its numbers of channels.
struct Scene {
    config: Config,
    channels: usize,
    x: Tensor,
    place: Tensor,
    mask: Tensor,
}

impl Scene {
    fn new(preset: &str, device: &Device, n: usize) -> Result<Self> {
        let config = Config::preset(preset)?;
        let backbone = Backbone::new(&config.backbone.name, None)?;
        let side = config.image_side(backbone.stride()) / backbone.stride();
        let depth = match config.input.modality {
            Modality::Rgb => 0,
            _ => config.depth.unshuffle * config.depth.unshuffle,
        };
        let channels = backbone.channels() + depth;
        Ok(Self {
            channels,
            x: random(device, "features", [n, side, side, channels])?,
            place: positional_encoding(device, [n, side, side], config.positional.channels)?,
            mask: Tensor::new_f32(device, [n, side, side, 1], vec![1.0; n * side * side])?,
            config,
        })
    }

    fn flow(&self) -> Result<RealNvp> {
        let flow = RealNvpConfig {
            channels: self.channels,
            condition: self.config.positional.channels,
            hidden: self.config.teacher.hidden,
            kernels: self.config.teacher.kernels.clone(),
            alpha: self.config.teacher.clamp as f32,
        };
        RealNvp::init(self.x.device(), flow, "teacher.", 0)
    }

    fn cnn(&self) -> Result<Student> {
        let sizes = StudentConfig {
            channels: self.channels,
            condition: self.config.positional.channels,
            width: self.config.student.width,
            blocks: self.config.student.blocks,
            slope: self.config.student.slope as f32,
        };
        Student::init(self.x.device(), sizes, "student.", 0)
    }

    /// So small that a thousand steps change nothing that costs time.
    fn optimiser(&self) -> Optimiser {
        Optimiser::new(Adam {
            learning_rate: 1e-9,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: self.config.train.weight_decay,
        })
    }

    fn weight(&self) -> f32 {
        1.0 / self.mask.shape().len() as f32
    }
}

fn teacher(preset: &str, device: &Device, n: usize) -> Result<Made> {
    let scene = Scene::new(preset, device, n)?;
    let flow = scene.flow()?;
    Ok(Made {
        shape: scene.x.shape().to_string(),
        work: Box::new(move || {
            let tape = Tape::inference();
            let (x, place) = (tape.constant(&scene.x), tape.constant(&scene.place));
            let (z, _) = flow.forward(&tape, &x, Some(&place))?;
            z.tensor().to_vec().map(drop)
        }),
    })
}

fn teacher_step(preset: &str, device: &Device, n: usize) -> Result<Made> {
    let scene = Scene::new(preset, device, n)?;
    let (mut flow, mut adam) = (scene.flow()?, scene.optimiser());
    Ok(Made {
        shape: scene.x.shape().to_string(),
        work: Box::new(move || {
            let tape = Tape::training();
            let (x, place) = (tape.constant(&scene.x), tape.constant(&scene.place));
            let (z, log_det) = flow.forward(&tape, &x, Some(&place))?;
            let map = likelihood(&tape, &z, &log_det, &scene.mask)?;
            let loss = sum(&tape, &map, scene.weight())?;
            adam.minimise(flow.parameters(), tape, &loss).map(drop)
        }),
    })
}

fn student(device: &Device, n: usize) -> Result<Made> {
    let scene = Scene::new("mvtec2d", device, n)?;
    let net = scene.cnn()?.fold()?;
    Ok(Made {
        shape: scene.x.shape().to_string(),
        work: Box::new(move || {
            let tape = Tape::inference();
            let (x, place) = (tape.constant(&scene.x), tape.constant(&scene.place));
            let y = net.forward(&tape, &x, Some(&place))?;
            y.tensor().to_vec().map(drop)
        }),
    })
}

fn student_step(device: &Device, n: usize) -> Result<Made> {
    let scene = Scene::new("mvtec2d", device, n)?;
    let answer = random(device, "answers", scene.x.shape())?;
    let (mut net, mut adam) = (scene.cnn()?, scene.optimiser());
    Ok(Made {
        shape: scene.x.shape().to_string(),
        work: Box::new(move || {
            let tape = Tape::training();
            let (x, place) = (tape.constant(&scene.x), tape.constant(&scene.place));
            let y = net.train(&tape, &x, Some(&place))?;
            let map = distance(&tape, &y, &answer, &scene.mask)?;
            let loss = sum(&tape, &map, scene.weight())?;
            adam.minimise(net.parameters(), tape, &loss).map(drop)
        }),
    })
}

/// From the files of `n` parts to their scores, the next one decoded meanwhile, the model loaded before.
fn predict(preset: &str, device: &Device, n: usize) -> Result<Made> {
    let folder = draw::drawn_parts(n)?;
    let file = |kind: &str, i: usize, end: &str| {
        let name = format!("train/good/{kind}/{i:03}.{end}");
        folder.path().join(name)
    };
    let parts: Vec<[PathBuf; 2]> = (0..n)
        .map(|i| [file("rgb", i, "png"), file("xyz", i, "tiff")])
        .collect();
    let config = Config::preset(preset)?;
    let extractor = Extractor::new(&config, device, &Source::Seeded, &[&parts[0][0]])?;
    let detector = Detector::untrained(extractor)?;
    let depth = config.input.modality.has_depth();
    Ok(Made {
        shape: format!("{0}x{0} pictures", draw::SIDE),
        work: Box::new(move || {
            let _kept = &folder;
            let read = |&[rgb, xyz]: &&[PathBuf; 2]| {
                let xyz = depth.then_some(xyz.as_path());
                detector.extractor.read(Some(rgb), xyz, None)
            };
            read_ahead(&parts, read, |_, part| {
                let features = detector.extractor.features(part, None)?;
                detector.score(&features).map(drop)
            })
        }),
    })
}

/// A tilted plane with a bump and 15 % holes.
fn depth(device: &Device, side: usize) -> Result<Made> {
    let mut random = Random::new(0);
    let mut z = Vec::with_capacity(side * side);
    for i in 0..side * side {
        let (x, y) = (
            (i % side) as f64 / side as f64,
            (i / side) as f64 / side as f64,
        );
        let inside = (x - 0.5).hypot(y - 0.5) < 0.25;
        let height = 0.6 + 0.02 * x + 0.01 * y - if inside { 0.03 } else { 0.0 };
        z.push(if random.uniform() < 0.15 {
            0.0
        } else {
            height as f32
        });
    }
    let map = DepthMap::new(side, side, z)?;
    let mut config = Config::preset("mvtec3d")?;
    config.input.modality = Modality::Depth;
    let options = Extractor::new(&config, device, &Source::Seeded, &[])?.depth_options();
    Ok(Made {
        shape: format!("{side}x{side}, 15 % holes"),
        work: Box::new(move || preprocess(&map, &options, Path::new("drawn")).map(drop)),
    })
}

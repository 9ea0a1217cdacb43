//! EfficientNet-B0 and B5 with seeded weights in three paddings, and V2-B0 with the real ones.

use super::{BASE_SEED, Reference, devices, generated, relative};
use astray::models::efficientnet::{Backbone, EfficientNet, Normalisation, Padding};
use astray::nn::weights::{Array, Weights};
use astray::tensor::{Device, Shape, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// A value from 0 to 255, normalised, in f64.
fn normalised(normalisation: &Normalisation, value: f64, channel: usize) -> f32 {
    // The decimals that were meant, not their f32.
    let [mean, deviation] = match *normalisation == Normalisation::LITE {
        true => [127.0 / 255.0, 128.0 / 255.0],
        false => [
            [0.485, 0.456, 0.406][channel],
            [0.229, 0.224, 0.225][channel],
        ],
    };
    ((value / 255.0 - mean) / deviation) as f32
}

/// The reference's structured picture, normalised, [1,H,W,3].
pub fn picture(
    device: &Device,
    normalisation: &Normalisation,
    name: &str,
    [height, width]: [usize; 2],
) -> Tensor {
    let noise = generated(name, Shape::from([height, width, 3]), 1.0, 0.0);
    let mut data = Vec::with_capacity(noise.len());
    for (i, noise) in noise.iter().enumerate() {
        let (y, x, c) = (
            (i / 3 / width) as f64,
            (i / 3 % width) as f64,
            (i % 3) as f64,
        );
        // `generated` gives 2u - 1.
        let u = (*noise as f64 + 1.0) / 2.0;
        let value = 0.5
            + 0.25 * (0.11 * x + 0.07 * y + c).sin()
            + 0.15 * (0.031 * x * y / height as f64).cos()
            + 0.1 * (u - 0.5);
        let pixel = (255.0 * value.clamp(0.0, 1.0) + 0.5).floor();
        data.push(normalised(normalisation, pixel, i % 3));
    }
    Tensor::new(device, [1, height, width, 3], data).unwrap()
}

/// [kh,kw,C_in,C_out] as PyTorch's [C_out,C_in,kh,kw].
fn to_oihw(data: &[f32], [c_out, c_in, kh, kw]: [usize; 4]) -> Vec<f32> {
    let mut out = vec![0.0; data.len()];
    for (i, &value) in data.iter().enumerate() {
        let (co, ci, tap) = (i % c_out, i / c_out % c_in, i / c_out / c_in);
        out[(co * c_in + ci) * kh * kw + tap] = value;
    }
    out
}

/// Timm's state dict, generated as the reference's; running statistics are stored.
pub fn weights(reference: &Reference, model: &str, padding: &str) -> Weights {
    let text = std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/state_dicts.json"),
    )
    .unwrap();
    let dicts: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let shapes = &dicts[format!("timm {model}")];
    let mut tensors = BTreeMap::new();
    for (name, shape) in shapes.as_object().unwrap() {
        let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
        let key = format!("{model}.{name}");
        let data = if name.contains("running") {
            let stored = format!("{model}.{padding}.{name}");
            if !reference.has(&stored) {
                continue; // behind the tap
            }
            reference
                .values(&stored)
                .iter()
                .map(|&v| v as f32)
                .collect()
        } else if let [c_out, c_in, kh, kw] = shape[..] {
            let fan_in = (c_in * kh * kw) as f64;
            // The squeeze-and-excite's and every other convolution: sqrt(6 / fan_in).
            let data = generated(
                &key,
                Shape::from([kh, kw, c_in, c_out]),
                (6.0 / fan_in).sqrt(),
                0.0,
            );
            to_oihw(&data, [c_out, c_in, kh, kw])
        } else if shape.len() == 1 && name.contains("bn") {
            let (bound, offset) = if name.ends_with("weight") {
                (0.2, 1.0)
            } else {
                (0.1, 0.0)
            };
            generated(&key, Shape::new(&shape), bound, offset)
        } else if shape.len() == 1 {
            // A bias of a squeeze-and-excite convolution: 1 / sqrt(fan_in of its weight).
            let weight = name.replace("bias", "weight");
            let fan_in = shapes[&weight][1].as_f64().unwrap();
            generated(&key, Shape::new(&shape), 1.0 / fan_in.sqrt(), 0.0)
        } else {
            continue;
        };
        tensors.insert(name.clone(), Array::new(shape, data));
    }
    Weights {
        path: format!("{model} (generated)").into(),
        sha256: String::new(),
        bytes: 0,
        tensors,
        metadata: Default::default(),
    }
}

fn compare(reference: &Reference, name: &str, found: &Tensor, tolerance: f64) {
    let stride = reference.metadata("sampled")[name]["stride"]
        .as_u64()
        .unwrap() as usize;
    let values = found.to_vec().unwrap();
    let sample: Vec<f32> = (0..4096)
        .map(|k| values[k * stride % values.len()])
        .collect();
    let error = relative(&sample, &reference.values(&format!("{name}.sample")));
    assert!(
        error <= tolerance,
        "{name} on {}: {error:.2e}",
        found.device().name()
    );
}

/// Compares the stem and the last block of every stage; how many were compared.
pub fn compare_stages(
    reference: &Reference,
    prefix: &str,
    net: &EfficientNet,
    x: &Tensor,
    tolerance: f64,
) -> usize {
    let blocks = net.backbone().blocks.clone();
    let mut compared = 0;
    net.taps(x, |block, map| {
        let name = match block {
            None => format!("{prefix}.stem"),
            Some(i)
                if blocks
                    .get(i + 1)
                    .is_none_or(|next| next.stage != blocks[i].stage) =>
            {
                format!("{prefix}.stage{}", blocks[i].stage + 1)
            }
            Some(_) => return Ok(()),
        };
        if reference.has(&format!("{name}.sample")) {
            compare(reference, &name, map, tolerance);
            compared += 1;
        } else if reference.has(&name) {
            // Small, and stored whole.
            let error = reference.distance(&name, map);
            assert!(error <= tolerance, "{name}: {error:.2e}");
            compared += 1;
        }
        Ok(())
    })
    .unwrap();
    compared
}

#[test]
fn efficientnets_agree_in_every_padding() {
    assert_eq!(BASE_SEED, 42362);
    let reference = Reference::open("efficientnet.safetensors");
    for (device, _, tolerance) in devices() {
        for (model, size) in [("b0", [96, 160]), ("b5", [128, 128])] {
            for (name, padding) in [
                ("same", Padding::Same),
                ("same456", Padding::Same456),
                ("symmetric", Padding::Symmetric),
            ] {
                let backbone = Backbone::new(&format!("efficientnet_{model}"), None).unwrap();
                let weights = weights(&reference, model, name);
                let net = EfficientNet::load(&device, backbone, &weights, Some(padding)).unwrap();
                let x = picture(
                    &device,
                    &Normalisation::IMAGENET,
                    &format!("{model}.picture"),
                    size,
                );
                let compared =
                    compare_stages(&reference, &format!("{model}.{name}"), &net, &x, tolerance);
                assert!(compared >= 6, "{model} {name}: only {compared} stages");
            }
        }
    }
}

/// The size of the paper, once, on the CPU.
#[test]
fn b5_agrees_at_768() {
    let reference = Reference::open("efficientnet.safetensors");
    let device = Device::Cpu;
    let backbone = Backbone::new("efficientnet_b5", None).unwrap();
    let net =
        EfficientNet::load(&device, backbone, &weights(&reference, "b5", "same"), None).unwrap();
    let x = picture(
        &device,
        &Normalisation::IMAGENET,
        "b5.picture768",
        [768, 768],
    );
    assert!(compare_stages(&reference, "b5.768.same", &net, &x, 1e-4) >= 1);
}

#[test]
fn v2_b0_agrees_with_keras() {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/data/weights"
    ));
    let golden = folder.join("golden_panda224_nhwc.safetensors");
    if !golden.exists() {
        crate::say!(
            "not present: {}: V2-B0 was NOT compared with its golden activations",
            golden.display()
        );
        return;
    }
    let reference = Reference {
        bytes: std::fs::read(golden).unwrap(),
    };
    let weights =
        Weights::read(&folder.join("efficientnetv2-b0-imagenet-to-block6h.safetensors")).unwrap();
    for (device, _, tolerance) in devices() {
        let backbone = Backbone::new("efficientnetv2_b0", None).unwrap();
        let net = EfficientNet::load(&device, backbone, &weights, None).unwrap();
        let pixels = reference.values("input_rgb_0_255_nhwc");
        let data = pixels
            .iter()
            .enumerate()
            .map(|(i, &v)| normalised(&Normalisation::IMAGENET, v, i % 3));
        let x = Tensor::new(&device, [1, 224, 224, 3], data.collect()).unwrap();
        let mut compared = 0;
        net.taps(&x, |block, map| {
            let name = match block {
                None => "stem_activation",
                Some(0) => "block1a_project_activation",
                Some(2) => "block2b_add",
                Some(4) => "block3b_add",
                Some(7) => "block4c_add",
                Some(12) => "block5e_add",
                Some(20) => "block6h_add",
                Some(_) => return Ok(()),
            };
            let error = reference.distance(name, map);
            assert!(
                error <= tolerance,
                "{name} on {}: {error:.2e}",
                device.name()
            );
            compared += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(compared, 7);
    }
}

/// All three published namings load, and a tensor too many, too few or of another shape is named.
#[test]
fn naming_schemes_load() {
    let text = std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/state_dicts.json"),
    )
    .unwrap();
    let dicts: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for (key, shapes) in dicts
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, v)| v.is_object())
    {
        let (_, model) = key.split_once(' ').unwrap();
        let mut tensors = BTreeMap::new();
        for (name, shape) in shapes.as_object().unwrap() {
            let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
            let data = vec![0.5; shape.iter().product()];
            tensors.insert(name.clone(), Array::new(shape, data));
        }
        let weights = |tensors| Weights {
            path: "w.pth".into(),
            sha256: String::new(),
            bytes: 0,
            tensors,
            metadata: Default::default(),
        };
        let load = |tensors| {
            let backbone = Backbone::new(&format!("efficientnet_{model}"), None).unwrap();
            EfficientNet::load(&Device::Cpu, backbone, &weights(tensors), None)
        };
        load(tensors.clone()).unwrap_or_else(|e| panic!("{key}: {e}"));
        let victim = tensors
            .keys()
            .find(|k| k.contains("running_var") && !k.contains("head"))
            .unwrap()
            .clone();
        let mut missing = tensors.clone();
        missing.remove(&victim);
        let mut negative = tensors.clone();
        negative.get_mut(&victim).unwrap().data[0] = -0.5;
        let mut misshapen = tensors.clone();
        misshapen.get_mut(&victim).unwrap().shape.push(1);
        let mut extra = tensors.clone();
        extra.insert("surprise.weight".into(), Array::new(vec![1], vec![0.0]));
        for (tensors, name) in [
            (missing, victim.as_str()),
            (misshapen, &victim),
            (negative, &victim),
            (extra, "surprise.weight"),
        ] {
            let error = load(tensors).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("w.pth"),
                "{key}: {error}"
            );
        }
    }
}

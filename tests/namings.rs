//! The naming schemes give every tensor its place: a wrong place of the same shape would pass unnoticed.

use astray::models::efficientnet::{
    Backbone, EfficientNet, Scheme, backbone_names, lookalike, lookalikes,
};
use astray::nn::weights::{Array, Weights};
use astray::tensor::Device;
use astray::weights::network;
use serde::de::{MapAccess, Visitor};
use std::collections::BTreeMap;
use std::path::Path;

/// A state dict's names and shapes in the order in which the package defines them, which is the order
/// of computation in all three.
#[derive(Default)]
struct StateDict(Vec<(String, Vec<usize>)>);

impl<'de> serde::Deserialize<'de> for StateDict {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = StateDict;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of shapes")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StateDict, A::Error> {
                let mut dict = StateDict::default();
                while let Some(entry) = map.next_entry()? {
                    dict.0.push(entry);
                }
                Ok(dict)
            }
            /// `made_by`: not a state dict.
            fn visit_str<E>(self, _: &str) -> Result<StateDict, E> {
                Ok(StateDict::default())
            }
        }
        from.deserialize_any(InOrder)
    }
}

/// That package's tensors, where every element of the i-th is 1 + i / 1024.
fn state_dict(package: &str, model: &str) -> Weights {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/state_dicts.json");
    let text = std::fs::read(path).unwrap();
    let mut dicts: BTreeMap<String, StateDict> = serde_json::from_slice(&text).unwrap();
    let entries = dicts.remove(&format!("{package} {model}")).unwrap().0;
    let floats = entries
        .into_iter()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"));
    let tensors = floats.enumerate().map(|(i, (name, shape))| {
        let data = vec![1.0 + i as f32 / 1024.0; shape.iter().product()];
        (name, Array::new(shape, data))
    });
    Weights {
        path: format!("{model}.pth").into(),
        sha256: String::new(),
        bytes: 0,
        tensors: tensors.collect(),
        metadata: Default::default(),
    }
}

#[test]
fn the_network_of_public_weights_is_recognised() {
    for package in ["timm", "torchvision", "efficientnet_pytorch"] {
        for model in ["b0", "b5"] {
            let found = network(&state_dict(package, model)).unwrap();
            assert_eq!(found.name, format!("efficientnet_{model}"), "{package}");
            assert_eq!(found.blocks.len(), found.all_blocks, "{package}");
        }
    }
    for package in ["timm", "efficientnet_pytorch"] {
        for model in ["lite0", "lite2", "lite4"] {
            let found = network(&state_dict(package, model)).unwrap();
            assert_eq!(found.name, format!("efficientnet_{model}"), "{package}");
            assert_eq!(found.blocks.len(), found.all_blocks, "{package}");
        }
    }
}

/// That package's B5, folded, as f32.
fn folded(package: &str) -> Vec<(String, Vec<f32>)> {
    let weights = state_dict(package, "b5");
    let backbone = Backbone::new("efficientnet_b5", None).unwrap();
    let mut network = EfficientNet::load(&Device::Cpu, backbone, &weights, None).unwrap();
    let parameters = network.parameters();
    let read = parameters
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_vec().unwrap()));
    read.collect()
}

#[test]
fn three_namings_give_the_same_network() {
    let timm = folded("timm");
    // Stem and 36 blocks: weight and bias of each convolution; the first three blocks do not expand.
    assert_eq!(timm.len(), 2 * (1 + 36 * 5 - 3));
    // The stem is tensor 0, its batch norm tensors 1 to 4: weight, bias, mean, variance.
    let value = |i: usize| 1.0 + i as f64 / 1024.0;
    let scale = value(1) / (value(4) + 1e-3).sqrt();
    let stem: BTreeMap<&str, f32> = timm.iter().map(|(name, data)| (&**name, data[0])).collect();
    assert!((f64::from(stem["stem.weight"]) - value(0) * scale).abs() < 1e-6);
    assert!((f64::from(stem["stem.bias"]) - (value(2) - value(3) * scale)).abs() < 1e-6);
    for package in ["torchvision", "efficientnet_pytorch"] {
        for (expected, found) in timm.iter().zip(folded(package)) {
            assert!(*expected == found, "{package}: {}", expected.0);
        }
    }
}

/// Real files of B0 and B5, and every other network as its table has it.
#[test]
fn a_file_of_another_network_is_recognised() {
    let schemes = ["timm", "torchvision", "efficientnet_pytorch"];
    for (package, model) in schemes.iter().flat_map(|p| ["b0", "b5"].map(|m| (p, m))) {
        let mut tensors = state_dict(package, model).tensors;
        let found = |tensors: &BTreeMap<String, Array>| {
            lookalike(tensors).map(|(name, scheme)| (name, scheme.to_string()))
        };
        let expected = Some((format!("efficientnet_{model}"), package.to_string()));
        assert_eq!(found(&tensors), expected);
        // Two networks in one file, or half of one, look like none.
        let (name, depthwise) = tensors
            .iter()
            .find(|(_, a)| matches!(a.shape[..], [_, 1, 3, 3]))
            .map(|(name, array)| (name.clone(), array.clone()))
            .unwrap();
        tensors.insert("another".into(), depthwise);
        assert_eq!(found(&tensors), None);
        tensors.retain(|other, _| *other != name && other != "another");
        assert_eq!(found(&tensors), None);
    }
    for (name, scheme) in backbone_names()
        .iter()
        .flat_map(|n| Scheme::ALL.map(|s| (n, s)))
    {
        let network = Backbone::whole(name).unwrap();
        let mut tensors = BTreeMap::new();
        let mut add = |conv: String, shape: [usize; 4]| {
            let (shape, data) = (shape.to_vec(), Vec::new());
            tensors.insert(format!("{conv}.weight"), Array::new(shape, data));
        };
        add(scheme.stem().0, [network.stem, 3, 3, 3]);
        for (i, block) in network.blocks.iter().enumerate() {
            let names = scheme.block(i, block);
            let kernel = block.kernel;
            if !block.fused {
                add(names.depthwise.0, [block.hidden(), 1, kernel, kernel]);
            }
            add(names.project.0, [block.c_out, block.hidden(), 1, 1]);
            if let Some(width) = block.squeeze() {
                add(names.se_reduce, [width, block.hidden(), 1, 1]);
            }
        }
        assert_eq!(lookalike(&tensors), Some((name.clone(), scheme)));
    }
}

#[test]
fn a_missing_stem_is_named_in_every_naming() {
    for (package, stem) in [
        ("timm", "conv_stem.weight"),
        ("torchvision", "features.0.0.weight"),
        ("efficientnet_pytorch", "_conv_stem.weight"),
    ] {
        let mut weights = state_dict(package, "b0");
        weights.tensors.remove(stem).unwrap();
        let backbone = Backbone::new("efficientnet_b0", None).unwrap();
        let error = EfficientNet::load(&Device::Cpu, backbone, &weights, None).unwrap_err();
        let expected = format!("b0.pth: tensor `{stem}` of efficientnet_b0 is missing");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(!error.to_string().contains("looks like"), "{error}");
    }
}

/// A file that was cut: the networks that begin so, up to where they differ.
#[test]
fn the_beginning_of_a_network_is_recognised() {
    let mut tensors = state_dict("timm", "b5").tensors;
    let blocks = |tensors: &BTreeMap<String, Array>| {
        let (scheme, found) = lookalikes(tensors).unwrap();
        assert_eq!(scheme, Scheme::Timm);
        let described = |b: &Backbone| (b.name.clone(), b.blocks.len());
        found.iter().map(described).collect::<Vec<_>>()
    };
    assert_eq!(blocks(&tensors), [("efficientnet_b5".to_string(), 39)]);
    tensors.retain(|name, _| !name.starts_with("blocks.6") && !name.starts_with("conv_head"));
    assert_eq!(blocks(&tensors), [("efficientnet_b5".to_string(), 36)]);
    // B4 has the same stem and begins with two blocks of the same width.
    let first = ["conv_stem", "bn1", "blocks.0.0.", "blocks.0.1."];
    tensors.retain(|name, _| first.iter().any(|start| name.starts_with(start)));
    let both = ["efficientnet_b4", "efficientnet_b5"].map(|name| (name.to_string(), 2));
    assert_eq!(blocks(&tensors), both);
    // A block that is missing in the middle leaves none of them.
    tensors.retain(|name, _| !name.starts_with("blocks.0.0."));
    assert_eq!(blocks(&tensors), []);
}

/// A Lite network has the blocks of another one: squeeze-and-excite tells them apart, and the file is named.
#[test]
fn lite_networks_and_their_namesakes_are_told_apart() {
    for package in ["timm", "efficientnet_pytorch"] {
        for (there, wanted, words) in [
            (
                "b0",
                "lite0",
                [
                    "does not belong to efficientnet_lite0",
                    "looks like efficientnet_b0",
                ],
            ),
            (
                "lite0",
                "b0",
                [
                    "of efficientnet_b0 is missing",
                    "looks like efficientnet_lite0",
                ],
            ),
            (
                "lite2",
                "lite0",
                ["efficientnet_lite0", "looks like efficientnet_lite2"],
            ),
            (
                "lite0",
                "lite1",
                ["efficientnet_lite1", "looks like efficientnet_lite0"],
            ),
        ] {
            let weights = state_dict(package, there);
            let backbone = Backbone::new(&format!("efficientnet_{wanted}"), None).unwrap();
            let error = EfficientNet::load(&Device::Cpu, backbone, &weights, None).unwrap_err();
            let told = error.to_string();
            let advice = format!("`--set backbone.name=efficientnet_{there}`");
            let file = format!("{there}.pth: ");
            for word in words.into_iter().chain([&*file, &*advice]) {
                assert!(told.contains(word), "{package}: {word:?} is not in: {told}");
            }
        }
    }
}

//! The naming schemes give every tensor its place: a wrong place of the same shape would pass unnoticed.

use astray::models::efficientnet::{Backbone, EfficientNet};
use astray::nn::weights::{Array, Weights};
use astray::tensor::Device;
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

/// That package's B5, where every element of the i-th tensor is 1 + i / 1024; folded, as f32.
fn folded(package: &str) -> Vec<(String, Vec<f32>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/state_dicts.json");
    let text = std::fs::read(path).unwrap();
    let mut dicts: BTreeMap<String, StateDict> = serde_json::from_slice(&text).unwrap();
    let entries = dicts.remove(&format!("{package} b5")).unwrap().0;
    let floats = entries
        .into_iter()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"));
    let tensors = floats.enumerate().map(|(i, (name, shape))| {
        let data = vec![1.0 + i as f32 / 1024.0; shape.iter().product()];
        (name, Array { shape, data })
    });
    let weights = Weights {
        path: "b5.pth".into(),
        sha256: String::new(),
        tensors: tensors.collect(),
        metadata: Default::default(),
    };
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

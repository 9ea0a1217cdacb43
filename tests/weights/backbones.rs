//! EfficientNet's tables against the published counts, its names against PyTorch's state dicts.

use std::collections::BTreeMap;
use std::path::Path;

use astray::models::efficientnet::names::{Scheme, load};
use astray::models::efficientnet::{Backbone, BackboneWeights, ConvBn, Padding};
use astray::nn::weights::{Array, Weights};
use serde::de::{MapAccess, Visitor};

use super::{message, reference};

/// A state dict's names and shapes in the order of the network.
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

/// PyTorch's state dict of that package and size; element 0 of float tensor i is i, the rest is 1.
fn state_dict(package: &str, size: &str) -> Weights {
    let text = std::fs::read_to_string(reference("state_dicts.json")).unwrap();
    let mut dicts: BTreeMap<String, StateDict> = serde_json::from_str(&text).unwrap();
    let entries = dicts.remove(&format!("{package} {size}")).unwrap().0;
    let floats = entries
        .into_iter()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"));
    let tensors = floats.enumerate().map(|(i, (name, shape))| {
        let mut array = Array::filled(&shape, 1.0);
        array.data[0] = i as f32;
        (name, array)
    });
    Weights::in_memory(&format!("{package} {size}"), tensors.collect())
}

/// Every array in the order of computation.
fn arrays(weights: &BackboneWeights) -> Vec<&Array> {
    fn conv(c: &ConvBn) -> [&Array; 5] {
        [
            &c.weight,
            &c.bn.weight,
            &c.bn.bias,
            &c.bn.mean,
            &c.bn.variance,
        ]
    }
    let mut arrays = conv(&weights.stem).to_vec();
    for block in &weights.blocks {
        arrays.extend(block.expand.iter().flat_map(conv));
        arrays.extend(block.depthwise.iter().flat_map(conv));
        if let Some(se) = &block.se {
            arrays.extend([
                &se.reduce_weight,
                &se.reduce_bias,
                &se.expand_weight,
                &se.expand_bias,
            ]);
        }
        arrays.extend(block.project.iter().flat_map(conv));
    }
    arrays
}

/// The number of trained parameters: all but running means and variances, which are half of the vectors
/// of the batch norms.
fn trained(weights: &BackboneWeights) -> usize {
    let count = |arrays: &mut dyn Iterator<Item = &Array>| -> usize {
        arrays.map(|array| array.data.len()).sum()
    };
    let all = arrays(weights);
    let vectors = count(&mut all.iter().copied().filter(|array| array.shape.len() == 1));
    let se = weights.blocks.iter().flat_map(|block| &block.se);
    let se = count(&mut se.flat_map(|se| [&se.reduce_bias, &se.expand_bias]));
    count(&mut all.iter().copied()) - (vectors - se) / 2
}

#[test]
fn b5_is_what_the_spec_says() {
    let b5 = Backbone::by_name("efficientnet-b5").unwrap();
    assert_eq!(b5.stem_channels, 48);
    let stages = |of: fn(&astray::models::efficientnet::Stage) -> usize| -> Vec<usize> {
        b5.stages.iter().map(of).collect()
    };
    assert_eq!(stages(|s| s.blocks), [3, 5, 5, 7, 7, 9, 3]);
    assert_eq!(stages(|s| s.channels), [24, 40, 64, 128, 176, 304, 512]);
    assert_eq!(b5.default_tap(), 35);
    let tap = b5.tap(35).unwrap();
    assert_eq!((tap.channels, tap.stride), (304, 32));
    let parameters = b5.parameters(35);
    assert_eq!((parameters + 5_000) / 10_000, 1754, "{parameters}");
    for padding in [Padding::Same, Padding::Symmetric, Padding::Same456] {
        let macs = b5.macs(35, padding, 768, 768).unwrap();
        assert_eq!((macs + 5_000_000) / 10_000_000, 2249, "{macs}");
        assert_eq!(b5.feature_size(35, padding, 768, 768).unwrap(), [24, 24]);
    }
}

#[test]
fn paddings_of_b5_are_those_of_the_spec() {
    let b5 = Backbone::by_name("efficientnet-b5").unwrap();
    let table = [
        (Padding::Same, [(0, 1), (0, 1), (1, 2), (0, 1), (1, 2)]),
        (Padding::Same456, [(0, 1), (0, 1), (1, 2), (1, 1), (2, 2)]),
        (Padding::Symmetric, [(1, 1), (1, 1), (2, 2), (1, 1), (2, 2)]),
    ];
    for (padding, expected) in table {
        let spatial = b5.spatial(35, padding, 768, 768).unwrap();
        let strided: Vec<usize> = (0..spatial.len())
            .filter(|&i| spatial[i].stride == 2)
            .collect();
        // The stem is entry 0, block i is entry i + 1.
        assert_eq!(strided, [0, 4, 9, 14, 28]);
        for (place, around) in strided.iter().zip(expected) {
            assert_eq!(spatial[*place].padding, [around; 2], "{padding} {place}");
        }
        for spatial in spatial.iter().filter(|spatial| spatial.stride == 1) {
            assert_eq!(
                spatial.padding,
                [(spatial.kernel / 2, spatial.kernel / 2); 2]
            );
            assert_eq!(spatial.input, spatial.output);
        }
        assert_eq!(padding.to_string().parse::<Padding>().unwrap(), padding);
    }
    message("valid".parse::<Padding>(), &["valid", "symmetric"]);
    message(b5.spatial(35, Padding::Same, 0, 64), &["too small", "64×0"]);
}

#[test]
fn all_variants_are_tables() {
    // Channels of the sixth stage, blocks in all, stem: the released code's `efficientnet_params`.
    let expected = [
        ("efficientnet-b0", 192, 16, 32),
        ("efficientnet-b1", 192, 23, 32),
        ("efficientnet-b2", 208, 23, 32),
        ("efficientnet-b3", 232, 26, 40),
        ("efficientnet-b4", 272, 32, 48),
        ("efficientnet-b5", 304, 39, 48),
        ("efficientnet-b6", 344, 45, 56),
        ("efficientnet-b7", 384, 55, 64),
        ("efficientnetv2-b0", 192, 21, 32),
    ];
    assert_eq!(Backbone::names(), expected.map(|(name, ..)| name));
    for (name, channels, blocks, stem) in expected {
        let backbone = Backbone::by_name(name).unwrap();
        let tap = backbone.tap(backbone.default_tap()).unwrap();
        assert_eq!((tap.channels, tap.stride), (channels, 32), "{name}");
        assert_eq!(backbone.blocks().len(), blocks, "{name}");
        assert_eq!(backbone.stem_channels, stem, "{name}");
    }
    message(
        Backbone::by_name("EfficientNet_B5"),
        &["EfficientNet_B5", "did you mean 'efficientnet-b5'"],
    );
    let b0 = Backbone::by_name("efficientnet-b0").unwrap();
    message(b0.tap(16), &["efficientnet-b0", "16", "0 to 15"]);
}

#[test]
fn three_namings_give_the_same_weights() {
    for size in ["b0", "b5"] {
        let backbone = Backbone::by_name(&format!("efficientnet-{size}")).unwrap();
        for (package, padding, eps) in [
            ("efficientnet_pytorch", Padding::Same, 1e-3),
            (
                "torchvision",
                Padding::Symmetric,
                if size == "b0" { 1e-5 } else { 1e-3 },
            ),
            ("timm", Padding::Same, 1e-3),
        ] {
            let weights = state_dict(package, size);
            let sha256 = weights.sha256().to_string();
            let tap = backbone.default_tap();
            // The packages define their layers in the order of computation: array i must be tensor i.
            let loaded = load(weights, &backbone, tap).unwrap();
            for (i, array) in arrays(&loaded).iter().enumerate() {
                assert_eq!(array.data[0], i as f32, "{package} {size}");
            }
            assert_eq!(
                trained(&loaded),
                backbone.parameters(tap),
                "{package} {size}"
            );
            assert_eq!((loaded.padding, loaded.bn_eps), (padding, eps));
            assert_eq!(loaded.identity, sha256);
            // An earlier tap takes the first blocks only.
            let early = load(state_dict(package, size), &backbone, 4).unwrap();
            assert_eq!(early.blocks[..], loaded.blocks[..5]);
        }
    }
}

#[test]
fn missing_extra_and_misshapen_tensors_are_named() {
    let b0 = Backbone::by_name("efficientnet-b0").unwrap();
    for (package, name) in [
        ("efficientnet_pytorch", "_blocks.3._project_conv.weight"),
        ("torchvision", "features.3.0.block.3.0.weight"),
        ("timm", "blocks.2.0.conv_pwl.weight"),
    ] {
        let mut missing = state_dict(package, "b0");
        missing.tensors.remove(name).unwrap();
        message(load(missing, &b0, 14), &[package, name, "missing"]);

        let mut extra = state_dict(package, "b0");
        let extra_name = name.replace("weight", "lora");
        extra
            .tensors
            .insert(extra_name.clone(), Array::filled(&[1], 0.0));
        message(
            load(extra, &b0, 14),
            &[package, &extra_name, "does not belong"],
        );

        let mut misshapen = state_dict(package, "b0");
        let array = misshapen.tensors.get_mut(name).unwrap();
        array.shape.swap(0, 1);
        message(
            load(misshapen, &b0, 14),
            &[package, name, "[144, 40, 1, 1]", "[40, 144, 1, 1]"],
        );

        // Past the tap a tensor may be absent.
        let mut truncated = state_dict(package, "b0");
        truncated.tensors.remove(name).unwrap();
        load(truncated, &b0, 2).unwrap();
    }
}

#[test]
fn weights_of_another_network_are_recognised() {
    let b5 = Backbone::by_name("efficientnet-b5").unwrap();
    let b0 = Backbone::by_name("efficientnet-b0").unwrap();
    for package in ["efficientnet_pytorch", "torchvision", "timm"] {
        message(
            load(state_dict(package, "b0"), &b5, 35),
            &["efficientnet-b0", "efficientnet-b5 was asked for"],
        );
        message(
            load(state_dict(package, "b5"), &b0, 1),
            &[
                "weights of efficientnet-b5",
                "efficientnet-b0 was asked for",
            ],
        );
    }
    let resnet = BTreeMap::from([(
        "layer1.0.conv1.weight".to_string(),
        Array::filled(&[1], 0.0),
    )]);
    message(
        load(Weights::in_memory("resnet", resnet), &b5, 35),
        &["resnet", "layer1.0.conv1.weight", "torchvision", "timm"],
    );
}

#[test]
fn a_negative_variance_is_an_error() {
    let b0 = Backbone::by_name("efficientnet-b0").unwrap();
    let mut weights = state_dict("timm", "b0");
    weights
        .tensors
        .get_mut("blocks.0.0.bn1.running_var")
        .unwrap()
        .data[3] = -0.5;
    message(
        load(weights, &b0, 14),
        &["blocks.0.0.bn1.running_var", "negative"],
    );
}

#[test]
fn convolutions_arrive_in_astrays_layout() {
    let b0 = Backbone::by_name("efficientnet-b0").unwrap();
    let mut weights = state_dict("timm", "b0");
    let count = |array: &mut Array| {
        let numbered = array.data.iter_mut().enumerate();
        numbered.for_each(|(i, value)| *value = i as f32);
    };
    for name in [
        "conv_stem.weight",
        "blocks.0.0.conv_dw.weight",
        "blocks.0.0.se.conv_reduce.weight",
    ] {
        count(weights.tensors.get_mut(name).unwrap());
    }
    let loaded = load(weights, &b0, 0).unwrap();
    let stem = &loaded.stem.weight;
    assert_eq!(stem.shape, [3, 3, 3, 32]);
    let depthwise = &loaded.blocks[0].depthwise.as_ref().unwrap().weight;
    assert_eq!(depthwise.shape, [3, 3, 32]);
    let reduce = &loaded.blocks[0].se.as_ref().unwrap().reduce_weight;
    assert_eq!(reduce.shape, [32, 8]);
    let (y, x, i, o) = (2, 1, 2, 17);
    let at = |indices: &[(usize, usize)]| indices.iter().fold(0, |at, (i, n)| at * n + i);
    let stored = at(&[(o, 32), (i, 3), (y, 3), (x, 3)]) as f32;
    assert_eq!(stem.data[at(&[(y, 3), (x, 3), (i, 3), (o, 32)])], stored);
    let stored = at(&[(o, 32), (y, 3), (x, 3)]) as f32;
    assert_eq!(depthwise.data[at(&[(y, 3), (x, 3), (o, 32)])], stored);
    let stored = at(&[(5, 8), (o, 32)]) as f32;
    assert_eq!(reduce.data[at(&[(o, 32), (5, 8)])], stored);
}

#[test]
fn folding_keeps_the_function() {
    let b0 = Backbone::by_name("efficientnet-b0").unwrap();
    let mut stem = BackboneWeights::seeded(&b0, 0, 1).unwrap().stem;
    let vary = |array: &mut Array, centre: f64, name: &str| {
        array.data =
            astray::nn::random::named_tensor_around(name, array.data.len(), centre, 0.5, 0);
    };
    vary(&mut stem.bn.weight, 1.0, "weight");
    vary(&mut stem.bn.bias, 0.0, "bias");
    vary(&mut stem.bn.mean, 0.0, "mean");
    vary(&mut stem.bn.variance, 1.0, "variance");
    let folded = stem.fold(1e-3);
    // One output pixel is a dot product over the 27 inputs.
    let x = astray::nn::random::named_tensor("x", 27, 1.0, 0);
    let dot = |weight: &Array, o: usize| -> f64 {
        let terms = x.iter().enumerate();
        terms
            .map(|(k, &x)| f64::from(x) * f64::from(weight.data[k * 32 + o]))
            .sum()
    };
    for o in 0..32 {
        let of = |array: &Array| f64::from(array.data[o]);
        let bn = &stem.bn;
        let expected = of(&bn.weight) * (dot(&stem.weight, o) - of(&bn.mean))
            / (of(&bn.variance) + 1e-3).sqrt()
            + of(&bn.bias);
        let found = dot(&folded.weight, o) + of(&folded.bias);
        assert!((found - expected).abs() < 1e-6, "{o}: {found} {expected}");
    }
}

#[test]
fn seeded_weights_repeat() {
    let b5 = Backbone::by_name("efficientnet-b5").unwrap();
    let seeded = |seed| BackboneWeights::seeded(&b5, 9, seed).unwrap();
    assert_eq!(seeded(1), seeded(1));
    assert_ne!(seeded(1).stem, seeded(2).stem);
    assert_ne!(seeded(1).identity, seeded(2).identity);
    let weights = seeded(1);
    assert_eq!(weights.blocks.len(), 10);
    // Uniform within ±sqrt(6 / fan_in), and filling that range.
    let depthwise = &weights.blocks[8].depthwise.as_ref().unwrap().weight;
    let largest = depthwise.data.iter().fold(0f32, |m, x| m.max(x.abs()));
    let bound = (6.0f32 / 25.0).sqrt();
    assert!(largest <= bound && largest > 0.99 * bound, "{largest}");
}

#[test]
fn v2_b0_loads_from_its_file() {
    const FILE: &str = "efficientnetv2-b0-imagenet-to-block6h.safetensors";
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/data/weights"
    ));
    let path = folder.join(FILE);
    if !path.exists() {
        eprintln!(
            "not present: {} (V2-B0 weights are not tested)",
            path.display()
        );
        return;
    }
    let v2 = Backbone::by_name("efficientnetv2-b0").unwrap();
    let weights = Weights::read(&path).unwrap();
    assert_eq!(weights.metadata["conv_layout"], "OIHW");
    assert_eq!(Scheme::recognise(&weights), Some(Scheme::Keras));
    let stored: f64 = weights
        .tensors
        .values()
        .flat_map(|array| &array.data)
        .map(|&x| f64::from(x))
        .sum();
    let count = weights.tensors.len();
    let loaded = load(weights.clone(), &v2, v2.default_tap()).unwrap();
    let arrays = arrays(&loaded);
    assert_eq!(arrays.len(), count, "every tensor is used");
    let sum: f64 = arrays
        .iter()
        .flat_map(|array| &array.data)
        .map(|&x| f64::from(x))
        .sum();
    assert!((sum - stored).abs() < 1e-6 * stored.abs());
    assert_eq!(loaded.padding, Padding::Same);
    assert_eq!(
        loaded.blocks[0].expand.as_ref().unwrap().weight.shape,
        [3, 3, 32, 16]
    );
    assert!(loaded.blocks[0].project.is_none());
    let last = loaded.blocks.last().unwrap();
    assert_eq!(
        last.project.as_ref().unwrap().weight.shape,
        [1, 1, 1152, 192]
    );

    let mut missing = weights.clone();
    missing.tensors.remove("block4b_se_reduce.bias").unwrap();
    message(
        load(missing, &v2, v2.default_tap()),
        &[FILE, "block4b_se_reduce.bias"],
    );
    let b5 = Backbone::by_name("efficientnet-b5").unwrap();
    message(
        load(weights, &b5, 35),
        &[FILE, "weights of efficientnetv2-b0"],
    );
}

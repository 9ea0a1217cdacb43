//! GPU memory: limits, and the pool.

use astray::detector::{Extractor, Features, config::Config, train};
use astray::gpu::{self, Options};
use astray::models::efficientnet::{Backbone, EfficientNet};
use astray::nn::random::named_tensor;
use astray::ops::add::add;
use astray::ops::conv2d::{Conv2d, Padding, conv2d};
use astray::ops::{Activation, bottleneck};
use astray::tape::Tape;
use astray::tensor::{Device, Shape, Tensor};
use astray::weights::Source;

fn open(options: Options) -> Device {
    Device::Gpu(gpu::open(0, &options).unwrap())
}

#[test]
fn a_tensor_beyond_a_binding_is_refused_and_the_message_says_what_to_do() {
    let device = open(Options {
        max_binding: Some(1 << 16),
        ..Options::default()
    });
    Tensor::full(&device, [1 << 14], 1.0).unwrap();
    let error = Tensor::full(&device, [(1 << 14) + 1], 1.0)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("65536") && error.contains("train.batch"),
        "{error}"
    );
}

#[test]
fn what_waits_in_the_pool_makes_way() {
    const MIB: usize = 1 << 18;
    let device = open(Options {
        max_memory: Some(4 << 20),
        ..Options::default()
    });
    let tape = Tape::inference();
    // Of ever other sizes, one after the other: together they would be too much.
    for len in [MIB, MIB / 2, MIB / 3, MIB / 4, MIB / 5, MIB] {
        let x = tape.constant(&Tensor::full(&device, [1, 1, 1, len], 1.0).unwrap());
        let sum = add(&tape, &x, &x).unwrap();
        assert_eq!(sum.tensor().to_vec().unwrap()[len - 1], 2.0);
    }
    let held: Vec<_> = (0..4).map(|_| Tensor::full(&device, [MIB], 1.0)).collect();
    assert!(held.iter().all(Result::is_ok));
    let error = Tensor::full(&device, [MIB], 1.0).unwrap_err().to_string();
    assert!(
        error.contains("beside the 4194304 in use") && error.contains("--max-memory"),
        "{error}"
    );
}

/// The largest tensor of five pictures is beyond the binding: they go through two at a time.
#[test]
fn a_batch_beyond_a_binding_goes_through_in_parts() {
    let (h, w) = (47, 33);
    let backbone = Backbone::new("efficientnet_b0", Some(4)).unwrap();
    let one = 4 * backbone.largest_activation(h, w) as u64;
    let limit = Some(5 * one / 2);
    let features = |max_binding| {
        let device = open(Options {
            max_binding,
            ..Options::default()
        });
        let net = EfficientNet::seeded(&device, backbone.clone(), None, 0).unwrap();
        let pictures = named_tensor("pictures", 5 * h * w * 3, 1.0, 1);
        let x = Tensor::new(&device, [5, h, w, 3], pictures).unwrap();
        let y = net.forward(&x).unwrap();
        (y.shape(), y.to_vec().unwrap())
    };
    assert!(features(None) == features(limit));
    // Without parts it would not have run.
    let device = open(Options {
        max_binding: limit,
        ..Options::default()
    });
    let largest = [5, backbone.largest_activation(h, w)];
    assert!(Tensor::full(&device, largest, 1.0).is_err());
}

/// Transformed for F(4×4), the weights are four times as large, and beyond the binding.
#[test]
fn winograd_makes_way_where_its_weights_are_beyond_a_binding() {
    let device = open(Options {
        max_binding: Some(1 << 20),
        variant: Some("winograd4".into()),
        ..Options::default()
    });
    let conv = Conv2d::new(Padding::zeros(1));
    let run = |device: &Device| {
        let random = |name: &str, shape: Shape| {
            let data = named_tensor(name, shape.len(), 0.1, 3);
            Tensor::new(device, shape, data).unwrap()
        };
        let tape = Tape::inference();
        let x = tape.constant(&random("x", [1, 9, 8, 128].into()));
        let weight = tape.constant(&random("weight", [3, 3, 128, 128].into()));
        let bias = tape.constant(&random("bias", [128].into()));
        let y = conv2d(&tape, &x, &weight, &bias, None, conv).unwrap();
        y.tensor().to_vec().unwrap()
    };
    let (found, expected) = (run(&device), run(&Device::Cpu));
    let apart = found.iter().zip(&expected).map(|(f, e)| (f - e).abs());
    assert!(apart.fold(0.0, f32::max) < 1e-4);
}

/// Of each operator that is made in bands, its output on a GPU whose kernels see no more than `max_binding`.
fn banded(max_binding: Option<u64>, half: bool) -> Vec<(String, Vec<f32>)> {
    let device = open(Options {
        max_binding,
        half,
        poison: true,
        ..Options::default()
    });
    let tape = Tape::inference();
    let random = |name: &str, shape: &[usize]| {
        let shape = Shape::new(shape);
        let data = named_tensor(name, shape.len(), 1.0, 5);
        tape.constant(&Tensor::new(&device, shape, data).unwrap())
    };
    let mut found = Vec::new();
    let mut keep = |name: String, y: &astray::tape::Var| {
        found.push((name, y.tensor().to_vec().unwrap()));
    };
    // Not multiples of 4; in f16 they must be even.
    let [wide, narrow] = if half { [22, 10] } else { [21, 9] };
    // Small enough to be uploaded, and what is too large to be seen.
    let small = random("x", &[2, 75, 58, 2]);
    let taps = random("weight", &[3, 3, 2, wide]);
    let bias = random("bias", &[wide]);
    let same = Conv2d::new(Padding::zeros(1));
    let map = conv2d(&tape, &small, &taps, &bias, None, same).unwrap();
    for (stride, k, padding) in [
        (1, 3, Padding::zeros(1)),
        (2, 3, Padding::zeros(1)),
        (1, 5, Padding::zeros(2)),
        (2, 5, Padding::asymmetric(1, 2)),
        (2, 3, Padding::replicate(1)),
    ] {
        let name = format!("{k}x{k} stride {stride} {padding:?}");
        let conv = Conv2d {
            stride,
            padding,
            activation: Activation::Silu,
        };
        let weight = random("weight", &[k, k, wide, narrow]);
        let bias = random("bias", &[narrow]);
        let run = |residual| conv2d(&tape, &map, &weight, &bias, residual, conv).unwrap();
        let y = run(None);
        keep(format!("convolution {name}"), &run(Some(&y)));
        if padding.replicate {
            continue;
        }
        let expand = [random("e", &[1, 1, 2, wide]), random("eb", &[wide])];
        let expand = Some([&expand[0], &expand[1]]);
        for (x, expand) in [(&small, expand), (&map, None)] {
            let name = format!("{name}, expanded: {}", expand.is_some());
            let layer = [random("d", &[k, k, wide]), random("db", &[wide])];
            let layer = [&layer[0], &layer[1]];
            let (y, mean) = bottleneck::expand_with_mean(&tape, x, expand, layer, conv).unwrap();
            keep(format!("depthwise {name}"), &y);
            keep(format!("mean {name}"), &mean);
            // With the gate in the weights, and by itself.
            for &c_out in if stride == 1 { &[6][..] } else { &[6, 276] } {
                let layer = [random("p", &[1, 1, wide, c_out]), random("pb", &[c_out])];
                let layer = [&layer[0], &layer[1]];
                let z = bottleneck::project(&tape, &y, &mean, layer, None).unwrap();
                let z = bottleneck::project(&tape, &y, &mean, layer, Some(&z)).unwrap();
                keep(format!("project {name} to {c_out}"), &z);
            }
        }
    }
    found
}

#[test]
fn bands_are_what_they_would_be_without() {
    let half = gpu::adapters()[0].f16;
    for half in [false, true].into_iter().filter(|&h| half || !h) {
        let whole = banded(None, half);
        let limit = if half { 75_000 } else { 150_000 };
        let bands = banded(Some(limit), half);
        assert_eq!(whole.len(), bands.len());
        for ((name, whole), (_, bands)) in whole.iter().zip(&bands) {
            assert!(whole.iter().all(|v| v.is_finite()), "{name}");
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert!(bits(whole) == bits(bands), "{name}, f16 {half}");
        }
    }
}

#[test]
fn bands_that_would_lie_in_the_padding_are_refused() {
    let device = open(Options {
        max_binding: Some(1 << 16),
        ..Options::default()
    });
    let tape = Tape::inference();
    let tensor = |shape: [usize; 4]| {
        let data = vec![1.0; Shape::from(shape).len()];
        tape.constant(&Tensor::new(&device, shape, data).unwrap())
    };
    let x = tensor([1, 40, 40, 4]);
    let weight = tensor([3, 3, 4, 16]);
    let bias = tape.constant(&Tensor::full(&device, [16], 0.0).unwrap());
    let run = |p| {
        conv2d(
            &tape,
            &x,
            &weight,
            &bias,
            None,
            Conv2d::new(Padding::zeros(p)),
        )
    };
    assert!(run(2).is_ok());
    let error = run(9).unwrap_err().to_string();
    assert!(error.contains("that a kernel can see at once"), "{error}");
}

/// One picture whose stem, expanded and fused maps are all beyond the binding.
#[test]
fn a_picture_beyond_a_binding_goes_through_in_bands() {
    let (h, w) = (301, 279);
    for name in ["efficientnet_b0", "efficientnetv2_b0"] {
        let backbone = Backbone::new(name, Some(4)).unwrap();
        let limit = 1_300_000;
        assert!(4 * backbone.largest_activation(h, w) > 2 * limit);
        let features = |max_binding| {
            let device = open(Options {
                max_binding,
                poison: true,
                ..Options::default()
            });
            let mut net = EfficientNet::seeded(&device, backbone.clone(), None, 0).unwrap();
            let pictures = named_tensor("pictures", 2 * h * w * 3, 1.0, 1);
            let one = Tensor::new(&device, [1, h, w, 3], pictures[..h * w * 3].to_vec()).unwrap();
            net.calibrate(&one).unwrap();
            let found = pictures.chunks(h * w * 3).map(|picture| {
                let x = Tensor::new(&device, [1, h, w, 3], picture.to_vec()).unwrap();
                net.forward(&x).unwrap().to_vec().unwrap()
            });
            found.collect::<Vec<_>>()
        };
        let whole = features(None);
        assert!(whole == features(Some(limit as u64)), "{name}");
        assert!(whole.iter().flatten().all(|v| v.is_finite()), "{name}");
    }
}

/// What half a batch needs is found by trying: the extractor, packed weights and sums in slices included.
#[test]
fn training_on_a_gpu_takes_the_batch_that_fits() {
    let settings = [
        "input.modality=\"rgb\"",
        "input.image_size=96",
        "backbone.name=\"efficientnet_b0\"",
        "backbone.tap=4",
        "teacher.hidden=16",
        "student.width=16",
        "student.blocks=1",
        "train.batch=8",
    ]
    .map(String::from);
    let config = Config::load(Some("tiny"), None, &settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("part.png");
    let noise = image::RgbImage::from_fn(96, 96, |x, y| {
        image::Rgb([x * 7 % 256, y * 5 % 256, x * y % 256].map(|v| v as u8))
    });
    noise.save(&picture).unwrap();
    let limited = |max_memory: Option<u64>, parts| {
        let device = open(Options {
            max_memory,
            ..Options::default()
        });
        let pictures = [picture.as_path()];
        let mut extractor = Extractor::new(&config, &device, &Source::Seeded, &pictures).unwrap();
        let Device::Gpu(gpu) = device else { panic!() };
        let made = gpu.peak_bytes();
        let batch = extractor.limit_memory(parts, max_memory.unwrap_or(0));
        (batch, extractor, [made, gpu.peak_bytes()])
    };
    let (batch, _, [made, peak]) = limited(None, 20);
    assert_eq!(batch.unwrap(), None);
    let (batch, extractor, _) = limited(Some(peak), 20);
    assert_eq!(batch.unwrap(), None);
    assert_eq!(extractor.config().batch(), 8);
    let (batch, extractor, _) = limited(Some(peak * 3 / 4), 20);
    assert_eq!(batch.unwrap(), Some(4));
    // What was found is enough, beside the weights that the extractor has packed.
    let blank = Features {
        part_found: true,
        map: vec![0.5; extractor.side().pow(2) * extractor.channels()],
        mask: vec![1.0; extractor.side().pow(2)],
    };
    train(extractor, &vec![blank; 20], &mut |_| ()).unwrap();
    // Three parts are no batch of eight.
    assert_eq!(limited(Some(peak * 3 / 4), 3).0.unwrap(), None);
    let error = limited(Some(made), 20).0.unwrap_err().to_string();
    assert!(error.contains("for one part at a time"), "{error}");
}

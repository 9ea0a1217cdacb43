//! GPU memory: limits, and the pool.

use astray::gpu::{self, Options};
use astray::models::efficientnet::{Backbone, EfficientNet};
use astray::nn::random::named_tensor;
use astray::ops::add::add;
use astray::ops::conv2d::{Conv2d, Padding, conv2d};
use astray::tape::Tape;
use astray::tensor::{Device, Shape, Tensor};

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
    assert_eq!(features(None), features(limit));
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

//! Training in f16: what is rounded, what is not, and what becomes of gradients that overflow.

use astray::gpu::{self, Options};
use astray::models::efficientnet::{Backbone, EfficientNet};
use astray::models::student::{Student, StudentConfig};
use astray::nn::optimiser::Optimiser;
use astray::nn::random::named_tensor;
use astray::ops::adam::{Adam, Scaled, adam, check};
use astray::ops::{distance::distance, sum::sum};
use astray::tape::Tape;
use astray::tensor::{Device, Tensor};
use half::f16;

const ADAM: Adam = Adam {
    learning_rate: 1e-3,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weight_decay: 1e-5,
};

fn open(half: bool) -> Device {
    let options = Options {
        poison: true,
        half,
        ..Options::default()
    };
    let adapter = gpu::adapters().into_iter().find(|adapter| adapter.f16);
    let adapter = adapter.expect("an adapter with f16: Debian's mesa-vulkan-drivers");
    Device::Gpu(gpu::open(adapter.index, &options).unwrap())
}

fn rounded(values: &[f32]) -> Vec<f32> {
    let round = |&value: &f32| f16::from_f32(value).to_f32();
    values.iter().map(round).collect()
}

/// As gradients that overflow are: no host's data, which [`Tensor::new`] refuses where they are not finite.
fn computed(device: &Device, data: &[f32]) -> Tensor {
    let Device::Gpu(gpu) = device else {
        unreachable!("f16 is a GPU's")
    };
    Tensor::gpu_tensor(gpu, [data.len()], gpu.upload_f32(data).unwrap())
}

/// A parameter, gradients for it, and what three steps make of both of its forms.
fn three_steps(device: &Device, scale: f32) -> [Vec<f32>; 2] {
    let shape = [3, 5, 7];
    let mut p = Tensor::parameter(device, shape, named_tensor("p", 105, 1.0, 0)).unwrap();
    let zeros = || Tensor::new_f32(device, shape, vec![0.0; 105]).unwrap();
    let (mut m, mut v) = (zeros(), zeros());
    let scaled = p.is_half().then(|| Scaled::new(device, scale).unwrap());
    for step in 1..=3 {
        let mut data = named_tensor(&format!("g{step}"), 105, 1e-6, 0);
        data.iter_mut().for_each(|g| *g *= scale);
        let grad = Tensor::new_f32(device, shape, data).unwrap();
        adam(&mut p, &mut m, &mut v, &grad, step, &ADAM, scaled.as_ref()).unwrap();
    }
    [p.unrounded().unwrap(), p.to_vec().unwrap()]
}

#[test]
fn a_parameter_in_f16_is_the_rounded_one_of_f32() {
    let [single, same] = three_steps(&open(false), 1.0);
    assert_eq!(single, same);
    let [exact, half] = three_steps(&open(true), 65536.0);
    assert_eq!(exact, single);
    assert_eq!(half, rounded(&single));
    assert_ne!(half, single);
}

#[test]
fn where_one_gradient_overflows_no_parameter_changes() {
    let device = open(true);
    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let new = |data: Vec<f32>| Tensor::new_f32(&device, [70], data).unwrap();
        let mut p = Tensor::parameter(&device, [70], named_tensor("p", 70, 1.0, 0)).unwrap();
        let before = [p.unrounded().unwrap(), p.to_vec().unwrap()];
        let (mut m, mut v) = (new(vec![0.0; 70]), new(vec![0.0; 70]));
        let good = new(vec![f32::MAX; 70]);
        let mut last = vec![1.0; 70];
        last[69] = bad;
        let bad = computed(&device, &last);

        let mut scaled = Scaled::new(&device, 1.0).unwrap();
        check(&good, &scaled).unwrap();
        assert_eq!(scaled.overflow().item().unwrap(), 0.0);
        check(&bad, &scaled).unwrap();
        check(&good, &scaled).unwrap();
        assert_ne!(scaled.overflow().item().unwrap(), 0.0);
        adam(&mut p, &mut m, &mut v, &good, 1, &ADAM, Some(&scaled)).unwrap();
        assert_eq!([p.unrounded().unwrap(), p.to_vec().unwrap()], before);
        for moment in [&m, &v] {
            assert_eq!(moment.to_vec().unwrap(), [0.0; 70]);
        }

        scaled = Scaled::new(&device, 1.0).unwrap();
        let small = new(vec![1.0; 70]);
        adam(&mut p, &mut m, &mut v, &small, 1, &ADAM, Some(&scaled)).unwrap();
        assert_ne!(p.unrounded().unwrap(), before[0]);
    }
}

fn values(student: &mut Student) -> Vec<f32> {
    let parameters = student.parameters().into_iter();
    parameters
        .flat_map(|(_, p)| p.unrounded().unwrap())
        .collect()
}

/// One step with this much of the distance as the loss.
fn step(student: &mut Student, adam: &mut Optimiser, weight: f32) -> astray::Result<f32> {
    let shape = [2, 6, 5, 8];
    let (device, count) = (device_of(student), 2 * 6 * 5 * 8);
    let x = Tensor::new(&device, shape, named_tensor("x", count, 1.0, 0)).unwrap();
    let target = Tensor::new(&device, shape, named_tensor("t", count, 1.0, 0)).unwrap();
    let mask = Tensor::new_f32(&device, [2, 6, 5, 1], vec![1.0; 60]).unwrap();
    let tape = Tape::training();
    let y = student.train(&tape, &tape.constant(&x), None).unwrap();
    let map = distance(&tape, &y, &target, &mask).unwrap();
    let loss = sum(&tape, &map, weight).unwrap();
    adam.minimise(student.parameters(), tape, &loss)?.item()
}

fn device_of(student: &mut Student) -> Device {
    let parameters = student.parameters();
    parameters[0].1.device().clone()
}

fn student() -> Student {
    let config = StudentConfig {
        channels: 8,
        condition: 0,
        width: 8,
        blocks: 1,
        slope: 0.2,
    };
    Student::init(&open(true), config, "student.", 0).unwrap()
}

#[test]
fn a_step_that_overflows_is_none_and_halves_the_scale() {
    let (mut net, mut adam) = (student(), Optimiser::new(ADAM));
    assert_eq!(adam.scale(), 65536.0);
    let before = values(&mut net);
    // A gradient of some 2/8 · 0.5 · 65536 · 30 for an output's element.
    for scale in [32768.0, 16384.0] {
        let loss = step(&mut net, &mut adam, 30.0).unwrap();
        assert!(loss.is_finite());
        assert_eq!(adam.scale(), scale);
        assert_eq!(values(&mut net), before);
    }
    while adam.scale() > 128.0 {
        let (scale, now) = (adam.scale(), values(&mut net));
        step(&mut net, &mut adam, 30.0).unwrap();
        if adam.scale() == scale {
            assert_ne!(values(&mut net), now);
            return;
        }
    }
    panic!("no scale down to {} let a gradient pass", adam.scale());
}

#[test]
fn gradients_that_no_scale_can_save_are_an_error() {
    let (mut net, mut adam) = (student(), Optimiser::new(ADAM));
    let all = (0..40).map(|_| step(&mut net, &mut adam, 1e30));
    let error = all.filter_map(Result::err).next().unwrap().to_string();
    assert!(error.contains("train with `--precision f32`"), "{error}");
}

#[test]
fn tensors_of_two_precisions_are_not_added() {
    let device = open(true);
    let half = Tensor::full(&device, [4], 1.0).unwrap();
    let single = Tensor::new_f32(&device, [4], vec![1.0; 4]).unwrap();
    let tape = Tape::inference();
    let [half, single] = [half, single].map(|t| tape.constant(&t));
    let error = astray::ops::add::add(&tape, &half, &single).unwrap_err();
    assert!(error.to_string().contains("f16"), "{error}");
    let twice = astray::ops::add::add(&tape, &single, &single).unwrap();
    assert_eq!(twice.tensor().to_vec().unwrap(), [2.0; 4]);
}

/// A model file holds what was not rounded.
#[test]
fn a_network_that_moves_keeps_what_f16_rounds() {
    let backbone = Backbone::new("efficientnet_b0", Some(2)).unwrap();
    let mut here = EfficientNet::seeded(&Device::Cpu, backbone, None, 0).unwrap();
    let mut there = here.clone().on(&open(true)).unwrap();
    let mut differ = false;
    for ((name, a), (_, b)) in here.parameters().into_iter().zip(there.parameters()) {
        let exact = a.to_vec().unwrap();
        assert_eq!(b.unrounded().unwrap(), exact, "{name}");
        assert_eq!(b.to_vec().unwrap(), rounded(&exact), "{name}");
        differ |= rounded(&exact) != exact;
    }
    assert!(differ, "nothing was rounded");
}

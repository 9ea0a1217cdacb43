//! The same seed, device and driver give the same bits; on the CPU whatever the number of threads.

use astray::gpu;
use astray::models::positional::positional_encoding;
use astray::models::real_nvp::{RealNvp, RealNvpConfig};
use astray::models::student::{Student, StudentConfig};
use astray::nn::layers::Parameters;
use astray::nn::optimiser::Optimiser;
use astray::nn::random::{Random, named_tensor};
use astray::ops::adam::Adam;
use astray::ops::conv2d::{Conv2d, Padding, conv2d};
use astray::ops::{distance::distance, likelihood::likelihood, sum::sum};
use astray::tape::Tape;
use astray::tensor::{Device, Shape, Tensor};

/// Large enough that products, sums and rows are split among threads, and not evenly; 98 tiles, so
/// that 3×3 convolutions on the CPU go by Winograd.
const MAP: [usize; 3] = [2, 27, 25];
const CHANNELS: usize = 24;
const STEPS: usize = 2;

fn seeded(device: &Device, name: &str, channels: usize) -> Tensor {
    let shape = Shape::from([MAP[0], MAP[1], MAP[2], channels]);
    Tensor::new(device, shape, named_tensor(name, shape.len(), 1.0, 0)).unwrap()
}

fn optimiser() -> Optimiser {
    Optimiser::new(Adam {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 1e-5,
    })
}

/// The bits of every tensor, under its name.
type Bits = Vec<(String, Vec<u32>)>;

fn bits_of(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.to_vec().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn bits(tensors: Parameters) -> Bits {
    let tensors = tensors.into_iter();
    tensors
        .map(|(name, tensor)| (name, bits_of(tensor)))
        .collect()
}

/// Trains a teacher, then a student against it; gives everything that changed.
fn train(device: &Device) -> Bits {
    let place = positional_encoding(device, MAP, 32).unwrap();
    let (x, mask) = (seeded(device, "x", CHANNELS), seeded(device, "mask", 1));
    let weight = 1.0 / mask.shape().len() as f32;
    let config = RealNvpConfig {
        channels: CHANNELS,
        condition: 32,
        hidden: 40,
        kernels: vec![3, 5],
        alpha: 1.9,
    };
    let mut teacher = RealNvp::init(device, config, "teacher.", 0).unwrap();
    let mut teacher_optimiser = optimiser();
    for _ in 0..STEPS {
        let tape = Tape::training();
        let (x, place) = (tape.constant(&x), tape.constant(&place));
        let (z, log_det) = teacher.forward(&tape, &x, Some(&place)).unwrap();
        let map = likelihood(&tape, &z, &log_det, &mask).unwrap();
        let loss = sum(&tape, &map, weight).unwrap();
        teacher_optimiser
            .minimise(teacher.parameters(), tape, &loss)
            .unwrap();
    }
    let config = StudentConfig {
        channels: CHANNELS,
        condition: 32,
        width: 40,
        blocks: 1,
        slope: 0.2,
    };
    let mut student = Student::init(device, config, "student.", 0).unwrap();
    let mut student_optimiser = optimiser();
    for _ in 0..STEPS {
        let tape = Tape::training();
        let (x, place) = (tape.constant(&x), tape.constant(&place));
        let (z, _) = teacher
            .forward(&Tape::inference(), &x, Some(&place))
            .unwrap();
        let y = student.train(&tape, &x, Some(&place)).unwrap();
        let map = distance(&tape, &y, z.tensor(), &mask).unwrap();
        let loss = sum(&tape, &map, weight).unwrap();
        student_optimiser
            .minimise(student.parameters(), tape, &loss)
            .unwrap();
    }
    let mut all = bits(teacher.parameters());
    all.extend(bits(student.parameters()));
    all.extend(bits(student.buffers()));
    all
}

fn assert_same(found: &Bits, expected: &Bits, what: &str) {
    assert_eq!(found.len(), expected.len());
    let differ: Vec<&str> = (found.iter().zip(expected))
        .filter(|(f, e)| f != e)
        .map(|(f, _)| f.0.as_str())
        .collect();
    assert!(differ.is_empty(), "{what}: other bits in {differ:?}");
}

#[test]
fn training_twice_gives_the_same_bits() {
    let adapters = gpu::adapters();
    assert!(
        !adapters.is_empty(),
        "no adapter: install a Vulkan driver (Debian: mesa-vulkan-drivers)"
    );
    let mut devices = vec![Device::Cpu];
    devices.extend(adapters.iter().map(|a| Device::gpu(a.index).unwrap()));
    for device in devices {
        assert_same(&train(&device), &train(&device), device.name());
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| train(&Device::Cpu))
    };
    let one = with(1);
    for threads in [2, 3, 8] {
        assert_same(&with(threads), &one, &format!("{threads} threads"));
    }
}

/// Forward and gradients of random convolutions. Their pictures are cut into pieces, and the matrix
/// product rounds differently in pieces of another size.
#[test]
fn convolutions_do_not_depend_on_the_number_of_threads() {
    let pools = [1, 2, 3, 8].map(|threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    });
    let mut random = Random::new(0);
    for case in 0..300 {
        let [n, h, w] = [2, 40, 40].map(|most| 1 + random.below(most));
        let [c_in, c_out] = [(); 2].map(|()| 1 + random.below([4, 20, 200][case % 3]));
        let k = [1, 3][random.below(2)];
        let tensor = |name: &str, shape: &[usize]| {
            let shape = Shape::new(shape);
            Tensor::new(
                &Device::Cpu,
                shape,
                named_tensor(name, shape.len(), 1.0, case as u64),
            )
            .unwrap()
        };
        let leaves = [
            tensor("x", &[n, h, w, c_in]),
            tensor("weight", &[k, k, c_in, c_out]),
            tensor("bias", &[c_out]),
        ];
        let gradient = tensor("gradient", &[n, h, w, c_out]);
        let run = || -> Vec<Vec<u32>> {
            let tape = Tape::training();
            let [x, weight, bias] = leaves.each_ref().map(|leaf| tape.leaf(leaf));
            let conv = Conv2d::new(Padding::zeros(k / 2));
            let y = conv2d(&tape, &x, &weight, &bias, None, conv).unwrap();
            let gradients = tape.backward_from(&[(&y, gradient.clone())]).unwrap();
            let mut all = vec![bits_of(y.tensor())];
            all.extend(
                leaves
                    .iter()
                    .map(|leaf| bits_of(gradients.of(leaf).unwrap())),
            );
            all
        };
        let found = pools.each_ref().map(|pool| pool.install(run));
        let what = format!("[{n},{h},{w},{c_in}] to {c_out} channels, kernel {k}");
        for (pool, found_there) in pools.iter().zip(&found) {
            let threads = pool.current_num_threads();
            let same = ["y", "dx", "dweight", "dbias"]
                .iter()
                .zip(found_there)
                .zip(&found[0]);
            for ((of, there), one) in same {
                assert!(
                    there == one,
                    "{what}: other bits of {of} with {threads} threads"
                );
            }
        }
    }
}

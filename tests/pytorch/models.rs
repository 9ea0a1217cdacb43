//! Teacher and student: outputs, losses, every gradient, 30 training steps; in f16 too, as on a GPU that
//! trains in mixed precision.

use super::{Reference, devices, generated, half_devices, relative};
use astray::models::positional::positional_encoding;
use astray::models::real_nvp::{RealNvp, RealNvpConfig};
use astray::models::student::{Student, StudentConfig};
use astray::nn::layers::Parameters;
use astray::nn::optimiser::Optimiser;
use astray::ops::{adam::Adam, distance::distance, likelihood::likelihood, sum::sum};
use astray::tape::{Tape, Var};
use astray::tensor::{Device, Shape, Tensor};

const STEPS: usize = 30;
const BATCHES: usize = 5;
const MAP: [usize; 3] = [3, 6, 5];
const CHANNELS: usize = 12;

fn adam(learning_rate: f64) -> Adam {
    Adam {
        learning_rate,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 1e-5,
    }
}

/// Sets parameters as the reference's generator does.
fn generate(parameters: Parameters, prefix: &str) {
    for (name, tensor) in parameters {
        let shape = tensor.shape();
        let data = if name.ends_with("gamma") {
            vec![0.3]
        } else if name.contains("bn") {
            let (bound, offset) = if name.ends_with("weight") {
                (0.2, 1.0)
            } else {
                (0.1, 0.0)
            };
            generated(&format!("{prefix}{name}"), shape, bound, offset)
        } else if name.ends_with("weight") {
            let dims = shape.dims();
            let fan_in = (dims[0] * dims[1] * dims[2]) as f64;
            generated(&format!("{prefix}{name}"), shape, 1.0 / fan_in.sqrt(), 0.0)
        } else {
            continue; // needs its weight's fan-in, below
        };
        *tensor = Tensor::new(tensor.device(), shape, data).unwrap();
    }
}

/// Biases of convolutions, whose bound follows from the weight.
fn generate_biases(mut parameters: Parameters, prefix: &str) {
    for i in 1..parameters.len() {
        let (before, after) = parameters.split_at_mut(i);
        let ((_, weight), (name, bias)) = (&before[i - 1], &mut after[0]);
        if name.ends_with("bias") && weight.shape().dims().len() == 4 {
            let dims = weight.shape();
            let fan_in = (dims.len() / dims.channels()) as f64;
            let data = generated(
                &format!("{prefix}{name}"),
                bias.shape(),
                1.0 / fan_in.sqrt(),
                0.0,
            );
            **bias = Tensor::new(bias.device(), bias.shape(), data).unwrap();
        }
    }
}

fn teacher(device: &Device, channels: usize, hidden: usize, prefix: &str) -> RealNvp {
    let config = RealNvpConfig {
        channels,
        condition: 32,
        hidden,
        kernels: vec![3, 3, 3, 5],
        alpha: 1.9,
    };
    let mut teacher = RealNvp::init(device, config, prefix, 0).unwrap();
    generate(teacher.parameters(), prefix);
    generate_biases(teacher.parameters(), prefix);
    teacher
}

fn student(device: &Device, channels: usize, width: usize, blocks: usize, prefix: &str) -> Student {
    let config = StudentConfig {
        channels,
        condition: 32,
        width,
        blocks,
        slope: 0.2,
    };
    let mut student = Student::init(device, config, prefix, 0).unwrap();
    generate(student.parameters(), prefix);
    generate_biases(student.parameters(), prefix);
    student
}

fn feature(device: &Device, name: &str, shape: impl Into<Shape>, bound: f64) -> Tensor {
    let shape = shape.into();
    Tensor::new(device, shape, generated(name, shape, bound, 0.0)).unwrap()
}

/// The mask of batch `i`, and one over the number of its foreground pixels.
fn mask(device: &Device, prefix: &str, i: usize) -> (Tensor, f32) {
    let shape = Shape::from([MAP[0], MAP[1], MAP[2], 1]);
    let noise = generated(&format!("{prefix}mask{i}"), shape, 1.0, 0.0);
    let data: Vec<f32> = noise
        .iter()
        .map(|&x| if x > -0.4 { 1.0 } else { 0.0 })
        .collect();
    let weight = 1.0 / data.iter().sum::<f32>();
    (Tensor::new_f32(device, shape, data).unwrap(), weight)
}

fn compare_gradients(
    reference: &Reference,
    parameters: Parameters,
    tape: Tape,
    loss: &Var,
    tolerance: f64,
) {
    let scale = 1024.0; // in f16 they would vanish
    let gradients = tape.backward_scaled(loss, scale).unwrap();
    // A sum in f16 may round to the other side of a ReLU's kink, which changes the gradient of one unit:
    // found in weight and bias of one layer of the teacher's eight, 1.9e-2.
    let (few, far) = match loss.tensor().device().is_half() {
        true => (2, 3.0 * tolerance),
        false => (0, tolerance),
    };
    let (mut compared, mut beyond) = (0, 0);
    for (name, parameter) in parameters {
        let found = gradients
            .of(parameter)
            .unwrap_or_else(|| panic!("{name}: no gradient"));
        let expected = reference.values(&format!("small.grad.{name}"));
        // A bias before a batch norm has gradient 0: nothing to be relative to.
        let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
        let found = found.to_vec().unwrap();
        let found: Vec<f32> = found.iter().map(|g| g / scale).collect();
        let error = match norm > 1e-9 {
            true => relative(&found, &expected),
            false => found.iter().map(|g| g.abs() as f64).fold(0.0, f64::max),
        };
        assert!(error <= far, "gradient of {name}: {error:.2e}");
        beyond += usize::from(error > tolerance);
        compared += 1;
    }
    assert!(compared > 10 && beyond <= few, "{beyond} of {compared}");
}

fn compare_losses(reference: &Reference, name: &str, losses: &[f32], device: &Device) {
    for (step, (found, expected)) in losses.iter().zip(reference.values(name)).enumerate() {
        let error = (*found as f64 - expected).abs() / expected.abs();
        // Adam's first steps have the size of the rate, whatever is rounded. Under `torch.autocast` the student
        // is 6e-4 away at the paper's rate and 2.6e-2 at the fast one (benches/NOTEBOOK.md).
        let allowed = match device.is_half() {
            true if name.contains("fast") => 5e-2,
            true => 2e-3,
            false => 1e-3,
        };
        assert!(
            error <= allowed,
            "{name} step {step} on {}: {found}, not {expected}",
            device.name()
        );
    }
    assert_eq!(losses.len(), STEPS);
}

/// The released code's mean, over background too.
fn assert_loss_of_all(reference: &Reference, tape: &Tape, losses: &Var, tolerance: f64) {
    let loss = sum(tape, losses, 1.0 / losses.tensor().shape().len() as f32).unwrap();
    let error = reference.distance("small.loss.all", loss.tensor());
    assert!(error <= tolerance, "loss.all: {error:.2e}");
}

#[test]
fn teacher_agrees() {
    let reference = Reference::open("teacher.safetensors");
    let prefix = "teacher.small.";
    let features = [MAP[0], MAP[1], MAP[2], CHANNELS];
    for (device, _, tolerance) in devices().into_iter().chain(half_devices()) {
        let place = positional_encoding(&device, MAP, 32).unwrap();
        let loss_of = |teacher: &RealNvp, tape: &Tape, i: usize| -> (Var, Var, Var) {
            let x = tape.constant(&feature(&device, &format!("{prefix}x{i}"), features, 2.0));
            let (z, log_det) = teacher
                .forward(tape, &x, Some(&tape.constant(&place)))
                .unwrap();
            let (mask, weight) = mask(&device, prefix, i);
            let loss = sum(
                tape,
                &likelihood(tape, &z, &log_det, &mask).unwrap(),
                weight,
            )
            .unwrap();
            (z, log_det, loss)
        };
        let mut model = teacher(&device, CHANNELS, 16, prefix);
        let tape = Tape::training();
        let (z, log_det, loss) = loss_of(&model, &tape, 0);
        for (name, found) in [("z", &z), ("log_det", &log_det), ("loss.foreground", &loss)] {
            let error = reference.distance(&format!("small.{name}"), found.tensor());
            assert!(
                error <= tolerance,
                "{name} on {}: {error:.2e}",
                device.name()
            );
        }
        let (mask, _) = mask(&device, prefix, 0);
        let all = likelihood(&tape, &z, &log_det, &mask).unwrap();
        assert_loss_of_all(&reference, &tape, &all, tolerance);
        compare_gradients(&reference, model.parameters(), tape, &loss, tolerance);

        for (rate, learning_rate) in [("paper", 2e-4), ("fast", 5e-3)] {
            let mut model = teacher(&device, CHANNELS, 16, prefix);
            let mut optimiser = Optimiser::new(adam(learning_rate));
            let mut losses = Vec::new();
            for step in 0..STEPS {
                let tape = Tape::training();
                let (_, _, loss) = loss_of(&model, &tape, step % BATCHES);
                let loss = optimiser.minimise(model.parameters(), tape, &loss);
                losses.push(loss.unwrap().item().unwrap());
            }
            compare_losses(
                &reference,
                &format!("small.train.{rate}.losses"),
                &losses,
                &device,
            );
        }
    }
}

#[test]
fn teacher_of_the_3d_preset_agrees() {
    let reference = Reference::open("teacher.safetensors");
    for (device, _, tolerance) in devices() {
        let model = teacher(&device, 368, 64, "teacher.preset.");
        let tape = Tape::inference();
        let x = tape.constant(&feature(&device, "teacher.preset.x", [1, 24, 24, 368], 2.0));
        let place = tape.constant(&positional_encoding(&device, [1, 24, 24], 32).unwrap());
        let (z, log_det) = model.forward(&tape, &x, Some(&place)).unwrap();
        compare_sample(&reference, "preset.z", z.tensor(), tolerance);
        assert!(reference.distance("preset.log_det", log_det.tensor()) <= tolerance);
    }
}

fn compare_sample(reference: &Reference, name: &str, found: &Tensor, tolerance: f64) {
    let stride = reference.metadata("sampled")[name]["stride"]
        .as_u64()
        .unwrap() as usize;
    let found = found.to_vec().unwrap();
    let sample: Vec<f32> = (0..4096).map(|k| found[k * stride % found.len()]).collect();
    let error = relative(&sample, &reference.values(&format!("{name}.sample")));
    assert!(error <= tolerance, "{name}: {error:.2e}");
    let norm = found
        .iter()
        .map(|&x| (x as f64).powi(2))
        .sum::<f64>()
        .sqrt();
    let expected = reference.values(&format!("{name}.norm"))[0];
    assert!(
        (norm - expected).abs() <= tolerance * expected,
        "‖{name}‖ = {norm}, not {expected}"
    );
}

#[test]
fn student_agrees() {
    let reference = Reference::open("student.safetensors");
    let first = reference.metadata("settings")["first"].as_u64().unwrap() as usize;
    let prefix = "student.small.";
    let features = [MAP[0], MAP[1], MAP[2], CHANNELS];
    for (device, _, tolerance) in devices().into_iter().chain(half_devices()) {
        let place = positional_encoding(&device, MAP, 32).unwrap();
        let input = |i: usize| feature(&device, &format!("{prefix}x{i}"), features, 2.0);
        let loss_of = |student: &mut Student, tape: &Tape, i: usize| -> (Var, Var) {
            let x = tape.constant(&input(i));
            let y = student
                .train(tape, &x, Some(&tape.constant(&place)))
                .unwrap();
            let target = feature(&device, &format!("{prefix}t{i}"), features, 1.5);
            let (mask, weight) = mask(&device, prefix, i);
            let loss = sum(tape, &distance(tape, &y, &target, &mask).unwrap(), weight).unwrap();
            (y, loss)
        };
        let predict = |student: &Student, i: usize| {
            let tape = Tape::inference();
            let (x, place) = (tape.constant(&input(i)), tape.constant(&place));
            student
                .fold()
                .unwrap()
                .forward(&tape, &x, Some(&place))
                .unwrap()
        };
        let mut model = student(&device, CHANNELS, 16, 2, prefix);
        let tape = Tape::training();
        let (y, loss) = loss_of(&mut model, &tape, 0);
        for (name, found) in [
            ("y.train", &y),
            ("loss.foreground", &loss),
            ("y.eval_after_one_batch", &predict(&model, 0)),
        ] {
            let error = reference.distance(&format!("small.{name}"), found.tensor());
            assert!(
                error <= tolerance,
                "{name} on {}: {error:.2e}",
                device.name()
            );
        }
        for (name, buffer) in model.buffers() {
            let error = reference.distance(&format!("small.after_one_batch.{name}"), buffer);
            assert!(
                error <= tolerance,
                "{name} on {}: {error:.2e}",
                device.name()
            );
        }
        let target = feature(&device, &format!("{prefix}t0"), features, 1.5);
        let (mask, _) = mask(&device, prefix, 0);
        let all = distance(&tape, &y, &target, &mask).unwrap();
        assert_loss_of_all(&reference, &tape, &all, tolerance);
        compare_gradients(&reference, model.parameters(), tape, &loss, tolerance);

        for (rate, learning_rate) in [("paper", 2e-4), ("fast", 5e-3)] {
            let mut model = student(&device, CHANNELS, 16, 2, prefix);
            let mut optimiser = Optimiser::new(adam(learning_rate));
            let mut losses = Vec::new();
            for step in 0..STEPS {
                let tape = Tape::training();
                let (_, loss) = loss_of(&mut model, &tape, first + step % BATCHES);
                let loss = optimiser.minimise(model.parameters(), tape, &loss);
                losses.push(loss.unwrap().item().unwrap());
            }
            compare_losses(
                &reference,
                &format!("small.train.{rate}.losses"),
                &losses,
                &device,
            );
            // Adam divides by gradients near its ε, so parameters part by a share of the rate: the
            // outputs are compared at the paper's, where that is little (benches/NOTEBOOK.md); in f16 more
            // gradients are rounding alone.
            if rate == "paper" {
                let output = predict(&model, 0);
                let error = reference.distance("small.train.paper.y_eval", output.tensor());
                let allowed = if device.is_half() { 3e-2 } else { 1e-3 };
                assert!(error <= allowed, "y_eval on {}: {error:.2e}", device.name());
            }
        }
    }
}

/// The paper's student, 82.6 M parameters, on the CPU; software Vulkan would need minutes.
#[test]
fn student_of_the_paper_agrees() {
    let reference = Reference::open("student.safetensors");
    let device = Device::Cpu;
    let mut model = student(&device, 368, 1024, 4, "student.preset.");
    let count: usize = model
        .parameters()
        .iter()
        .map(|(_, p)| p.shape().len())
        .sum();
    assert_eq!(
        count, 82_601_328,
        "the paper's 82,601,329 counts an unused gamma"
    );
    let tape = Tape::inference();
    let x = tape.constant(&feature(&device, "student.preset.x", [1, 24, 24, 368], 2.0));
    let place = tape.constant(&positional_encoding(&device, [1, 24, 24], 32).unwrap());
    let y = model
        .fold()
        .unwrap()
        .forward(&tape, &x, Some(&place))
        .unwrap();
    compare_sample(&reference, "preset.y", y.tensor(), 1e-4);
}

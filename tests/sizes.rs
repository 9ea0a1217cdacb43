//! Numbers of parameters and operations that the specification states (sections 2, 9 and 11).

use astray::models::efficientnet::{Backbone, BlockSpec};
use astray::models::real_nvp::{RealNvp, RealNvpConfig};
use astray::models::student::{Student, StudentConfig};
use astray::nn::layers::Parameters;
use astray::tensor::Device;

/// One convolution as the table implies it.
struct Conv {
    kernel: usize,
    /// Input channels that one output channel sees: 1 for a depthwise convolution.
    fan: usize,
    channels: usize,
    /// Side of the output.
    side: usize,
    kind: &'static str,
}

impl Conv {
    /// As PyTorch counts: the weight, and weight and bias of the batch norm behind it, or, in the
    /// squeeze-and-excite, the bias. Running statistics are buffers, not parameters.
    fn parameters(&self) -> usize {
        let weight = self.kernel * self.kernel * self.fan * self.channels;
        weight + if self.kind == "squeeze" { 1 } else { 2 } * self.channels
    }

    fn operations(&self) -> usize {
        self.side * self.side * self.kernel * self.kernel * self.fan * self.channels
    }
}

/// Stem and blocks up to the tap, for a picture of `side`.
fn convolutions(backbone: &Backbone, side: usize) -> Vec<Conv> {
    let mut side = side / 2;
    let mut all = vec![Conv {
        kernel: 3,
        fan: 3,
        channels: backbone.stem,
        side,
        kind: "stem",
    }];
    for block in &backbone.blocks {
        let BlockSpec {
            c_in,
            c_out,
            kernel,
            ..
        } = *block;
        let hidden = block.hidden();
        let mut add = |kernel, fan, channels, side, kind| {
            all.push(Conv {
                kernel,
                fan,
                channels,
                side,
                kind,
            });
        };
        if block.expand != 1 {
            add(1, c_in, hidden, side, "expand");
        }
        side /= block.stride;
        add(kernel, 1, hidden, side, "depthwise");
        if let Some(width) = block.squeeze() {
            add(1, hidden, width, 1, "squeeze");
            add(1, width, hidden, 1, "squeeze");
        }
        add(1, hidden, c_out, side, "project");
    }
    all
}

#[test]
fn b5_to_block_35_has_17_54_million_parameters_and_22_49_gmac() {
    let b5 = Backbone::new("efficientnet_b5", None).unwrap();
    let all = convolutions(&b5, 768);
    let parameters: usize = all.iter().map(Conv::parameters).sum();
    assert_eq!((parameters as f64 / 1e4).round(), 1754.0, "{parameters}");
    let operations: usize = all.iter().map(Conv::operations).sum();
    assert_eq!((operations as f64 / 1e7).round(), 2249.0, "{operations}");
    for (kind, percent) in [
        ("expand", 46.9),
        ("project", 44.9),
        ("depthwise", 7.3),
        ("stem", 0.8),
    ] {
        let own = all.iter().filter(|conv| conv.kind == kind);
        let share = own.map(Conv::operations).sum::<usize>() as f64 / operations as f64;
        assert_eq!((share * 1000.0).round() / 10.0, percent, "{kind}: {share}");
    }
    let size = |conv: &&Conv| conv.side * conv.side * conv.channels;
    let largest = all.iter().max_by_key(size).unwrap();
    assert_eq!((largest.channels, largest.side), (144, 384));
}

fn count(parameters: Parameters) -> usize {
    parameters
        .iter()
        .map(|(_, tensor)| tensor.shape().len())
        .sum()
}

#[test]
fn teacher_and_student_have_the_papers_sizes() {
    let config = RealNvpConfig {
        channels: 368,
        condition: 32,
        hidden: 64,
        kernels: vec![3, 3, 3, 5],
        alpha: 1.9,
    };
    let mut teacher = RealNvp::init(&Device::Cpu, config, "teacher.", 0).unwrap();
    assert_eq!(count(teacher.parameters()), 3_890_568);
    let config = StudentConfig {
        channels: 368,
        condition: 32,
        width: 1024,
        blocks: 4,
        slope: 0.2,
    };
    let mut student = Student::init(&Device::Cpu, config, "student.", 0).unwrap();
    // The paper's 82,601,329 count the released student's `gamma`, a number that nothing uses.
    assert_eq!(count(student.parameters()) + 1, 82_601_329);
}

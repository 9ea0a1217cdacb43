//! Operators: the cases of `selftest`, and the sizes that the models have.

use super::{Made, Make, Plan};
use crate::Result;
use crate::models::efficientnet::Backbone;
use crate::nn::random::named_tensor;
use crate::ops::Activation;
use crate::ops::conv2d::{Conv2d, Padding, conv2d};
use crate::ops::depthwise::depthwise;
use crate::selftest;
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor};

pub fn plans(batches: &[usize], repack: bool) -> Vec<Plan> {
    let mut plans = of_models(batches, repack);
    plans.extend(selftest::cases().into_iter().map(|case| Plan {
        name: format!("{} {}", case.operator, case.name),
        kind: "operator",
        batch: 1,
        make: selftest_case(case),
    }));
    plans
}

fn selftest_case(case: selftest::Case) -> Make {
    let case = std::rc::Rc::new(case);
    Box::new(move |device, _| {
        let inputs = case.inputs.iter().enumerate().map(|(i, input)| {
            let data = named_tensor(&format!("{i}"), input.shape.len(), 1.0, 0);
            let moved = data.iter().map(|x| x * input.scale + input.offset);
            Tensor::new(device, input.shape, moved.collect())
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let case = case.clone();
        let shapes: Vec<String> = inputs.iter().map(|x| x.shape().to_string()).collect();
        Ok(Made {
            shape: shapes.join(" "),
            work: Box::new(move || {
                let tape = Tape::inference();
                let inputs: Vec<Var> = inputs.iter().map(|x| tape.constant(x)).collect();
                (case.run)(&tape, &inputs).map(drop)
            }),
        })
    })
}

/// A convolution of a model.
#[derive(Clone, PartialEq)]
struct Convolution {
    depthwise: bool,
    side: usize,
    c_in: usize,
    kernel: usize,
    c_out: usize,
    stride: usize,
    trained: bool,
    repack: bool,
}

/// Every distinct convolution of B5 at 768², of the paper's teachers and of its student.
fn of_models(batches: &[usize], repack: bool) -> Vec<Plan> {
    let mut all = Vec::new();
    if let Ok(backbone) = Backbone::new("efficientnet_b5", None) {
        let frozen = Convolution {
            depthwise: false,
            side: 768,
            c_in: 3,
            kernel: 3,
            c_out: backbone.stem,
            stride: 2,
            trained: false,
            repack,
        };
        let mut side = 384;
        let mut add = |c: Convolution| {
            if !all.contains(&c) {
                all.push(c);
            }
        };
        add(frozen.clone());
        for block in &backbone.blocks {
            let hidden = block.hidden();
            let pointwise = |c_in, c_out, side| Convolution {
                side,
                c_in,
                c_out,
                kernel: 1,
                stride: 1,
                ..frozen
            };
            if block.expand > 1 {
                add(pointwise(block.c_in, hidden, side));
            }
            add(Convolution {
                depthwise: true,
                side,
                c_in: hidden,
                kernel: block.kernel,
                c_out: hidden,
                stride: block.stride,
                trained: false,
                repack,
            });
            side /= block.stride;
            add(pointwise(hidden, block.c_out, side));
        }
    }
    // Half of the features beside 32 positional channels → hidden → s and t of the other half.
    for (c_in, kernel, c_out) in [
        (184, 3, 1024),
        (1024, 3, 304),
        (184, 5, 1024),
        (1024, 5, 304),
        (216, 3, 64),
        (64, 3, 368),
        (216, 5, 64),
        (64, 5, 368),
        (336, 3, 1024),
        (1024, 3, 1024),
        // The last one's sum as a plain matrix product.
        (9216, 1, 1024),
    ] {
        all.push(Convolution {
            depthwise: false,
            side: 24,
            c_in,
            kernel,
            c_out,
            stride: 1,
            trained: true,
            repack,
        });
    }
    let mut plans = Vec::new();
    for &batch in batches {
        for c in &all {
            plans.push(c.plan(batch, false));
            if c.trained {
                plans.push(c.plan(batch, true));
            }
        }
    }
    plans
}

impl Convolution {
    fn plan(&self, batch: usize, gradients: bool) -> Plan {
        let c = self.clone();
        let (k, stride) = (c.kernel, if c.stride == 2 { " stride 2" } else { "" });
        let channels = match c.depthwise {
            true => format!("depthwise {k}x{k} {}", c.c_in),
            false => format!("conv2d {k}x{k} {} to {}", c.c_in, c.c_out),
        };
        let also = if gradients { ", with gradients" } else { "" };
        Plan {
            name: format!("{channels}{stride}, {0}x{0}{also}", c.side),
            kind: "operator",
            batch,
            make: Box::new(move |device, n| c.make(device, n, gradients)),
        }
    }

    fn make(&self, device: &Device, n: usize, gradients: bool) -> Result<Made> {
        let random = |name: &str, shape: Shape| {
            Tensor::new(device, shape, named_tensor(name, shape.len(), 1.0, 0))
        };
        let (k, repack) = (self.kernel, self.repack);
        let weight: Shape = match self.depthwise {
            true => [k, k, self.c_in].into(),
            false => [k, k, self.c_in, self.c_out].into(),
        };
        let x = random("x", [n, self.side, self.side, self.c_in].into())?;
        let weight = random("weight", weight)?;
        let bias = random("bias", [self.c_out].into())?;
        let conv = Conv2d {
            stride: self.stride,
            padding: Padding::zeros(k / 2),
            activation: match self.trained {
                true => Activation::Identity,
                false => Activation::Silu,
            },
        };
        let op = match self.depthwise {
            true => depthwise,
            false => |tape: &Tape, x: &Var, w: &Var, b: &Var, c| conv2d(tape, x, w, b, None, c),
        };
        let shape = format!("{} {}", x.shape(), weight.shape());
        let work: crate::profile::Work = match gradients {
            false => Box::new(move || {
                if repack {
                    weight.forget_derived();
                }
                let tape = Tape::inference();
                let [x, weight, bias] = [&x, &weight, &bias].map(|t| tape.constant(t));
                op(&tape, &x, &weight, &bias, conv).map(drop)
            }),
            true => Box::new(move || {
                let tape = Tape::training();
                let [x, weight, bias] = [&x, &weight, &bias].map(|t| tape.leaf(t));
                let y = op(&tape, &x, &weight, &bias, conv)?;
                let grad = y.tensor().clone();
                tape.backward_from(&[(&y, grad)]).map(drop)
            }),
        };
        Ok(Made { shape, work })
    }
}

//! burn's side of `tools/peers_vulkan.py`. A request a line on stdin, an answer a line on stdout:
//!
//! `{"n":1,"side":24,"c_in":1024,"kernel":3,"c_out":1024,"depthwise":false,"epilogue":true,"silu":false,"seconds":2}` → `{"ms":[…]}`
//!
//! The first request of a shape makes the tensors, calls once (burn tunes itself: `first_ms`) and compares some
//! values with f64 loops (`error`, relative to the largest). A call is timed until the device is idle; weights
//! and input lie on the device, the result stays there.

use burn::tensor::activation::silu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use serde::Deserialize;
use std::collections::HashMap;
use std::io::BufRead;
use std::time::Instant;

/// A square map, stride 1, same padding; `matmul` is the same sum as a matrix product. With `epilogue` a bias is
/// added, and SiLU follows where astray has it (`silu`).
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Shape {
    n: usize,
    side: usize,
    c_in: usize,
    kernel: usize,
    c_out: usize,
    depthwise: bool,
    matmul: bool,
    epilogue: bool,
    silu: bool,
}

#[derive(Deserialize)]
struct Request {
    #[serde(flatten)]
    shape: Shape,
    seconds: f64,
}

/// Host copies in N,H,W,C and [kh,kw,C_in,C_out] (depthwise [kh,kw,C]), and the same on the device.
struct Work {
    shape: Shape,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    on_device: (Tensor<4>, Tensor<4>, Tensor<1>),
}

impl Work {
    fn new(shape: Shape, device: &Device) -> Self {
        let Shape {
            n,
            side,
            c_in,
            kernel: k,
            c_out,
            ..
        } = shape;
        let per_group = if shape.depthwise { 1 } else { c_in };
        let x = random(1, n * side * side * c_in);
        let weight = random(2, k * k * per_group * c_out);
        let upload = |values: &Vec<f32>, dims: [usize; 4]| {
            Tensor::<4>::from_data(TensorData::new(values.clone(), dims), device)
        };
        let bias = random(3, c_out);
        let bias_on_device = Tensor::<1>::from_data(TensorData::new(bias.clone(), [c_out]), device);
        let (on_device_x, on_device_weight) = if shape.matmul {
            (
                upload(&x, [1, 1, n * side * side, c_in]),
                upload(&weight, [1, 1, c_in, c_out]),
            )
        } else {
            // PyTorch's order of dimensions over channels-last memory: the fastest of burn's layouts for the input.
            let x = upload(&x, [n, side, side, c_in]).permute([0, 3, 1, 2]);
            let weight = upload(&weight, [k, k, per_group, c_out]).permute([3, 2, 0, 1]);
            // burn's own order of memory for a layer's weights.
            let weight = Tensor::from_data(weight.into_data(), device);
            (x, weight)
        };
        Self {
            shape,
            x,
            weight,
            bias,
            on_device: (on_device_x, on_device_weight, bias_on_device),
        }
    }

    fn run(&self) -> Tensor<4> {
        let (x, weight, bias) = self.on_device.clone();
        let epilogue = self.shape.epilogue;
        let y = if self.shape.matmul {
            let y = x.matmul(weight);
            if epilogue {
                y + bias.reshape([1, 1, 1, -1])
            } else {
                y
            }
        } else {
            let padding = self.shape.kernel / 2;
            let groups = if self.shape.depthwise {
                self.shape.c_in
            } else {
                1
            };
            let options = ConvOptions::new([1, 1], [padding; 2], [1, 1], groups);
            conv2d(x, weight, epilogue.then_some(bias), options)
        };
        if epilogue && self.shape.silu {
            silu(y)
        } else {
            y
        }
    }

    fn milliseconds(&self, device: &Device) -> f64 {
        let start = Instant::now();
        let y = self.run();
        device.sync().expect("burn runs the operator");
        let elapsed = start.elapsed();
        drop(y);
        elapsed.as_secs_f64() * 1e3
    }

    /// Largest error of 64 values, relative to the largest of them.
    fn error(&self) -> f64 {
        let Shape { n, side, c_out, .. } = self.shape;
        let y = self.run();
        let y = if self.shape.matmul {
            y
        } else {
            y.permute([0, 2, 3, 1])
        };
        let y: Vec<f32> = y.into_data().try_to_vec().expect("f32");
        let count = n * side * side * c_out;
        assert_eq!(y.len(), count);
        let (mut error, mut largest) = (0f64, 0f64);
        for k in 0..64 {
            let at = (k * (count / 64 + 12_345)) % count;
            let want = self.expected(at);
            error = error.max((y[at] as f64 - want).abs());
            largest = largest.max(want.abs());
        }
        error / largest
    }

    fn expected(&self, at: usize) -> f64 {
        let Shape {
            side,
            c_in,
            kernel,
            c_out,
            depthwise,
            ..
        } = self.shape;
        let (pixel, c) = (at / c_out, at % c_out);
        let (image, row, column) = (pixel / side / side, pixel / side % side, pixel % side);
        let mut sum = if self.shape.epilogue {
            self.bias[c] as f64
        } else {
            0.0
        };
        for ky in 0..kernel {
            for kx in 0..kernel {
                let (y, x) = (row + ky, column + kx);
                let (Some(y), Some(x)) = (y.checked_sub(kernel / 2), x.checked_sub(kernel / 2))
                else {
                    continue;
                };
                if y >= side || x >= side {
                    continue;
                }
                let pixel = &self.x[((image * side + y) * side + x) * c_in..][..c_in];
                let tap = ky * kernel + kx;
                if depthwise {
                    sum += pixel[c] as f64 * self.weight[tap * c_out + c] as f64;
                } else {
                    let weights = self.weight[tap * c_in * c_out..]
                        .iter()
                        .skip(c)
                        .step_by(c_out);
                    sum += pixel
                        .iter()
                        .zip(weights)
                        .map(|(&x, &w)| x as f64 * w as f64)
                        .sum::<f64>();
                }
            }
        }
        if self.shape.epilogue && self.shape.silu {
            sum /= 1.0 + (-sum).exp();
        }
        sum
    }
}

/// Uniform in [-1, 1), splitmix64.
fn random(seed: u64, len: usize) -> Vec<f32> {
    let value = |i: u64| {
        let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len as u64).map(value).collect()
}

fn main() {
    let device = Device::wgpu(DeviceKind::Cpu);
    let mut works = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let request: Request = serde_json::from_str(&line).expect("a request");
        let mut answer = serde_json::json!({});
        let work = works.entry(request.shape).or_insert_with(|| {
            let work = Work::new(request.shape, &device);
            device.sync().expect("the upload ends");
            answer["first_ms"] = work.milliseconds(&device).into();
            answer["error"] = work.error().into();
            work
        });
        let start = Instant::now();
        let mut ms = vec![];
        while ms.is_empty() || start.elapsed().as_secs_f64() < request.seconds {
            ms.push(work.milliseconds(&device));
        }
        answer["ms"] = ms.into();
        println!("{answer}");
    }
}

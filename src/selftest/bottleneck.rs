use super::conv2d::reference as conv2d;
use super::depthwise::reference as depthwise;
use super::{Array, Case, Input};
use crate::ops::bottleneck::{expand, expand_with_mean, project};
use crate::ops::conv2d::{Conv2d, Padding, cost};
use crate::ops::{Activation, Cost};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    let silu = |stride, padding| Conv2d {
        stride,
        padding,
        activation: Activation::Silu,
    };
    let relu6 = |stride, padding| Conv2d {
        activation: Activation::Relu6,
        ..silu(stride, padding)
    };
    let same = |k: usize| silu(1, Padding::zeros(k / 2));
    let expansions = [
        ("one pixel", [1, 1, 1, 1], Some(1), 3, same(3)),
        ("3x3", [2, 9, 13, 7], Some(35), 3, same(3)),
        ("5x5", [1, 24, 8, 33], Some(64), 5, same(5)),
        (
            "5x5 stride 2",
            [2, 8, 7, 5],
            Some(67),
            5,
            silu(2, Padding::asymmetric(1, 2)),
        ),
        (
            "3x3 stride 2",
            [1, 13, 9, 12],
            Some(20),
            3,
            silu(2, Padding::zeros(1)),
        ),
        ("unexpanded", [2, 15, 6, 37], None, 3, same(3)),
        (
            "3x3 relu6",
            [2, 9, 13, 7],
            Some(35),
            3,
            relu6(1, Padding::zeros(1)),
        ),
        (
            "5x5 stride 2 relu6",
            [1, 11, 24, 33],
            Some(67),
            5,
            relu6(2, Padding::asymmetric(1, 2)),
        ),
        (
            "unexpanded relu6",
            [2, 15, 6, 37],
            None,
            3,
            relu6(1, Padding::zeros(1)),
        ),
    ];
    let projections = [
        ([1, 1, 1, 1], 1, false),
        ([2, 5, 7, 35], 33, true),
        ([3, 4, 3, 64], 9, false),
        // Pixels enough for the gate to go into the weights.
        ([1, 13, 11, 35], 33, true),
        ([1, 9, 12, 64], 9, false),
        ([2, 12, 10, 6], 20, true),
    ];
    let expansions = expansions.map(|(name, x, wide, k, conv)| {
        [true, false].map(|mean| expansion(name, x, wide, k, conv, mean))
    });
    let projections = projections.map(|(x, c_out, residual)| projection(x, c_out, residual));
    let expansions = expansions.into_iter().flatten();
    expansions.chain(projections).collect()
}

fn expansion(
    name: &str,
    x: [usize; 4],
    wide: Option<usize>,
    k: usize,
    conv: Conv2d,
    with_mean: bool,
) -> Case {
    let [n, h, w, c_in] = x;
    let c = wide.unwrap_or(c_in);
    let p = conv.padding;
    let along = |size: usize, pad: usize| (size + pad - k) / conv.stride + 1;
    let y = Shape::from([n, along(h, p.top + p.bottom), along(w, p.left + p.right), c]);
    // Beyond the 6 of a ReLU6.
    let scale = if conv.activation == Activation::Relu6 {
        4.0
    } else {
        1.0
    };
    let mut inputs = vec![
        Input::constant(x).range(0.0, scale),
        Input::constant([k, k, c]),
        Input::constant([c]),
    ];
    if wide.is_some() {
        inputs.extend([Input::constant([1, 1, c_in, c]), Input::constant([c])]);
    }
    // The wide map stays in the cache.
    let layer = wide.map_or([0, 0], |c| [n * h * w * c_in * c, c_in * c]);
    let read_and_written = n * h * w * c_in + layer[1] + k * k * c + y.len();
    let pointwise = Conv2d {
        activation: conv.activation,
        ..Conv2d::new(Padding::default())
    };
    Case {
        operator: "bottleneck",
        name: format!(
            "expand {name} {}{}",
            Shape::from(x),
            if with_mean { "" } else { ", no mean" }
        ),
        inputs,
        reference: Box::new(move |i| {
            let wide = match i.get(3) {
                Some(weight) => conv2d(&i[0], weight, &i[4], None, pointwise, [n, h, w, c].into()),
                None => i[0].clone(),
            };
            let y = depthwise(&wide, &i[1], &i[2], conv, y);
            if !with_mean {
                return vec![y];
            }
            let mut mean = Array::zeros([n, 1, 1, c]);
            let pixels = y.data.len() / n / c;
            for (at, value) in y.data.iter().enumerate() {
                mean.data[at / c / pixels * c + at % c] += value / pixels as f64;
            }
            vec![y, mean]
        }),
        run: Box::new(move |tape, i| {
            let layer = i.get(3).map(|weight| [weight, &i[4]]);
            if !with_mean {
                return Ok(vec![expand(tape, &i[0], layer, [&i[1], &i[2]], conv)?]);
            }
            let (y, mean) = expand_with_mean(tape, &i[0], layer, [&i[1], &i[2]], conv)?;
            Ok(vec![y, mean])
        }),
        cost: Cost::new(2 * (layer[0] + k * k * y.len()), read_and_written),
    }
}

fn projection(x: [usize; 4], c_out: usize, residual: bool) -> Case {
    let [n, h, w, c] = x;
    let y = Shape::from([n, h, w, c_out]);
    let weight = Shape::from([1, 1, c, c_out]);
    let mut inputs = vec![
        Input::constant(x),
        Input::constant([n, 1, 1, c]),
        Input::constant(weight),
        Input::constant([c_out]),
    ];
    inputs.extend(residual.then(|| Input::constant(y)));
    Case {
        operator: "bottleneck",
        name: format!("project {} to {c_out}", Shape::from(x)),
        inputs,
        reference: Box::new(move |i| {
            let mut gated = i[0].clone();
            for (at, value) in gated.data.iter_mut().enumerate() {
                *value *= i[1].data[at / c / h / w * c + at % c];
            }
            let linear = Conv2d::new(Padding::default());
            vec![conv2d(&gated, &i[2], &i[3], i.get(4), linear, y)]
        }),
        run: Box::new(move |tape, i| {
            Ok(vec![project(tape, &i[0], &i[1], [&i[2], &i[3]], i.get(4))?])
        }),
        cost: cost(x.into(), weight, y),
    }
}

use super::activation::formula;
use super::conv2d::{indices, source};
use super::{Array, Case, Input};
use crate::ops::Activation;
use crate::ops::conv2d::{Conv2d, Padding};
use crate::ops::depthwise::{cost, depthwise};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    let conv = |stride, padding, activation| Conv2d {
        stride,
        padding,
        activation,
    };
    let zeros = Padding::zeros;
    [
        (
            "one pixel",
            [1, 1, 1, 1],
            1,
            conv(1, zeros(0), Activation::Identity),
        ),
        ("3x3", [2, 5, 6, 7], 3, conv(1, zeros(1), Activation::Silu)),
        ("5x5", [1, 4, 3, 33], 5, conv(1, zeros(2), Activation::Silu)),
        (
            "3x3 stride 2, same",
            [1, 6, 7, 5],
            3,
            conv(2, Padding::asymmetric(0, 1), Activation::Identity),
        ),
        (
            "5x5 stride 2, asymmetric",
            [2, 8, 6, 70],
            5,
            conv(2, Padding::asymmetric(1, 2), Activation::Relu),
        ),
        (
            "wide, one pixel",
            [1, 1, 1, 4],
            3,
            conv(1, zeros(1), Activation::Identity),
        ),
        (
            "wide, 3x3",
            [2, 5, 7, 12],
            3,
            conv(1, zeros(1), Activation::Silu),
        ),
        (
            "wide, 5x5",
            [1, 6, 9, 36],
            5,
            conv(1, zeros(2), Activation::Silu),
        ),
        (
            "wide, 3x3 stride 2, same",
            [2, 7, 9, 8],
            3,
            conv(2, Padding::asymmetric(0, 1), Activation::LeakyRelu(0.2)),
        ),
        (
            "wide, 5x5 stride 2, asymmetric",
            [1, 9, 20, 40],
            5,
            conv(2, Padding::asymmetric(1, 2), Activation::Sigmoid),
        ),
        (
            "7x7, several tiles",
            [1, 9, 19, 6],
            7,
            conv(1, zeros(3), Activation::Silu),
        ),
        (
            "3x3 stride 3, several tiles",
            [2, 16, 31, 5],
            3,
            conv(3, Padding::asymmetric(1, 0), Activation::Relu),
        ),
        (
            "relu6, stride 2",
            [2, 7, 9, 7],
            5,
            conv(2, Padding::asymmetric(1, 2), Activation::Relu6),
        ),
        (
            "wide, relu6",
            [1, 9, 11, 36],
            3,
            conv(1, zeros(1), Activation::Relu6),
        ),
        (
            "1x1, a folded grid",
            [1, 1, 1, 32_769],
            1,
            conv(1, zeros(0), Activation::Identity),
        ),
        (
            "wide, 2x2 stride 3",
            [1, 8, 19, 4],
            2,
            conv(3, zeros(0), Activation::Identity),
        ),
    ]
    .map(|(name, x, k, conv)| {
        let [n, h, w, c] = x;
        let p = conv.padding;
        let along = |size: usize, pad: usize| (size + pad - k) / conv.stride + 1;
        let y = Shape::from([n, along(h, p.top + p.bottom), along(w, p.left + p.right), c]);
        let weight = Shape::from([k, k, c]);
        // Beyond the 6 of a ReLU6.
        let scale = if conv.activation == Activation::Relu6 {
            5.0
        } else {
            1.0
        };
        Case {
            operator: "depthwise",
            name: format!("{name} {}", Shape::from(x)),
            inputs: vec![
                Input::constant(x).range(0.0, scale),
                Input::constant(weight),
                Input::constant([c]),
            ],
            reference: Box::new(move |i| vec![reference(&i[0], &i[1], &i[2], conv, y)]),
            run: Box::new(move |tape, i| Ok(vec![depthwise(tape, &i[0], &i[1], &i[2], conv)?])),
            cost: cost(x.into(), weight, y),
        }
    })
    .into()
}

pub fn reference(x: &Array, weight: &Array, bias: &Array, conv: Conv2d, shape: Shape) -> Array {
    let mut y = Array::zeros(shape);
    let [kh, kw, channels] = [0, 1, 2].map(|i| weight.shape.dims()[i]);
    for (n, oy, ox, c) in indices([0, 1, 2, 3].map(|i| shape.dims()[i])) {
        let mut sum = bias.data[c];
        for (ky, kx, _, _) in indices([kh, kw, 1, 1]) {
            if let Some((iy, ix)) = source(x, conv, (oy, ox), (ky, kx)) {
                sum += x.at(n, iy, ix, c) * weight.data[(ky * kw + kx) * channels + c];
            }
        }
        *y.at_mut(n, oy, ox, c) = formula(conv.activation, sum);
    }
    y
}

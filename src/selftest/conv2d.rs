use super::activation::formula;
use super::{Array, Case, Input};
use crate::ops::conv2d::{Conv2d, Padding, conv2d, cost};
use crate::ops::{Activation, Cost};
use crate::tensor::Shape;

struct Geometry {
    name: &'static str,
    x: [usize; 4],
    kernel: [usize; 2],
    c_out: usize,
    conv: Conv2d,
    residual: bool,
}

pub fn cases() -> Vec<Case> {
    let conv = Conv2d::new;
    let strided = |padding| Conv2d {
        stride: 2,
        ..Conv2d::new(padding)
    };
    let with = |activation, padding| Conv2d {
        activation,
        ..Conv2d::new(padding)
    };
    let replicate = Padding::replicate;
    let zeros = Padding::zeros;
    let geometry = |name, x, kernel, c_out, conv, residual| Geometry {
        name,
        x,
        kernel,
        c_out,
        conv,
        residual,
    };
    [
        geometry("one pixel", [1, 1, 1, 1], [1, 1], 1, conv(zeros(0)), false),
        geometry("1x1", [2, 3, 5, 7], [1, 1], 9, conv(zeros(0)), false),
        geometry("3x3 zeros", [2, 5, 6, 3], [3, 3], 5, conv(zeros(1)), false),
        geometry(
            "3x3 replicate",
            [2, 5, 4, 3],
            [3, 3],
            6,
            conv(replicate(1)),
            false,
        ),
        geometry(
            "5x5 replicate, map smaller than kernel",
            [1, 3, 2, 2],
            [5, 5],
            3,
            conv(replicate(2)),
            false,
        ),
        geometry(
            "3x3 stride 2, same",
            [1, 6, 7, 3],
            [3, 3],
            4,
            strided(Padding::asymmetric(0, 1)),
            false,
        ),
        geometry(
            "5x5 stride 2, asymmetric",
            [2, 7, 5, 2],
            [5, 5],
            5,
            strided(Padding::asymmetric(1, 2)),
            false,
        ),
        geometry("1x3 kernel", [1, 4, 5, 2], [1, 3], 3, conv(zeros(0)), false),
        geometry(
            "relu",
            [2, 4, 5, 3],
            [3, 3],
            4,
            with(Activation::Relu, replicate(1)),
            false,
        ),
        geometry(
            "leaky_relu",
            [1, 4, 5, 3],
            [3, 3],
            9,
            with(Activation::LeakyRelu(0.2), zeros(1)),
            false,
        ),
        geometry(
            "relu6",
            [1, 3, 4, 3],
            [3, 3],
            3,
            with(Activation::Relu6, replicate(1)),
            false,
        ),
        geometry(
            "1x1, relu6",
            [1, 3, 5, 9],
            [1, 1],
            2,
            with(Activation::Relu6, zeros(0)),
            false,
        ),
        geometry(
            "stem, relu6",
            [1, 13, 16, 3],
            [3, 3],
            33,
            Conv2d {
                stride: 2,
                ..with(Activation::Relu6, Padding::asymmetric(0, 1))
            },
            false,
        ),
        geometry("residual", [2, 4, 3, 5], [1, 1], 5, conv(zeros(0)), true),
        geometry(
            "silu, residual",
            [1, 9, 11, 5],
            [3, 3],
            5,
            with(Activation::Silu, zeros(1)),
            true,
        ),
        geometry(
            "many tiles, 3x3, cut off, residual",
            [2, 11, 13, 33],
            [3, 3],
            35,
            with(Activation::LeakyRelu(0.2), zeros(1)),
            true,
        ),
        geometry(
            "many tiles, 5x5 replicate",
            [1, 9, 7, 66],
            [5, 5],
            17,
            with(Activation::Relu, replicate(2)),
            false,
        ),
        geometry(
            "wide",
            [1, 9, 11, 67],
            [3, 3],
            130,
            with(Activation::Silu, zeros(1)),
            false,
        ),
        // One more or less than the sides of tiles.
        geometry("65 pixels", [1, 5, 13, 2], [1, 1], 3, conv(zeros(0)), false),
        geometry("63 pixels", [3, 7, 3, 3], [3, 3], 2, conv(zeros(1)), false),
        geometry(
            "65 channels in",
            [1, 2, 3, 65],
            [1, 1],
            2,
            conv(zeros(0)),
            false,
        ),
        geometry(
            "65 channels out",
            [2, 2, 3, 3],
            [1, 1],
            65,
            conv(zeros(0)),
            true,
        ),
        geometry(
            "many tiles, 63 to 129 channels",
            [1, 8, 8, 63],
            [3, 3],
            129,
            conv(zeros(1)),
            false,
        ),
        geometry(
            "many tiles, 64 to 64 channels",
            [2, 16, 16, 64],
            [1, 1],
            64,
            conv(zeros(0)),
            false,
        ),
        // Large enough for Winograd's tiles on the CPU; ragged at every border.
        geometry(
            "many tiles, zeros",
            [2, 23, 21, 17],
            [3, 3],
            35,
            with(Activation::LeakyRelu(0.2), zeros(1)),
            false,
        ),
        geometry(
            "many tiles, relu6, residual",
            [2, 23, 21, 17],
            [3, 3],
            35,
            with(Activation::Relu6, zeros(1)),
            true,
        ),
        geometry(
            "many tiles, replicate",
            [3, 19, 22, 33],
            [3, 3],
            18,
            conv(replicate(1)),
            false,
        ),
        geometry(
            "many tiles, asymmetric, residual",
            [1, 30, 33, 16],
            [3, 3],
            16,
            conv(Padding::asymmetric(0, 2)),
            true,
        ),
        geometry(
            "many tiles, more padding than kernel",
            [1, 28, 33, 16],
            [3, 3],
            17,
            conv(zeros(3)),
            false,
        ),
    ]
    .map(case)
    .into()
}

fn case(g: Geometry) -> Case {
    let (conv, residual) = (g.conv, g.residual);
    let [n, h, w, c_in] = g.x;
    let [kh, kw] = g.kernel;
    let weight = Shape::from([kh, kw, c_in, g.c_out]);
    let p = conv.padding;
    let along = |size: usize, pad: usize, k: usize| (size + pad - k) / conv.stride + 1;
    let y = Shape::from([
        n,
        along(h, p.top + p.bottom, kh),
        along(w, p.left + p.right, kw),
        g.c_out,
    ]);
    // Differences of every element would take minutes where there are many; `cpu::winograd` compares
    // its gradients with the plain ones. In f16 a y just below 6 becomes 6, where the slope of a ReLU6 is another:
    // few outputs, few of them near.
    let gradient = !matches!(conv.activation, Activation::Silu)
        && !g.name.starts_with("many tiles")
        && !g.name.starts_with("stem");
    let mut inputs = vec![
        Input::variable(g.x),
        Input::variable(weight),
        Input::variable([g.c_out]),
    ];
    if residual {
        inputs.push(Input::variable(y));
    }
    if conv.activation == Activation::Relu6 {
        inputs[0].scale = 8.0; // beyond 6
    }
    inputs
        .iter_mut()
        .for_each(|input| input.gradient = gradient);
    let added = if residual { y.len() } else { 0 };
    Case {
        operator: "conv2d",
        name: format!("{} {}", g.name, Shape::from(g.x)),
        inputs,
        reference: Box::new(move |i| vec![reference(&i[0], &i[1], &i[2], i.get(3), conv, y)]),
        run: Box::new(move |tape, i| Ok(vec![conv2d(tape, &i[0], &i[1], &i[2], i.get(3), conv)?])),
        cost: cost(g.x.into(), weight, y) + Cost::new(added, added),
    }
}

pub fn reference(
    x: &Array,
    weight: &Array,
    bias: &Array,
    residual: Option<&Array>,
    conv: Conv2d,
    shape: Shape,
) -> Array {
    let mut y = Array::zeros(shape);
    let [n, out_h, out_w, c_out] = shape.nhwc("conv2d").unwrap_or_default();
    let k = weight.shape.dims();
    for (n, oy, ox, co) in indices([n, out_h, out_w, c_out]) {
        let mut sum = bias.data[co];
        for (ky, kx, ci, _) in indices([k[0], k[1], k[2], 1]) {
            if let Some((iy, ix)) = source(x, conv, (oy, ox), (ky, kx)) {
                sum += x.at(n, iy, ix, ci) * weight.at(ky, kx, ci, co);
            }
        }
        *y.at_mut(n, oy, ox, co) =
            formula(conv.activation, sum) + residual.map_or(0.0, |r| r.at(n, oy, ox, co));
    }
    y
}

/// The input pixel under a tap; `None` in zero padding.
pub fn source(
    x: &Array,
    conv: Conv2d,
    (oy, ox): (usize, usize),
    (ky, kx): (usize, usize),
) -> Option<(usize, usize)> {
    let size = x.shape.dims();
    let along = |out: usize, tap: usize, before: usize, size: usize| {
        let at = (out * conv.stride + tap) as i64 - before as i64;
        let clamped = at.clamp(0, size as i64 - 1);
        (conv.padding.replicate || at == clamped).then_some(clamped as usize)
    };
    Some((
        along(oy, ky, conv.padding.top, size[1])?,
        along(ox, kx, conv.padding.left, size[2])?,
    ))
}

/// All index tuples of four nested loops.
pub fn indices([a, b, c, d]: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |i| (i / d / c / b, i / d / c % b, i / d % c, i % d))
}

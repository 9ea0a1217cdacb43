use super::{Case, Input};
use crate::ops::Activation;
use crate::ops::activation::{activation, cost};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, f) in [
        ("identity", Activation::Identity),
        ("relu", Activation::Relu),
        ("leaky_relu 0.2", Activation::LeakyRelu(0.2)),
        ("silu", Activation::Silu),
        ("sigmoid", Activation::Sigmoid),
        ("relu6", Activation::Relu6),
    ] {
        // Around the kink of a ReLU6 at 6, never at it.
        let middle = if f == Activation::Relu6 { 6.0 } else { 0.0 };
        for shape in [[1, 1, 1, 1], [2, 3, 5, 7]] {
            cases.push(Case {
                operator: "activation",
                name: format!("{name} {}", Shape::from(shape)),
                inputs: vec![Input::variable(shape).range(middle, 8.0)],
                reference: Box::new(move |x| vec![x[0].map(|x| formula(f, x))]),
                run: Box::new(move |tape, x| Ok(vec![activation(tape, &x[0], f)?])),
                cost: cost(shape.into()),
            });
        }
    }
    cases
}

/// The definition, in f64.
pub fn formula(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Identity => x,
        // By comparisons, as NaN is to stay NaN.
        Activation::Relu if x <= 0.0 => 0.0,
        Activation::Relu => x,
        Activation::LeakyRelu(slope) if x <= 0.0 => f64::from(slope) * x,
        Activation::LeakyRelu(_) => x,
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Relu6 => x.clamp(0.0, 6.0),
    }
}

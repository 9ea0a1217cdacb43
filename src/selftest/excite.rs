use super::activation::formula;
use super::{Array, Case, Input};
use crate::ops::Activation;
use crate::ops::excite::{cost, excite};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    // Fewer and more channels than lanes, numbers that divide nothing, and one of EfficientNet-B5's.
    [
        [1, 1, 1],
        [2, 24, 5],
        [3, 33, 48],
        [1, 70, 300],
        [2, 7, 256],
        [2, 5, 1030],
        [1, 1824, 76],
    ]
    .map(|[n, c, hidden]| {
        let x = Shape::from([n, 1, 1, c]);
        Case {
            operator: "excite",
            name: format!("{x}, {hidden} hidden"),
            inputs: vec![
                Input::constant(x),
                Input::constant([1, 1, c, hidden]),
                Input::constant([hidden]),
                Input::constant([1, 1, hidden, c]),
                Input::constant([c]),
            ],
            reference: Box::new(|i| {
                let hidden = pointwise(&i[0], &i[1], &i[2], Activation::Silu);
                vec![pointwise(&hidden, &i[3], &i[4], Activation::Sigmoid)]
            }),
            run: Box::new(|tape, i| {
                let [w1, b1, w2, b2] = [1, 2, 3, 4].map(|k| i[k].tensor());
                Ok(vec![excite(tape, &i[0], [w1, b1], [w2, b2])?])
            }),
            cost: cost(x, hidden),
        }
    })
    .into()
}

fn pointwise(x: &Array, weight: &Array, bias: &Array, f: Activation) -> Array {
    let (n, outputs) = (x.shape.dims()[0], bias.data.len());
    let mut y = Array::zeros([n, 1, 1, outputs]);
    for (i, y) in y.data.iter_mut().enumerate() {
        let (n, o) = (i / outputs, i % outputs);
        let inputs = x.shape.channels();
        let terms = (0..inputs).map(|k| x.data[n * inputs + k] * weight.data[k * outputs + o]);
        *y = formula(f, bias.data[o] + terms.sum::<f64>());
    }
    y
}

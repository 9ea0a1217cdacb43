use super::conv2d::indices;
use super::{Array, Case, Input};
use crate::ops::mean::{cost, mean};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    [
        [1, 1, 1, 1],
        [2, 3, 5, 7],
        [1, 37, 41, 67],
        [1, 1, 1, 4],
        [2, 3, 5, 24],
        [1, 37, 41, 20],
        [1, 48, 48, 768],
        // Row by row.
        [2, 67, 63, 7],
        [1, 80, 65, 20],
    ]
    .map(|shape| Case {
        operator: "mean",
        name: Shape::from(shape).to_string(),
        inputs: vec![Input::constant(shape).range(0.3, 1.0)],
        reference: Box::new(move |i| {
            let [n, h, w, c] = shape;
            let mut y = Array::zeros([n, 1, 1, c]);
            for (n, y_, x, c) in indices(shape) {
                *y.at_mut(n, 0, 0, c) += i[0].at(n, y_, x, c) / (h * w) as f64;
            }
            vec![y]
        }),
        run: Box::new(|tape, i| Ok(vec![mean(tape, &i[0])?])),
        cost: cost(shape.into()),
    })
    .into()
}

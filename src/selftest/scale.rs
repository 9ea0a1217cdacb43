use super::conv2d::indices;
use super::{Case, Input};
use crate::ops::scale::{cost, scale};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    [[1, 1, 1, 1], [2, 3, 5, 7], [3, 2, 3, 67], [3, 2, 3, 20]]
        .map(|shape| Case {
            operator: "scale",
            name: Shape::from(shape).to_string(),
            inputs: vec![
                Input::constant(shape),
                Input::constant([shape[0], 1, 1, shape[3]]),
            ],
            reference: Box::new(move |i| {
                let mut y = i[0].clone();
                for (n, h, w, c) in indices(shape) {
                    *y.at_mut(n, h, w, c) *= i[1].at(n, 0, 0, c);
                }
                vec![y]
            }),
            run: Box::new(|tape, i| Ok(vec![scale(tape, &i[0], &i[1])?])),
            cost: cost(shape.into()),
        })
        .into()
}

use super::{Array, Case, Input};
use crate::ops::add::{add, cost};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    [[1, 1, 1, 1], [2, 3, 5, 7]]
        .map(|shape| Case {
            operator: "add",
            name: Shape::from(shape).to_string(),
            inputs: vec![Input::variable(shape), Input::variable(shape)],
            reference: Box::new(|x| {
                let data = x[0]
                    .data
                    .iter()
                    .zip(&x[1].data)
                    .map(|(a, b)| a + b)
                    .collect();
                vec![Array {
                    shape: x[0].shape,
                    data,
                }]
            }),
            run: Box::new(|tape, x| Ok(vec![add(tape, &x[0], &x[1])?])),
            cost: cost(shape.into()),
        })
        .into()
}

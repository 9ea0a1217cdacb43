use super::{Array, Case, Input};
use crate::ops::sum::{cost, sum};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    [[1, 1, 1, 1], [2, 3, 5, 7], [1, 31, 29, 5]]
        .map(|shape| Case {
            operator: "sum",
            name: Shape::from(shape).to_string(),
            inputs: vec![Input::variable(shape).range(0.5, 1.0).exact()],
            reference: Box::new(|i| {
                vec![Array {
                    shape: [1].into(),
                    data: vec![0.25 * i[0].data.iter().sum::<f64>()],
                }]
            }),
            run: Box::new(|tape, i| Ok(vec![sum(tape, &i[0], 0.25)?])),
            cost: cost(shape.into()),
        })
        .into()
}

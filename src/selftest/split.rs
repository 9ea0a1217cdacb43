use super::{Array, Case, Input};
use crate::ops::split::{cost, split};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    [([1, 1, 1], 2, 1), ([2, 3, 5], 7, 3), ([1, 2, 3], 67, 66)]
        .map(|([n, h, w], c, at)| Case {
            operator: "split",
            name: format!("[{n}, {h}, {w}, {c}] at {at}"),
            inputs: vec![Input::variable([n, h, w, c])],
            reference: Box::new(move |i| {
                let part = |from: usize, to: usize| Array {
                    shape: Shape::from([n, h, w, to - from]),
                    data: i[0]
                        .data
                        .chunks(c)
                        .flat_map(|pixel| pixel[from..to].to_vec())
                        .collect(),
                };
                vec![part(0, at), part(at, c)]
            }),
            run: Box::new(move |tape, i| {
                let (first, second) = split(tape, &i[0], at)?;
                Ok(vec![first, second])
            }),
            cost: cost([n, h, w, c].into()),
        })
        .into()
}

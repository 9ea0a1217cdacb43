use super::{Array, Case, Input};
use crate::ops::concat::{concat, cost};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    [([1, 1, 1], 1, 1), ([2, 3, 5], 7, 4), ([1, 2, 3], 1, 65)]
        .map(|([n, h, w], a, b)| {
            let y = Shape::from([n, h, w, a + b]);
            Case {
                operator: "concat",
                name: format!("{a} ++ {b} = {y}"),
                inputs: vec![Input::variable([n, h, w, a]), Input::variable([n, h, w, b])],
                reference: Box::new(move |i| {
                    let pixels = i[0].data.chunks(a).zip(i[1].data.chunks(b));
                    let data = pixels.flat_map(|(a, b)| [a, b].concat()).collect();
                    vec![Array { shape: y, data }]
                }),
                run: Box::new(|tape, i| Ok(vec![concat(tape, &i[0], &i[1])?])),
                cost: cost(y),
            }
        })
        .into()
}

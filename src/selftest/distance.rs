use super::{Array, Case, Input};
use crate::ops::distance::{cost, distance};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    [[1, 1, 1, 1], [2, 3, 5, 7], [1, 2, 3, 131]]
        .map(|shape| {
            let [n, h, w, _] = shape;
            let pixel = [n, h, w, 1];
            Case {
                operator: "distance",
                name: Shape::from(shape).to_string(),
                inputs: vec![
                    Input::variable(shape),
                    Input::constant(shape),
                    Input::constant(pixel).exact(),
                ],
                reference: Box::new(|i| vec![reference(&i[0], &i[1], &i[2])]),
                run: Box::new(|tape, i| {
                    Ok(vec![distance(tape, &i[0], i[1].tensor(), i[2].tensor())?])
                }),
                cost: cost(shape.into()),
            }
        })
        .into()
}

fn reference(student: &Array, teacher: &Array, mask: &Array) -> Array {
    let c = student.shape.channels();
    let mut map = mask.clone();
    for (pixel, value) in map.data.iter_mut().enumerate() {
        let at = pixel * c..(pixel + 1) * c;
        let pairs = student.data[at.clone()].iter().zip(&teacher.data[at]);
        *value *= pairs.map(|(s, t)| (s - t).powi(2)).sum::<f64>() / c as f64;
    }
    map
}

use super::{Array, Case, Input};
use crate::ops::likelihood::{cost, likelihood};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    [[1, 1, 1, 1], [2, 3, 5, 7], [1, 2, 3, 131]]
        .map(|shape| {
            let [n, h, w, _] = shape;
            let pixel = [n, h, w, 1];
            Case {
                operator: "likelihood",
                name: Shape::from(shape).to_string(),
                inputs: vec![
                    Input::variable(shape),
                    Input::variable(pixel).exact(),
                    Input::constant(pixel).exact(),
                ],
                reference: Box::new(|i| vec![reference(&i[0], &i[1], &i[2])]),
                run: Box::new(|tape, i| Ok(vec![likelihood(tape, &i[0], &i[1], i[2].tensor())?])),
                cost: cost(shape.into()),
            }
        })
        .into()
}

fn reference(z: &Array, log_det: &Array, mask: &Array) -> Array {
    let c = z.shape.channels();
    let mut map = log_det.clone();
    for (pixel, value) in map.data.iter_mut().enumerate() {
        let square: f64 = z.data[pixel * c..][..c].iter().map(|z| z * z).sum();
        *value = mask.data[pixel] * (square / 2.0 - *value);
    }
    map
}

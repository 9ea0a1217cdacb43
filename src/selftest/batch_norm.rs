use super::{Array, Case, Input};
use crate::ops::batch_norm::{Running, batch_norm, cost};
use crate::tensor::Shape;

const EPSILON: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

pub fn cases() -> Vec<Case> {
    [[3, 1, 1, 1], [2, 3, 2, 1], [2, 3, 5, 7], [1, 9, 11, 67]]
        .map(|shape| {
            let c = shape[3];
            Case {
                operator: "batch_norm",
                name: Shape::from(shape).to_string(),
                inputs: vec![
                    Input::variable(shape).range(0.5, 2.0),
                    Input::variable([c]),
                    Input::variable([c]),
                    Input::constant([c]).exact(),
                    Input::constant([c]).range(1.5, 1.0).exact(),
                ],
                reference: Box::new(reference),
                run: Box::new(|tape, i| {
                    let running = Running {
                        mean: i[3].tensor().clone(),
                        var: i[4].tensor().clone(),
                    };
                    let (y, running) =
                        batch_norm(tape, &i[0], &i[1], &i[2], &running, EPSILON, MOMENTUM)?;
                    Ok(vec![
                        y,
                        tape.constant(&running.mean),
                        tape.constant(&running.var),
                    ])
                }),
                cost: cost(shape.into()),
            }
        })
        .into()
}

fn reference(i: &[Array]) -> Vec<Array> {
    let (x, weight, bias) = (&i[0], &i[1], &i[2]);
    let c = weight.data.len();
    let rows = x.data.len() / c;
    let (mut y, mut mean, mut var) = (x.clone(), i[3].clone(), i[4].clone());
    let momentum = MOMENTUM as f64;
    for channel in 0..c {
        let column = || x.data.iter().skip(channel).step_by(c);
        let average = column().sum::<f64>() / rows as f64;
        let square = column().map(|x| (x - average).powi(2)).sum::<f64>();
        let std = (square / rows as f64 + EPSILON as f64).sqrt();
        for y in y.data.iter_mut().skip(channel).step_by(c) {
            *y = (*y - average) / std * weight.data[channel] + bias.data[channel];
        }
        mean.data[channel] = (1.0 - momentum) * mean.data[channel] + momentum * average;
        var.data[channel] =
            (1.0 - momentum) * var.data[channel] + momentum * square / (rows - 1) as f64;
    }
    vec![y, mean, var]
}

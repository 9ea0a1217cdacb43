use super::{Array, Case, Input};
use crate::ops::adam::{Adam, Scaled, adam, check, cost};
use crate::tensor::Shape;

const ADAM: Adam = Adam {
    learning_rate: 2e-4,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weight_decay: 1e-5,
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in [[1, 1, 1, 1], [3, 3, 5, 7]] {
        for step in [1, 30] {
            let moment = || Input::constant(shape).range(0.0, 0.1);
            cases.push(Case {
                operator: "adam",
                name: format!("{} step {step}", Shape::from(shape)),
                inputs: vec![
                    Input::constant(shape),
                    moment().exact(),
                    Input::constant(shape).range(0.02, 0.01).exact(),
                    Input::constant(shape).exact(),
                ],
                reference: Box::new(move |i| reference(i, step)),
                run: Box::new(move |tape, i| {
                    let [mut p, mut m, mut v] = [0, 1, 2].map(|k| i[k].tensor().clone());
                    let (device, grad) = (p.device(), i[3].tensor());
                    let scaled = p.is_half().then(|| Scaled::new(device, 1.0));
                    let scaled = scaled.transpose()?;
                    scaled.iter().try_for_each(|scaled| check(grad, scaled))?;
                    adam(&mut p, &mut m, &mut v, grad, step, &ADAM, scaled.as_ref())?;
                    Ok([p, m, v].map(|t| tape.constant(&t)).into())
                }),
                cost: cost(shape.into()),
            });
        }
    }
    cases
}

fn reference(i: &[Array], step: u32) -> Vec<Array> {
    let [mut p, mut m, mut v] = [0, 1, 2].map(|k| i[k].clone());
    let [lr, b1, b2, eps, decay] = [
        ADAM.learning_rate,
        ADAM.beta1,
        ADAM.beta2,
        ADAM.epsilon,
        ADAM.weight_decay,
    ];
    for k in 0..p.data.len() {
        let g = i[3].data[k] + decay * p.data[k];
        m.data[k] = b1 * m.data[k] + (1.0 - b1) * g;
        v.data[k] = b2 * v.data[k] + (1.0 - b2) * g * g;
        let mean = m.data[k] / (1.0 - b1.powi(step as i32));
        let spread = (v.data[k] / (1.0 - b2.powi(step as i32))).sqrt();
        p.data[k] -= lr * mean / (spread + eps);
    }
    vec![p, m, v]
}

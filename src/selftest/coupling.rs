use super::{Array, Case, Input, conv2d};
use crate::ops::conv2d::{Conv2d, Padding};
use crate::ops::coupling::{Subnet, cost, coupling, coupling_inverse, coupling_of};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // The last are channels that pass through.
    for (shape, alpha, tail) in [
        ([1, 1, 1, 1], 1.9, 0),
        ([2, 3, 5, 7], 3.0, 2),
        ([1, 2, 2, 67], 1.9, 33),
        ([1, 2, 3, 8], 1.9, 0),
    ] {
        let [n, h, w, c] = shape;
        let width = c + tail;
        for inverse in [false, true] {
            let direction = if inverse { "inverse" } else { "forward" };
            let mut inputs = vec![
                Input::variable([n, h, w, width]).range(0.0, 3.0),
                Input::variable([n, h, w, 2 * c]).range(0.0, 4.0),
                Input::variable([1]).range(0.5, 0.3),
            ];
            if tail > 0 {
                inputs.push(Input::variable([n, h, w, 1]).exact());
            }
            inputs
                .iter_mut()
                .for_each(|input| input.gradient = !inverse);
            cases.push(Case {
                operator: "coupling",
                name: format!("{direction} {} + {tail} α {alpha}", Shape::from(shape)),
                inputs,
                reference: Box::new(move |i| reference(i, f64::from(alpha), inverse)),
                run: Box::new(move |tape, i| {
                    let run = if inverse { coupling_inverse } else { coupling };
                    let (y, log_det) = run(tape, &i[0], &i[1], &i[2], i.get(3), alpha)?;
                    Ok(vec![y, log_det])
                }),
                cost: cost([n, h, w, width].into()),
            });
        }
    }
    cases.push(after_conv2d([2, 3, 5, 7], 2, 9));
    cases.push(after_conv2d([1, 4, 3, 66], 0, 40));
    cases
}

/// u is a convolution of `hidden` channels: no gradient, so that a split sum may be added up in the coupling.
fn after_conv2d([n, h, w, c]: [usize; 4], tail: usize, hidden: usize) -> Case {
    let conv = Conv2d::new(Padding::replicate(1));
    let shape = Shape::from([n, h, w, c + tail]);
    let both = Shape::from([n, h, w, 2 * c]);
    let mut inputs = vec![
        Input::variable(shape).range(0.0, 3.0),
        Input::variable([1]).range(0.5, 0.3),
        Input::variable([n, h, w, hidden]),
        Input::variable([3, 3, hidden, 2 * c]),
        Input::variable([2 * c]),
        Input::variable([n, h, w, 1]).exact(),
    ];
    inputs.iter_mut().for_each(|input| input.gradient = false);
    Case {
        operator: "coupling",
        name: format!("after conv2d of {hidden} {shape}"),
        inputs,
        reference: Box::new(move |i| {
            let u = conv2d::reference(&i[2], &i[3], &i[4], None, conv, both);
            reference(&[i[0].clone(), u, i[1].clone(), i[5].clone()], 1.9, false)
        }),
        run: Box::new(move |tape, i| {
            let u = Subnet {
                hidden: &i[2],
                weight: &i[3],
                bias: &i[4],
                conv,
            };
            let (y, log_det) = coupling_of(tape, &i[0], &u, &i[1], Some(&i[5]), 1.9)?;
            Ok(vec![y, log_det])
        }),
        cost: cost(shape),
    }
}

fn reference(i: &[Array], alpha: f64, inverse: bool) -> Vec<Array> {
    let (x, u, gamma) = (&i[0], &i[1], i[2].data[0]);
    let [n, h, w, width] = [0, 1, 2, 3].map(|i| x.shape.dims()[i]);
    let c = u.shape.channels() / 2;
    let mut y = x.clone();
    let mut log_det = match i.get(3) {
        Some(so_far) => so_far.clone(),
        None => Array::zeros([n, h, w, 1]),
    };
    for (i, y) in y.data.iter_mut().enumerate() {
        let (pixel, channel) = (i / width, i % width);
        if channel >= c {
            continue;
        }
        let s = gamma * u.data[pixel * 2 * c + channel];
        let t = gamma * u.data[pixel * 2 * c + c + channel];
        let l = alpha * 0.636 * (s / alpha).atan();
        *y = if inverse {
            (*y - t) * (-l).exp()
        } else {
            (*y * l.exp() + t).clamp(-1e6, 1e6)
        };
        log_det.data[pixel] += if inverse { -l } else { l };
    }
    vec![y, log_det]
}

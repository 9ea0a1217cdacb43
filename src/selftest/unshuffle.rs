use super::conv2d::indices;
use super::{Array, Case, Input};
use crate::ops::unshuffle::{cost, shuffle, unshuffle};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for ([n, h, w, c], d) in [([1, 1, 1, 1], 1), ([2, 3, 5, 3], 2), ([1, 2, 3, 1], 8)] {
        let large = [n, h * d, w * d, c];
        let small = [n, h, w, c * d * d];
        for inverse in [false, true] {
            let (name, input) = if inverse {
                ("shuffle", small)
            } else {
                ("unshuffle", large)
            };
            cases.push(Case {
                operator: "unshuffle",
                name: format!("{name} {input:?} by {d}"),
                inputs: vec![Input::constant(input)],
                reference: Box::new(move |i| {
                    let mut y = Array::zeros(if inverse { large } else { small });
                    for (n, y_, x, c) in indices(large) {
                        let channel = c * d * d + y_ % d * d + x % d;
                        if inverse {
                            *y.at_mut(n, y_, x, c) = i[0].at(n, y_ / d, x / d, channel);
                        } else {
                            *y.at_mut(n, y_ / d, x / d, channel) = i[0].at(n, y_, x, c);
                        }
                    }
                    vec![y]
                }),
                run: Box::new(move |tape, i| {
                    Ok(vec![if inverse {
                        shuffle(tape, &i[0], d)?
                    } else {
                        unshuffle(tape, &i[0], d)?
                    }])
                }),
                cost: cost(large.into()),
            });
        }
    }
    cases
}

use super::{Array, Case, Input};
use crate::ops::permute::{Permutation, cost, permute};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    [[1, 1, 1, 1], [2, 3, 5, 7], [1, 2, 3, 67]]
        .map(|shape| {
            let c = shape[3];
            // 3 is prime to every width above: a permutation that is not its own inverse.
            let order: Vec<usize> = (0..c).map(|i| (3 * i + 1) % c).collect();
            let expected = order.clone();
            Case {
                operator: "permute",
                name: Shape::from(shape).to_string(),
                inputs: vec![Input::variable(shape)],
                reference: Box::new(move |i| {
                    let pixel =
                        |x: &[f64]| expected.iter().map(|&from| x[from]).collect::<Vec<_>>();
                    vec![Array {
                        shape: i[0].shape,
                        data: i[0].data.chunks(c).flat_map(pixel).collect(),
                    }]
                }),
                run: Box::new(move |tape, i| {
                    let permutation = Permutation::new(i[0].tensor().device(), &order)?;
                    Ok(vec![permute(tape, &i[0], &permutation)?])
                }),
                cost: cost(shape.into()),
            }
        })
        .into()
}

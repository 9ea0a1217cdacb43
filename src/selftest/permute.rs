use super::{Array, Case, Input};
use crate::ops::permute::{Permutation, cost, halve, join};
use crate::tensor::Shape;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Halves, and the condition's channels.
    for (pixels, halves, tail) in [
        ([1, 1, 1], [1, 1], 0),
        ([2, 3, 5], [3, 4], 2),
        ([1, 2, 3], [33, 34], 5),
    ] {
        for (whole, ordered) in [(true, true), (false, true), (true, false), (false, false)] {
            cases.push(halve_case(pixels, halves, tail, whole, ordered));
            cases.push(join_case(pixels, halves, tail, whole, ordered));
        }
    }
    cases
}

/// 3 divides no number of channels above: a permutation that is not its own inverse.
fn order(channels: usize, ordered: bool) -> Vec<usize> {
    let step = if ordered { 3 } else { 1 };
    (0..channels)
        .map(|i| (step * i + usize::from(ordered)) % channels)
        .collect()
}

fn with([n, h, w]: [usize; 3], channels: usize) -> Shape {
    [n, h, w, channels].into()
}

/// x, or its halves with further channels.
fn inputs(pixels: [usize; 3], [first, second]: [usize; 2], tail: usize, whole: bool) -> Vec<Input> {
    match whole {
        true => vec![Input::variable(with(pixels, first + second))],
        false => vec![
            Input::variable(with(pixels, first + tail)),
            Input::variable(with(pixels, second + tail)),
        ],
    }
}

/// x of each pixel in the order, from the inputs of a case.
fn ordered(i: &[Array], whole: bool, halves: [usize; 2], order: &[usize]) -> Vec<Vec<f64>> {
    let rows = |a: &Array| -> Vec<Vec<f64>> {
        let width = a.shape.channels();
        a.data.chunks(width).map(<[f64]>::to_vec).collect()
    };
    let mut x = rows(&i[0]);
    if !whole {
        for (x, second) in x.iter_mut().zip(rows(&i[1])) {
            x.truncate(halves[0]);
            x.extend(&second[..halves[1]]);
        }
    }
    let pixel = |x: Vec<f64>| order.iter().map(|&from| x[from]).collect();
    x.into_iter().map(pixel).collect()
}

fn name(what: &str, pixels: [usize; 3], halves: [usize; 2], whole: bool, ordered: bool) -> String {
    let from = if whole { "whole" } else { "halves" };
    let order = if ordered { ", ordered" } else { "" };
    format!("{what} {pixels:?}, {halves:?}, from {from}{order}")
}

fn halve_case(
    pixels: [usize; 3],
    halves: [usize; 2],
    tail: usize,
    whole: bool,
    is_ordered: bool,
) -> Case {
    let channels = halves[0] + halves[1];
    let order = order(channels, is_ordered);
    let mut inputs = inputs(pixels, halves, tail, whole);
    if tail > 0 {
        inputs.push(Input::constant(with(pixels, tail)));
    }
    let parts = if whole { 1 } else { 2 };
    let expected = order.clone();
    Case {
        operator: "permute",
        name: name("halve", pixels, halves, whole, is_ordered),
        inputs,
        reference: Box::new(move |i| {
            let rows = ordered(i, whole, halves, &expected);
            let half = |range: std::ops::Range<usize>| {
                let mut data = Vec::new();
                for (pixel, row) in rows.iter().enumerate() {
                    data.extend(&row[range.clone()]);
                    if let Some(condition) = i.get(parts) {
                        data.extend(&condition.data[pixel * tail..][..tail]);
                    }
                }
                let shape = with(pixels, range.len() + tail);
                Array { shape, data }
            };
            vec![half(0..halves[0]), half(halves[0]..channels)]
        }),
        run: Box::new(move |tape, i| {
            let permutation = Permutation::new(i[0].tensor().device(), &order)?;
            let order = is_ordered.then_some(&permutation);
            let (first, second) = halve(tape, &i[..parts], halves, order, i.get(parts))?;
            Ok(vec![first, second])
        }),
        cost: cost(with(pixels, channels)),
    }
}

fn join_case(
    pixels: [usize; 3],
    halves: [usize; 2],
    tail: usize,
    whole: bool,
    is_ordered: bool,
) -> Case {
    let channels = halves[0] + halves[1];
    let order = order(channels, is_ordered);
    let expected = order.clone();
    Case {
        operator: "permute",
        name: name("join", pixels, halves, whole, is_ordered),
        inputs: inputs(pixels, halves, tail, whole),
        reference: Box::new(move |i| {
            vec![Array {
                shape: with(pixels, channels),
                data: ordered(i, whole, halves, &expected).concat(),
            }]
        }),
        run: Box::new(move |tape, i| {
            let permutation = Permutation::new(i[0].tensor().device(), &order)?;
            let order = is_ordered.then_some(&permutation);
            Ok(vec![join(tape, i, halves, order)?])
        }),
        cost: cost(with(pixels, channels)),
    }
}

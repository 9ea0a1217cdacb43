use super::conv2d::indices;
use super::{Array, Case, Input};
use crate::ops::resize::{Filter, cost, resize};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (x, to) in [
        ([1, 1, 1, 1], [1, 1]),
        ([2, 3, 5, 3], [7, 4]),
        ([1, 24, 23, 1], [192, 184]),
        ([1, 16, 24, 1], [2, 3]),
    ] {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let y = [x[0], to[0], to[1], x[3]];
            cases.push(Case {
                operator: "resize",
                name: format!("{filter:?} {x:?} to {to:?}"),
                inputs: vec![Input::constant(x).exact()],
                reference: Box::new(move |i| vec![reference(&i[0], y, filter)]),
                run: Box::new(move |tape, i| Ok(vec![resize(tape, &i[0], to, filter)?])),
                cost: cost(x.into(), y.into()),
            });
        }
    }
    cases
}

/// The interpolation kernel at distance t.
fn kernel(t: f64, filter: Filter) -> f64 {
    let (t, a) = (t.abs(), -0.75);
    match filter {
        Filter::Bilinear => (1.0 - t).max(0.0),
        Filter::Bicubic if t <= 1.0 => (a + 2.0) * t.powi(3) - (a + 3.0) * t.powi(2) + 1.0,
        Filter::Bicubic if t < 2.0 => a * (t.powi(3) - 5.0 * t.powi(2) + 8.0 * t - 4.0),
        Filter::Bicubic => 0.0,
    }
}

fn reference(x: &Array, shape: [usize; 4], filter: Filter) -> Array {
    let mut y = Array::zeros(shape);
    let size = x.shape.dims();
    let along = |out: usize, size: usize, out_size: usize| -> Vec<(usize, f64)> {
        let at = (out as f64 + 0.5) * size as f64 / out_size as f64 - 0.5;
        let at = match filter {
            Filter::Bilinear => at.max(0.0),
            Filter::Bicubic => at,
        };
        // Bilinear has two taps, which are one where a pixel becomes one: a weight of 0 times infinity is NaN.
        let (reach, step) = match filter {
            Filter::Bilinear => (0..=1, i64::from(size != out_size)),
            Filter::Bicubic => (-1..=2, 1),
        };
        let near = at.floor();
        let index = |i: i64| (near as i64 + i * step).clamp(0, size as i64 - 1) as usize;
        reach
            .map(|i| (index(i), kernel(at - near - i as f64, filter)))
            .collect()
    };
    for (n, oy, ox, c) in indices(shape) {
        for (iy, wy) in along(oy, size[1], shape[1]) {
            for (ix, wx) in along(ox, size[2], shape[2]) {
                *y.at_mut(n, oy, ox, c) += wy * wx * x.at(n, iy, ix, c);
            }
        }
    }
    y
}

//! The transforms of Winograd's minimal filtering, one dimension at a time, over vectors of channels.

use crate::cpu::lanes::Lanes;
use std::mem::MaybeUninit;

/// Inputs along a side of a tile.
pub(super) const IN: usize = 6;
pub(super) const POINTS: usize = IN * IN;

pub(super) const NEAR: f32 = 0.75;
pub(super) const FAR: f32 = 1.5;

/// What tap `tap` of `taps` counts at a point: a power of the point over the product of its distances
/// to the other finite points.
pub(super) fn g(point: usize, tap: usize, taps: usize) -> f64 {
    let (near, far) = (f64::from(NEAR), f64::from(FAR));
    let (at, distances) = match point {
        0 => (0.0, near * near * far * far),
        1 => (near, 2.0 * near * near * (near * near - far * far)),
        2 => (-near, 2.0 * near * near * (near * near - far * far)),
        3 => (far, 2.0 * far * far * (far * far - near * near)),
        4 => (-far, 2.0 * far * far * (far * far - near * near)),
        _ => return f64::from(u8::from(tap == taps - 1)),
    };
    f64::powi(at, tap as i32) / distances
}

/// Bᵀ·d
#[inline(always)]
pub(super) fn input<V: Lanes>(d: [V; IN]) -> [V; IN] {
    let s = V::splat;
    let even1 = d[2].mul_add(s(-2.25), d[4]);
    let odd1 = d[1].mul_add(s(-1.6875), d[3].mul(s(0.75)));
    let even2 = d[2].mul_add(s(-0.5625), d[4]);
    let odd2 = d[1].mul_add(s(-0.84375), d[3].mul(s(1.5)));
    [
        d[0].mul_add(s(1.265625), d[2].mul_add(s(-2.8125), d[4])),
        even1.add(odd1),
        even1.sub(odd1),
        even2.add(odd2),
        even2.sub(odd2),
        d[1].mul_add(s(1.265625), d[3].mul_add(s(-2.8125), d[5])),
    ]
}

/// G·g of T taps.
#[inline(always)]
pub(super) fn weights<V: Lanes, const T: usize>(g: [V; T]) -> [V; IN] {
    let zero = g[0].mul(V::splat(1.0 / (NEAR * NEAR * FAR * FAR)));
    let [near, near_back] = weights_at(g, NEAR, FAR);
    let [far, far_back] = weights_at(g, FAR, NEAR);
    [zero, near, near_back, far, far_back, g[T - 1]]
}

/// At a point and its mirror image.
#[inline(always)]
pub(super) fn weights_at<V: Lanes, const T: usize>(g: [V; T], at: f32, other: f32) -> [V; 2] {
    let square = at * at;
    let mut even = g[2].mul_add(V::splat(square), g[0]);
    let mut odd = g[1];
    if T == 5 {
        even = g[4].mul_add(V::splat(square * square), even);
        odd = g[3].mul_add(V::splat(square), odd);
    }
    let over = V::splat(1.0 / (2.0 * square * (square - other * other)));
    let odd = odd.mul(V::splat(at));
    [even.add(odd).mul(over), even.sub(odd).mul(over)]
}

#[inline(always)]
pub(super) fn power(x: f32, n: usize) -> f32 {
    (0..n).fold(1.0, |power, _| power * x)
}

/// Aᵀ·m
#[inline(always)]
pub(super) fn output<V: Lanes, const O: usize>(m: [V; IN]) -> [V; O] {
    let (sum1, dif1) = (m[1].add(m[2]), m[1].sub(m[2]));
    let (sum2, dif2) = (m[3].add(m[4]), m[3].sub(m[4]));
    let mut y = [m[0].add(sum1).add(sum2); O];
    for (i, y) in y.iter_mut().enumerate().skip(1) {
        let (a, b) = if i % 2 == 0 {
            (sum1, sum2)
        } else {
            (dif1, dif2)
        };
        *y = a
            .mul(V::splat(power(NEAR, i)))
            .add(b.mul(V::splat(power(FAR, i))));
    }
    y[O - 1] = y[O - 1].add(m[5]);
    y
}

/// A·y, which takes a gradient of the output back through Aᵀ.
#[inline(always)]
pub(super) fn output_back<V: Lanes, const O: usize>(y: [V; O]) -> [V; IN] {
    let [near, near_back] = output_back_at(y, NEAR);
    let [far, far_back] = output_back_at(y, FAR);
    [y[0], near, near_back, far, far_back, y[O - 1]]
}

#[inline(always)]
pub(super) fn output_back_at<V: Lanes, const O: usize>(y: [V; O], at: f32) -> [V; 2] {
    let (mut even, mut odd) = (y[0], y[1].mul(V::splat(at)));
    if O == 4 {
        even = y[2].mul_add(V::splat(at * at), even);
        odd = y[3].mul_add(V::splat(at * at * at), odd);
    }
    [even.add(odd), even.sub(odd)]
}

/// Rows first, then columns, as they come and go: `f` of each `row(i)`, then `column(j, …)` of each `f`.
#[inline(always)]
pub(super) fn both<V: Lanes, const I: usize, const O: usize>(
    row: impl Fn(usize) -> [V; I],
    f: impl Fn([V; I]) -> [V; O],
    mut column: impl FnMut(usize, [V; O]),
) {
    // Zeros would be written before what they make room for.
    let mut rows = [[MaybeUninit::uninit(); O]; I];
    for (i, to) in rows.iter_mut().enumerate() {
        *to = f(row(i)).map(MaybeUninit::new);
    }
    for j in 0..O {
        let mut x = [V::splat(0.0); I];
        for (x, row) in x.iter_mut().zip(&rows) {
            // SAFETY: every row was written above.
            *x = unsafe { row[j].assume_init() };
        }
        column(j, f(x));
    }
}

//! Rearrangements of pixels: unshuffle and its inverse, replicate padding.

use super::{CPU, hold, relative, tensor, values};
use astray::nn::random::Random;
use astray::ops::conv2d::{Conv2d, Padding, conv2d};
use astray::ops::unshuffle::{shuffle, unshuffle};
use astray::tape::Tape;
use astray::tensor::Tensor;
use proptest::prelude::*;

#[test]
fn unshuffle_and_shuffle_undo_each_other() {
    let sizes = (1..3_usize, 1..5_usize, 1..5_usize, 1..4_usize, 1..5_usize);
    hold(200, (sizes, any::<u64>()), |((n, h, w, c, d), seed)| {
        let mut random = Random::new(seed);
        let tape = Tape::inference();
        let picture = tensor([n, h * d, w * d, c], &mut random);
        let there = unshuffle(&tape, &tape.constant(&picture), d).unwrap();
        prop_assert_eq!(there.tensor().shape(), [n, h, w, c * d * d].into());
        let back = shuffle(&tape, &there, d).unwrap();
        prop_assert_eq!(values(back.tensor()), values(&picture));

        let map = tensor([n, h, w, c * d * d], &mut random);
        let there = shuffle(&tape, &tape.constant(&map), d).unwrap();
        let back = unshuffle(&tape, &there, d).unwrap();
        prop_assert_eq!(values(back.tensor()), values(&map));
        Ok(())
    });
}

/// [n,h,w,c] → [n,h+2p,w+2p,c] with the border repeated.
fn padded(x: &Tensor, p: usize) -> Tensor {
    let [n, h, w, c] = x.shape().nhwc("padded").unwrap();
    let data = x.to_vec().unwrap();
    let mut out = Vec::new();
    let inside = |at: usize, size: usize| at.saturating_sub(p).min(size - 1);
    for n in 0..n {
        for y in 0..h + 2 * p {
            for x in 0..w + 2 * p {
                let pixel = ((n * h + inside(y, h)) * w + inside(x, w)) * c;
                out.extend_from_slice(&data[pixel..pixel + c]);
            }
        }
    }
    Tensor::new(CPU, [n, h + 2 * p, w + 2 * p, c], out).unwrap()
}

#[test]
fn replicate_padding_is_that_of_a_padded_picture() {
    let sizes = (1..3_usize, 1..9_usize, 1..9_usize, 1..9_usize, 1..20_usize);
    let options = (prop::sample::select(vec![1_usize, 3, 5]), 1..3_usize);
    hold(
        200,
        (sizes, options, any::<u64>()),
        |((n, h, w, c_in, c_out), (k, stride), seed)| {
            let mut random = Random::new(seed);
            let tape = Tape::inference();
            let x = tensor([n, h, w, c_in], &mut random);
            let weight = tape.constant(&tensor([k, k, c_in, c_out], &mut random));
            let bias = tape.constant(&tensor([c_out], &mut random));
            let run = |x: &Tensor, padding| {
                let conv = Conv2d {
                    stride,
                    ..Conv2d::new(padding)
                };
                let y = conv2d(&tape, &tape.constant(x), &weight, &bias, None, conv);
                y.unwrap().tensor().clone()
            };
            let found = run(&x, Padding::replicate(k / 2));
            let expected = run(&padded(&x, k / 2), Padding::zeros(0));
            prop_assert_eq!(found.shape(), expected.shape());
            let off = relative(&values(&found), &values(&expected));
            prop_assert!(off <= 1e-6, "{off:.1e}");
            Ok(())
        },
    );
}

//! The positional encoding that conditions teacher and student (spec section 4).

use crate::Result;
use crate::tensor::{Device, Tensor};

/// `[N,H,W,channels]`: the first half alternates sin(x·ω_k), cos(x·ω_k) over the column x, the second
/// half the same over the row, ω_k = exp(−2k·ln 10⁴ / (channels/2)). The same for every sample.
///
/// # Errors
/// [`crate::Error::OutOfMemory`].
pub fn positional_encoding(
    device: &Device,
    [n, h, w]: [usize; 3],
    channels: usize,
) -> Result<Tensor> {
    let half = channels / 2;
    let wave = |at: usize, i: usize| {
        let omega = (-2.0 * (i / 2) as f64 * 1e4_f64.ln() / half as f64).exp();
        let angle = at as f64 * omega;
        if i.is_multiple_of(2) {
            angle.sin()
        } else {
            angle.cos()
        }
    };
    let mut one = Vec::with_capacity(h * w * channels);
    for y in 0..h {
        for x in 0..w {
            one.extend((0..half).map(|i| wave(x, i) as f32));
            one.extend((0..half).map(|i| wave(y, i) as f32));
        }
    }
    Tensor::new(device, [n, h, w, 2 * half], one.repeat(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_row_is_as_in_the_spec() {
        let map = positional_encoding(&Device::Cpu, [2, 24, 24], 32).unwrap();
        let data = map.to_vec().unwrap();
        let (channel_0, channel_2) = (
            [0.0, 0.84147, 0.90930, 0.14112],
            [0.0, 0.31098, 0.59113, 0.81265],
        );
        for x in 0..4 {
            assert!((data[x * 32] - channel_0[x]).abs() < 1e-5);
            assert!((data[x * 32 + 2] - channel_2[x]).abs() < 1e-5);
            assert_eq!(data[x * 32 + 16], 0.0, "row 0 of the row channels");
            assert_eq!(
                data[x * 32],
                data[(24 * 24 + x) * 32],
                "every sample is the same"
            );
        }
    }
}

//! What the pixels of a picture become before a network sees them.

/// (x − mean) / deviation of each channel, x from 0 to 1. The mean is also the colour around a picture
/// that is not square.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    pub mean: [f32; 3],
    pub deviation: [f32; 3],
}

impl Normalisation {
    /// Mean and standard deviation of ImageNet, as torchvision's.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        deviation: [0.229, 0.224, 0.225],
    };

    /// (x − 127) / 128 of 8-bit pixels, as `efficientnet_lite_builder.py` of the authors has it.
    pub const LITE: Self = Self {
        mean: [127.0 / 255.0; 3],
        deviation: [128.0 / 255.0; 3],
    };

    /// Of one value.
    pub fn of(&self, x: f32, channel: usize) -> f32 {
        (x - self.mean[channel]) / self.deviation[channel]
    }

    /// The mean in 8 bits.
    pub fn colour(&self) -> [u8; 3] {
        // Down, but not where only the rounding of the mean itself is in the way.
        self.mean.map(|mean| (mean * 255.0 + 1e-3) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_what_the_authors_say() {
        for x in 0..=255u8 {
            let unit = f32::from(x) / 255.0;
            let expected = (f64::from(x) - 127.0) / 128.0;
            let found = Normalisation::LITE.of(unit, 1);
            assert!((f64::from(found) - expected).abs() < 2e-7, "{x}: {found}");
        }
        assert_eq!(Normalisation::LITE.colour(), [127; 3]);
        assert_eq!(Normalisation::IMAGENET.colour(), [123, 116, 103]);
    }
}

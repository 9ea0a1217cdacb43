//! What a picture looks like in three numbers, so that one of another kind is noticed before its score is believed.

use super::image::{Pixels, Rgb};
use serde::{Deserialize, Serialize};

/// So many pixels tell of a picture, evenly spread.
const LOOKED_AT: usize = 1 << 16;
/// A picture with less than this difference between its colours, on average, is grey.
const GREY: f32 = 0.02;
/// How far beyond what was seen a picture is another kind.
const WIDER: f32 = 1.05;
const DARKER: f32 = 0.5;

/// One picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Width over height.
    pub aspect: f32,
    /// Mean of the three channels, 0 to 1.
    pub brightness: f32,
    /// Mean difference between the highest and the lowest channel, 0 to 1.
    pub colour: f32,
}

impl Look {
    pub fn of(picture: &Rgb) -> Self {
        let step = (picture.width * picture.height / LOOKED_AT).max(1);
        let (mut count, mut brightness, mut colour) = (0.0_f64, 0.0, 0.0);
        let mut see = |[r, g, b]: [f32; 3]| {
            count += 1.0;
            brightness += f64::from(r + g + b) / 3.0;
            colour += f64::from(r.max(g).max(b) - r.min(g).min(b));
        };
        match &picture.pixels {
            Pixels::U8(pixels) => (pixels.as_chunks().0.iter().step_by(step))
                .for_each(|pixel: &[u8; 3]| see(pixel.map(|v| f32::from(v) / 255.0))),
            Pixels::F32(pixels) => {
                (pixels.as_chunks().0.iter().step_by(step)).for_each(|pixel| see(*pixel))
            }
        }
        Self {
            aspect: picture.width as f32 / picture.height as f32,
            brightness: (brightness / count) as f32,
            colour: (colour / count) as f32,
        }
    }
}

/// The lowest and the highest of several pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Looks {
    pub aspect: [f32; 2],
    pub brightness: [f32; 2],
    pub colour: [f32; 2],
}

impl Looks {
    /// `None` of none.
    pub fn of(all: &[Look]) -> Option<Self> {
        let range = |value: fn(&Look) -> f32| {
            let values = || all.iter().map(value);
            [
                values().fold(f32::MAX, f32::min),
                values().fold(f32::MIN, f32::max),
            ]
        };
        (!all.is_empty()).then(|| Self {
            aspect: range(|look| look.aspect),
            brightness: range(|look| look.brightness),
            colour: range(|look| look.colour),
        })
    }

    /// How a picture differs from all of these, in words; nothing where it does not.
    pub fn differences(&self, look: &Look) -> Vec<String> {
        let mut all = Vec::new();
        let [narrow, wide] = self.aspect;
        if look.aspect * WIDER < narrow || look.aspect > wide * WIDER {
            all.push(format!(
                "its width over height is {:.2}, of the training pictures {narrow:.2} to {wide:.2}",
                look.aspect
            ));
        }
        let [least, most] = self.colour;
        if least > GREY && look.colour < 0.25 * least {
            all.push("it is grey, and the training pictures have colours".into());
        } else if most < GREY && look.colour > 4.0 * GREY {
            all.push("it has colours, and the training pictures are grey".into());
        }
        let [dark, bright] = self.brightness;
        let percent = |value: f32| (100.0 * value).round();
        let mut brightness = |how: &str| {
            all.push(format!(
                "it is far {how}: its mean brightness is {} %, of the training pictures {} to {} %",
                percent(look.brightness),
                percent(dark),
                percent(bright)
            ));
        };
        if look.brightness < DARKER * dark {
            brightness("darker");
        } else if 1.0 - look.brightness < DARKER * (1.0 - bright) {
            brightness("brighter");
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, pixel: [u8; 3]) -> Look {
        Look::of(&Rgb {
            width,
            height,
            pixels: Pixels::U8(pixel.repeat(width * height)),
        })
    }

    #[test]
    fn what_is_of_another_kind_is_said() {
        let seen = [
            picture(40, 30, [120, 100, 80]),
            picture(44, 33, [140, 110, 80]),
        ];
        let looks = Looks::of(&seen).unwrap();
        assert_eq!(
            looks.differences(&picture(41, 31, [130, 105, 80])),
            Vec::<String>::new()
        );
        for (look, word) in [
            (picture(30, 40, [130, 105, 80]), "width over height is 0.75"),
            (picture(40, 30, [100, 100, 100]), "grey"),
            (
                picture(40, 30, [50, 42, 30]),
                "far darker: its mean brightness is 16 %",
            ),
            (picture(40, 30, [255, 230, 200]), "far brighter"),
        ] {
            let found = looks.differences(&look);
            assert!(
                found.len() == 1 && found[0].contains(word),
                "{word}: {found:?}"
            );
        }
        let grey = Looks::of(&[picture(9, 9, [90, 90, 90])]).unwrap();
        assert!(grey.differences(&picture(9, 9, [140, 90, 40]))[0].contains("has colours"));
        assert_eq!(Looks::of(&[]), None);
    }
}

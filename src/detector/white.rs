//! Which value is white in pictures of more than 8 bits: cameras store 10, 12 or 14 in 16.

use super::config::White;
use crate::Result;
use crate::data::{Rgb, SampleType};
use std::collections::BTreeMap;
use std::path::Path;

/// What `auto` becomes: 1 where no picture holds more (floats), or else the smallest 2ᵏ − 1 that holds the pictures. Where
/// all have 8 bits there is nothing to find, and it stays. Pictures of more bits are decoded for it, one at a time.
///
/// # Errors
/// A picture that cannot be read.
pub(super) fn auto(pictures: &[&Path]) -> Result<White> {
    let mut highest = 0.0;
    let mut first = BTreeMap::new();
    for path in pictures {
        let samples = SampleType::of(path)?;
        first.entry(samples).or_insert(path);
        if samples != SampleType::U8 {
            let picture = Rgb::load(path, Some(1.0))?;
            highest = picture.brightest().unwrap_or(0.0).max(highest);
        }
    }
    let mut kinds = first.iter();
    if let (Some((one, of_one)), Some((other, of_other))) = (kinds.next(), kinds.next()) {
        tracing::warn!(
            "{} has {one}, {} has {other}: pictures of one kind are better learned from",
            of_one.display(),
            of_other.display()
        );
    }
    let whole = || (8..=32).map(|bits| f64::from(bits).exp2() - 1.0);
    let highest = f64::from(highest);
    Ok(match first.keys().next_back() {
        None | Some(SampleType::U8) => White::Auto,
        Some(SampleType::F32) if highest <= 1.0 => White::Value(1.0),
        _ => White::Value(whole().find(|&white| white >= highest).unwrap_or(highest)),
    })
}

impl White {
    /// What is told of a value that was found.
    pub fn note(self) -> Option<String> {
        let white = self.value()?;
        let bits = (white + 1.0).log2();
        Some(match bits.fract() == 0.0 && white > 1.0 {
            true => format!("pictures have {bits} bits: white is {white}"),
            false => format!("pictures hold numbers from 0 to {white}: white is {white}"),
        })
    }
}

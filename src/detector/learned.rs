//! What a detector learned from, kept in its file.

use crate::Result;
use crate::data::look::{Look, Looks};
use crate::data::{Dataset, Rgb};
use serde::{Deserialize, Serialize};

/// The entry of a model's metadata that holds it.
pub const LEARNED: &str = "learned";
/// So many of the training pictures are looked at, evenly spread.
const LOOKED_AT: usize = 40;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// The category's name.
    pub category: String,
    /// Of the good parts that were learned from, see [`Dataset::fingerprint`].
    pub sha256: String,
    /// How many they are.
    pub parts: usize,
    /// `None` where they have no pictures.
    pub looks: Option<Looks>,
}

impl Learned {
    /// `white` as in [`Rgb::load`].
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(dataset: &Dataset, white: Option<f32>) -> Result<Self> {
        let pictures: Vec<_> = dataset
            .train
            .iter()
            .filter_map(|part| part.rgb.as_deref())
            .collect();
        let step = pictures.len().div_ceil(LOOKED_AT).max(1);
        let chosen = pictures.iter().step_by(step);
        let looks: Vec<Look> = chosen
            .map(|path| Ok(Look::of(&Rgb::load(path, white)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            category: dataset.name.clone(),
            sha256: dataset.fingerprint()?,
            parts: dataset.train.len(),
            looks: Looks::of(&looks),
        })
    }
}

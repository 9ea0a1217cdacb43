//! What people are told of a model's backbone.

use crate::detector::Extractor;
use crate::weights::name_of;
use crate::weights::shipped::{self, DEFAULT};

/// Where to get better weights than `astray-b0`, which saw no photographs.
/// The figures are the means of rows of `weights/README.md`, by image with AST.
const BETTER: &str = "ImageNet weights often find more (V2-B0: image AUROC 93 instead of 89 % over three data \
                      sets): leave --weights out, or astray weights fetch efficientnet-b5, then --weights efficientnet-b5";

/// Where there are others than the default ones.
const LARGER: &str = "larger networks: astray weights list";

/// One line for the terminal; none where the model sees depth alone.
pub fn line(extractor: &Extractor) -> Option<String> {
    let network = extractor.network()?;
    if extractor.is_seeded() {
        return Some(format!(
            "note: --weights seeded: the backbone is random ({}), calibrated on the training pictures. \
             It sees little in RGB alone; trained weights would gain much.",
            extractor.origin()
        ));
    }
    if let Some(own) = shipped::of(extractor.origin()) {
        let others = match own.name == DEFAULT.name {
            true => LARGER,
            false => BETTER,
        };
        return Some(format!(
            "backbone: {} (shipped, {}); {others}",
            own.name, own.training
        ));
    }
    Some(match name_of(extractor.origin()) {
        Some((name, training)) => format!("backbone: {name} ({training})"),
        None => format!(
            "backbone: {} to block {}, weights of sha256 {}",
            network.name,
            network.blocks.len() - 1,
            extractor.origin()
        ),
    })
}

/// What a reader of a report must know; none where the weights are somebody else's.
pub fn note(extractor: &Extractor) -> Option<String> {
    if extractor.is_seeded() {
        return Some(
            "The backbone is random, calibrated on the training pictures: no trained weights were wanted. \
             It shows the whole chain at work; it sees little in RGB alone."
                .into(),
        );
    }
    let own = shipped::of(extractor.origin())?;
    let mut note = format!(
        "The backbone is {}, which comes with astray and has seen {}",
        own.name, own.training
    );
    if own.name != DEFAULT.name {
        note += "; ";
        note += BETTER;
    }
    Some(note + ".")
}

/// Its name where the weights are known, and what the model keeps: `astray-b0, sha256 5f15…`.
pub fn named(extractor: &Extractor) -> String {
    let origin = extractor.origin();
    match name_of(origin) {
        Some((name, _)) => format!("{name}, sha256 {origin}"),
        None => origin.into(),
    }
}

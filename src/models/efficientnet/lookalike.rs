//! Which network a weight file holds: for the message when it is not the one that was asked for.

use super::names::Scheme;
use super::table::{Backbone, names};
use crate::nn::weights::Array;
use std::collections::BTreeMap;

/// The known network that has exactly these blocks, of these widths, and who named its tensors.
pub fn lookalike(tensors: &BTreeMap<String, Array>) -> Option<(String, Scheme)> {
    let scheme = Scheme::recognise(tensors)?;
    let networks = names().into_iter().filter_map(|n| Backbone::whole(&n).ok());
    let mut like = networks.filter(|network| fits(network, tensors, scheme));
    like.next().map(|network| (network.name, scheme))
}

/// A missing stem does not hide the network: its blocks still show.
fn fits(network: &Backbone, tensors: &BTreeMap<String, Array>, scheme: Scheme) -> bool {
    let width = |conv: &str| {
        Some(
            tensors
                .get(&format!("{conv}.weight"))?
                .shape
                .first()
                .copied(),
        )
    };
    let stem = width(&scheme.stem().0);
    let mut blocks = network.blocks.iter().enumerate();
    let is_depthwise = |a: &&Array| matches!(a.shape[..], [_, 1, k, _] if k > 1);
    let depthwise = tensors.values().filter(is_depthwise).count();
    stem.is_none_or(|found| found == Some(network.stem))
        && blocks.all(|(i, spec)| {
            width(&scheme.block(i, spec).project.0) == Some(Some(spec.c_out))
        })
        // No block is left over, as there would be in a deeper network of the same widths.
        && depthwise == network.blocks.iter().filter(|block| !block.fused).count()
}

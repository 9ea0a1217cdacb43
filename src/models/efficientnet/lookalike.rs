//! Which network a weight file holds.

use super::names::Scheme;
use super::table::{Backbone, BlockSpec, names};
use crate::nn::weights::Array;
use std::collections::BTreeMap;

/// The known network that has exactly these blocks, of these widths, and who named its tensors.
pub fn lookalike(tensors: &BTreeMap<String, Array>) -> Option<(String, Scheme)> {
    let (scheme, alike) = lookalikes(tensors)?;
    let whole = alike.into_iter().find(|b| b.blocks.len() == b.all_blocks);
    whole.map(|network| (network.name, scheme))
}

/// Who named these tensors, and the known networks that begin with exactly these blocks, of these
/// widths: several where a file was cut before they differ. Each is tapped at the last block.
pub fn lookalikes(tensors: &BTreeMap<String, Array>) -> Option<(Scheme, Vec<Backbone>)> {
    let scheme = Scheme::recognise(tensors)?;
    let cut = |name: String| {
        let whole = Backbone::whole(&name).ok()?;
        let last = leading_blocks(&whole, tensors, scheme).checked_sub(1)?;
        let network = Backbone::new(&name, Some(last)).ok()?;
        fits(&network, tensors, scheme).then_some(network)
    };
    Some((scheme, names().into_iter().filter_map(cut).collect()))
}

fn width(tensors: &BTreeMap<String, Array>, conv: &str) -> Option<usize> {
    let weight = tensors.get(&format!("{conv}.weight"))?;
    weight.shape.first().copied()
}

/// How many of the network's blocks are there, of the right widths, from the first on.
fn leading_blocks(network: &Backbone, tensors: &BTreeMap<String, Array>, scheme: Scheme) -> usize {
    let blocks = network.blocks.iter().enumerate();
    let there = |(i, block): (usize, &BlockSpec)| {
        width(tensors, &scheme.block(i, block).project.0) == Some(block.c_out)
    };
    blocks.take_while(|&block| there(block)).count()
}

/// Has the file the network's stem, and no block more? A missing stem does not hide the network. A Lite network
/// and the one of the same table differ in squeeze-and-excite alone.
fn fits(network: &Backbone, tensors: &BTreeMap<String, Array>, scheme: Scheme) -> bool {
    let stem = width(tensors, &scheme.stem().0);
    let is_depthwise = |a: &&Array| matches!(a.shape[..], [_, 1, k, _] if k > 1);
    let depthwise = tensors.values().filter(is_depthwise).count();
    let blocks = || network.blocks.iter().enumerate();
    let squeezes = |(i, block): (usize, &BlockSpec)| {
        tensors.contains_key(&format!("{}.weight", scheme.block(i, block).se_reduce))
    };
    stem.is_none_or(|found| found == network.stem)
        // As there would be in a deeper network of the same widths.
        && depthwise == blocks().filter(|(_, block)| !block.fused).count()
        && blocks().any(squeezes) == blocks().any(|(_, block)| block.squeezed)
}

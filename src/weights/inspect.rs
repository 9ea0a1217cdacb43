//! What a weight file holds.

use super::cache::read;
use crate::models::efficientnet::{Backbone, BlockSpec, Padding, Scheme, lookalikes};
use crate::nn::weights::{Array, Weights};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The key of the network's name in a converted file's header.
pub(super) const NETWORK: &str = "network";

/// A weight file, looked into.
#[derive(Debug, Serialize)]
pub struct Inspection {
    pub file: PathBuf,
    pub bytes: u64,
    /// Of the whole file, in lower-case hex.
    pub sha256: String,
    /// Who named the tensors.
    pub naming: String,
    /// Several where the file was cut before they differ.
    pub networks: Vec<Network>,
    /// The padding that the weights were trained with, by their naming.
    pub padding: Padding,
    /// The blocks that `backbone.tap` may name, counted from 0.
    pub blocks: Vec<Block>,
    /// Are those all that the network has?
    pub whole: bool,
    /// Numbers that were trained: running means and variances do not count.
    pub parameters: usize,
    /// Free text in the file's header.
    pub metadata: BTreeMap<String, String>,
    pub tensors: Vec<Tensor>,
}

#[derive(Debug, Serialize)]
pub struct Network {
    /// As `backbone.name` takes it.
    pub name: String,
    /// Batch norm's ε.
    pub epsilon: f64,
}

/// A place to tap.
#[derive(Debug, Serialize)]
pub struct Block {
    pub block: usize,
    pub stage: usize,
    pub channels: usize,
    /// Pixels of the picture for one of the features.
    pub stride: usize,
}

#[derive(Debug, Serialize)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// As the file stores it.
    pub dtype: &'static str,
}

/// Looks into a file, or into what is known by this name. NaN and infinity are refused.
///
/// # Errors
/// See [`read`]; a file that begins as no known network does.
pub fn inspect(path: &Path) -> Result<Inspection> {
    look_into(read(path)?)
}

/// The same of weights that were read.
///
/// # Errors
/// They begin as no known network does.
pub fn look_into(weights: Weights) -> Result<Inspection> {
    let (scheme, backbones) = known(&weights)?;
    let network = |backbone: &Backbone| Network {
        name: backbone.name.clone(),
        epsilon: scheme.epsilon(&backbone.name),
    };
    let tensor = |(name, array): (&String, &Array)| Tensor {
        name: name.clone(),
        shape: array.shape.clone(),
        dtype: array.stored.name(),
    };
    Ok(Inspection {
        bytes: weights.bytes,
        naming: scheme.to_string(),
        networks: backbones.iter().map(network).collect(),
        padding: scheme.padding(),
        blocks: blocks(&backbones[0]),
        whole: backbones[0].blocks.len() == backbones[0].all_blocks,
        parameters: trained(&weights),
        tensors: weights.tensors.iter().map(tensor).collect(),
        file: weights.path,
        sha256: weights.sha256,
        metadata: weights.metadata.into_iter().collect(),
    })
}

/// The network that the weights are of, tapped at their last block.
///
/// # Errors
/// None that is known, or several: a file that was cut before they differ.
pub fn network(weights: &Weights) -> Result<Backbone> {
    let (_, mut alike) = known(weights)?;
    if alike.len() > 1 {
        let names: Vec<&str> = alike.iter().map(|b| b.name.as_str()).collect();
        return Err(Error::usage(format!(
            "{}: blocks 0 to {} are the same in {}: say which network it is, such as \
             `--set backbone.name={}`",
            weights.path.display(),
            alike[0].blocks.len() - 1,
            names.join(", "),
            names[0]
        )));
    }
    Ok(alike.swap_remove(0))
}

/// The networks that a file may hold, at least one, tapped at its last block.
///
/// # Errors
/// There is none.
pub(super) fn known(weights: &Weights) -> Result<(Scheme, Vec<Backbone>)> {
    let (scheme, mut alike) = match lookalikes(&weights.tensors) {
        Some((scheme, alike)) if !alike.is_empty() => (scheme, alike),
        _ => {
            let first: Vec<&String> = weights.tensors.keys().take(3).collect();
            let message = format!(
                "holds no EfficientNet that is known, whole or its first blocks; its tensors begin \
                 {first:?}"
            );
            return Err(Error::file(&weights.path, message));
        }
    };
    // A whole network is no other one's beginning; and `convert` wrote down what it cut.
    let told = weights.metadata.get(NETWORK);
    let certain = alike
        .iter()
        .position(|b| b.blocks.len() == b.all_blocks || Some(&b.name) == told);
    if let Some(certain) = certain {
        alike = vec![alike.swap_remove(certain)];
    }
    Ok((scheme, alike))
}

fn blocks(backbone: &Backbone) -> Vec<Block> {
    let mut stride = 2;
    let block = |(block, spec): (usize, &BlockSpec)| {
        stride *= spec.stride;
        Block {
            block,
            stage: spec.stage,
            channels: spec.c_out,
            stride,
        }
    };
    backbone.blocks.iter().enumerate().map(block).collect()
}

/// Without what batch norm counts and averages.
fn trained(weights: &Weights) -> usize {
    const STATISTICS: [&str; 3] = [".running_mean", ".running_var", ".num_batches_tracked"];
    let is_trained = |name: &str| STATISTICS.iter().all(|end| !name.ends_with(end));
    let trained = weights.tensors.iter().filter(|(name, _)| is_trained(name));
    trained.map(|(_, array)| array.data.len()).sum()
}

//! Which network a detector begins with, and whose weights: what was left to the program becomes
//! concrete.

use super::config::{AUTO, Config, ImageSize, Modality, Tap};
use crate::models::efficientnet::Backbone;
use crate::nn::weights::Weights;
use crate::weights::shipped::{self, DEFAULT};
use crate::weights::{self, Source, entries};
use crate::{Error, Result};

/// What a detector that sees pictures begins with.
pub struct Choice {
    /// As it was given, but `backbone.name`, `backbone.tap` and `input.image_size` are concrete.
    pub config: Config,
    pub network: Backbone,
    /// None: random ones.
    pub weights: Option<Weights>,
}

impl Choice {
    /// # Errors
    /// Weights that cannot be read; no weights, where the network is not the one of those that come
    /// with the program.
    pub fn new(config: &Config, source: &Source) -> Result<Self> {
        let weights = match source {
            Source::Unsaid => {
                check_shipped(config)?;
                Some(DEFAULT.read()?)
            }
            Source::Seeded => None,
            Source::Named(path) => Some(weights::read(path)?),
        };
        let there = blocks_there(&config.backbone.name, weights.as_ref())?;
        let (name, blocks) = (&there.name, there.blocks.len());
        let network = match &config.backbone.tap {
            Tap::Blocks(taps) => Backbone::tapped(name, taps)?,
            Tap::Joined => Backbone::joined(name, blocks)?,
            Tap::Auto => {
                let sixth = Backbone::new(name, None)?.blocks.len();
                Backbone::new(name, Some(blocks.min(sixth) - 1))?
            }
        };
        let mut concrete = config.clone();
        concrete.backbone.name = network.name.clone();
        concrete.backbone.tap = Tap::Blocks(network.taps.clone());
        let side = config.image_side(network.stride());
        concrete.input.image_size = ImageSize::Pixels(side);
        Ok(Self {
            config: concrete,
            network,
            weights,
        })
    }
}

/// The network of this name, or of the weights where it is `auto`, as far as the weights go. A random one that may be
/// any is of the default one's shape: they can be compared.
fn blocks_there(name: &str, weights: Option<&Weights>) -> Result<Backbone> {
    match weights {
        Some(weights) if name == AUTO => weights::network(weights),
        None if name == AUTO => Backbone::new(DEFAULT.network, Some(DEFAULT.last)),
        // Weights of another network are refused when they are loaded.
        Some(weights) => match weights::network(weights) {
            Ok(there) if there.name == name => Ok(there),
            _ => Backbone::whole(name),
        },
        None => Backbone::whole(name),
    }
}

/// Without `--weights`: are the default ones of the network that is wanted?
fn check_shipped(config: &Config) -> Result<()> {
    let name = match config.backbone.name.as_str() {
        AUTO => DEFAULT.network,
        name => name,
    };
    let blocks = config.backbone.tap.blocks();
    // What does not exist needs no weights.
    match blocks {
        Some(blocks) => Backbone::tapped(name, blocks)?,
        None => Backbone::new(name, None)?,
    };
    let public = entries().into_iter().find(|entry| entry.network == name);
    let others = match public.map(|entry| entry.name) {
        Some(public) => {
            format!("`--weights {public}` after `astray weights fetch {public}`")
        }
        None => "a file of its weights with `--weights FILE`".into(),
    };
    let last_wanted = blocks.and_then(<[usize]>::last);
    let holds = |own: &&shipped::Shipped| {
        own.network == name && last_wanted.is_none_or(|&block| block <= own.last)
    };
    let others = match shipped::held().find(holds) {
        Some(own) => format!("`--weights {}`, {others}", own.name),
        None => others,
    };
    let seeded = "a random backbone with `--weights seeded`";
    let (own, last) = (DEFAULT.name, DEFAULT.last);
    if name != DEFAULT.network {
        return Err(Error::usage(format!(
            "backbone.name = {name}: without --weights there is only {own}, which is of {}: use \
             {others}, {own} with `--set backbone.name=auto --set input.image_size=auto`, or {seeded}",
            DEFAULT.network
        )));
    }
    match last_wanted {
        Some(&block) if block > last => Err(Error::usage(format!(
            "backbone.tap = {block}: without --weights there is only {own}, which ends with block \
             {last}: tap it there or before, or use {others}, or {seeded}"
        ))),
        _ => Ok(()),
    }
}

/// Checks the picture of a configuration that was made concrete for its network; `given` is what it was
/// made from. After the weights were loaded: with another network this would be beside the point.
///
/// # Errors
/// A size that does not go with the network, or that `auto` could not make work.
pub(super) fn check_picture(given: &Config, concrete: &Config, network: &Backbone) -> Result<()> {
    check_size(concrete, network)?;
    concrete
        .validate()
        .map_err(|e| match given.input.image_size {
            ImageSize::Pixels(_) => e,
            ImageSize::Auto => Error::usage(format!(
                "{e}; \"auto\" made it depth.size / depth.unshuffle = {} times the stride {} of {}",
                given.depth_map_side(),
                network.stride(),
                network.name
            )),
        })
}

/// The network of a configuration in which nothing is left open.
///
/// # Errors
/// No such network or block; a picture that does not go with it.
pub(super) fn network(config: &Config) -> Result<Backbone> {
    let name = &config.backbone.name;
    let network = match &config.backbone.tap {
        Tap::Blocks(taps) => Backbone::tapped(name, taps)?,
        Tap::Joined => Backbone::joined(name, usize::MAX)?,
        Tap::Auto => Backbone::new(name, None)?,
    };
    check_size(config, &network)?;
    Ok(network)
}

/// Do picture, network and depth map give maps of one size?
fn check_size(config: &Config, network: &Backbone) -> Result<()> {
    let stride = network.stride();
    let side = config.image_side(stride);
    if !side.is_multiple_of(stride) {
        return Err(Error::usage(format!(
            "input.image_size = {side}: expected a multiple of the backbone's stride {stride}"
        )));
    }
    let map = config.depth_map_side();
    if config.input.modality == Modality::RgbDepth && side != map * stride {
        return Err(Error::usage(format!(
            "input.image_size = {side}: expected {} or \"auto\": with the stride {stride} of {} the \
             picture's map is then {map} pixels a side, as depth.size / depth.unshuffle is",
            map * stride,
            network.name
        )));
    }
    Ok(())
}

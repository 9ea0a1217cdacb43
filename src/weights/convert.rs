//! Weight files rewritten as safetensors: smaller, and without what is not used.

use super::cache::read;
use super::inspect::{NETWORK, known};
use crate::models::efficientnet::{Backbone, EfficientNet};
use crate::nn::weights::{Float, Weights, write_safetensors_as};
use crate::tensor::Device;
use crate::{Error, Result};
use half::f16;
use std::collections::HashMap;
use std::path::Path;

/// How to rewrite a weight file.
#[derive(Clone, Copy, Debug)]
pub struct Conversion {
    pub float: Float,
    /// The last block that is kept; the classifier goes too. None keeps everything.
    pub tap: Option<usize>,
    /// May a file be replaced?
    pub force: bool,
}

/// Writes the weights of `input`, a file or the name of a fetched one, to `output`, whole or not at
/// all. The result can be loaded: that is tried before it is written.
///
/// # Errors
/// An input that cannot be loaded, see [`read`]; a tap that is not there; values beyond f16's range;
/// an output that is there already, without `force`, or cannot be written.
pub fn convert(input: &Path, output: &Path, how: &Conversion) -> Result<()> {
    if output.extension().is_none_or(|end| end != "safetensors") {
        let message = "expected a name that ends in .safetensors, which is what is written";
        return Err(Error::file(output, message));
    }
    if output.exists() && !how.force {
        return Err(Error::file(output, "is there already; --force replaces it"));
    }
    let mut weights = read(input)?;
    let backbone = cut(&mut weights, how.tap)?;
    EfficientNet::load(&Device::Cpu, backbone.clone(), &weights, None)?;
    if how.float == Float::F16 {
        check_range(&weights)?;
    }
    let metadata = HashMap::from([
        (NETWORK.into(), backbone.name),
        ("source_sha256".into(), weights.sha256),
    ]);
    let tensors = weights.tensors.into_iter();
    let tensors: Vec<_> = tensors.map(|(name, a)| (name, a.shape, a.data)).collect();
    write_safetensors_as(how.float, output, &tensors, metadata)
}

/// Removes what lies behind the tap. The network up to there.
fn cut(weights: &mut Weights, tap: Option<usize>) -> Result<Backbone> {
    let (scheme, mut alike) = known(weights)?;
    let there = alike.swap_remove(0);
    let Some(tap) = tap else {
        return Ok(there);
    };
    let blocks = there.blocks.len();
    if tap >= blocks {
        return Err(Error::usage(format!(
            "--tap {tap}: {} holds blocks 0 to {}",
            weights.path.display(),
            blocks - 1
        )));
    }
    let backbone = Backbone::new(&there.name, Some(tap))?;
    let last = &backbone.blocks[tap];
    let behind = |name: &String| scheme.is_known_extra(name, last, tap);
    weights.tensors.retain(|name, _| !behind(name));
    Ok(backbone)
}

/// f16 ends at 65504.
fn check_range(weights: &Weights) -> Result<()> {
    for (name, array) in &weights.tensors {
        if let Some(value) = array.data.iter().find(|&&v| !f16::from_f32(v).is_finite()) {
            let message =
                format!("tensor `{name}` holds {value}, beyond f16's 65504: use --dtype f32");
            return Err(Error::file(&weights.path, message));
        }
    }
    Ok(())
}

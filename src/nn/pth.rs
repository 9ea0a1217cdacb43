//! PyTorch checkpoints: the zip archive of `torch.save` (since PyTorch 1.6) with a pickle,
//! `data.pkl`, that names the tensors, and one file of raw values per storage. Lengths,
//! offsets and strides are checked before they are used.

use super::pickle::{Kind, Machine, Tensor, Value};
use super::weights::{Array, Float};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};
use std::path::Path;
use zip::{CompressionMethod, ZipArchive};

/// The float tensors of the state dict in an archive: the object itself, or what it has under
/// `state_dict` or `model`.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Array>> {
    let mut archive = Archive::open(bytes).map_err(|e| Error::file(path, e))?;
    let tensors = archive.state_dict();
    tensors.map_err(|e| Error::file(path, format!("PyTorch checkpoint: {e}")))
}

/// What is wrong; the caller adds the file's name.
pub(super) type Outcome<T> = std::result::Result<T, String>;

struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// The folder that holds everything, with its slash: `archive/`.
    root: String,
    /// No honest archive holds more tensor elements than it has bytes.
    elements_left: usize,
    storages: HashMap<String, Vec<u8>>,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Outcome<Self> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| {
            format!("the zip archive is cut short or damaged ({e}); copy or download it again")
        })?;
        let root = zip
            .file_names()
            .filter_map(|name| Some(name.ok()?.strip_suffix("data.pkl")?.to_string()))
            .find(|root| root.is_empty() || root.ends_with('/'))
            .ok_or("a zip archive without `data.pkl`; expected a file written by torch.save")?;
        Ok(Self {
            zip,
            root,
            elements_left: bytes.len(),
            storages: HashMap::new(),
        })
    }

    fn state_dict(&mut self) -> Outcome<BTreeMap<String, Array>> {
        if self
            .zip
            .index_for_name(&format!("{}byteorder", self.root))
            .is_some()
            && self.entry("byteorder")? != b"little"
        {
            return Err("expected little-endian values; re-save it on another machine".into());
        }
        let pickle = self.entry("data.pkl")?;
        let mut machine = Machine::new(&pickle);
        let top = machine.run()?;
        let entries = machine.state_dict(&top)?;
        let mut tensors = BTreeMap::new();
        for (key, value) in entries {
            if let (Value::Text(name), Value::Tensor(tensor)) = (key, value)
                && let Kind::Float(float) = tensor.storage.kind
            {
                let array = self
                    .array(tensor, float)
                    .map_err(|e| format!("tensor `{name}`: {e}"))?;
                tensors.insert(name.to_string(), array);
            }
        }
        if tensors.is_empty() {
            return Err(
                "no tensors found; expected a state dict (torch.save(model.state_dict(), PATH)), \
                 plain or under the key `state_dict` or `model`"
                    .into(),
            );
        }
        Ok(tensors)
    }

    /// The bytes of an entry, its checksum verified. torch.save does not compress, so no entry
    /// is larger than the archive.
    fn entry(&mut self, name: &str) -> Outcome<Vec<u8>> {
        let name = format!("{}{name}", self.root);
        let damaged = |e: &dyn std::fmt::Display| {
            format!("entry `{name}` is missing or damaged ({e}); copy or download the file again")
        };
        let mut entry = self.zip.by_name(&name).map_err(|e| damaged(&e))?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(format!(
                "entry `{name}` is compressed; expected it stored, as torch.save does"
            ));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
        Ok(bytes)
    }

    /// Gathers a view of a storage into contiguous values.
    fn array(&mut self, tensor: &Tensor, float: Float) -> Outcome<Array> {
        let Tensor {
            storage,
            offset,
            shape,
            strides,
        } = tensor;
        if !self.storages.contains_key(&storage.key) {
            let bytes = self.entry(&format!("data/{}", storage.key))?;
            self.storages.insert(storage.key.clone(), bytes);
        }
        let bytes = &self.storages[&storage.key];
        let available = bytes.len() / float.size();
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let count = count
            .filter(|&n| n <= self.elements_left)
            .ok_or_else(|| format!("shape {shape:?} holds more values than the file has bytes"))?;
        if count == 0 {
            return Ok(Array {
                shape: shape.clone(),
                data: Vec::new(),
            });
        }
        self.elements_left -= count;
        let last = shape.iter().zip(strides).try_fold(*offset, |at, (d, s)| {
            at.checked_add((d - 1).checked_mul(*s)?)
        });
        if last.is_none_or(|last| last >= available) {
            return Err(format!(
                "shape {shape:?}, strides {strides:?} and offset {offset} reach beyond the {available} values stored"
            ));
        }
        let mut positions = vec![*offset];
        for (&d, &s) in shape.iter().zip(strides) {
            positions = positions
                .iter()
                .flat_map(|&at| (0..d).map(move |i| at + i * s))
                .collect();
        }
        let size = float.size();
        let mut gathered = Vec::with_capacity(count * size);
        for at in positions {
            gathered.extend_from_slice(&bytes[at * size..(at + 1) * size]);
        }
        Ok(Array {
            shape: shape.clone(),
            data: float.decode(&gathered),
        })
    }
}

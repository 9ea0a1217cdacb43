//! Weight files: named arrays from safetensors and PyTorch `.pth`, and to safetensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use sha2::{Digest, Sha256};

use super::pth;
use crate::{Error, Result};

/// The largest safetensors header that is read, in bytes. B7's takes 0.1 MB.
const HEADER_LIMIT: u64 = 64 << 20;

/// A row-major array. In files of PyTorch: convolutions `[C_out,C_in,kh,kw]`; in astray: `[kh,kw,C_in,C_out]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

impl Array {
    /// An array of one value.
    pub fn filled(shape: &[usize], value: f32) -> Self {
        Self {
            shape: shape.to_vec(),
            data: vec![value; shape.iter().product()],
        }
    }

    /// Axis `i` of the result is axis `axes[i]` of this array (numpy's `transpose`); an axis that is left
    /// out must be of length 1.
    pub fn transposed(&self, axes: &[usize]) -> Self {
        let stride = |axis: usize| self.shape[axis + 1..].iter().product::<usize>();
        let shape: Vec<usize> = axes.iter().map(|&axis| self.shape[axis]).collect();
        let strides: Vec<usize> = axes.iter().map(|&axis| stride(axis)).collect();
        let data = gather(&self.data, 0, &shape, &strides);
        Self { shape, data }
    }
}

/// The elements of a strided view, row-major. Every index must lie within `source`.
pub(super) fn gather(
    source: &[f32],
    offset: usize,
    shape: &[usize],
    strides: &[usize],
) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let mut data = Vec::with_capacity(count);
    let mut index = vec![0; shape.len()];
    let mut at = offset;
    while data.len() < count {
        data.push(source[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    data
}

/// The named arrays of one file. All values are finite; integer tensors (counters) are left out.
#[derive(Clone, Debug)]
pub struct Weights {
    pub path: PathBuf,
    pub tensors: BTreeMap<String, Array>,
    /// The `__metadata__` of a safetensors file.
    pub metadata: BTreeMap<String, String>,
    sha256: String,
}

impl Weights {
    /// Reads safetensors or PyTorch's `.pth` (a state dict, alone or under `state_dict` or `model`);
    /// which of them is told by the content. f16, bf16 and f64 become f32.
    ///
    /// Errors: a file that is missing, empty, cut short or of another format; NaN or infinity.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let blame = |error: std::io::Error| Error::file(path, error);
        let mut file = File::open(path).map_err(blame)?;
        let length = file.metadata().map_err(blame)?.len();
        let mut first = Vec::new();
        (&file).take(16).read_to_end(&mut first).map_err(blame)?;
        let sha256 = digest_file(&mut file).map_err(blame)?;
        let (tensors, metadata) = if first.is_empty() {
            Err("the file is empty; expected weights as safetensors or PyTorch .pth".into())
        } else if pth::recognises(&first) {
            pth::read(&mut file).map(|tensors| (tensors, BTreeMap::new()))
        } else {
            read_safetensors(&mut file, length)
        }
        .map_err(|message| Error::file(path, message))?;
        for (name, array) in &tensors {
            check_finite(path, name, array)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            tensors,
            metadata,
            sha256,
        })
    }

    /// Weights that come from no file; `name` stands for it in messages.
    pub fn in_memory(name: &str, tensors: BTreeMap<String, Array>) -> Self {
        let mut digest = Sha256::new();
        for (name, array) in &tensors {
            digest.update(format!("{name} {:?}", array.shape));
            digest.update(bytemuck::cast_slice(&array.data));
        }
        Self {
            path: name.into(),
            tensors,
            metadata: BTreeMap::new(),
            sha256: hex(digest),
        }
    }

    /// SHA-256 of the file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Takes out the array of that name. Errors name the tensor: it is missing or has another shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Array> {
        let Some(array) = self.tensors.remove(name) else {
            return Err(Error::file(&self.path, format!("tensor {name} is missing")));
        };
        if array.shape != shape {
            let message = format!(
                "tensor {name} has shape {:?}, expected {shape:?}",
                array.shape
            );
            return Err(Error::file(&self.path, message));
        }
        Ok(array)
    }

    /// An error that names the tensors which nobody took, if there are any.
    pub fn finish(self) -> Result<()> {
        let Some(name) = self.tensors.keys().next() else {
            return Ok(());
        };
        let others = match self.tensors.len() - 1 {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        let message = format!("tensor {name}{others} does not belong to this network");
        Err(Error::file(&self.path, message))
    }
}

/// Writes f32 arrays as safetensors: to a temporary file beside `path`, fsynced, renamed. On an error
/// (a full disk, say) nothing is left behind. The same arrays and metadata give the same bytes.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, Array>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!(metadata));
    let mut end = 0;
    for (name, array) in tensors {
        check_finite(path, name, array)?;
        let start = end;
        end += 4 * array.data.len();
        let entry = serde_json::json!({
            "dtype": "F32", "shape": array.shape, "data_offsets": [start, end],
        });
        header.insert(name.clone(), entry);
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // Data begin at a multiple of 8 bytes.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));

    let blame = |error: std::io::Error| Error::file(path, format!("cannot be written: {error}"));
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut temporary = new_file_in(folder).map_err(blame)?;
    let mut write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(temporary.as_file_mut());
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for array in tensors.values() {
            write_values(&mut out, &array.data)?;
        }
        out.flush()?;
        out.get_ref().sync_all()
    };
    write().map_err(blame)?;
    let persisted = temporary.persist(path);
    persisted.map_err(|error| blame(error.error))?;
    Ok(())
}

fn write_values(out: &mut impl Write, values: &[f32]) -> std::io::Result<()> {
    values
        .iter()
        .try_for_each(|value| out.write_all(&value.to_le_bytes()))
}

/// A temporary file with the permissions of an ordinary one (its own default is 0600).
fn new_file_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

type Content = (BTreeMap<String, Array>, BTreeMap<String, String>);

fn read_safetensors(file: &mut File, length: u64) -> std::result::Result<Content, String> {
    const EXPECTED: &str = "expected safetensors or PyTorch .pth";
    let failed = |error: std::io::Error| error.to_string();
    let mut start = [0; 9];
    if length < 9 || file.read_exact(&mut start).is_err() || start[8] != b'{' {
        return Err(format!("neither of the weight formats: {EXPECTED}"));
    }
    let [size @ .., _] = start;
    let size = u64::from_le_bytes(size);
    if size > HEADER_LIMIT {
        return Err(format!("a header of {size} bytes is absurd: {EXPECTED}"));
    }
    if size + 8 > length {
        return Err(format!(
            "the file is cut short: {length} bytes, but its header alone takes {size}"
        ));
    }
    let mut header = vec![0; size as usize];
    file.seek(SeekFrom::Start(8)).map_err(failed)?;
    file.read_exact(&mut header).map_err(failed)?;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|error| format!("damaged header: {error}"))?;
    let expected = 8 + size + header.data_len() as u64;
    if length != expected {
        let what = if length < expected {
            "cut short"
        } else {
            "too long"
        };
        return Err(format!(
            "the file is {what}: {length} bytes, its header announces {expected}"
        ));
    }
    let mut tensors = BTreeMap::new();
    // In the order of the file: one pass over it, one tensor's bytes at a time.
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else {
            continue;
        };
        let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
        file.read_exact(&mut bytes).map_err(failed)?;
        if let Some(data) =
            decode(info.dtype, &bytes).map_err(|error| format!("tensor {name}: {error}"))?
        {
            let shape = info.shape.clone();
            tensors.insert(name, Array { shape, data });
        }
    }
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok((tensors, metadata.into_iter().collect()))
}

/// Little-endian numbers as f32; None for integers.
pub(super) fn decode(dtype: Dtype, bytes: &[u8]) -> std::result::Result<Option<Vec<f32>>, String> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (numbers, _) = bytes.as_chunks::<N>();
        numbers
            .iter()
            .map(|&number_bytes| number(number_bytes))
            .collect()
    }
    match dtype {
        Dtype::F32 => Ok(Some(each(bytes, f32::from_le_bytes))),
        Dtype::F64 => Ok(Some(each(bytes, |b| f64::from_le_bytes(b) as f32))),
        Dtype::F16 => Ok(Some(each(bytes, |b| half::f16::from_le_bytes(b).to_f32()))),
        Dtype::BF16 => Ok(Some(each(bytes, |b| half::bf16::from_le_bytes(b).to_f32()))),
        Dtype::BOOL | Dtype::U8 | Dtype::I8 | Dtype::U16 | Dtype::I16 => Ok(None),
        Dtype::U32 | Dtype::I32 | Dtype::U64 | Dtype::I64 => Ok(None),
        other => Err(format!(
            "numbers of type {other:?} are not supported; expected f32, f16, bf16 or f64"
        )),
    }
}

fn check_finite(path: &Path, name: &str, array: &Array) -> Result<()> {
    match array.data.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::file(
            path,
            format!(
                "tensor {name} holds {} at element {index}; weights must be finite",
                array.data[index]
            ),
        )),
    }
}

/// Reads to the end, then returns to the start.
fn digest_file(file: &mut File) -> std::io::Result<String> {
    file.rewind()?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    file.rewind()?;
    Ok(hex(digest))
}

fn hex(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! PyTorch's `.pth`: a zip archive (since PyTorch 1.6) or the older stream of pickles, in which the
//! weights of 2019 and 2020 were published. Source: `torch/serialization.py`.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::rc::Rc;

use safetensors::Dtype;
use zip::ZipArchive;

use super::pickle::{self, Pickle, Storage, Value, View};
use super::weights::{Array, Float};

type Result<T> = std::result::Result<T, String>;

/// The largest pickle that is read, in bytes. B7's takes 0.2 MB.
const PICKLE_LIMIT: u64 = 64 << 20;
/// The most numbers in one file: 2 GiB of f32. Views may share a storage, so the file's size sets no limit.
const ELEMENT_LIMIT: usize = 512 << 20;
/// The older format begins with the pickle of 0x1950a86a20f9469cfc6c.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
pub(super) const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// Whether a file that begins so is one of PyTorch's.
pub(super) fn recognises(head: &[u8]) -> bool {
    head.starts_with(ZIP_MAGIC) || head.starts_with(LEGACY_MAGIC)
}

/// The floating-point tensors of a state dict (alone, or under `state_dict`, `model_state_dict` or
/// `model`), f32, row-major. `module.` (of DataParallel) is cut off.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Array>> {
    let tensors = if bytes.starts_with(ZIP_MAGIC) {
        read_zip(bytes)?
    } else {
        read_legacy(bytes)?
    };
    let wrapped = tensors.keys().all(|name| name.starts_with("module."));
    let rename = |name: String| match name.strip_prefix("module.") {
        Some(inner) if wrapped => inner.to_string(),
        _ => name,
    };
    Ok(tensors
        .into_iter()
        .map(|(name, array)| (rename(name), array))
        .collect())
}

fn read_zip(bytes: &[u8]) -> Result<BTreeMap<String, Array>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
        format!("the zip archive is cut short or damaged ({error}); copy or download it again")
    })?;
    let name = archive
        .file_names()
        .flatten()
        .find(|name| name.ends_with("/data.pkl"))
        .map(|name| name.into_owned())
        .ok_or("a zip archive without data.pkl: not a PyTorch .pth file")?;
    let folder = name.trim_end_matches("data.pkl").to_string();
    let mut entry = |name: &str, limit: u64| -> Result<Vec<u8>> {
        let entry = archive
            .by_name(&format!("{folder}{name}"))
            .map_err(|error| format!("entry {name} of this .pth: {error}"))?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells a larger entry from one that fits.
        let read = entry.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("entry {name} of this .pth: {error}"))?;
        if bytes.len() as u64 > limit {
            return Err(format!("entry {name} of this .pth exceeds {limit} bytes"));
        }
        Ok(bytes)
    };
    if entry("byteorder", 16).is_ok_and(|order| order != b"little") {
        return Err("this .pth was written on a big-endian machine; save it on another".into());
    }
    let (pickle, root, _) = parse(&entry("data.pkl", PICKLE_LIMIT)?)?;
    let mut storages = |storage: &Storage| {
        let size = bytes_of(storage)?;
        let bytes = entry(&format!("data/{}", storage.key), size as u64)?;
        if bytes.len() < size {
            let (key, found) = (&storage.key, bytes.len());
            return Err(format!(
                "storage {key} is cut short: {found} of {size} bytes"
            ));
        }
        Ok(bytes)
    };
    materialise(state_dict(&pickle, &root)?, &mut storages)
}

/// Five pickles (magic number, version, system, object, storage keys), then for each key the number of
/// elements (i64) and the elements.
fn read_legacy(bytes: &[u8]) -> Result<BTreeMap<String, Array>> {
    let mut at = 0;
    let mut next = || -> Result<(Pickle, Value)> {
        let (pickle, root, length) = parse(&bytes[at..])?;
        at += length;
        Ok((pickle, root))
    };
    next()?;
    next()?;
    next()?;
    let (pickle, root) = next()?;
    let views = state_dict(&pickle, &root)?;
    let keys = match next()? {
        (keys, Value::Sequence(index)) => keys.sequences[index].clone(),
        _ => return Err("this .pth lacks its list of storages".into()),
    };
    let sizes: BTreeMap<&str, usize> = pickle
        .storages
        .iter()
        .map(|storage| Ok((&*storage.key, bytes_of(storage)?)))
        .collect::<Result<_>>()?;
    let mut places: BTreeMap<Rc<str>, &[u8]> = BTreeMap::new();
    let mut rest = &bytes[at..];
    for key in keys {
        let Value::Text(key) = key else {
            return Err("a storage of this .pth has no name".into());
        };
        let size = sizes.get(&*key).copied();
        let size = size.ok_or(format!("storage {key} of this .pth belongs to no tensor"))?;
        let Some((stored, after)) = rest.split_at_checked(8 + size) else {
            return Err(format!(
                "the file is cut short or damaged: storage {key} needs {size} bytes; copy or download it again"
            ));
        };
        places.insert(key, &stored[8..]);
        rest = after;
    }
    let mut storages = |storage: &Storage| {
        let key = &storage.key;
        let found = places
            .get(key)
            .filter(|found| Ok(found.len()) == bytes_of(storage));
        let found = found.ok_or(format!("storage {key} of this .pth is missing"))?;
        Ok(found.to_vec())
    };
    materialise(views, &mut storages)
}

fn parse(bytes: &[u8]) -> Result<(Pickle, Value, usize)> {
    pickle::parse(bytes).map_err(|error| format!("this .pth cannot be read: {error}"))
}

/// The named tensors of the root, or of what it holds under one of the usual keys.
fn state_dict<'a>(pickle: &'a Pickle, root: &Value) -> Result<Vec<(&'a str, &'a View)>> {
    const ADVICE: &str = "save the state dict instead: torch.save(model.state_dict(), path)";
    let entries = |value: &Value| match value {
        Value::Dict(index) => Ok(&pickle.dicts[*index]),
        Value::Object(class) => Err(format!(
            "this .pth holds a Python object (`{class}`), which is not run; {ADVICE}"
        )),
        _ => Err(format!("expected a dict of tensors; {ADVICE}")),
    };
    let mut dict = entries(root)?;
    for key in ["state_dict", "model_state_dict", "model"] {
        let is_key = |(name, _): &&(Value, Value)| matches!(name, Value::Text(t) if &**t == key);
        if let Some((_, inner)) = dict.iter().find(is_key) {
            dict = entries(inner)?;
            break;
        }
    }
    let named: Vec<_> = dict
        .iter()
        .filter_map(|(name, value)| match (name, value) {
            (Value::Text(name), Value::Tensor(index)) => Some((&**name, &pickle.views[*index])),
            _ => None,
        })
        .collect();
    if named.is_empty() {
        return Err(format!("this .pth holds no tensors; {ADVICE}"));
    }
    Ok(named)
}

/// Reads each storage once and cuts its views out of it.
fn materialise(
    views: Vec<(&str, &View)>,
    read: &mut dyn FnMut(&Storage) -> Result<Vec<u8>>,
) -> Result<BTreeMap<String, Array>> {
    let mut by_storage: BTreeMap<(&str, String), Vec<(&str, &View)>> = BTreeMap::new();
    let mut total = 0_usize;
    for (name, view) in views {
        total = total.saturating_add(checked_count(name, view)?);
        let key = (&*view.storage.key, format!("{:?}", view.storage.dtype));
        by_storage.entry(key).or_default().push((name, view));
    }
    if total > ELEMENT_LIMIT {
        return Err(format!(
            "{total} numbers are more than weights can have ({ELEMENT_LIMIT})"
        ));
    }
    let mut tensors = BTreeMap::new();
    for views in by_storage.into_values() {
        // Views of one storage may state different sizes; the largest covers them all.
        let largest = views.iter().map(|(_, view)| &view.storage);
        let Some(storage) = largest.max_by_key(|storage| storage.elements) else {
            continue;
        };
        let Some(stored) = float(storage.dtype) else {
            continue;
        };
        let values = stored.decode(&read(storage)?);
        for (name, view) in views {
            let data = gather(&values, view);
            let shape = view.shape.clone();
            let array = Array {
                shape,
                data,
                stored,
            };
            tensors.insert(name.to_string(), array);
        }
    }
    Ok(tensors)
}

/// The number of elements of a view that lies within its storage.
fn checked_count(name: &str, view: &View) -> Result<usize> {
    let elements = view.storage.elements;
    let outside = || format!("tensor `{name}` reaches beyond its storage of {elements} elements");
    if view.shape.len() != view.strides.len() {
        return Err(format!("tensor `{name}`: shape and strides do not agree"));
    }
    let mut count = view.shape.iter().copied();
    let count = count.try_fold(1, usize::checked_mul).ok_or_else(outside)?;
    if count == 0 {
        return Ok(0);
    }
    let mut last = view.offset;
    for (&length, &stride) in view.shape.iter().zip(&view.strides) {
        let step = (length - 1).checked_mul(stride).ok_or_else(outside)?;
        last = last.checked_add(step).ok_or_else(outside)?;
    }
    if last >= elements || count > elements {
        return Err(outside());
    }
    Ok(count)
}

fn bytes_of(storage: &Storage) -> Result<usize> {
    let bytes = storage.elements.checked_mul(storage.dtype.bitsize() / 8);
    let bytes = bytes.filter(|&bytes| bytes <= 8 * ELEMENT_LIMIT);
    bytes.ok_or(format!("storage {} is absurdly large", storage.key))
}

/// None for integers, which hold no weights.
fn float(dtype: Dtype) -> Option<Float> {
    match dtype {
        Dtype::F32 => Some(Float::F32),
        Dtype::F64 => Some(Float::F64),
        Dtype::F16 => Some(Float::F16),
        Dtype::BF16 => Some(Float::Bf16),
        _ => None,
    }
}

/// The elements of a strided view, row-major. Every index must lie within `source`.
fn gather(source: &[f32], view: &View) -> Vec<f32> {
    let count: usize = view.shape.iter().product();
    let mut data = Vec::with_capacity(count);
    let mut index = vec![0; view.shape.len()];
    let mut at = view.offset;
    while data.len() < count {
        data.push(source[at]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            at += view.strides[axis];
            if index[axis] < view.shape[axis] {
                break;
            }
            at -= view.strides[axis] * view.shape[axis];
            index[axis] = 0;
        }
    }
    data
}

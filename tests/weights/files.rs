//! Safetensors and .pth: what is in them arrives, what is damaged is a clear error.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use astray::nn::weights::{Array, Weights, write_safetensors};
use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::{message, reference};

fn pth(name: &str) -> PathBuf {
    reference("weights").join(name)
}

fn array(shape: &[usize], data: &[f32]) -> Array {
    Array {
        shape: shape.to_vec(),
        data: data.to_vec(),
    }
}

/// What tools/reference_weights.py puts into its tensors.
fn quarters(shape: &[usize]) -> Array {
    let count: usize = shape.iter().product();
    array(
        shape,
        &(0..count).map(|i| i as f32 / 4.0).collect::<Vec<_>>(),
    )
}

fn file_of(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("some file");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn written_safetensors_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = BTreeMap::from([
        ("a \"quoted\" name".to_string(), quarters(&[2, 3])),
        ("b".to_string(), array(&[], &[1e-30])),
        ("c".to_string(), array(&[0, 4], &[])),
    ]);
    let metadata = BTreeMap::from([("version".to_string(), "1".to_string())]);
    write_safetensors(&path, &tensors, &metadata).unwrap();
    let first = std::fs::read(&path).unwrap();
    let read = Weights::read(&path).unwrap();
    assert_eq!(read.tensors, tensors);
    assert_eq!(read.metadata, metadata);
    // Over the existing file; the same bytes.
    write_safetensors(&path, &tensors, &metadata).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first);
    // The crate itself agrees with what was written, padding included.
    let (size, _) = safetensors::SafeTensors::read_metadata(&first).unwrap();
    assert_eq!(size % 8, 0);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing else is left"
    );
}

#[test]
fn failed_writing_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model.safetensors");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("in the way"), "").unwrap();
    let tensors = BTreeMap::from([("w".to_string(), quarters(&[4]))]);
    let written = write_safetensors(&target, &tensors, &BTreeMap::new());
    message(written, &["model.safetensors", "cannot be written"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let nowhere = folder.path().join("missing/model.safetensors");
    message(
        write_safetensors(&nowhere, &tensors, &BTreeMap::new()),
        &["missing"],
    );

    let diverged = BTreeMap::from([("gamma".to_string(), array(&[2], &[0.0, f32::INFINITY]))]);
    let path = folder.path().join("diverged.safetensors");
    let written = write_safetensors(&path, &diverged, &BTreeMap::new());
    message(written, &["gamma", "inf", "element 1"]);
    assert!(!path.exists());
}

#[test]
fn other_number_formats_become_f32() {
    let folder = tempfile::tempdir().unwrap();
    let values = [0.0, 0.25, -1.5, 1024.0];
    let f16 = values
        .map(|x| half::f16::from_f32(x).to_le_bytes())
        .concat();
    let bf16 = values
        .map(|x| half::bf16::from_f32(x).to_le_bytes())
        .concat();
    let f64 = values.map(|x| f64::from(x).to_le_bytes()).concat();
    let i64 = values.map(|x| (x as i64).to_le_bytes()).concat();
    let view = |dtype, bytes| TensorView::new(dtype, vec![2, 2], bytes).unwrap();
    let views = HashMap::from([
        ("f16", view(Dtype::F16, &f16)),
        ("bf16", view(Dtype::BF16, &bf16)),
        ("f64", view(Dtype::F64, &f64)),
        ("counter", view(Dtype::I64, &i64)),
    ]);
    let bytes = safetensors::serialize(&views, None).unwrap();
    let read = Weights::read(file_of(folder.path(), &bytes)).unwrap();
    assert_eq!(
        read.tensors.keys().collect::<Vec<_>>(),
        ["bf16", "f16", "f64"]
    );
    for (name, tensor) in &read.tensors {
        assert_eq!(*tensor, array(&[2, 2], &values), "{name}");
    }
}

#[test]
fn sha256_is_that_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_vec();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    bytes.extend(1f32.to_le_bytes());
    let read = Weights::read(file_of(folder.path(), &bytes)).unwrap();
    // Python: hashlib.sha256(bytes).hexdigest()
    assert_eq!(
        read.sha256(),
        "938a1286932d19c8c3799f0861ecdee467405712d99a11a69e79dd47387d40de"
    );
}

#[test]
fn damaged_files_are_clear_errors() {
    let folder = tempfile::tempdir().unwrap();
    let of = |bytes: &[u8]| Weights::read(file_of(folder.path(), bytes));
    message(Weights::read(folder.path().join("absent")), &["absent"]);
    message(Weights::read(folder.path()), &[]);
    message(of(b""), &["some file", "empty"]);
    message(
        of(b"\x89PNG\r\n\x1a\n and more"),
        &["neither", "safetensors", ".pth"],
    );
    message(of(b"short"), &["neither"]);
    message(of(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"), &["absurd"]);
    message(of(b"\xff\x00\x00\x00\x00\x00\x00\x00{}"), &["cut short"]);
    message(
        of(b"\x04\x00\x00\x00\x00\x00\x00\x00{abc"),
        &["damaged header"],
    );
    message(
        of(b"PK\x03\x04 and no archive"),
        &["zip archive", "cut short"],
    );

    let path = folder.path().join("whole");
    let tensors = BTreeMap::from([("w".to_string(), quarters(&[4]))]);
    write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    message(
        of(&whole[..whole.len() - 1]),
        &["cut short", "header announces"],
    );
    message(of(&[&whole[..], b"!"].concat()), &["too long"]);
    let mut poisoned = whole.clone();
    let last = whole.len() - 4;
    poisoned[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    message(of(&poisoned), &["tensor w", "NaN", "element 3"]);
}

#[test]
fn state_dicts_of_pytorch_are_read() {
    for name in ["state_dict.pth", "legacy.pth"] {
        let read = Weights::read(pth(name)).unwrap();
        let transposed = quarters(&[3, 4]).transposed(&[1, 0]);
        assert_eq!(transposed.data[..4], [0.0, 1.0, 2.0, 0.25]);
        let tail: Vec<f32> = (4..12).map(|i| i as f32 / 4.0).collect();
        let expected = BTreeMap::from(
            [
                ("plain", quarters(&[2, 3])),
                ("half", quarters(&[5])),
                ("bfloat", quarters(&[5])),
                ("double", quarters(&[3])),
                ("transposed", transposed),
                ("head", quarters(&[4])),
                ("tail", array(&[2, 4], &tail)),
                ("parameter", quarters(&[2, 2])),
                ("scalar", array(&[], &[0.25])),
                ("empty", array(&[0, 3], &[])),
            ]
            .map(|(name, array)| (name.to_string(), array)),
        );
        assert_eq!(read.tensors, expected, "{name}");
    }
}

#[test]
fn a_checkpoint_gives_its_state_dict() {
    // Nested under "state_dict", beside an object of another class, names prefixed by "module.".
    let read = Weights::read(pth("checkpoint.pth")).unwrap();
    let expected = BTreeMap::from([
        ("plain".to_string(), quarters(&[2, 3])),
        ("half".to_string(), quarters(&[5])),
    ]);
    assert_eq!(read.tensors, expected);
}

#[test]
fn pth_files_that_cannot_be_used_say_why() {
    message(
        Weights::read(pth("whole_model.pth")),
        &["Linear", "state_dict()"],
    );
    message(
        Weights::read(pth("beyond.pth")),
        &["weight", "beyond its storage"],
    );
    message(Weights::read(pth("hostile.pth")), &["no tensors"]);
    assert!(!Path::new("must_not_exist").exists());
}

#[test]
fn no_cut_of_a_pth_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["state_dict.pth", "legacy.pth"] {
        let whole = std::fs::read(pth(name)).unwrap();
        for length in 0..whole.len() {
            let cut = Weights::read(file_of(folder.path(), &whole[..length]));
            assert!(cut.is_err(), "{length} bytes of {name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Whatever stands in a file, reading it ends, without a panic.
    #[test]
    fn damage_never_panics(
        name in prop::sample::select(vec!["state_dict.pth", "legacy.pth", "checkpoint.pth"]),
        damage in prop::collection::vec((0.0..1.0f64, any::<u8>()), 1..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(pth(name)).unwrap();
        for (place, byte) in damage {
            let place = (place * bytes.len() as f64) as usize;
            bytes[place] = byte;
        }
        if let Ok(read) = Weights::read(file_of(folder.path(), &bytes)) {
            for array in read.tensors.values() {
                prop_assert_eq!(array.data.len(), array.shape.iter().product::<usize>());
            }
        }
    }
}

//! Weight files: what is written is read back, and what cannot be used is refused with a reason.

use astray::nn::weights::{Weights, write_safetensors};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

type Tensor = (String, Vec<usize>, Vec<f32>);

fn tensor(name: &str, shape: &[usize], data: &[f32]) -> Tensor {
    (name.into(), shape.to_vec(), data.to_vec())
}

/// Reads a file of these bytes, which must be refused; the message.
fn refused(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let message = Weights::read(&path).unwrap_err().to_string();
    assert!(message.contains(name), "does not name the file: {message}");
    message
}

/// A safetensors file made by the safetensors crate.
fn safetensors_file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.to_vec(), bytes).unwrap();
        (*name, view)
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn safetensors_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = [
        tensor(
            "z.weight",
            &[2, 3],
            &[1.0, -2.5, f32::MIN_POSITIVE, 0.1, 3e38, -0.0],
        ),
        tensor("a.bias", &[1], &[7.0]),
        tensor("empty", &[0, 4], &[]),
        tensor("scalar", &[], &[0.5]),
    ];
    let metadata: HashMap<String, String> = (0..9)
        .map(|i| (format!("key{i}"), format!("\"text\" {i} é")))
        .collect();
    write_safetensors(&path, &[], HashMap::new()).unwrap();
    write_safetensors(&path, &tensors, metadata.clone()).unwrap();
    let first = std::fs::read(&path).unwrap();
    // A hash map of the same entries in another order.
    let shuffled = metadata.clone().into_iter().collect();
    write_safetensors(&path, &tensors, shuffled).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first, "not reproducible");

    let weights = Weights::read(&path).unwrap();
    assert_eq!(weights.path, path);
    assert_eq!(weights.metadata, metadata);
    assert_eq!(weights.tensors.len(), tensors.len());
    for (name, shape, data) in &tensors {
        let array = &weights.tensors[name];
        assert_eq!(&array.shape, shape, "{name}");
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&array.data), bits(data), "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(left.len(), 1, "temporary files left: {left:?}");
}

#[test]
fn hash_is_of_the_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    // 8 bytes of length, then a header without tensors.
    std::fs::write(&path, b"\x02\0\0\0\0\0\0\0{}").unwrap();
    let expected = "411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd";
    assert_eq!(Weights::read(&path).unwrap().sha256, expected);
}

#[test]
fn other_types_become_f32_and_integers_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("types.safetensors");
    // Bit patterns by hand: 1.5, -2 and the smallest subnormal (2^-24) in half precision.
    let half: Vec<u8> = [0x3e00u16, 0xc000, 0x0001]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let brain: Vec<u8> = [0x3fc0u16, 0xc000]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let double: Vec<u8> = [0.1f64, -3.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let bytes = safetensors_file(&[
        ("half", Dtype::F16, &[3], half),
        ("brain", Dtype::BF16, &[2, 1], brain),
        ("double", Dtype::F64, &[2], double),
        ("bn.num_batches_tracked", Dtype::I64, &[1], vec![0; 8]),
    ]);
    std::fs::write(&path, bytes).unwrap();
    let weights = Weights::read(&path).unwrap();
    assert_eq!(weights.tensors["half"].data, [1.5, -2.0, 2f32.powi(-24)]);
    assert_eq!(weights.tensors["brain"].data, [1.5, -2.0]);
    assert_eq!(weights.tensors["brain"].shape, [2, 1]);
    assert_eq!(weights.tensors["double"].data, [0.1, -3.0]);
    assert_eq!(weights.tensors.len(), 3);
}

#[test]
fn unusable_files_are_refused() {
    let missing = Weights::read(Path::new("no/such/file.safetensors")).unwrap_err();
    assert!(missing.to_string().contains("no/such/file.safetensors"));

    assert!(refused("empty.safetensors", b"").contains("empty"));
    assert!(refused("short.pth", b"PK\x03").contains("cut short after 3 bytes"));
    let picture = refused("picture.png", b"\x89PNG\r\n\x1a\n and more bytes");
    assert!(picture.contains("expected a safetensors file or a PyTorch checkpoint"));

    // PyTorch's magic number alone, as a pickle of protocol 2.
    let legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    assert!(refused("legacy.pth", legacy).contains("ends in the middle"));

    let whole = safetensors_file(&[("weight", Dtype::F32, &[4], vec![0; 16])]);
    for length in [9, 40, whole.len() - 1] {
        let message = refused("cut.safetensors", &whole[..length]);
        assert!(
            message.contains("cut short or damaged"),
            "{length}: {message}"
        );
    }
    let float8 = safetensors_file(&[("w8", Dtype::F8_E4M3, &[1], vec![0])]);
    let message = refused("float8.safetensors", &float8);
    assert!(
        message.contains("`w8`") && message.contains("F8_E4M3"),
        "{message}"
    );
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let infinite_half = 0x7c00u16.to_le_bytes().to_vec();
    for (dtype, bytes) in [
        (Dtype::F32, f32::NAN.to_le_bytes().to_vec()),
        (Dtype::F32, f32::NEG_INFINITY.to_le_bytes().to_vec()),
        (Dtype::F16, infinite_half),
        (Dtype::F64, 1e300f64.to_le_bytes().to_vec()),
    ] {
        let good = vec![0; bytes.len()];
        let file = safetensors_file(&[
            ("good", dtype, &[1], good),
            ("block3.bn.weight", dtype, &[1], bytes),
        ]);
        let message = refused("diverged.safetensors", &file);
        assert!(message.contains("`block3.bn.weight`"), "{message}");
    }
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let write = |path: &Path, tensors: &[Tensor]| write_safetensors(path, tensors, HashMap::new());

    let unfilled = write(&path, &[tensor("w", &[3], &[1.0])]).unwrap_err();
    assert!(unfilled.to_string().contains("`w`"));
    let twice = [tensor("w", &[1], &[1.0]), tensor("w", &[1], &[2.0])];
    assert!(
        write(&path, &twice)
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
    // The rename fails: a folder stands where the file should be.
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    assert!(write(&taken, &[]).is_err());
    assert!(write(&folder.path().join("absent/model.safetensors"), &[]).is_err());

    let left: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(left, [taken]);
}

fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference/weights")
        .join(name)
}

/// start + i / 8, as tools/reference_weights.py fills its tensors.
fn ramp(start: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| start as f32 + i as f32 / 8.0).collect()
}

#[test]
fn pytorch_state_dict() {
    // Alone, in the format before PyTorch 1.6, and under "model" with names of DataParallel.
    for name in ["plain.pth", "legacy_plain.pth", "data_parallel.pth"] {
        is_plain(&Weights::read(&checkpoint(name)).unwrap());
    }
}

fn is_plain(weights: &Weights) {
    let expected: [(&str, &[usize]); 6] = [
        ("0.weight", &[3, 2, 2, 2]),
        ("0.bias", &[3]),
        ("1.weight", &[3]),
        ("1.bias", &[3]),
        ("1.running_mean", &[3]),
        ("1.running_var", &[3]),
    ];
    // `1.num_batches_tracked` is an integer.
    assert_eq!(weights.tensors.len(), expected.len());
    for (i, (name, shape)) in expected.into_iter().enumerate() {
        let array = &weights.tensors[name];
        assert_eq!(array.shape, shape, "{name}");
        assert_eq!(array.data, ramp(i, shape.iter().product()), "{name}");
    }
}

#[test]
fn pytorch_checkpoint_of_views_and_other_types() {
    for name in ["nested.pth", "legacy.pth"] {
        is_nested(&Weights::read(&checkpoint(name)).unwrap());
    }
}

fn is_nested(weights: &Weights) {
    // Element (i, j) of the transposed 4×3 table.
    let transposed = (0..12)
        .map(|k| ((k % 4) * 3 + k / 4) as f32 / 8.0)
        .collect();
    let expected: [(&str, &[usize], Vec<f32>); 8] = [
        ("transposed", &[3, 4], transposed),
        ("row", &[3], vec![0.75, 0.875, 1.0]),
        ("half", &[2, 2], ramp(1, 4)),
        ("bfloat16", &[3], ramp(2, 3)),
        ("double", &[3], ramp(3, 3)),
        ("parameter", &[2], ramp(4, 2)),
        ("scalar", &[], vec![5.5]),
        ("empty", &[0, 3], vec![]),
    ];
    assert_eq!(weights.tensors.len(), expected.len());
    for (name, shape, data) in expected {
        let array = &weights.tensors[name];
        assert_eq!((&array.shape[..], &array.data), (shape, &data), "{name}");
    }
}

/// An archive as torch.save makes it, with this pickle and one storage of four f32.
fn archive(pickle: &[u8], storage: [f32; 4]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("a/data.pkl", stored).unwrap();
    zip.write_all(pickle).unwrap();
    zip.start_file("a/data/0", stored).unwrap();
    zip.write_all(&storage.map(f32::to_le_bytes).concat())
        .unwrap();
    zip.finish().unwrap().into_inner()
}

/// {"w": a 2×2 view of storage 0 at this offset and with this row stride}
fn view(offset: u8, stride: u8) -> Vec<u8> {
    let mut pickle = b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    pickle.extend(b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ");
    pickle.extend([b'K', offset]);
    pickle.extend(b"K\x02K\x02\x86");
    pickle.extend([b'K', stride]);
    pickle.extend(b"K\x01\x86\x89)tRs.");
    pickle
}

#[test]
fn unusable_checkpoints_are_refused() {
    let values = [1.0, 2.0, 3.0, 4.0];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.pth");
    std::fs::write(&path, archive(&view(0, 2), values)).unwrap();
    assert_eq!(Weights::read(&path).unwrap().tensors["w"].data, values);

    for (offset, stride) in [(1, 2), (0, 3), (255, 255)] {
        let message = refused("view.pth", &archive(&view(offset, stride), values));
        assert!(
            message.contains("`w`") && message.contains("beyond"),
            "{message}"
        );
    }
    let message = refused("nan.pth", &archive(&view(0, 2), [1.0, f32::NAN, 0.0, 0.0]));
    assert!(
        message.contains("`w`") && message.contains("NaN"),
        "{message}"
    );

    // An object of a class that is not needed is named, never made.
    let code = b"\x80\x02cposix\nsystem\nU\x04trueR.";
    assert!(refused("code.pth", &archive(code, values)).contains("`posix.system`"));
    assert!(refused("none.pth", &archive(b"\x80\x02}.", values)).contains("no tensors"));
    assert!(refused("list.pth", &archive(b"\x80\x02].", values)).contains("expected a dict"));

    let whole = std::fs::read(checkpoint("plain.pth")).unwrap();
    for length in [20, whole.len() / 2, whole.len() - 1] {
        let message = refused("cut.pth", &whole[..length]);
        assert!(
            message.contains("cut short or damaged"),
            "{length}: {message}"
        );
    }
}

/// Damage gives an error, or another reading of the same bytes, and never a panic.
#[test]
fn damaged_pickles_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pth");
    let pickle = view(0, 2);
    let read = |pickle: &[u8]| {
        std::fs::write(&path, archive(pickle, [1.0; 4])).unwrap();
        Weights::read(&path)
    };
    for at in 0..pickle.len() {
        assert!(read(&pickle[..at]).is_err(), "cut at {at}");
        for byte in [
            0, 0xff, b'(', b't', b'R', b'u', b'h', b'.', 0x85, 0x8a, 0x8d,
        ] {
            let mut damaged = pickle.clone();
            damaged[at] = byte;
            let _ = read(&damaged);
        }
    }
}

#[test]
fn no_cut_of_a_checkpoint_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pth");
    for name in ["nested.pth", "legacy.pth", "legacy_plain.pth"] {
        let whole = std::fs::read(checkpoint(name)).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Weights::read(&path).is_err(), "{length} bytes of {name}");
        }
    }
}

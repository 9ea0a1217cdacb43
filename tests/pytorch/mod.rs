//! Everything that PyTorch was asked about (`tools/reference.py`), compared.

mod extractor;
mod lite;
mod models;
mod operators;

use astray::gpu;
use astray::nn::random::named_tensor;
use astray::tensor::{Device, Shape, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use std::path::Path;

/// One file of `tests/reference`.
struct Reference {
    bytes: Vec<u8>,
}

impl Reference {
    fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/reference")
            .join(name);
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|e| panic!("{}: {e}; run tools/reference.py", path.display()));
        Self { bytes }
    }

    fn tensors(&self) -> safetensors::SafeTensors<'_> {
        safetensors::SafeTensors::deserialize(&self.bytes).unwrap()
    }

    /// A JSON entry of the metadata.
    fn metadata(&self, key: &str) -> Value {
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&self.bytes).unwrap();
        serde_json::from_str(&metadata.metadata().as_ref().unwrap()[key]).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    fn shape(&self, name: &str) -> Shape {
        Shape::new(
            self.tensors()
                .tensor(name)
                .unwrap_or_else(|e| panic!("{name}: {e}"))
                .shape(),
        )
    }

    fn values(&self, name: &str) -> Vec<f64> {
        let tensors = self.tensors();
        let view: TensorView = tensors
            .tensor(name)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        match view.dtype() {
            Dtype::F32 => view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b) as f64)
                .collect(),
            Dtype::F64 => view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|b| f64::from_le_bytes(*b))
                .collect(),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// ‖found − stored‖ / ‖stored‖; NaN where anything is NaN.
    fn distance(&self, name: &str, found: &Tensor) -> f64 {
        assert_eq!(found.shape().len(), self.shape(name).len(), "{name}");
        relative(&found.to_vec().unwrap(), &self.values(name))
    }
}

fn relative(found: &[f32], expected: &[f64]) -> f64 {
    let off: f64 = found
        .iter()
        .zip(expected)
        .map(|(&f, e)| (f as f64 - e).powi(2))
        .sum();
    let norm: f64 = expected.iter().map(|e| e * e).sum();
    if norm > 0.0 {
        (off / norm).sqrt()
    } else {
        off.sqrt()
    }
}

/// The base seed of `tools/ast_torch/generator.py`.
const BASE_SEED: u64 = 0xA57A;

/// A generated tensor: uniform in offset ± bound.
fn generated(name: &str, shape: Shape, bound: f64, offset: f64) -> Vec<f32> {
    if offset == 0.0 {
        return named_tensor(name, shape.len(), bound, BASE_SEED);
    }
    // 2u - 1 has 24 bits: exact in f32.
    let unit = named_tensor(name, shape.len(), 1.0, BASE_SEED);
    unit.iter()
        .map(|&u| (offset + u as f64 * bound) as f32)
        .collect()
}

/// Device and tolerance of the operators; of whole networks.
fn devices() -> Vec<(Device, f64, f64)> {
    let adapters = gpu::adapters();
    assert!(
        !adapters.is_empty(),
        "no adapter: install a Vulkan driver (Debian: mesa-vulkan-drivers)"
    );
    let mut devices = vec![(Device::Cpu, 1e-5, 1e-4)];
    let poisoned = gpu::Options {
        poison: true,
        ..Default::default()
    };
    let open = |index| Device::Gpu(gpu::open(index, &poisoned).unwrap());
    devices.extend(adapters.iter().map(|a| (open(a.index), 1e-4, 1e-4)));
    devices
}

/// The same in f16: a network's inputs, weights and every activation are rounded, by 2⁻¹¹ each.
fn half_devices() -> Vec<(Device, f64, f64)> {
    let half = gpu::Options {
        poison: true,
        half: true,
        ..Default::default()
    };
    let adapters = gpu::adapters().into_iter().filter(|adapter| adapter.f16);
    let open = |index| Device::Gpu(gpu::open(index, &half).unwrap());
    adapters.map(|a| (open(a.index), 1e-3, 1e-2)).collect()
}

//! Finding and opening adapters.

use super::{Choices, Gpu, Options, Recorder, buffer::Pool, shaders::Shaders};
use crate::{Error, Result};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What `astray devices` shows of an adapter.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterReport {
    pub index: usize,
    pub name: String,
    pub kind: String,
    pub backend: String,
    pub driver: String,
    pub f16: bool,
    pub subgroups: Option<[u32; 2]>,
    pub timestamps: bool,
    pub immediates: bool,
    /// M×N×K and types of the matrix units, empty where there are none.
    pub cooperative_matrices: Vec<String>,
    pub max_binding_bytes: u64,
    pub max_workgroup_bytes: u32,
    /// A real GPU: chosen by `--device auto`. Software adapters are for tests.
    pub hardware: bool,
}

impl AdapterReport {
    /// Rows of the matrices that `conv2d/matrix.wgsl` can multiply here: 16 in f16, otherwise 8; `None` where it cannot.
    /// Its subgroups are 32 threads. Those of 8 make the same matrices four times, which is for tests: of 16, llvmpipe
    /// (Mesa 26.2) crashes.
    pub fn matrix_side(&self, half: bool) -> Option<u32> {
        let shapes: &[_] = match half {
            true => &[
                (16, "16x16x16 F16->F32", 48 << 10),
                (8, "8x8x8 F16->F32", 24 << 10),
            ],
            false => &[(8, "8x8x8 F32->F32", 24 << 10)],
        };
        let (side, ..) = shapes.iter().find(|(_, shape, bytes)| {
            self.cooperative_matrices.iter().any(|s| s == shape)
                && self.max_workgroup_bytes >= *bytes
        })?;
        matches!(self.subgroups, Some([8, 8] | [32, 32])).then_some(*side)
    }
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle())
}

fn all(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY))
        .into_iter()
        .filter(|adapter| {
            let needed = wgpu::DownlevelFlags::COMPUTE_SHADERS;
            adapter.get_downlevel_capabilities().flags.contains(needed)
        })
        .collect()
}

fn report(index: usize, adapter: &wgpu::Adapter) -> AdapterReport {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    AdapterReport {
        index,
        kind: format!("{:?}", info.device_type),
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_string(),
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some([info.subgroup_min_size, info.subgroup_max_size]),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        immediates: features.contains(wgpu::Features::IMMEDIATES),
        // Of no use without the feature.
        cooperative_matrices: adapter
            .cooperative_matrix_properties()
            .iter()
            .filter(|_| features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX))
            .map(|p| {
                format!(
                    "{}x{}x{} {:?}->{:?}",
                    p.m_size, p.n_size, p.k_size, p.ab_type, p.cr_type
                )
            })
            .collect(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        hardware: matches!(
            info.device_type,
            wgpu::DeviceType::DiscreteGpu
                | wgpu::DeviceType::IntegratedGpu
                | wgpu::DeviceType::VirtualGpu
        ),
        name: info.name,
    }
}

/// Every adapter that can run compute shaders.
pub fn adapters() -> Vec<AdapterReport> {
    let instance = instance();
    let list = all(&instance);
    list.iter().enumerate().map(|(i, a)| report(i, a)).collect()
}

/// Opens the adapter with this index (see [`adapters`]).
///
/// # Errors
/// [`Error::Device`] when there is no such adapter or the driver refuses, [`Error::Usage`] where 16 bits
/// are wanted and the adapter has none.
pub fn open(index: usize, options: &Options) -> Result<Arc<Gpu>> {
    let instance = instance();
    let list = all(&instance);
    let refused = |name: &str, message: String| Error::Device {
        device: name.to_string(),
        message,
    };
    let adapter = list.get(index).ok_or_else(|| {
        refused(
            &format!("#{index}"),
            format!("no such adapter; {} found", list.len()),
        )
    })?;
    let report = report(index, adapter);
    let name = report.name.clone();
    let wanted =
        wgpu::Features::IMMEDIATES | wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP;
    let half = match options.half {
        true if !report.f16 => {
            return Err(Error::usage(format!(
                "--precision f16: {name} has no 16-bit numbers in kernels; use `--precision f32`"
            )));
        }
        true => wgpu::Features::SHADER_F16,
        false => wgpu::Features::empty(),
    };
    let mut features = adapter.features() & (wanted | half);
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    let matrix_side = report.matrix_side(options.half);
    if matrix_side.is_some() {
        features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        // SAFETY: no more than an interface that may still change.
        experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    let mut limits = adapter.limits();
    if let Some(bytes) = options.max_binding {
        limits.max_storage_buffer_binding_size = bytes;
    }
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("astray"),
        required_features: features,
        experimental_features,
        required_limits: limits,
        ..Default::default()
    }))
    .map_err(|e| refused(&name, e.to_string()))?;

    let lost = Arc::new(AtomicBool::new(false));
    let flag = lost.clone();
    device.set_device_lost_callback(move |_, message| {
        tracing::warn!("device lost: {message}");
        flag.store(true, Ordering::Relaxed);
    });
    let immediate_bytes = device.limits().max_immediate_size;
    let immediates = features.contains(wgpu::Features::IMMEDIATES) && immediate_bytes >= 128;
    Ok(Arc::new(Gpu {
        immediates,
        shaders: Shaders::new(options.shaders.clone(), immediates, matrix_side),
        device,
        queue,
        poison: options.poison,
        half: options.half,
        max_memory: options.max_memory,
        variant: options.variant.clone(),
        tuning: options
            .tune
            .unwrap_or(Duration::from_secs(report.hardware.into())),
        choices: Choices::of(&report, options),
        report,
        lost,
        pipelines: Mutex::default(),
        recorder: Mutex::new(Recorder::default()),
        pool: Mutex::new(Pool::default()),
        bindings: Mutex::default(),
        allocated: AtomicU64::new(0),
        peak: AtomicU64::new(0),
        launches: AtomicU64::new(0),
    }))
}

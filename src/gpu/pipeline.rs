//! Shader modules and pipelines, built once per kernel, entry point and constants.

use super::{Gpu, lock};
use crate::{Error, Result};
use std::sync::Arc;

/// A kernel: the name and text of its WGSL file, the entry point in it, its `override` constants.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub name: &'static str,
    pub entry: &'static str,
    pub constants: Vec<(&'static str, u64)>,
    /// Is a binding f16?
    pub half: bool,
    /// One that is written?
    pub half_result: bool,
    /// For every binding: may the kernel write to it?
    pub writes: Vec<bool>,
}

pub(super) struct Pipeline {
    pub raw: wgpu::ComputePipeline,
    pub storage: wgpu::BindGroupLayout,
    /// Layout of the parameter block where the device has no immediates.
    pub uniform: Option<wgpu::BindGroupLayout>,
}

impl Gpu {
    pub(super) fn pipeline(
        &self,
        key: Key,
        text: &'static str,
        params_bytes: u32,
    ) -> Result<Arc<Pipeline>> {
        if let Some(found) = lock(&self.pipelines).get(&key) {
            return Ok(found.clone());
        }
        let built = Arc::new(self.build(&key, text, params_bytes)?);
        lock(&self.pipelines).insert(key, built.clone());
        Ok(built)
    }

    fn build(&self, key: &Key, text: &'static str, params_bytes: u32) -> Result<Pipeline> {
        let kernel = self
            .shaders
            .kernel(key.name, text, [key.half, key.half_result])?;
        if key.half && !kernel.is_generic() {
            return Err(Error::failed(format!(
                "{}: computes in f32 alone; open the device without `--precision f16`",
                key.name
            )));
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let desc = wgpu::ShaderModuleDescriptor {
            label: Some(key.name),
            source: wgpu::ShaderSource::Wgsl(kernel.source().into()),
        };
        // Bounds, loops and divisions that are checked at run time cost 12 to 30 % (NOTEBOOK, H100).
        let unchecked = wgpu::ShaderRuntimeChecks::unchecked();
        // SAFETY: the kernels are the program's own (or an engineer's, `--shaders`): naga validates them,
        // their loops end, and the self-test runs them on odd sizes.
        let module = unsafe { self.device.create_shader_module_trusted(desc, unchecked) };
        let storage = self.layout(
            key.writes
                .iter()
                .map(|&writes| wgpu::BufferBindingType::Storage { read_only: !writes }),
        );
        let uniform =
            (!self.immediates).then(|| self.layout([wgpu::BufferBindingType::Uniform].into_iter()));
        let groups = [Some(&storage), uniform.as_ref()];
        let layout = self
            .device
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(key.name),
                bind_group_layouts: if self.immediates {
                    &groups[..1]
                } else {
                    &groups
                },
                immediate_size: if self.immediates { params_bytes } else { 0 },
            });
        let constants: Vec<(&str, f64)> = key
            .constants
            .iter()
            .map(|&(name, bits)| (name, f64::from_bits(bits)))
            .collect();
        let raw = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(key.name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(key.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    // Every kernel writes what it reads.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            });
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(kernel.explain(&error.to_string())),
            None => Ok(Pipeline {
                raw,
                storage,
                uniform,
            }),
        }
    }

    pub(super) fn layout(
        &self,
        types: impl Iterator<Item = wgpu::BufferBindingType>,
    ) -> wgpu::BindGroupLayout {
        let entries: Vec<_> = types
            .enumerate()
            .map(|(i, ty)| wgpu::BindGroupLayoutEntry {
                binding: i as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty,
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        self.device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            })
    }
}

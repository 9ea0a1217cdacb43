//! One launch: name the shader, its bindings in order, its parameters, its grid.

use super::pipeline::Key;
use super::{Buffer, Gpu, MAX_RECORDED, lock};
use crate::Result;
use crate::kernel::LAUNCH;
use std::sync::atomic::Ordering;

/// Workgroups of [`Pass::sweep`] at most: about as many as an H100 has room for at once.
const SWEEPERS: usize = 4096;

/// A launch under construction; [`Pass::run`] records it.
pub struct Pass<'a> {
    gpu: &'a Gpu,
    text: &'static str,
    key: Key,
    buffers: Vec<&'a Buffer>,
    params: Vec<u8>,
}

impl Gpu {
    /// Starts a launch of `shaders/<name>.wgsl`, whose embedded text is `text`. Entry point `main`
    /// unless [`Pass::entry`] says otherwise.
    pub fn pass<'a>(&'a self, name: &'static str, text: &'static str) -> Pass<'a> {
        let key = Key {
            name,
            entry: "main",
            constants: Vec::new(),
            half: false,
            half_result: false,
            writes: Vec::new(),
        };
        Pass {
            gpu: self,
            text,
            key,
            buffers: Vec::new(),
            params: Vec::new(),
        }
    }
}

impl<'a> Pass<'a> {
    pub fn entry(mut self, entry: &'static str) -> Self {
        self.key.entry = entry;
        self
    }

    /// Sets an `override` constant.
    pub fn constant(mut self, name: &'static str, value: f64) -> Self {
        self.key.constants.push((name, value.to_bits()));
        self
    }

    /// The next binding, read only.
    pub fn read(self, buffer: &'a Buffer) -> Self {
        self.bind(buffer, false)
    }

    /// The next binding, read and written.
    pub fn write(self, buffer: &'a Buffer) -> Self {
        buffer.changes();
        self.bind(buffer, true)
    }

    fn bind(mut self, buffer: &'a Buffer, writes: bool) -> Self {
        self.buffers.push(buffer);
        self.key.writes.push(writes);
        self.key.half |= buffer.is_half();
        self.key.half_result |= writes && buffer.is_half();
        self
    }

    /// The scalars: the Rust twin of the shader's `struct Params`.
    pub fn params<P: bytemuck::Pod>(mut self, params: &P) -> Self {
        self.params = bytemuck::bytes_of(params).to_vec();
        self
    }

    /// Records a launch of at least `threads` threads in workgroups of 64 (see `index` in
    /// `shaders/prelude.wgsl`).
    pub fn run(self, threads: usize) -> Result<()> {
        self.folded(threads.div_ceil(64))
    }

    /// Records a launch over so many elements, of which a thread takes several, `threads(groups)` apart:
    /// to start a workgroup takes longer than to add 64 numbers.
    pub fn sweep(self, elements: usize) -> Result<()> {
        self.folded(elements.div_ceil(64).min(SWEEPERS))
    }

    /// Records a launch of at least this many workgroups: number y · width + x of the grid.
    pub fn folded(self, groups: usize) -> Result<()> {
        // A grid axis is limited to 65535: a long line is folded into rows of the same length.
        let rows = groups.div_ceil(32768).max(1);
        self.groups([groups.div_ceil(rows).max(1) as u32, rows as u32, 1])
    }

    /// Records a launch of this many workgroups.
    pub fn groups(self, groups: [u32; 3]) -> Result<()> {
        let gpu = self.gpu;
        gpu.check_lost()?;
        let limit = gpu.max_binding();
        if let Some(large) = self.buffers.iter().find(|b| b.bytes() > limit) {
            return Err(gpu.too_large(large.bytes()));
        }
        let size = self.params.len() as u32;
        let (name, entry) = (self.key.name, self.key.entry);
        let pipeline = gpu.pipeline(self.key, self.text, size)?;
        let bindings = gpu.bindings(&pipeline.storage, &self.buffers);
        let scalars = pipeline
            .uniform
            .as_ref()
            .map(|layout| gpu.uniform(layout, &self.params));

        let mut recorder = lock(&gpu.recorder);
        let recorder = &mut *recorder;
        let (pass, index) = recorder.pass(gpu);
        if let Some(index) = index {
            tracing::trace!(target: LAUNCH, index, shader = name, entry);
        }
        pass.set_pipeline(&pipeline.raw);
        pass.set_bind_group(0, &bindings, &[]);
        match &scalars {
            Some(group) => pass.set_bind_group(1, group, &[]),
            None if size > 0 => pass.set_immediates(0, &self.params),
            None => {}
        }
        pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        recorder.launches += 1;
        gpu.launches.fetch_add(1, Ordering::Relaxed);
        recorder.time_on_host(gpu)?;
        if recorder.launches >= recorder.enough {
            gpu.submit_recorded(recorder);
            recorder.enough = MAX_RECORDED.min(2 * recorder.enough);
        }
        Ok(())
    }
}

impl Gpu {
    /// The scalars of one launch in a buffer of their own, for devices without immediates.
    fn uniform(&self, layout: &wgpu::BindGroupLayout, params: &[u8]) -> wgpu::BindGroup {
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: (params.len() as u64).next_multiple_of(16),
            usage: wgpu::BufferUsages::UNIFORM,
            mapped_at_creation: true,
        });
        if let Ok(mut view) = buffer.get_mapped_range_mut(..) {
            view.slice(..params.len()).copy_from_slice(params);
        }
        buffer.unmap();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout,
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: buffer.as_entire_binding(),
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FIRST_RECORDED, Options, open};
    use super::*;

    #[test]
    fn a_waiting_device_gets_few_launches_first() {
        let gpu = open(0, &Options::default()).expect("an adapter");
        let [a, b, c] = [64; 3].map(|len| gpu.alloc(len).expect("memory"));
        let launch = || {
            let pass = gpu.pass("add", include_str!("../../shaders/add.wgsl"));
            let pass = pass.read(&a).read(&b).write(&c).params(&64_u32);
            pass.sweep(64).expect("a launch");
        };
        let recorded = || lock(&gpu.recorder).launches;
        let mut enough = FIRST_RECORDED;
        while enough < 4 * MAX_RECORDED {
            let expected = enough.min(MAX_RECORDED);
            (1..expected).for_each(|_| launch());
            assert_eq!(recorded(), expected - 1);
            launch();
            assert_eq!(recorded(), 0);
            enough *= 2;
        }
        gpu.wait().expect("the launches");
        (0..FIRST_RECORDED).for_each(|_| launch());
        assert_eq!(recorded(), 0);
    }
}

//! Device memory: buffers come from a pool and go back to it when dropped.

use super::{Gpu, lock};
use crate::kernel::step;
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Buffers that wait to be used again, by size in bytes.
pub(super) type Pool = HashMap<u64, Vec<wgpu::Buffer>>;

/// `len` f32 in device memory.
pub struct Buffer {
    gpu: Arc<Gpu>,
    pub(super) raw: wgpu::Buffer,
    len: usize,
    derived: Mutex<HashMap<Form, Arc<Buffer>>>,
}

/// What a buffer was made into, and a number that goes with it.
type Form = (&'static str, u32);

impl Buffer {
    /// Number of f32 elements.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Another form of the contents, such as packed weights: made once, kept until they change.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn derived(
        &self,
        form: Form,
        make: impl FnOnce() -> Result<Buffer>,
    ) -> Result<Arc<Buffer>> {
        if let Some(found) = lock(&self.derived).get(&form) {
            return Ok(found.clone());
        }
        let made = Arc::new(make()?);
        lock(&self.derived).insert(form, made.clone());
        Ok(made)
    }

    /// The contents are about to change.
    pub(super) fn changes(&self) {
        lock(&self.derived).clear();
    }

    /// Bytes in use, without the pool's rounding.
    pub(super) fn bytes(&self) -> u64 {
        4 * self.len.max(1) as u64
    }
}

impl Drop for Buffer {
    // Launches run in the order they were recorded, so a buffer may be used again at once.
    fn drop(&mut self) {
        let size = self.raw.size();
        lock(&self.gpu.pool)
            .entry(size)
            .or_default()
            .push(self.raw.clone());
        self.gpu.allocated.fetch_sub(size, Ordering::Relaxed);
    }
}

/// Rounded up to 1/8 of the next power of two, so that near sizes share buffers.
fn size_class(bytes: u64) -> u64 {
    let step = (bytes.next_power_of_two() / 8).max(256);
    bytes.div_ceil(step) * step
}

impl Gpu {
    /// Memory for `len` f32, its contents undefined (NaN when poisoned).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], also where one binding cannot be that large.
    pub fn alloc(self: &Arc<Self>, len: usize) -> Result<Buffer> {
        self.check_lost()?;
        let bytes = size_class(4 * len.max(1) as u64);
        if len > self.max_elements() {
            return Err(self.out_of_memory(bytes));
        }
        let pooled = lock(&self.pool).get_mut(&bytes).and_then(Vec::pop);
        let raw = match pooled {
            Some(raw) => raw,
            None => self.create(bytes)?,
        };
        let now = self.allocated.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
        let buffer = Buffer {
            gpu: self.clone(),
            raw,
            len,
            derived: Mutex::default(),
        };
        if self.poison {
            self.write(&buffer, &vec![f32::NAN; len]);
        }
        Ok(buffer)
    }

    fn create(&self, bytes: u64) -> Result<wgpu::Buffer> {
        match self.try_create(bytes) {
            Some(raw) => Ok(raw),
            None => {
                // What waits in the pool may be all that is missing.
                lock(&self.pool).clear();
                self.wait()?;
                self.try_create(bytes)
                    .ok_or_else(|| self.out_of_memory(bytes))
            }
        }
    }

    fn try_create(&self, bytes: u64) -> Option<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        pollster::block_on(scope.pop()).is_none().then_some(raw)
    }

    fn out_of_memory(&self, bytes: u64) -> Error {
        Error::OutOfMemory {
            device: self.report.name.clone(),
            bytes,
        }
    }

    /// Copies `data` to new device memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn upload(self: &Arc<Self>, data: &[f32]) -> Result<Buffer> {
        let _step = step("upload");
        let buffer = self.alloc(data.len())?;
        self.write(&buffer, data);
        Ok(buffer)
    }

    fn write(&self, buffer: &Buffer, data: &[f32]) {
        buffer.changes();
        // A write overtakes what is recorded but not submitted; the buffer may still be read there.
        self.submit();
        self.queue
            .write_buffer(&buffer.raw, 0, bytemuck::cast_slice(data));
    }

    /// Copies one buffer to another of the same length.
    pub fn copy(&self, from: &Buffer, to: &Buffer) {
        to.changes();
        let mut recorder = lock(&self.recorder);
        recorder.pass = None;
        let encoder = recorder
            .encoder
            .get_or_insert_with(|| self.device.create_command_encoder(&Default::default()));
        encoder.copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, from.bytes());
    }

    /// Waits for everything recorded and copies a buffer to the host.
    ///
    /// # Errors
    /// [`Error::Device`] when the device was lost.
    pub fn read(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        let _step = step("read-back");
        let bytes = buffer.bytes();
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        {
            let mut recorder = lock(&self.recorder);
            recorder.pass = None;
            let encoder = recorder
                .encoder
                .get_or_insert_with(|| self.device.create_command_encoder(&Default::default()));
            encoder.copy_buffer_to_buffer(&buffer.raw, 0, &staging, 0, bytes);
        }
        self.submit();
        staging.map_async(wgpu::MapMode::Read, .., |_| {});
        self.wait()?;
        let view = staging
            .get_mapped_range(..)
            .map_err(|e| self.error(e.to_string()))?;
        let mut data: Vec<f32> = bytemuck::pod_collect_to_vec(&view[..]);
        data.truncate(buffer.len);
        Ok(data)
    }
}

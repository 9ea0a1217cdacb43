//! Device memory: buffers come from a pool and go back to it when dropped.

use super::bindings::Bindings;
use super::{Gpu, lock};
use crate::kernel::step;
use crate::{Error, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Buffers that wait to be used again, by size in bytes.
#[derive(Default)]
pub(super) struct Pool {
    waiting: HashMap<u64, Vec<wgpu::Buffer>>,
    bytes: u64,
}

impl Pool {
    fn take(&mut self, size: u64) -> Option<wgpu::Buffer> {
        let found = self.waiting.get_mut(&size)?.pop()?;
        self.bytes -= size;
        Some(found)
    }

    /// Keeps a buffer, unless more than `room` would wait; says whether it did.
    fn put(&mut self, raw: &wgpu::Buffer, room: u64) -> bool {
        let fits = self.bytes + raw.size() <= room;
        if fits {
            self.bytes += raw.size();
            let waiting = self.waiting.entry(raw.size()).or_default();
            waiting.push(raw.clone());
        }
        fits
    }
}

/// `len` numbers in device memory, f32 or f16.
pub struct Buffer {
    gpu: Arc<Gpu>,
    pub(super) raw: wgpu::Buffer,
    len: usize,
    half: bool,
    derived: Mutex<HashMap<Form, Arc<Buffer>>>,
}

/// What a buffer was made into, and a number that goes with it.
type Form = (&'static str, u32);

impl Buffer {
    /// Number of elements.
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

    /// The contents are about to change: what was derived from them is dropped.
    pub fn changes(&self) {
        lock(&self.derived).clear();
    }

    /// Are the elements f16?
    pub fn is_half(&self) -> bool {
        self.half
    }

    /// Bytes in use, without the pool's rounding.
    pub(super) fn bytes(&self) -> u64 {
        bytes(self.len, self.half)
    }
}

impl Drop for Buffer {
    // Launches run in the order they were recorded, so a buffer may be used again at once.
    fn drop(&mut self) {
        let size = self.raw.size();
        let in_use = self.gpu.allocated.fetch_sub(size, Ordering::Relaxed) - size;
        let room = self.gpu.room().saturating_sub(in_use);
        if !lock(&self.gpu.pool).put(&self.raw, room) {
            lock(&self.gpu.bindings).forget(&self.raw);
        }
    }
}

/// A whole number of vectors of four f32, so that the last one may be read.
fn bytes(len: usize, half: bool) -> u64 {
    let size = if half { 2 } else { 4 };
    (size * len as u64).max(1).next_multiple_of(16)
}

/// Rounded up to 1/8 of the next power of two, so that near sizes share buffers.
fn size_class(bytes: u64) -> u64 {
    let step = (bytes.next_power_of_two() / 8).max(256);
    bytes.div_ceil(step) * step
}

impl Gpu {
    /// Memory for `len` numbers in the GPU's precision, its contents undefined (NaN when poisoned, behind its end as well).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], also where one binding cannot be that large.
    pub fn alloc(self: &Arc<Self>, len: usize) -> Result<Buffer> {
        self.alloc_as(len, self.half)
    }

    /// As [`Gpu::alloc`], for f32 whatever the precision.
    ///
    /// # Errors
    /// As [`Gpu::alloc`].
    pub fn alloc_f32(self: &Arc<Self>, len: usize) -> Result<Buffer> {
        self.alloc_as(len, false)
    }

    /// As [`Gpu::alloc`], in the precision of `other`.
    ///
    /// # Errors
    /// As [`Gpu::alloc`].
    pub fn alloc_like(self: &Arc<Self>, other: &Buffer, len: usize) -> Result<Buffer> {
        self.alloc_as(len, other.half)
    }

    /// As [`Gpu::alloc_like`], also where a kernel cannot see all of it at once: ranges are copied from it
    /// and to it.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Device`] where no buffer can be that large.
    pub fn alloc_unseen(self: &Arc<Self>, other: &Buffer, len: usize) -> Result<Buffer> {
        let limit = self.device.limits().max_buffer_size;
        self.alloc_within(limit, len, other.half)
    }

    fn alloc_as(self: &Arc<Self>, len: usize, half: bool) -> Result<Buffer> {
        self.alloc_within(self.max_binding(), len, half)
    }

    fn alloc_within(self: &Arc<Self>, limit: u64, len: usize, half: bool) -> Result<Buffer> {
        self.check_lost()?;
        let needed = bytes(len, half);
        if needed > limit {
            return Err(self.too_large(needed));
        }
        // Rounded up it may be more than the device has a buffer for.
        let bytes = size_class(needed).min(self.device.limits().max_buffer_size);
        let pooled = lock(&self.pool).take(bytes);
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
            half,
            derived: Mutex::default(),
        };
        if self.poison {
            // Behind the last element, too, which a vector of four may read.
            let whole = needed as usize / if half { 2 } else { 4 };
            self.write(&buffer, &vec![f32::NAN; whole]);
        }
        Ok(buffer)
    }

    pub(super) fn too_large(&self, bytes: u64) -> Error {
        let limit = self.max_binding();
        self.error(format!(
            "a tensor of {bytes} bytes is more than the {limit} that a kernel can see at once; use a \
             smaller train.batch or input.image_size, or `--device cpu`"
        ))
    }

    /// What may be in use and wait together: twice the most that was in use, so that steps of different
    /// sizes can take turns, but no more than the limit.
    fn room(&self) -> u64 {
        (2 * self.peak_bytes()).min(self.max_memory.unwrap_or(u64::MAX))
    }

    fn create(&self, bytes: u64) -> Result<wgpu::Buffer> {
        let needed = self.allocated.load(Ordering::Relaxed) + bytes;
        let limit = self.max_memory.unwrap_or(u64::MAX);
        if needed > limit {
            return Err(self.out_of_memory(bytes));
        }
        let waiting = lock(&self.pool).bytes;
        let created = match needed + waiting <= limit {
            true => self.try_create(bytes),
            false => None,
        };
        match created {
            Some(raw) => Ok(raw),
            None => {
                // What waits in the pool may be all that is missing.
                *lock(&self.pool) = Pool::default();
                *lock(&self.bindings) = Bindings::default();
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
            in_use: self.allocated.load(Ordering::Relaxed),
            limit: self.max_memory.map_or(String::new(), |limit| {
                format!(" where --max-memory allows {limit}")
            }),
        }
    }

    /// Copies `data` to new device memory, in the GPU's precision.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn upload(self: &Arc<Self>, data: &[f32]) -> Result<Buffer> {
        let _step = step("upload");
        let buffer = self.alloc(data.len())?;
        self.write(&buffer, data);
        Ok(buffer)
    }

    /// As [`Gpu::upload`], in f32 whatever the precision.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn upload_f32(self: &Arc<Self>, data: &[f32]) -> Result<Buffer> {
        let _step = step("upload");
        let buffer = self.alloc_f32(data.len())?;
        self.write(&buffer, data);
        Ok(buffer)
    }

    fn write(&self, buffer: &Buffer, data: &[f32]) {
        buffer.changes();
        // A write overtakes what is recorded but not submitted; the buffer may still be read there.
        self.submit();
        if buffer.half {
            let mut short = vec![f16::ZERO; data.len().next_multiple_of(2)];
            short[..data.len()].convert_from_f32_slice(data);
            self.queue
                .write_buffer(&buffer.raw, 0, bytemuck::cast_slice(&short));
        } else {
            self.queue
                .write_buffer(&buffer.raw, 0, bytemuck::cast_slice(data));
        }
    }

    /// Copies one buffer to another of the same length.
    pub fn copy(&self, from: &Buffer, to: &Buffer) {
        self.copy_bytes((from, 0), (to, 0), from.bytes());
    }

    /// Copies `len` elements from an element of one buffer to an element of another in the same precision.
    /// Up to one more is written where that makes whole words: ranges are filled in ascending order.
    ///
    /// # Errors
    /// [`Error::Device`] where an element does not begin a word of 4 bytes.
    pub fn copy_range(
        &self,
        (from, at): (&Buffer, usize),
        (to, to_at): (&Buffer, usize),
        len: usize,
    ) -> Result<()> {
        debug_assert_eq!(from.half, to.half);
        let size = |len: usize| len as u64 * if from.half { 2 } else { 4 };
        let [at, to_at] = [at, to_at].map(size);
        if at % 4 != 0 || to_at % 4 != 0 {
            return Err(self.error(
                "in f16 rows of an odd number of elements are not cut out of what a kernel cannot see at once; \
                 use `--precision f32`"
                    .into(),
            ));
        }
        self.copy_bytes((from, at), (to, to_at), size(len).next_multiple_of(4));
        Ok(())
    }

    fn copy_bytes(&self, (from, at): (&Buffer, u64), (to, to_at): (&Buffer, u64), bytes: u64) {
        to.changes();
        let mut recorder = lock(&self.recorder);
        recorder.pass = None;
        let encoder = recorder
            .encoder
            .get_or_insert_with(|| self.device.create_command_encoder(&Default::default()));
        encoder.copy_buffer_to_buffer(&from.raw, at, &to.raw, to_at, bytes);
    }

    /// Waits for everything recorded and copies a buffer to the host.
    ///
    /// # Errors
    /// [`Error::Device`] when the device was lost.
    pub fn read(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        let _step = step("read-back");
        let staging = self.stage(buffer);
        self.submit();
        staging.map_async(wgpu::MapMode::Read, .., |_| {});
        self.wait()?;
        self.staged(buffer, &staging)
    }

    /// As [`Gpu::read`] of each buffer, waiting once.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub fn read_all(&self, buffers: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        let _step = step("read-back");
        let staged: Vec<wgpu::Buffer> = buffers.iter().map(|buffer| self.stage(buffer)).collect();
        self.submit();
        for staging in &staged {
            staging.map_async(wgpu::MapMode::Read, .., |_| {});
        }
        self.wait()?;
        let pairs = buffers.iter().zip(&staged);
        pairs
            .map(|(buffer, staging)| self.staged(buffer, staging))
            .collect()
    }

    /// Records the copy of a buffer to memory that the host can map.
    fn stage(&self, buffer: &Buffer) -> wgpu::Buffer {
        let bytes = buffer.bytes();
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut recorder = lock(&self.recorder);
        recorder.pass = None;
        let encoder = recorder
            .encoder
            .get_or_insert_with(|| self.device.create_command_encoder(&Default::default()));
        encoder.copy_buffer_to_buffer(&buffer.raw, 0, &staging, 0, bytes);
        staging
    }

    /// What a mapped copy of a buffer holds.
    fn staged(&self, buffer: &Buffer, staging: &wgpu::Buffer) -> Result<Vec<f32>> {
        let view = staging
            .get_mapped_range(..)
            .map_err(|e| self.error(e.to_string()))?;
        let mut data: Vec<f32> = match buffer.half {
            true => bytemuck::pod_collect_to_vec::<u8, f16>(&view[..]).to_f32_vec(),
            false => bytemuck::pod_collect_to_vec(&view[..]),
        };
        data.truncate(buffer.len);
        Ok(data)
    }
}

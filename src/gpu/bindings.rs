//! Bind groups, kept for the next launch with the same buffers: to make one takes half of the host's
//! time for a launch.

use super::{Buffer, Gpu, lock};
use std::collections::HashMap;

/// More of them than a training step needs.
const MOST: usize = 8192;

/// A layout, and for every binding its buffer and the bytes in use.
type Key = (wgpu::BindGroupLayout, Vec<(wgpu::Buffer, u64)>);

#[derive(Default)]
pub(super) struct Bindings(HashMap<Key, wgpu::BindGroup>);

impl Bindings {
    /// Lets go of a buffer that is not to be used again, so that its memory is free.
    pub(super) fn forget(&mut self, buffer: &wgpu::Buffer) {
        self.0
            .retain(|(_, buffers), _| buffers.iter().all(|(raw, _)| raw != buffer));
    }
}

impl Gpu {
    /// The bind group of a launch.
    pub(super) fn bindings(
        &self,
        layout: &wgpu::BindGroupLayout,
        buffers: &[&Buffer],
    ) -> wgpu::BindGroup {
        let used = buffers
            .iter()
            .map(|buffer| (buffer.raw.clone(), buffer.bytes()));
        let key = (layout.clone(), used.collect());
        let mut kept = lock(&self.bindings);
        if let Some(found) = kept.0.get(&key) {
            return found.clone();
        }
        if kept.0.len() >= MOST {
            kept.0.clear();
        }
        let made = self.bind(&key);
        kept.0.insert(key, made.clone());
        made
    }

    fn bind(&self, (layout, buffers): &Key) -> wgpu::BindGroup {
        let entries = buffers.iter().enumerate().map(|(i, (buffer, bytes))| {
            let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset: 0,
                size: wgpu::BufferSize::new(*bytes),
            });
            wgpu::BindGroupEntry {
                binding: i as u32,
                resource,
            }
        });
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout,
            entries: &entries.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, open};
    use super::*;

    #[test]
    fn they_are_kept_until_their_memory_is_wanted() {
        let options = Options {
            max_memory: Some(64 << 10),
            ..Options::default()
        };
        let gpu = open(0, &options).expect("an adapter");
        let layout =
            gpu.layout([wgpu::BufferBindingType::Storage { read_only: true }; 2].into_iter());
        let kept = || lock(&gpu.bindings).0.len();
        let [a, b] = [4 << 10, 2 << 10].map(|len| gpu.alloc(len).expect("memory"));
        let first = gpu.bindings(&layout, &[&a, &b]);
        assert!(first == gpu.bindings(&layout, &[&a, &b]));
        assert!(first != gpu.bindings(&layout, &[&b, &a]));
        assert!(first != gpu.bindings(&layout, &[&a, &a]));
        assert_eq!(kept(), 3);
        lock(&gpu.bindings).forget(&b.raw);
        assert_eq!(kept(), 1);
        drop((a, b));
        let _large = gpu.alloc(12 << 10).expect("the memory of the others");
        assert_eq!(kept(), 0);
    }
}

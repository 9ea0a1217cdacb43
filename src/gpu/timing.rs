//! How long each launch takes: a compute pass of its own with a timestamp before and after, or,
//! where the adapter has no timestamps, the time from submission to completion.

use super::{Gpu, MAX_RECORDED, Recorder, lock};
use crate::Result;
use std::time::{Duration, Instant};

/// Two timestamps for every launch between two submissions.
const QUERIES: u32 = 2 * MAX_RECORDED as u32;

/// When a launch ran, since [`Timings::origin`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    pub start: Duration,
    pub time: Duration,
}

/// What [`Gpu::stop_timing`] tells.
#[derive(Debug)]
pub struct Timings {
    pub origin: Instant,
    /// In the order recorded; the event of target [`crate::kernel::LAUNCH`] names the index.
    pub launches: Vec<Timing>,
    /// Taken by the host's clock: too long by the way there and back.
    pub estimated: bool,
}

/// Lives in the recorder while launches are timed.
pub(super) struct Timer {
    origin: Instant,
    launches: usize,
    clock: Clock,
}

enum Clock {
    Timestamps {
        queries: wgpu::QuerySet,
        resolved: wgpu::Buffer,
        chunks: Vec<Chunk>,
    },
    Host(Vec<Timing>),
}

/// The timestamps of one submission.
struct Chunk {
    submitted: Duration,
    ticks: wgpu::Buffer,
}

impl Gpu {
    /// Times every launch from now on. Without `timestamps`, or on an adapter without them, by the
    /// host's clock.
    pub fn start_timing(&self, timestamps: bool) {
        self.submit();
        let there = self.device.features();
        let clock = if timestamps && there.contains(wgpu::Features::TIMESTAMP_QUERY) {
            Clock::Timestamps {
                queries: self.device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: None,
                    ty: wgpu::QueryType::Timestamp,
                    count: QUERIES,
                }),
                resolved: self.ticks(
                    QUERIES as usize,
                    wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                ),
                chunks: Vec::new(),
            }
        } else {
            Clock::Host(Vec::new())
        };
        lock(&self.recorder).timer = Some(Timer {
            origin: Instant::now(),
            launches: 0,
            clock,
        });
    }

    /// Waits for what was timed since [`Gpu::start_timing`]; nothing where it was not called.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device was lost.
    pub fn stop_timing(&self) -> Result<Timings> {
        self.wait()?;
        let timer = lock(&self.recorder).timer.take();
        let Some(timer) = timer else {
            return Ok(Timings {
                origin: Instant::now(),
                launches: Vec::new(),
                estimated: true,
            });
        };
        let (launches, estimated) = match timer.clock {
            Clock::Host(launches) => (launches, true),
            Clock::Timestamps { chunks, .. } => (self.read_chunks(&chunks)?, false),
        };
        Ok(Timings {
            origin: timer.origin,
            launches,
            estimated,
        })
    }

    fn ticks(&self, count: usize, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 8 * count as u64,
            usage,
            mapped_at_creation: false,
        })
    }

    fn read_chunks(&self, chunks: &[Chunk]) -> Result<Vec<Timing>> {
        for chunk in chunks {
            chunk.ticks.map_async(wgpu::MapMode::Read, .., |_| {});
        }
        self.wait()?;
        let period = f64::from(self.queue.get_timestamp_period());
        let mut pairs = Vec::new();
        // The two clocks differ by a constant; no launch starts before its submission.
        let mut offset = f64::NEG_INFINITY;
        for chunk in chunks {
            let view = chunk.ticks.get_mapped_range(..);
            let view = view.map_err(|e| self.error(e.to_string()))?;
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&view[..]);
            let found = ticks.chunks_exact(2).map(|pair| {
                let nanos = |ticks: u64| ticks as f64 * period;
                (nanos(pair[0]), nanos(pair[1].saturating_sub(pair[0])))
            });
            let first = pairs.len();
            pairs.extend(found);
            if let Some(&(start, _)) = pairs.get(first) {
                offset = offset.max(chunk.submitted.as_nanos() as f64 - start);
            }
        }
        let duration = |nanos: f64| Duration::from_nanos(nanos.max(0.0) as u64);
        let timing = |&(start, nanos): &(f64, f64)| Timing {
            start: duration(start + offset),
            time: duration(nanos),
        };
        Ok(pairs.iter().map(timing).collect())
    }
}

impl Recorder {
    /// The pass for the next launch and, where launches are timed, this launch's index.
    pub(super) fn pass(&mut self, gpu: &Gpu) -> (&mut wgpu::ComputePass<'static>, Option<usize>) {
        let slot = 2 * self.launches as u32;
        let timer = self.timer.as_mut();
        let index = timer.as_ref().map(|timer| timer.launches);
        if index.is_some() {
            self.pass = None;
        }
        let writes = timer.and_then(|timer| {
            timer.launches += 1;
            match &timer.clock {
                Clock::Timestamps { queries, .. } => Some(wgpu::ComputePassTimestampWrites {
                    query_set: queries,
                    beginning_of_pass_write_index: Some(slot),
                    end_of_pass_write_index: Some(slot + 1),
                }),
                Clock::Host(_) => None,
            }
        });
        let encoder = self
            .encoder
            .get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
        let pass = self.pass.get_or_insert_with(|| {
            let descriptor = wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: writes,
            };
            encoder.begin_compute_pass(&descriptor).forget_lifetime()
        });
        (pass, index)
    }

    /// Copies the timestamps of what is recorded to where the host can read them.
    pub(super) fn resolve(&mut self, gpu: &Gpu) {
        let count = 2 * self.launches as u32;
        let (Some(timer), Some(encoder)) = (&mut self.timer, &mut self.encoder) else {
            return;
        };
        if let Clock::Timestamps {
            queries,
            resolved,
            chunks,
        } = &mut timer.clock
            && count > 0
        {
            let ticks = gpu.ticks(
                count as usize,
                wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            );
            encoder.resolve_query_set(queries, 0..count, resolved, 0);
            encoder.copy_buffer_to_buffer(resolved, 0, &ticks, 0, ticks.size());
            chunks.push(Chunk {
                submitted: timer.origin.elapsed(),
                ticks,
            });
        }
    }

    /// Without timestamps every launch is submitted by itself and waited for.
    pub(super) fn time_on_host(&mut self, gpu: &Gpu) -> Result<()> {
        let Some(Timer {
            origin,
            clock: Clock::Host(_),
            ..
        }) = &self.timer
        else {
            return Ok(());
        };
        let origin = *origin;
        let start = origin.elapsed();
        gpu.submit_recorded(self);
        gpu.poll()?;
        if let Some(Timer {
            clock: Clock::Host(timings),
            ..
        }) = &mut self.timer
        {
            let time = origin.elapsed() - start;
            timings.push(Timing { start, time });
        }
        Ok(())
    }
}

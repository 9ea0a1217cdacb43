//! The only room that says `wgpu`: adapters, memory, pipelines, launches.
//!
//! Commands are recorded into one encoder and one compute pass, submitted on read-back, before an
//! upload, or when enough launches have piled up: few after a wait, so that the device does not wait
//! for the host, then twice as many each time, up to `MAX_RECORDED`.

mod adapter;
mod bindings;
mod buffer;
mod choices;
mod pass;
mod pipeline;
mod shaders;
mod timing;

pub use adapter::{AdapterReport, adapters, open};
pub use buffer::Buffer;
pub use choices::Choices;
pub use pass::Pass;
pub(crate) use shaders::{PRELUDE, PRODUCT};
pub use shaders::{Scalars, source};
pub use timing::{Timing, Timings};

use crate::{Error, Result};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Launches recorded before the first are handed to a device that has nothing to do.
const FIRST_RECORDED: usize = 16;
/// Launches recorded before they are handed to the driver, at most.
const MAX_RECORDED: usize = 256;

/// How to open a GPU.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Fill every new buffer with NaN, so that a kernel which forgets to write an element is caught.
    pub poison: bool,
    /// Take kernels from this folder; those that are not there are built in.
    pub shaders: Option<PathBuf>,
    /// Keep activations and weights in 16 bits; sums stay in 32.
    pub half: bool,
    /// The most bytes to allocate.
    pub max_memory: Option<u64>,
    /// Let a kernel see no more bytes of a tensor than this, as on a smaller GPU.
    pub max_binding: Option<u64>,
    /// Of the kernels that there are for an operator, take the one of this name where it applies.
    pub variant: Option<String>,
    /// The time in which kernels are measured, to keep the fastest; without one a second on hardware and
    /// none on software adapters, whose results should not depend on a clock.
    pub tune: Option<Duration>,
    /// Where the choices are kept, if not in the platform's folder for caches.
    pub cache: Option<PathBuf>,
}

/// An opened GPU. Cheap to share: always behind an `Arc`.
pub struct Gpu {
    report: AdapterReport,
    device: wgpu::Device,
    queue: wgpu::Queue,
    immediates: bool,
    shaders: shaders::Shaders,
    poison: bool,
    half: bool,
    max_memory: Option<u64>,
    variant: Option<String>,
    tuning: Duration,
    choices: Choices,
    lost: Arc<AtomicBool>,
    pipelines: Mutex<HashMap<pipeline::Key, Arc<pipeline::Pipeline>>>,
    recorder: Mutex<Recorder>,
    pool: Mutex<buffer::Pool>,
    bindings: Mutex<bindings::Bindings>,
    allocated: AtomicU64,
    peak: AtomicU64,
    launches: AtomicU64,
}

struct Recorder {
    encoder: Option<wgpu::CommandEncoder>,
    pass: Option<wgpu::ComputePass<'static>>,
    launches: usize,
    /// How many of them are enough to be submitted; few again after a wait.
    enough: usize,
    timer: Option<timing::Timer>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            encoder: None,
            pass: None,
            launches: 0,
            enough: FIRST_RECORDED,
            timer: None,
        }
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.report.name)
    }
}

impl Gpu {
    /// The adapter's name, as the driver reports it.
    pub fn name(&self) -> &str {
        &self.report.name
    }

    /// What `astray devices` shows of the adapter.
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// The kernel to take where there are several, as [`Options::variant`] said.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Is the fastest kernel found by measuring?
    pub fn tunes(&self) -> bool {
        !self.tuning.is_zero()
    }

    /// The time in which kernels are measured.
    pub fn tuning(&self) -> Duration {
        self.tuning
    }

    /// What was found by measuring.
    pub fn choices(&self) -> &Choices {
        &self.choices
    }

    /// Threads of the narrowest subgroup; 8 where the adapter does not say.
    pub fn lanes(&self) -> u32 {
        self.report.subgroups.map_or(8, |[narrowest, _]| narrowest)
    }

    /// The most bytes that were allocated at one time.
    pub fn peak_bytes(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Are activations and weights kept in 16 bits?
    pub fn is_half(&self) -> bool {
        self.half
    }

    /// Kernels launched since the GPU was opened.
    pub fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }

    /// The most elements one storage binding can hold.
    pub fn max_elements(&self) -> usize {
        (self.max_binding() / 4) as usize
    }

    /// The most bytes one storage binding can hold.
    fn max_binding(&self) -> u64 {
        let limits = self.device.limits();
        limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size)
    }

    /// Hands everything recorded so far to the driver.
    pub fn submit(&self) {
        let mut recorder = lock(&self.recorder);
        self.submit_recorded(&mut recorder);
    }

    fn submit_recorded(&self, recorder: &mut Recorder) {
        recorder.pass = None; // ends the pass
        recorder.resolve(self);
        recorder.launches = 0;
        if let Some(encoder) = recorder.encoder.take() {
            self.queue.submit([encoder.finish()]);
        }
    }

    /// Waits until everything submitted has run.
    ///
    /// # Errors
    /// [`Error::Device`] when the device was lost.
    pub fn wait(&self) -> Result<()> {
        self.submit();
        self.poll()?;
        lock(&self.recorder).enough = FIRST_RECORDED;
        self.check_lost()
    }

    fn poll(&self) -> Result<()> {
        self.device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| self.error(e.to_string()))?;
        Ok(())
    }

    /// Every call fails from then on.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn check_lost(&self) -> Result<()> {
        if self.is_lost() {
            return Err(self.error("was lost (driver reset, removed, or out of memory)".into()));
        }
        Ok(())
    }

    fn error(&self, message: String) -> Error {
        Error::Device {
            device: self.report.name.clone(),
            message,
        }
    }
}

/// A poisoned lock means that another thread panicked; the data behind it is still whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

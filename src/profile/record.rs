//! What happened while a job ran, gathered from the spans and events of [`crate::kernel`].

use crate::Result;
use crate::gpu::Timings;
use crate::kernel::{Cost, KERNEL, LAUNCH, STEP};
use crate::tensor::Device;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

/// A span of time on the clock of the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interval {
    pub start: Duration,
    pub time: Duration,
}

/// One call of a kernel.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub op: String,
    pub entry: String,
    pub shapes: String,
    pub variant: String,
    pub cost: Cost,
    /// On the calling thread: the work itself on the CPU, the recording of launches on a GPU.
    pub host: Interval,
    /// The host's time without that of kernels and steps inside.
    pub own: Duration,
    pub thread: usize,
    /// What it launched on the GPU.
    pub launches: Vec<Launch>,
}

impl Call {
    /// Time on the device. Work that is parallel inside counts once.
    pub fn time(&self) -> Duration {
        match self.launches[..] {
            [] => self.own,
            _ => self.launches.iter().map(|launch| launch.at.time).sum(),
        }
    }

    /// The way that it took: what it said itself, or else its launches where there are several.
    pub fn variant(&self) -> String {
        if !self.variant.is_empty() || self.launches.len() < 2 {
            return self.variant.clone();
        }
        let entries: Vec<&str> = self.launches.iter().map(|l| &*l.entry).collect();
        entries.join(" + ")
    }
}

/// One launch of a shader.
#[derive(Clone, Debug)]
pub struct Launch {
    pub shader: String,
    pub entry: String,
    pub at: Interval,
}

/// Work that is no kernel: decoding, upload, a training step.
#[derive(Clone, Debug)]
pub struct Step {
    pub name: String,
    pub at: Interval,
    /// Without kernels and steps inside.
    pub own: Duration,
    pub thread: usize,
}

/// All of one run.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    pub calls: Vec<Call>,
    pub steps: Vec<Step>,
    /// Names by number; the recording thread is number 0.
    pub threads: Vec<String>,
    /// Launches that no kernel announced: a mistake in an operator.
    pub strays: Vec<Launch>,
    pub wall: Duration,
    /// GPU times are by the host's clock.
    pub estimated: bool,
}

/// A tracing layer that records while [`Recorder::record`] runs; otherwise it does nothing.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Option<State>>>);

struct State {
    origin: Instant,
    threads: Vec<Thread>,
    spans: Vec<Span>,
    launches: Vec<Announced>,
}

struct Thread {
    id: ThreadId,
    /// Its own, or `thread N`.
    name: String,
}

/// The event of a launch, before its time is known.
struct Announced {
    index: usize,
    kernel: Option<usize>,
    shader: String,
    entry: String,
}

struct Span {
    parent: Option<usize>,
    is_kernel: bool,
    fields: Fields,
    at: Interval,
    inside: Duration,
    thread: usize,
}

#[derive(Default)]
struct Fields {
    call: Call,
    index: usize,
    shader: String,
}

/// Where a span stands in [`State::spans`].
struct Place(usize);

impl Recorder {
    /// Runs `job` and tells what happened. Every launch is timed by itself, by timestamps or, where
    /// `timestamps` is false or the adapter has none, by the host's clock.
    ///
    /// # Errors
    /// Those of the job and of the device.
    pub fn record<R>(
        &self,
        device: &Device,
        timestamps: bool,
        job: impl FnOnce() -> Result<R>,
    ) -> Result<(R, Recording)> {
        device.wait()?;
        if let Device::Gpu(gpu) = device {
            gpu.start_timing(timestamps);
        }
        let origin = Instant::now();
        let mut state = State {
            origin,
            threads: Vec::new(),
            spans: Vec::new(),
            launches: Vec::new(),
        };
        // This one is number 0 even where another's span comes first.
        state.thread();
        *self.state() = Some(state);
        let result = job();
        let waited = device.wait();
        let wall = origin.elapsed();
        let state = self.state().take();
        let timings = match device {
            Device::Gpu(gpu) => Some(gpu.stop_timing()?),
            Device::Cpu => None,
        };
        let result = result?;
        waited?;
        let mut recording = Recording {
            wall,
            estimated: timings.as_ref().is_some_and(|t| t.estimated),
            ..Recording::default()
        };
        if let Some(state) = state {
            state.finish(timings, &mut recording);
        }
        if device.is_half() {
            // Costs are told for f32.
            for call in &mut recording.calls {
                call.cost = call.cost.half();
            }
        }
        Ok((result, recording))
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The layer to subscribe: other spans than those of [`crate::kernel`] do not reach it.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let wanted = |metadata: &Metadata| [KERNEL, STEP, LAUNCH].contains(&metadata.target());
        self.clone().with_filter(filter_fn(wanted))
    }
}

/// While a process has a single subscriber, tracing asks a thread that meets a kernel first for its own alone: one
/// that has none would switch the kernel off for the thread that records. With a second one it asks all.
static NOBODY: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

/// As [`Recorder::record`], with a recorder that nothing else sees; what happens on other threads is
/// not recorded, nor is anything logged.
///
/// # Errors
/// Those of the job and of the device.
pub fn record<R>(
    device: &Device,
    timestamps: bool,
    job: impl FnOnce() -> Result<R>,
) -> Result<(R, Recording)> {
    LazyLock::force(&NOBODY);
    let recorder = Recorder::default();
    let subscriber = Registry::default().with(recorder.layer());
    tracing::subscriber::with_default(subscriber, || recorder.record(device, timestamps, job))
}

impl State {
    /// The number of the current thread.
    fn thread(&mut self) -> usize {
        let current = std::thread::current();
        let found = self.threads.iter().position(|t| t.id == current.id());
        found.unwrap_or_else(|| {
            let number = self.threads.len();
            let name = current.name().map(String::from);
            self.threads.push(Thread {
                id: current.id(),
                name: name.unwrap_or_else(|| format!("thread {number}")),
            });
            number
        })
    }

    fn finish(self, timings: Option<Timings>, recording: &mut Recording) {
        recording.threads = self.threads.into_iter().map(|t| t.name).collect();
        let mut calls = vec![None; self.spans.len()];
        for (i, span) in self.spans.into_iter().enumerate() {
            let own = span.at.time.saturating_sub(span.inside);
            let (at, thread) = (span.at, span.thread);
            if span.is_kernel {
                calls[i] = Some(recording.calls.len());
                recording.calls.push(Call {
                    host: at,
                    own,
                    thread,
                    ..span.fields.call
                });
            } else {
                let name = span.fields.call.op;
                recording.steps.push(Step {
                    name,
                    at,
                    own,
                    thread,
                });
            }
        }
        let Some(timings) = timings else { return };
        let before = timings.origin.saturating_duration_since(self.origin);
        let after = self.origin.saturating_duration_since(timings.origin);
        for launch in self.launches {
            let timing = timings.launches.get(launch.index).copied();
            let timing = timing.unwrap_or_default();
            let at = Interval {
                start: (timing.start + before).saturating_sub(after),
                time: timing.time,
            };
            let kernel = launch.kernel.and_then(|span| calls[span]);
            let launch = Launch {
                shader: launch.shader,
                entry: launch.entry,
                at,
            };
            match kernel {
                Some(call) => recording.calls[call].launches.push(launch),
                None => recording.strays.push(launch),
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let slot = match field.name() {
            "op" | "name" => &mut self.call.op,
            "entry" => &mut self.call.entry,
            "shapes" => &mut self.call.shapes,
            "variant" => &mut self.call.variant,
            "shader" => &mut self.shader,
            _ => return,
        };
        *slot = value.to_string();
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "flops" => self.call.cost.flops = value,
            "bytes" => self.call.cost.bytes = value,
            "exact" => self.call.cost.exact = value,
            "index" => self.index = value as usize,
            _ => {}
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes, id: &Id, context: Context<S>) {
        let Some(span) = context.span(id) else { return };
        let mut state = self.state();
        let Some(state) = state.as_mut() else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parents = span.scope().skip(1);
        let parent = parents.flat_map(|s| s.extensions().get::<Place>().map(|p| p.0));
        let parent = parent.into_iter().next();
        span.extensions_mut().insert(Place(state.spans.len()));
        let thread = state.thread();
        state.spans.push(Span {
            parent,
            is_kernel: attributes.metadata().target() == KERNEL,
            fields,
            at: Interval {
                start: state.origin.elapsed(),
                time: Duration::ZERO,
            },
            inside: Duration::ZERO,
            thread,
        });
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record, context: Context<S>) {
        let Some(span) = context.span(id) else { return };
        let mut state = self.state();
        if let (Some(state), Some(place)) = (state.as_mut(), span.extensions().get::<Place>())
            && let Some(span) = state.spans.get_mut(place.0)
        {
            values.record(&mut span.fields);
        }
    }

    fn on_event(&self, event: &Event, context: Context<S>) {
        if event.metadata().target() != LAUNCH {
            return;
        }
        let mut state = self.state();
        let Some(state) = state.as_mut() else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let around = context.event_scope(event).into_iter().flatten();
        let mut kernels = around
            .flat_map(|s| s.extensions().get::<Place>().map(|p| p.0))
            .filter(|&i| state.spans.get(i).is_some_and(|s| s.is_kernel));
        let kernel = kernels.next();
        state.launches.push(Announced {
            index: fields.index,
            kernel,
            shader: fields.shader,
            entry: fields.call.entry,
        });
    }

    fn on_close(&self, id: Id, context: Context<S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let mut state = self.state();
        if let (Some(state), Some(place)) = (state.as_mut(), span.extensions().get::<Place>())
            && let Some(span) = state.spans.get_mut(place.0)
        {
            span.at.time = state.origin.elapsed().saturating_sub(span.at.start);
            let (time, parent) = (span.at.time, span.parent);
            if let Some(parent) = parent.and_then(|parent| state.spans.get_mut(parent)) {
                parent.inside += time;
            }
        }
    }
}

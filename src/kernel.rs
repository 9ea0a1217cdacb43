//! What a kernel says of itself: name, direction, shapes, cost, variant. It says so in a tracing
//! span, which costs nothing until a profiler subscribes; this file keeps no state.

use std::fmt::{self, Display};
use tracing::field::Empty;
use tracing::span::EnteredSpan;

/// The target of the spans that [`kernel`] opens.
pub const KERNEL: &str = "astray::kernel";
/// The target of the spans of other work: decoding, upload, read-back, steps of a job.
pub const STEP: &str = "astray::step";
/// The target of the events by which the GPU tells which launch belongs to the kernel around it.
pub const LAUNCH: &str = "astray::launch";

/// What a kernel has to do: floating-point operations, and bytes read and written once each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub flops: u64,
    pub bytes: u64,
    /// Those of the bytes that remain on a GPU that keeps activations and weights in f16, where half of the others do.
    pub exact: u64,
}

impl Cost {
    /// `flops` operations on activations and weights, `reals` of which are read or written.
    pub fn new(flops: usize, reals: usize) -> Self {
        Self {
            flops: flops as u64,
            bytes: 4 * reals as u64,
            exact: 0,
        }
    }

    /// Numbers read or written that are f32 in f16, too.
    pub fn exact(floats: usize) -> Self {
        let bytes = 4 * floats as u64;
        Self {
            flops: 0,
            bytes,
            exact: bytes,
        }
    }

    /// In f16.
    pub fn half(self) -> Self {
        Self {
            bytes: self.exact + (self.bytes - self.exact) / 2,
            ..self
        }
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            bytes: self.bytes + other.bytes,
            exact: self.exact + other.exact,
        }
    }
}

/// Opens the span of one kernel call: `let _kernel = kernel(NAME, "forward", &[x, y], cost);`
/// before the work, on either device. `shapes` tells calls of different size apart.
#[must_use = "the kernel is measured until this is dropped"]
pub fn kernel(op: &'static str, entry: &str, shapes: &[impl Display], cost: Cost) -> EnteredSpan {
    tracing::trace_span!(
        target: KERNEL,
        "kernel",
        op,
        entry,
        shapes = %Shapes(shapes),
        flops = cost.flops,
        bytes = cost.bytes,
        exact = cost.exact,
        variant = Empty
    )
    .entered()
}

/// Names the way that the kernel around this call takes: `winograd`, `tile64`.
pub fn variant(name: &str) {
    tracing::Span::current().record("variant", name);
}

/// Opens the span of work that is no kernel: `let _step = step("decode");`
#[must_use = "the step is measured until this is dropped"]
pub fn step(name: &'static str) -> EnteredSpan {
    tracing::trace_span!(target: STEP, "step", name).entered()
}

/// `[1, 24, 24, 64] [64]` → `1x24x24x64 64`
struct Shapes<'a, S>(&'a [S]);

impl<S: Display> Display for Shapes<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, shape) in self.0.iter().enumerate() {
            let text = shape.to_string().replace(", ", "x");
            let space = if i > 0 { " " } else { "" };
            write!(f, "{space}{}", text.trim_matches(['[', ']']))?;
        }
        Ok(())
    }
}

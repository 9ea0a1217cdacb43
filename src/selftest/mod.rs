//! The proof that users can rerun: every operator on odd sizes, on any device, against plain loops
//! in f64; gradients against central differences of those loops.

mod activation;
mod adam;
mod add;
mod batch_norm;
mod bottleneck;
mod check;
mod concat;
mod conv2d;
mod coupling;
mod depthwise;
mod distance;
mod excite;
mod likelihood;
mod mean;
mod permute;
mod resize;
mod scale;
mod split;
mod sum;
mod unshuffle;

pub use check::{Outcome, check};

use crate::Result;
use crate::ops::Cost;
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// The reference's arrays: f64, so that the reference has no rounding of its own to speak of.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Shape,
    pub data: Vec<f64>,
}

impl Array {
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self {
            shape,
            data: vec![0.0; shape.len()],
        }
    }

    /// An array of the same shape with every element mapped.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self {
            shape: self.shape,
            data: self.data.iter().map(|&x| f(x)).collect(),
        }
    }

    /// Element (n, y, x, c) of an array `[N,H,W,C]`.
    pub fn at(&self, n: usize, y: usize, x: usize, c: usize) -> f64 {
        self.data[self.offset(n, y, x, c)]
    }

    pub fn at_mut(&mut self, n: usize, y: usize, x: usize, c: usize) -> &mut f64 {
        let offset = self.offset(n, y, x, c);
        &mut self.data[offset]
    }

    fn offset(&self, n: usize, y: usize, x: usize, c: usize) -> usize {
        let d = self.shape.dims();
        ((n * d[1] + y) * d[2] + x) * d[3] + c
    }
}

/// One random input of a case: uniform in ±[0.01, 1] · `scale` + `offset`; never at the kink of a
/// ReLU.
#[derive(Clone, Debug)]
pub struct Input {
    pub shape: Shape,
    pub scale: f32,
    pub offset: f32,
    /// Is its gradient checked?
    pub gradient: bool,
    /// Is it f32 whatever the precision, being no activation or weight?
    pub exact: bool,
}

impl Input {
    /// An input whose gradient is checked.
    pub fn variable(shape: impl Into<Shape>) -> Self {
        Self {
            shape: shape.into(),
            scale: 1.0,
            offset: 0.0,
            gradient: true,
            exact: false,
        }
    }

    /// An input without gradient.
    pub fn constant(shape: impl Into<Shape>) -> Self {
        Self {
            gradient: false,
            ..Self::variable(shape)
        }
    }

    /// An input that is f32 whatever the precision.
    pub fn exact(self) -> Self {
        Self {
            exact: true,
            ..self
        }
    }

    pub fn range(self, offset: f32, scale: f32) -> Self {
        Self {
            offset,
            scale,
            ..self
        }
    }
}

type Reference = Box<dyn Fn(&[Array]) -> Vec<Array> + Send + Sync>;
type Run = Box<dyn Fn(&Tape, &[Var]) -> Result<Vec<Var>> + Send + Sync>;

/// One call of an operator.
pub struct Case {
    /// The operator's file name.
    pub operator: &'static str,
    /// What is particular here: sizes, options.
    pub name: String,
    pub inputs: Vec<Input>,
    pub reference: Reference,
    pub run: Run,
    /// What its kernel must tell the profiler of a forward pass on the CPU.
    pub cost: Cost,
}

/// Every case of every operator.
pub fn cases() -> Vec<Case> {
    [
        activation::cases(),
        add::cases(),
        conv2d::cases(),
        depthwise::cases(),
        bottleneck::cases(),
        resize::cases(),
        unshuffle::cases(),
        excite::cases(),
        scale::cases(),
        mean::cases(),
        sum::cases(),
        permute::cases(),
        split::cases(),
        concat::cases(),
        adam::cases(),
        batch_norm::cases(),
        likelihood::cases(),
        distance::cases(),
        coupling::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

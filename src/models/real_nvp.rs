//! The teacher: a conditional RealNVP on feature maps (paper, section 3.2; spec section 5).

use super::permutation::permutation;
use super::whitening::Whitening;
use crate::nn::layers::{Conv, Parameters};
use crate::ops::Activation;
use crate::ops::add::add;
use crate::ops::conv2d::{Conv2d, Padding};
use crate::ops::coupling::{self, coupling_inverse, coupling_of};
use crate::ops::permute::{Permutation, halve, join};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Tensor};
use crate::{Error, Result};

/// The teacher's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct RealNvpConfig {
    pub channels: usize,
    /// Channels of the positional encoding, 0 for none.
    pub condition: usize,
    pub hidden: usize,
    /// Kernel size of each block, odd.
    pub kernels: Vec<usize>,
    /// α of the soft clamp.
    pub alpha: f32,
}

/// conv k×k → ReLU → conv k×k, both with replicate padding; the output is multiplied by γ in the
/// coupling.
#[derive(Clone, Debug)]
struct Subnet {
    gamma: Tensor,
    conv1: Conv,
    conv2: Conv,
}

/// A permutation and a coupling of both halves.
#[derive(Clone, Debug)]
struct Block {
    permutation: Permutation,
    kernel: usize,
    /// Conditions on the first half.
    s1: Subnet,
    /// Conditions on the second half.
    s2: Subnet,
}

/// Features `[N,H,W,C]` ↔ z `[N,H,W,C]`, with the log-determinant per pixel `[N,H,W,1]`.
#[derive(Clone, Debug)]
pub struct RealNvp {
    config: RealNvpConfig,
    /// Comes first; not trained.
    whitening: Option<Whitening>,
    blocks: Vec<Block>,
}

impl Subnet {
    /// `half` ends with the condition's channels (in the student they come first).
    fn run(&self, tape: &Tape, half: &Var, kernel: usize) -> Result<Var> {
        let (hidden, conv) = self.hidden(tape, half, kernel)?;
        self.conv2.run(tape, &hidden, conv)
    }

    /// Couples `x` with what the subnet makes of `half`.
    fn couple(
        &self,
        tape: &Tape,
        x: &Var,
        half: &Var,
        so_far: Option<&Var>,
        (kernel, alpha): (usize, f32),
    ) -> Result<(Var, Var)> {
        let (hidden, conv) = self.hidden(tape, half, kernel)?;
        let u = coupling::Subnet {
            hidden: &hidden,
            weight: &tape.leaf(&self.conv2.weight),
            bias: &tape.leaf(&self.conv2.bias),
            conv,
        };
        coupling_of(tape, x, &u, &tape.leaf(&self.gamma), so_far, alpha)
    }

    fn hidden(&self, tape: &Tape, half: &Var, kernel: usize) -> Result<(Var, Conv2d)> {
        let conv = Conv2d::new(Padding::replicate(kernel / 2));
        let hidden = self.conv1.run(
            tape,
            half,
            Conv2d {
                activation: Activation::Relu,
                ..conv
            },
        )?;
        Ok((hidden, conv))
    }

    fn parameters<'a>(&'a mut self, name: &str, list: &mut Parameters<'a>) {
        list.push((format!("{name}.gamma"), &mut self.gamma));
        self.conv1.parameters(&format!("{name}.conv1"), list);
        self.conv2.parameters(&format!("{name}.conv2"), list);
    }
}

/// The released code numbers its modules 3, 5, 7, 9: inputs and permutations come between.
fn block_name(block: usize) -> String {
    format!("module_list.{}", 2 * block + 3)
}

impl RealNvp {
    /// Starts as PyTorch's defaults with γ = 0; the parameters follow from `name` and `seed`.
    ///
    /// # Errors
    /// [`Error::Shape`] for an even kernel or fewer than two channels, [`Error::OutOfMemory`].
    pub fn init(device: &Device, config: RealNvpConfig, name: &str, seed: u64) -> Result<Self> {
        Self::build(device, config, |part, shape| {
            Conv::init(device, &format!("{name}{part}"), shape, seed)
        })
    }

    /// To be overwritten.
    ///
    /// # Errors
    /// As [`RealNvp::init`].
    pub fn zeros(device: &Device, config: RealNvpConfig) -> Result<Self> {
        Self::build(device, config, |_, shape| Conv::zeros(device, shape))
    }

    fn build(
        device: &Device,
        config: RealNvpConfig,
        conv: impl Fn(&str, [usize; 4]) -> Result<Conv>,
    ) -> Result<Self> {
        if config.channels < 2 || config.kernels.iter().any(|k| k % 2 == 0) {
            return Err(Error::shape(
                "real_nvp",
                "two channels or more, odd kernels",
                format!("{config:?}"),
            ));
        }
        let first = config.channels / 2;
        let second = config.channels - first;
        let subnet = |part: String, k: usize, c_in: usize, c_out: usize| {
            let conv =
                |layer: &str, c_in, c_out| conv(&format!("{part}.{layer}"), [k, k, c_in, c_out]);
            Ok(Subnet {
                gamma: Tensor::full(device, [1], 0.0)?,
                conv1: conv("conv1", c_in + config.condition, config.hidden)?,
                conv2: conv("conv2", config.hidden, 2 * c_out)?,
            })
        };
        let block = |(i, &kernel): (usize, &usize)| {
            Ok(Block {
                permutation: Permutation::new(device, &permutation(i as u32, config.channels))?,
                kernel,
                s1: subnet(format!("{}.s1", block_name(i)), kernel, first, second)?,
                s2: subnet(format!("{}.s2", block_name(i)), kernel, second, first)?,
            })
        };
        let blocks = config
            .kernels
            .iter()
            .enumerate()
            .map(block)
            .collect::<Result<_>>()?;
        Ok(Self {
            config,
            whitening: None,
            blocks,
        })
    }

    /// The flow with a linear layer before its blocks.
    pub fn whitened_by(self, whitening: Option<Whitening>) -> Self {
        Self { whitening, ..self }
    }

    /// Features as the first block sees them, and the log-determinant so far: none without a whitening.
    ///
    /// # Errors
    /// As [`Whitening::forward`].
    pub fn whiten(&self, tape: &Tape, x: &Var) -> Result<(Var, Option<Var>)> {
        let Some(whitening) = &self.whitening else {
            return Ok((x.clone(), None));
        };
        let (x, log_det) = whitening.forward(tape, x)?;
        Ok((x, Some(log_det)))
    }

    pub fn whitening(&self) -> Option<&Whitening> {
        self.whitening.as_ref()
    }

    /// (z, log_det `[N,H,W,1]`); `condition` is the positional encoding `[N,H,W,condition]`.
    ///
    /// # Errors
    /// As the operators.
    pub fn forward(&self, tape: &Tape, x: &Var, condition: Option<&Var>) -> Result<(Var, Var)> {
        let whitened = self.whiten(tape, x)?;
        self.blocks(tape, whitened, condition)
    }

    /// [`RealNvp::forward`] from what [`RealNvp::whiten`] gave.
    ///
    /// # Errors
    /// As the operators.
    pub fn blocks(
        &self,
        tape: &Tape,
        (x, mut log_det): (Var, Option<Var>),
        condition: Option<&Var>,
    ) -> Result<(Var, Var)> {
        let halves = self.halves();
        let alpha = self.config.alpha;
        let mut parts = vec![x];
        for block in &self.blocks {
            let order = Some(&block.permutation);
            let (x1, x2) = halve(tape, &parts, halves, order, condition)?;
            let how = (block.kernel, alpha);
            let (y1, l) = block.s2.couple(tape, &x1, &x2, log_det.as_ref(), how)?;
            // The second half conditions on what the first became.
            let (y2, l) = block.s1.couple(tape, &x2, &y1, Some(&l), how)?;
            parts = vec![y1, y2];
            log_det = Some(l);
        }
        with_log_det(Some(join(tape, &parts, halves, None)?), log_det)
    }

    /// Undoes [`RealNvp::forward`]; the log-determinant is that of the inverse. In f16 the result is read, to see
    /// whether it fits: unlike the forward direction the inverse clamps nothing.
    ///
    /// # Errors
    /// As the operators; [`Error::NotFinite`] where the inverse is too large for f16.
    pub fn inverse(&self, tape: &Tape, z: &Var, condition: Option<&Var>) -> Result<(Var, Var)> {
        let (x, log_det) = self.undo(tape, z, condition)?;
        if x.tensor().is_half() {
            // What overflowed on the way is still there: no coupling and no permutation makes it finite again. A device
            // may round it to the largest number instead of infinity.
            let read = Tensor::all_to_vec(&[x.tensor(), log_det.tensor()])?;
            for (values, limit) in read.iter().zip([65504.0, f32::INFINITY]) {
                Error::check_finite(values, limit, || {
                    let advice = "it is too large for f16: use `--precision f32`";
                    ("the inverse of the flow".into(), advice)
                })?;
            }
        }
        Ok((x, log_det))
    }

    fn undo(&self, tape: &Tape, z: &Var, condition: Option<&Var>) -> Result<(Var, Var)> {
        let halves = self.halves();
        let alpha = self.config.alpha;
        let (mut y1, mut y2) = halve(tape, std::slice::from_ref(z), halves, None, condition)?;
        let mut log_det = None;
        let mut x = None;
        for (i, block) in self.blocks.iter().enumerate().rev() {
            let u1 = block.s1.run(tape, &y1, block.kernel)?;
            let gamma = tape.leaf(&block.s1.gamma);
            let (x2, l) = coupling_inverse(tape, &y2, &u1, &gamma, log_det.as_ref(), alpha)?;
            let u2 = block.s2.run(tape, &x2, block.kernel)?;
            let gamma = tape.leaf(&block.s2.gamma);
            let (x1, l) = coupling_inverse(tape, &y1, &u2, &gamma, Some(&l), alpha)?;
            log_det = Some(l);
            let order = block.permutation.inverse();
            if i == 0 {
                x = Some(join(tape, &[x1, x2], halves, Some(&order))?);
            } else {
                (y1, y2) = halve(tape, &[x1, x2], halves, Some(&order), condition)?;
            }
        }
        let (x, log_det) = with_log_det(x, log_det)?;
        let Some(whitening) = &self.whitening else {
            return Ok((x, log_det));
        };
        let (x, undone) = whitening.inverse(tape, &x)?;
        Ok((x, add(tape, &log_det, &undone)?))
    }

    /// Channels of each half.
    fn halves(&self) -> [usize; 2] {
        let first = self.config.channels / 2;
        [first, self.config.channels - first]
    }

    pub fn config(&self) -> &RealNvpConfig {
        &self.config
    }

    /// What is trained, under the released code's names.
    pub fn parameters(&mut self) -> Parameters<'_> {
        let mut list = Parameters::new();
        for (i, block) in self.blocks.iter_mut().enumerate() {
            block
                .s1
                .parameters(&format!("{}.s1", block_name(i)), &mut list);
            block
                .s2
                .parameters(&format!("{}.s2", block_name(i)), &mut list);
        }
        list
    }
}

fn with_log_det(z: Option<Var>, log_det: Option<Var>) -> Result<(Var, Var)> {
    z.zip(log_det)
        .ok_or_else(|| Error::shape("real_nvp", "one block or more", "none"))
}

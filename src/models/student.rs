//! The student: a plain residual CNN (paper, section 3.3; spec section 6).

use crate::Result;
use crate::nn::layers::{BatchNorm, Conv, Parameters};
use crate::ops::Activation;
use crate::ops::activation::activation;
use crate::ops::add::add;
use crate::ops::concat::concat;
use crate::ops::conv2d::{Conv2d, Padding};
use crate::tape::{Tape, Var};
use crate::tensor::Device;

/// The student's sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StudentConfig {
    /// Channels of features and output.
    pub channels: usize,
    /// Channels of the positional encoding, 0 for none.
    pub condition: usize,
    pub width: usize,
    pub blocks: usize,
    /// Of the leaky ReLU: 0.2 in the paper, 0.01 in the released code.
    pub slope: f32,
}

#[derive(Clone, Debug)]
struct Block {
    l1: Conv,
    bn1: BatchNorm,
    l2: Conv,
    bn2: BatchNorm,
}

/// Features `[N,H,W,C]` → an estimate of the teacher's output `[N,H,W,C]`.
#[derive(Clone, Debug)]
pub struct Student {
    config: StudentConfig,
    conv1: Conv,
    res: Vec<Block>,
    conv2: Conv,
}

fn conv3x3(f: Activation) -> Conv2d {
    Conv2d {
        activation: f,
        ..Conv2d::new(Padding::zeros(1))
    }
}

/// The positional channels come first here (in the teacher's couplings they come last).
fn input(tape: &Tape, x: &Var, condition: Option<&Var>) -> Result<Var> {
    match condition {
        Some(condition) => concat(tape, condition, x),
        None => Ok(x.clone()),
    }
}

impl Student {
    /// Starts as PyTorch's defaults; the parameters follow from `name` and `seed`.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn init(device: &Device, config: StudentConfig, name: &str, seed: u64) -> Result<Self> {
        let StudentConfig {
            channels,
            condition,
            width,
            blocks,
            ..
        } = config;
        let conv = |part: &str, c_in, c_out| {
            Conv::init(device, &format!("{name}{part}"), [3, 3, c_in, c_out], seed)
        };
        let block = |i: usize| {
            Ok(Block {
                l1: conv(&format!("res.{i}.l1"), width, width)?,
                bn1: BatchNorm::init(device, width)?,
                l2: conv(&format!("res.{i}.l2"), width, width)?,
                bn2: BatchNorm::init(device, width)?,
            })
        };
        Ok(Self {
            config,
            conv1: conv("conv1", channels + condition, width)?,
            res: (0..blocks).map(block).collect::<Result<_>>()?,
            conv2: conv("conv2", width, channels)?,
        })
    }

    /// The forward pass while training: batch statistics, running ones updated. `condition` is the
    /// positional encoding `[N,H,W,condition]`.
    ///
    /// # Errors
    /// As the operators.
    pub fn train(&mut self, tape: &Tape, x: &Var, condition: Option<&Var>) -> Result<Var> {
        let leaky = Activation::LeakyRelu(self.config.slope);
        let linear = conv3x3(Activation::Identity);
        let x = input(tape, x, condition)?;
        let mut x = self.conv1.run(tape, &x, conv3x3(leaky))?;
        for block in &mut self.res {
            let y = block.bn1.train(tape, &block.l1.run(tape, &x, linear)?)?;
            let y = activation(tape, &y, leaky)?;
            let y = block.bn2.train(tape, &block.l2.run(tape, &y, linear)?)?;
            x = add(tape, &activation(tape, &y, leaky)?, &x)?;
        }
        self.conv2.run(tape, &x, linear)
    }

    /// The network for inference: batch norms folded into the convolutions before them.
    ///
    /// # Errors
    /// [`crate::Error::Device`], [`crate::Error::OutOfMemory`].
    pub fn fold(&self) -> Result<FoldedStudent> {
        let fold = |block: &Block| Ok([block.bn1.fold(&block.l1)?, block.bn2.fold(&block.l2)?]);
        Ok(FoldedStudent {
            slope: self.config.slope,
            conv1: self.conv1.clone(),
            res: self.res.iter().map(fold).collect::<Result<_>>()?,
            conv2: self.conv2.clone(),
        })
    }

    pub fn config(&self) -> &StudentConfig {
        &self.config
    }

    /// What is trained, under the released code's names.
    pub fn parameters(&mut self) -> Parameters<'_> {
        let mut list = Parameters::new();
        self.conv1.parameters("conv1", &mut list);
        for (i, block) in self.res.iter_mut().enumerate() {
            block.l1.parameters(&format!("res.{i}.l1"), &mut list);
            block.bn1.parameters(&format!("res.{i}.bn1"), &mut list);
            block.l2.parameters(&format!("res.{i}.l2"), &mut list);
            block.bn2.parameters(&format!("res.{i}.bn2"), &mut list);
        }
        self.conv2.parameters("conv2", &mut list);
        list
    }

    /// The running statistics.
    pub fn buffers(&mut self) -> Parameters<'_> {
        let mut list = Parameters::new();
        for (i, block) in self.res.iter_mut().enumerate() {
            block.bn1.buffers(&format!("res.{i}.bn1"), &mut list);
            block.bn2.buffers(&format!("res.{i}.bn2"), &mut list);
        }
        list
    }
}

/// A student that only predicts.
#[derive(Clone, Debug)]
pub struct FoldedStudent {
    slope: f32,
    conv1: Conv,
    res: Vec<[Conv; 2]>,
    conv2: Conv,
}

impl FoldedStudent {
    /// To be overwritten.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn zeros(device: &Device, config: &StudentConfig) -> Result<Self> {
        let conv = |c_in, c_out| Conv::zeros(device, [3, 3, c_in, c_out]);
        let width = config.width;
        let pair = |_| Ok([conv(width, width)?, conv(width, width)?]);
        Ok(Self {
            slope: config.slope,
            conv1: conv(config.channels + config.condition, width)?,
            res: (0..config.blocks).map(pair).collect::<Result<_>>()?,
            conv2: conv(width, config.channels)?,
        })
    }

    /// Its convolutions by name.
    pub fn parameters(&mut self) -> Parameters<'_> {
        let mut list = Parameters::new();
        self.conv1.parameters("conv1", &mut list);
        for (i, [l1, l2]) in self.res.iter_mut().enumerate() {
            l1.parameters(&format!("res.{i}.l1"), &mut list);
            l2.parameters(&format!("res.{i}.l2"), &mut list);
        }
        self.conv2.parameters("conv2", &mut list);
        list
    }

    /// The forward pass with the running statistics.
    ///
    /// # Errors
    /// As the operators.
    pub fn forward(&self, tape: &Tape, x: &Var, condition: Option<&Var>) -> Result<Var> {
        let leaky = conv3x3(Activation::LeakyRelu(self.slope));
        let mut x = self.conv1.run(tape, &input(tape, x, condition)?, leaky)?;
        for [l1, l2] in &self.res {
            let y = l1.run(tape, &x, leaky)?;
            x = l2.run_with_residual(tape, &y, Some(&x), leaky)?;
        }
        self.conv2.run(tape, &x, conv3x3(Activation::Identity))
    }
}

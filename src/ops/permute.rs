//! A flow's channels: a fixed permutation of them, in two halves that carry a condition along.

use super::{Cost, kernel, refuse_gradient};
use crate::cpu::permute::{self as cpu, Params};
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor, same_device};
use crate::{Error, Result};

const NAME: &str = "permute";
const SHADER: &str = include_str!("../../shaders/permute.wgsl");

/// A permutation and its inverse on a device.
#[derive(Clone, Debug)]
pub struct Permutation {
    order: Tensor,
    inverse: Tensor,
}

impl Permutation {
    /// Output channel i is input channel `order[i]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `order` is no permutation of 0..len.
    pub fn new(device: &Device, order: &[usize]) -> Result<Self> {
        let mut inverse = vec![f32::NAN; order.len()];
        for (i, &from) in order.iter().enumerate() {
            match inverse.get_mut(from) {
                Some(slot) if slot.is_nan() => *slot = i as f32,
                _ => {
                    return Err(Error::shape(
                        NAME,
                        "a permutation of 0..C",
                        format!("{order:?}"),
                    ));
                }
            }
        }
        let forward = order.iter().map(|&i| i as f32).collect();
        Ok(Self {
            order: Tensor::new_f32(device, [order.len()], forward)?,
            inverse: Tensor::new_f32(device, [order.len()], inverse)?,
        })
    }

    /// The permutation that undoes this one.
    pub fn inverse(&self) -> Self {
        Self {
            order: self.inverse.clone(),
            inverse: self.order.clone(),
        }
    }
}

/// What comes out: the first `first` channels and the rest, each followed by `tail` channels of the
/// condition, or of zeros.
#[derive(Clone, Copy)]
struct Out<'a> {
    first: usize,
    tail: usize,
    condition: Option<&'a Tensor>,
}

/// `y[…, i] = x[…, order[i]]` in two halves of `halves` channels, each followed by the condition.
///
/// `parts` is x `[N,H,W,C]`, or its halves `[N,H,W,halves[0]+t]`, `[N,H,W,halves[1]+t]`, whose last t
/// channels are not looked at; condition `[N,H,W,K]` has no gradient.
///
/// # Errors
/// [`Error::Shape`] when they do not fit, or when the condition's gradient is wanted.
pub fn halve(
    tape: &Tape,
    parts: &[Var],
    halves: [usize; 2],
    order: Option<&Permutation>,
    condition: Option<&Var>,
) -> Result<(Var, Var)> {
    refuse_gradient(NAME, tape, condition.as_slice())?;
    let condition = condition.map(Var::tensor);
    let out = Out {
        first: halves[0],
        tail: condition.map_or(0, |c| c.shape().channels()),
        condition,
    };
    let [first, second] = record(tape, parts, halves, order, out)?;
    Ok((first, second))
}

/// `y[…, i] = x[…, order[i]]` `[N,H,W,C]`; `parts` as in [`halve`].
///
/// # Errors
/// [`Error::Shape`] when they do not fit.
pub fn join(
    tape: &Tape,
    parts: &[Var],
    halves: [usize; 2],
    order: Option<&Permutation>,
) -> Result<Var> {
    let out = Out {
        first: halves[0] + halves[1],
        tail: 0,
        condition: None,
    };
    let [all, _] = record(tape, parts, halves, order, out)?;
    Ok(all)
}

fn record(
    tape: &Tape,
    parts: &[Var],
    halves: [usize; 2],
    order: Option<&Permutation>,
    out: Out,
) -> Result<[Var; 2]> {
    let tensors: Vec<&Tensor> = parts.iter().map(Var::tensor).collect();
    let y = run("forward", &tensors, halves, order.map(|o| &o.order), out)?;
    let all = halves[0] + halves[1];
    let (halved, joined) = (parts.len() == 2, out.first == all);
    let first = if halved { halves[0] } else { all };
    // What was not looked at gets no gradient.
    let back = Out {
        first,
        tail: tensors[0].shape().channels() - first,
        condition: None,
    };
    let inverse = order.map(|o| o.inverse.clone());
    let device = tensors[0].device().clone();
    let shapes = y.each_ref().map(Tensor::shape);
    let none = tape.constant(tensors[0]);
    let inputs = [&parts[0], parts.get(1).unwrap_or(&none)];
    Ok(tape.record(NAME, inputs, y, move |grads| {
        let arrived = grads
            .into_iter()
            .zip(shapes)
            .map(|(grad, shape)| match grad {
                Some(grad) => Ok(grad),
                None => Tensor::full(&device, shape, 0.0),
            });
        let arrived = arrived.take(if joined { 1 } else { 2 });
        let arrived = arrived.collect::<Result<Vec<_>>>()?;
        let arrived: Vec<&Tensor> = arrived.iter().collect();
        let [first, second] = run("backward", &arrived, halves, inverse.as_ref(), back)?;
        Ok([Some(first), halved.then_some(second)])
    }))
}

fn run(
    direction: &'static str,
    parts: &[&Tensor],
    halves: [usize; 2],
    order: Option<&Tensor>,
    out: Out,
) -> Result<[Tensor; 2]> {
    let channels = halves[0] + halves[1];
    let (a, b) = (parts[0], *parts.last().unwrap_or(&parts[0]));
    let ([n, h, w, a_width], [bn, bh, bw, b_width]) =
        (a.shape().nhwc(NAME)?, b.shape().nhwc(NAME)?);
    let fits = match parts {
        [_] => a_width == channels,
        [_, _] => {
            a_width >= halves[0]
                && b_width >= halves[1]
                && a_width - halves[0] == b_width - halves[1]
        }
        _ => false,
    };
    let shape = |channels| Shape::from([n, h, w, channels]);
    let order_fits = order.is_none_or(|o| o.shape() == Shape::from([channels]));
    let condition_fits = out.condition.is_none_or(|c| c.shape() == shape(out.tail));
    if !fits || [n, h, w] != [bn, bh, bw] || !order_fits || !condition_fits {
        let expected = format!(
            "[N,H,W,{channels}], or its halves of {halves:?} channels and as many more; an order of {channels}; a condition [{n}, {h}, {w}, K]"
        );
        let shapes: Vec<Shape> = parts.iter().map(|part| part.shape()).collect();
        let found = format!(
            "{shapes:?}, order {:?}, condition {:?}",
            order.map(Tensor::shape),
            out.condition.map(Tensor::shape)
        );
        return Err(Error::shape(NAME, expected, found));
    }
    let params = Params {
        pixels: (n * h * w) as u32,
        channels: channels as u32,
        a_width: a_width as u32,
        b_width: b_width as u32,
        first_in: if parts.len() == 1 {
            channels
        } else {
            halves[0]
        } as u32,
        first_out: out.first as u32,
        tail: out.tail as u32,
        ordered: order.is_some() as u32,
        conditioned: out.condition.is_some() as u32,
    };
    let _kernel = kernel(NAME, direction, &[a.shape()], cost(shape(channels)));
    let shapes = [out.first, channels - out.first].map(|c| shape(c + out.tail));
    let (by, condition) = (order.unwrap_or(a), out.condition.unwrap_or(a));
    match same_device(NAME, &[a, b, by, condition])? {
        Device::Cpu => {
            let [first, second] = cpu::permute(
                [a.host(), b.host()],
                order.map(Tensor::host),
                out.condition.map(Tensor::host),
                &params,
            );
            Ok([
                Tensor::host_tensor(shapes[0], first),
                Tensor::host_tensor(shapes[1], second),
            ])
        }
        Device::Gpu(gpu) => {
            let (first, second) = (gpu.alloc(shapes[0].len())?, gpu.alloc(shapes[1].len())?);
            let pass = gpu.pass(NAME, SHADER).read(a.buffer()).read(b.buffer());
            let pass = pass.read(by.buffer()).read(condition.buffer());
            let pass = pass.write(&first).write(&second).params(&params);
            pass.run(shapes[0].len() + shapes[1].len())?;
            Ok([
                Tensor::gpu_tensor(gpu, shapes[0], first),
                Tensor::gpu_tensor(gpu, shapes[1], second),
            ])
        }
    }
}

/// Of x `[N,H,W,C]`, without a condition.
pub fn cost(x: Shape) -> Cost {
    Cost::new(0, 2 * x.len())
}

//! Weights in the order in which tiles read them, and channels in groups of 4.

use crate::Result;
use crate::gpu::{Buffer, Gpu};
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

const NAME: &str = "conv2d/pack";
pub(super) const SHADER: &str = include_str!("../../../shaders/conv2d/pack.wgsl");

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Params {
    taps: u32,
    c_in: u32,
    c_out: u32,
    block: u32,
    turned: u32,
    count: u32,
}

/// Rows of channels, a multiple of 4 of them.
pub(super) enum Wide<'a> {
    Given(&'a Buffer),
    Made(Arc<Buffer>),
}

impl<'a> Wide<'a> {
    /// `rows` itself where it is wide already.
    pub fn of(gpu: &Arc<Gpu>, rows: &'a Buffer, channels: u32) -> Result<Self> {
        match channels % 4 {
            0 => Ok(Self::Given(rows)),
            _ => Ok(Self::Made(Arc::new(copy(
                gpu,
                rows,
                channels,
                channels.next_multiple_of(4),
            )?))),
        }
    }

    /// The same, kept with the buffer for the next call.
    pub fn kept(gpu: &Arc<Gpu>, rows: &'a Buffer, channels: u32) -> Result<Self> {
        match channels % 4 {
            0 => Ok(Self::Given(rows)),
            _ => {
                let make = || copy(gpu, rows, channels, channels.next_multiple_of(4));
                rows.derived(("wide", 0), make).map(Self::Made)
            }
        }
    }

    pub fn buffer(&self) -> &Buffer {
        match self {
            Self::Given(buffer) => buffer,
            Self::Made(buffer) => buffer,
        }
    }
}

/// Cuts rows of groups of 4 down to `channels`.
pub(super) fn narrow(gpu: &Arc<Gpu>, rows: Buffer, channels: u32) -> Result<Buffer> {
    match channels % 4 {
        0 => Ok(rows),
        _ => copy(gpu, &rows, channels.next_multiple_of(4), channels),
    }
}

/// Rows of `c_in` elements as rows of `c_out`: cut, or filled up with zeros.
pub(super) fn copy(gpu: &Arc<Gpu>, rows: &Buffer, c_in: u32, c_out: u32) -> Result<Buffer> {
    let count = rows.len() / c_in as usize * c_out as usize;
    let params = Params {
        taps: 1,
        c_in,
        c_out,
        block: 1,
        turned: 0,
        count: count as u32,
    };
    let to = gpu.alloc_like(rows, count)?;
    let pass = gpu.pass(NAME, SHADER).entry("copy").read(rows).write(&to);
    pass.params(&params).run(count)?;
    Ok(to)
}

/// Weights `[taps, c_in, c_out]` as `[⌈c_out/block⌉, taps, 4⌈c_in/4⌉, block]`, kept with the buffer.
/// `turned`: the buffer is `[taps, c_out, c_in]`, its taps from the other end.
pub(super) fn weights(
    gpu: &Arc<Gpu>,
    weight: &Buffer,
    [taps, c_in, c_out]: [u32; 3],
    block: u32,
    turned: bool,
) -> Result<Arc<Buffer>> {
    let key = (if turned { "turned" } else { "packed" }, block);
    weight.derived(key, || {
        let count = c_out.next_multiple_of(block) * taps * c_in.next_multiple_of(4);
        let params = Params {
            taps,
            c_in,
            c_out,
            block,
            turned: turned.into(),
            count,
        };
        let to = gpu.alloc(count as usize)?;
        let pass = gpu.pass(NAME, SHADER).entry("pack").read(weight).write(&to);
        pass.params(&params).run(count as usize / 4)?;
        Ok(to)
    })
}

//! What is more than a GPU's kernel can see at once is made in bands of rows. They are copied out of the
//! input and into the output; an element is computed as it would be without bands.

use super::conv2d::{Conv2d, Padding};
use crate::Result;
use crate::tape::{Tape, Var};
use crate::tensor::{Device, Shape, Tensor};

const NAME: &str = "bands";

/// Bands begin at multiples of so many rows, so that Winograd's tiles begin where they would without.
const TILE: usize = 4;

/// What an operator looks at, through windows that move as those of a convolution.
pub(super) struct Windows<'a> {
    /// `[N,H,W,C_in]`
    pub x: &'a Var,
    /// `[N,oH,oW,C]`
    pub residual: Option<&'a Var>,
    /// Rows of a window.
    pub rows: usize,
    pub conv: Conv2d,
    /// The most channels that are made of a pixel of x, or that it has.
    pub widest: usize,
}

/// A part of that.
pub(super) struct Band {
    pub picture: usize,
    /// `[1,rows,W,C_in]`
    pub x: Var,
    /// `[1,rows,oW,C]`
    pub residual: Option<Var>,
    /// Padded above and below only at the edges of the picture.
    pub conv: Conv2d,
}

impl Windows<'_> {
    /// y `[N,oH,oW,C]` put together from what `run` makes of every band. `None` where there is nothing to
    /// cut: on the CPU, where kernels see everything at once, where not even four rows can be seen, where the
    /// padding is no smaller than a window, and on a training tape, since gradients are not made in bands.
    ///
    /// # Errors
    /// Those of `run`; [`Error::OutOfMemory`](crate::Error::OutOfMemory);
    /// [`Error::Device`](crate::Error::Device) where no buffer can hold y, and in f16 where a band would begin
    /// within a word of 4 bytes.
    pub fn in_bands(
        &self,
        tape: &Tape,
        y: Shape,
        run: impl Fn(&Band) -> Result<Var>,
    ) -> Result<Option<Var>> {
        let x = self.x.tensor();
        let Device::Gpu(gpu) = x.device() else {
            return Ok(None);
        };
        let [n, h, w, _] = x.shape().nhwc(NAME)?;
        let [_, out_h, out_w, c] = y.nhwc(NAME)?;
        // Kernels fill channels up to groups of 4.
        let row = w * self.widest.next_multiple_of(4);
        let out_row = out_w * c.next_multiple_of(4);
        let seen = gpu.max_elements() * if gpu.is_half() { 2 } else { 1 };
        let most = (seen / row).checked_sub(self.rows);
        let most = most
            .map_or(0, |more| more / self.conv.stride + 1)
            .min(seen / out_row);
        let most = match most < out_h {
            true => most / TILE * TILE,
            false => most,
        };
        let whole = n * h * row <= seen && n * out_h * out_row <= seen;
        // A band could lie in it altogether.
        let far = self.conv.padding.top.max(self.conv.padding.bottom) >= self.rows;
        if whole || most == 0 || far || tape.is_training() {
            return Ok(None);
        }
        // Of nearly the same size: a narrow last band would be work for other kernels.
        let rows = out_h.div_ceil(out_h.div_ceil(most)).next_multiple_of(TILE);
        self.cut(tape, y, rows, run).map(Some)
    }

    /// The same with every picture of a batch by itself, as one band.
    ///
    /// # Errors
    /// As [`Windows::in_bands`].
    pub fn by_picture(
        &self,
        tape: &Tape,
        y: Shape,
        run: impl Fn(&Band) -> Result<Var>,
    ) -> Result<Var> {
        let [_, out_h, _, _] = y.nhwc(NAME)?;
        self.cut(tape, y, out_h, run)
    }

    fn cut(
        &self,
        tape: &Tape,
        y: Shape,
        rows: usize,
        run: impl Fn(&Band) -> Result<Var>,
    ) -> Result<Var> {
        let (x, padding, stride) = (self.x.tensor(), self.conv.padding, self.conv.stride);
        let [n, h, _, _] = x.shape().nhwc(NAME)?;
        let [_, out_h, _, _] = y.nhwc(NAME)?;
        let made = Tensor::unseen(x, y)?;
        for picture in 0..n {
            for first in (0..out_h).step_by(rows) {
                let end = (first + rows).min(out_h);
                // As rows of the padded picture.
                let (from, until) = (first * stride, (end - 1) * stride + self.rows);
                let seen = from.saturating_sub(padding.top)..(until - padding.top).min(h);
                let cut = Padding {
                    top: padding.top.saturating_sub(from),
                    bottom: until.saturating_sub(padding.top + h),
                    ..padding
                };
                let residual = self.residual.map(|r| r.tensor().rows(picture, first..end));
                let band = run(&Band {
                    picture,
                    x: tape.constant(&x.rows(picture, seen)?),
                    residual: residual.transpose()?.map(|r| tape.constant(&r)),
                    conv: Conv2d {
                        padding: cut,
                        ..self.conv
                    },
                })?;
                made.fill(picture * out_h + first, band.tensor())?;
            }
        }
        Ok(tape.constant(&made))
    }
}

//! Shape, device and tensor: contiguous in N,H,W,C order; f32, or f16 on a GPU opened so.

use crate::cpu::{self, pool::Pooled};
use crate::gpu::{self, Buffer, Gpu};
use crate::kernel::{Cost, kernel};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Up to four dimensions, outermost first. Activations are `[N,H,W,C]`, convolution weights
/// `[kh,kw,C_in,C_out]`, vectors `[C]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 4],
    rank: usize,
}

impl Shape {
    /// `dims` holds at most four dimensions.
    pub fn new(dims: &[usize]) -> Self {
        assert!(
            dims.len() <= 4,
            "a shape has at most four dimensions: {dims:?}"
        );
        let mut all = [1; 4];
        all[..dims.len()].copy_from_slice(dims);
        Self {
            dims: all,
            rank: dims.len(),
        }
    }

    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// N,H,W,C of a four-dimensional shape.
    ///
    /// # Errors
    /// [`Error::Shape`] in the name of the operator `op` where the rank is not four.
    pub fn nhwc(&self, op: &'static str) -> Result<[usize; 4]> {
        if self.rank != 4 {
            return Err(Error::shape(op, "a tensor [N,H,W,C]", self.to_string()));
        }
        Ok(self.dims)
    }

    /// The innermost dimension.
    pub fn channels(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl<const R: usize> From<[usize; R]> for Shape {
    fn from(dims: [usize; R]) -> Self {
        Self::new(&dims)
    }
}

/// Where tensors live and operators run.
#[derive(Clone, Debug)]
pub enum Device {
    Cpu,
    Gpu(Arc<Gpu>),
}

impl Device {
    /// Opens the GPU with this index in [`gpu::adapters`].
    ///
    /// # Errors
    /// [`Error::Device`] when there is no such adapter.
    pub fn gpu(index: usize) -> Result<Self> {
        gpu::open(index, &gpu::Options::default()).map(Self::Gpu)
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu(gpu) => gpu.name(),
        }
    }

    /// Waits until everything recorded has run; a no-op on the CPU.
    ///
    /// # Errors
    /// [`Error::Device`] when the device was lost.
    pub fn wait(&self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            Self::Gpu(gpu) => gpu.wait(),
        }
    }

    /// Are activations and weights kept in 16 bits?
    pub fn is_half(&self) -> bool {
        match self {
            Self::Cpu => false,
            Self::Gpu(gpu) => gpu.is_half(),
        }
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cpu, Self::Cpu) => true,
            (Self::Gpu(a), Self::Gpu(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

#[derive(Clone)]
enum Storage {
    Host(Arc<Pooled>),
    Gpu(Arc<Buffer>),
}

/// An immutable array on a device; clones share their memory.
#[derive(Clone)]
pub struct Tensor {
    shape: Shape,
    device: Device,
    storage: Storage,
    /// The f32 that a parameter in f16 was rounded from.
    exact: Option<Arc<Buffer>>,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} on {})", self.shape, self.device.name())
    }
}

impl Tensor {
    /// Takes host data to a device. A GPU gets finite numbers alone.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ, [`Error::NotFinite`], [`Error::OutOfMemory`].
    pub fn new(device: &Device, shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        if data.len() != shape.len() {
            let found = format!("{} elements", data.len());
            let expected = format!("{} elements for {shape}", shape.len());
            return Err(Error::shape("tensor", expected, found));
        }
        Ok(match device {
            Device::Cpu => Self::host_tensor(shape, data),
            Device::Gpu(gpu) => Self::gpu_tensor(gpu, shape, upload(gpu, gpu.is_half(), &data)?),
        })
    }

    /// As [`Tensor::new`], in f32 whatever the device's precision: what is no activation or weight.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn new_f32(device: &Device, shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self> {
        match device {
            Device::Gpu(gpu) if gpu.is_half() => {
                let host = Self::new(&Device::Cpu, shape, data)?;
                let buffer = upload(gpu, false, host.host())?;
                Ok(Self::gpu_tensor(gpu, host.shape, buffer))
            }
            _ => Self::new(device, shape, data),
        }
    }

    /// As [`Tensor::new`], in the precision of `other` and on its device.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn new_like(other: &Self, shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self> {
        match other.is_half() {
            true => Self::new(&other.device, shape, data),
            false => Self::new_f32(&other.device, shape, data),
        }
    }

    /// As [`Tensor::new`]; where that rounds, the values are kept beside it, for training to change and
    /// for a file to hold.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn parameter(device: &Device, shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self> {
        let exact = match device {
            Device::Gpu(gpu) if gpu.is_half() => Some(Arc::new(upload(gpu, false, &data)?)),
            _ => None,
        };
        Ok(Self {
            exact,
            ..Self::new(device, shape, data)?
        })
    }

    /// A tensor whose elements are all `value`.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn full(device: &Device, shape: impl Into<Shape>, value: f32) -> Result<Self> {
        let shape = shape.into();
        Self::new(device, shape, vec![value; shape.len()])
    }

    /// Wraps what a CPU operator computed.
    pub fn host_tensor(shape: impl Into<Shape>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        debug_assert_eq!(shape.len(), data.len());
        Self {
            shape,
            device: Device::Cpu,
            storage: Storage::Host(Arc::new(Pooled::new(data))),
            exact: None,
        }
    }

    /// Wraps what a GPU operator computed.
    pub fn gpu_tensor(gpu: &Arc<Gpu>, shape: impl Into<Shape>, buffer: Buffer) -> Self {
        let shape = shape.into();
        debug_assert_eq!(shape.len(), buffer.len());
        Self {
            shape,
            device: Device::Gpu(gpu.clone()),
            storage: Storage::Gpu(Arc::new(buffer)),
            exact: None,
        }
    }

    /// Drops what operators keep with a tensor on a GPU, such as packed weights: the next one makes it
    /// anew.
    pub fn forget_derived(&self) {
        if let Storage::Gpu(buffer) = &self.storage {
            buffer.changes();
        }
    }

    /// A copy of some rows of one picture, `[1,rows,W,C]`, on a GPU.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Device`] as [`Gpu::copy_range`].
    pub(crate) fn rows(&self, picture: usize, rows: Range<usize>) -> Result<Self> {
        let gpu = self.gpu();
        let [_, h, w, c] = self.shape.nhwc("rows")?;
        let shape = Shape::from([1, rows.len(), w, c]);
        let copy = gpu.alloc_unseen(self.buffer(), shape.len())?;
        let at = (picture * h + rows.start) * w * c;
        gpu.copy_range((self.buffer(), at), (&copy, 0), shape.len())?;
        Ok(Self::gpu_tensor(gpu, shape, copy))
    }

    /// A tensor in the precision of `other` on its GPU, to be filled; kernels need not see all of it at once.
    ///
    /// # Errors
    /// As [`Gpu::alloc_unseen`].
    pub(crate) fn unseen(other: &Self, shape: Shape) -> Result<Self> {
        let gpu = other.gpu();
        let buffer = gpu.alloc_unseen(other.buffer(), shape.len())?;
        Ok(Self::gpu_tensor(gpu, shape, buffer))
    }

    /// Copies rows into a tensor that nothing has read yet, from the given row of all pictures on.
    ///
    /// # Errors
    /// As [`Gpu::copy_range`].
    pub(crate) fn fill(&self, row: usize, rows: &Self) -> Result<()> {
        let [_, _, w, c] = self.shape.nhwc("fill")?;
        let to = (self.buffer(), row * w * c);
        self.gpu()
            .copy_range((rows.buffer(), 0), to, rows.shape.len())
    }

    fn gpu(&self) -> &Arc<Gpu> {
        match &self.device {
            Device::Gpu(gpu) => gpu,
            Device::Cpu => unreachable!("a GPU operator was handed a CPU tensor"),
        }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Is it kept in 16 bits?
    pub fn is_half(&self) -> bool {
        match &self.storage {
            Storage::Gpu(buffer) => buffer.is_half(),
            Storage::Host(_) => false,
        }
    }

    /// The elements of a tensor on the CPU. Operators call it after [`same_device`].
    pub(crate) fn host(&self) -> &[f32] {
        match &self.storage {
            Storage::Host(data) => data,
            Storage::Gpu(_) => unreachable!("a CPU operator was handed a GPU tensor"),
        }
    }

    /// The memory of a tensor on a GPU. Operators call it after [`same_device`].
    pub(crate) fn buffer(&self) -> &Buffer {
        match &self.storage {
            Storage::Gpu(buffer) => buffer,
            Storage::Host(_) => unreachable!("a GPU operator was handed a CPU tensor"),
        }
    }

    /// The elements to change in place; memory that others share is copied first.
    pub(crate) fn host_mut(&mut self) -> &mut Vec<f32> {
        match &mut self.storage {
            Storage::Host(data) => &mut *Arc::make_mut(data),
            Storage::Gpu(_) => unreachable!("a CPU operator was handed a GPU tensor"),
        }
    }

    /// Makes sure that a launch that writes to this tensor's buffer changes no other tensor.
    pub(crate) fn unshare(&mut self) -> Result<()> {
        if let (Storage::Gpu(shared), Device::Gpu(gpu)) = (&mut self.storage, &self.device) {
            for shared in [shared].into_iter().chain(&mut self.exact) {
                if Arc::get_mut(shared).is_none() {
                    let own = gpu.alloc_like(shared, shared.len())?;
                    gpu.copy(shared, &own);
                    *shared = Arc::new(own);
                }
            }
        }
        Ok(())
    }

    /// Makes the f32 of a tensor in f16 where it has none.
    pub(crate) fn keep_exact(&mut self) -> Result<()> {
        if let (Device::Gpu(gpu), true, None) = (&self.device, self.is_half(), &self.exact) {
            self.exact = Some(Arc::new(gpu.upload_f32(&self.to_vec()?)?));
        }
        Ok(())
    }

    /// The f32 that this was rounded from.
    pub(crate) fn exact(&self) -> Option<&Buffer> {
        self.exact.as_deref()
    }

    /// Copies the elements to the host, waiting for the device.
    ///
    /// # Errors
    /// [`Error::Device`] when the device was lost.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        match (&self.storage, &self.device) {
            (Storage::Host(data), _) => Ok(data.to_vec()),
            (Storage::Gpu(buffer), Device::Gpu(gpu)) => gpu.read(buffer),
            (Storage::Gpu(_), Device::Cpu) => unreachable!("storage follows the device"),
        }
    }

    /// As [`Tensor::to_vec`], but what was not rounded where a parameter has it.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    pub fn unrounded(&self) -> Result<Vec<f32>> {
        match (&self.exact, &self.device) {
            (Some(exact), Device::Gpu(gpu)) => gpu.read(exact),
            _ => self.to_vec(),
        }
    }

    /// As [`Tensor::to_vec`] of each, waiting once for those of one GPU.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    pub fn all_to_vec(tensors: &[&Self]) -> Result<Vec<Vec<f32>>> {
        let buffers = tensors.iter().map(|tensor| match &tensor.storage {
            Storage::Gpu(buffer) => Some(&**buffer),
            Storage::Host(_) => None,
        });
        let buffers: Option<Vec<_>> = buffers.collect();
        match (buffers, tensors.first().map(|tensor| &tensor.device)) {
            (Some(buffers), Some(Device::Gpu(gpu))) => gpu.read_all(&buffers),
            _ => tensors.iter().map(|tensor| tensor.to_vec()).collect(),
        }
    }

    /// The one element of a scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is more than one.
    pub fn item(&self) -> Result<f32> {
        match self.to_vec()?[..] {
            [value] => Ok(value),
            _ => Err(Error::shape("item", "one element", self.shape.to_string())),
        }
    }

    /// The same memory seen with another shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.len() != self.shape.len() {
            return Err(Error::shape(
                "reshape",
                format!("{} elements", self.shape.len()),
                shape.to_string(),
            ));
        }
        Ok(Self {
            shape,
            ..self.clone()
        })
    }

    /// Elementwise sum. The tape needs it to sum gradients, so it stands here, below the tape.
    pub(crate) fn plus(&self, other: &Self) -> Result<Self> {
        let kind = |t: &Self| (t.shape, if t.is_half() { "f16" } else { "f32" });
        if kind(self) != kind(other) {
            return Err(Error::shape(
                "add",
                format!("a second operand {:?}", kind(self)),
                format!("{:?}", kind(other)),
            ));
        }
        let n = self.shape.len();
        let _kernel = kernel("add", "forward", &[self.shape], Cost::new(n, 3 * n));
        match same_device("add", &[self, other])? {
            Device::Cpu => Ok(Self::host_tensor(
                self.shape,
                cpu::add::add(self.host(), other.host()),
            )),
            Device::Gpu(gpu) => {
                let sum = gpu.alloc_like(self.buffer(), self.shape.len())?;
                let params = cpu::add::Params {
                    count: self.shape.len() as u32,
                };
                let pass = gpu.pass("add", include_str!("../shaders/add.wgsl"));
                let pass = pass.read(self.buffer()).read(other.buffer()).write(&sum);
                pass.params(&params).sweep(self.shape.len())?;
                Ok(Self::gpu_tensor(gpu, self.shape, sum))
            }
        }
    }

    /// Tells tensors apart: equal for clones of one tensor.
    pub(crate) fn identity(&self) -> usize {
        match &self.storage {
            Storage::Host(data) => Arc::as_ptr(data) as usize,
            Storage::Gpu(buffer) => Arc::as_ptr(buffer) as usize,
        }
    }
}

/// To a GPU, where WGSL lets compilers take it that there are neither NaN nor infinities: none may come there, nor
/// what f16 makes one of.
fn upload(gpu: &Arc<Gpu>, half: bool, data: &[f32]) -> Result<Buffer> {
    let check = |limit, advice| {
        Error::check_finite(data, limit, || (format!("data for {}", gpu.name()), advice))
    };
    check(f32::INFINITY, "correct them, or use `--device cpu`")?;
    if !half {
        return gpu.upload_f32(data);
    }
    check(65520.0, "f16 ends at 65504: use `--precision f32`")?;
    gpu.upload(data)
}

/// The device that all operands of `op` share.
///
/// # Errors
/// [`Error::Shape`] when they do not.
pub(crate) fn same_device<'a>(op: &'static str, tensors: &[&'a Tensor]) -> Result<&'a Device> {
    let first = tensors[0].device();
    match tensors.iter().find(|t| !t.device().same(first)) {
        Some(odd) => Err(Error::shape(
            op,
            format!("all operands on {}", first.name()),
            format!("one on {}", odd.device().name()),
        )),
        None => Ok(first),
    }
}

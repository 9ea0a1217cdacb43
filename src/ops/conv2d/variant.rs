//! The kernels for a convolution on a GPU, by name.

use crate::gpu::{AdapterReport, Gpu};

/// The kernels for a convolution on a GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    /// As the formula says, a few outputs per thread: the reference for the others.
    Plain,
    /// Tiles in registers, for software adapters.
    Direct,
    /// 64 × 64 outputs in shared memory.
    Tile64,
    /// 128 × 128 outputs in shared memory.
    Tile128,
    /// 64 × 64 outputs, the sum in slices: for small maps.
    Split,
    /// F(2×2, 3×3)
    Winograd2,
    /// F(4×4, 3×3)
    Winograd4,
    /// On matrix units, where the adapter lists them.
    Matrix,
}

impl Variant {
    pub const ALL: [Self; 8] = [
        Self::Plain,
        Self::Direct,
        Self::Tile64,
        Self::Tile128,
        Self::Split,
        Self::Winograd2,
        Self::Winograd4,
        Self::Matrix,
    ];

    /// What `--variant` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Direct => "direct",
            Self::Tile64 => "tile64",
            Self::Tile128 => "tile128",
            Self::Split => "split",
            Self::Winograd2 => "winograd2",
            Self::Winograd4 => "winograd4",
            Self::Matrix => "matrix",
        }
    }

    /// The one that `--variant` names, and how many slices it makes of a sum where `/4` says so.
    pub fn parse(text: &str) -> Option<(Self, Option<u32>)> {
        let (name, slices) = match text.split_once('/') {
            Some((name, slices)) => (name, Some(slices.parse().ok().filter(|&n| n > 0)?)),
            None => (text, None),
        };
        let mut all = Self::ALL.into_iter();
        let variant = all.find(|variant| variant.name() == name)?;
        let whole = [Self::Plain, Self::Winograd2, Self::Winograd4].contains(&variant);
        (slices.is_none() || !whole).then_some((variant, slices))
    }

    pub(super) fn forced(gpu: &Gpu) -> Option<(Self, Option<u32>)> {
        gpu.variant().and_then(Self::parse)
    }

    /// Can it run anything on this adapter, in this precision?
    pub fn runs_on(self, report: &AdapterReport, half: bool) -> bool {
        match self {
            Self::Plain | Self::Direct | Self::Tile64 | Self::Tile128 | Self::Split => true,
            Self::Winograd2 | Self::Winograd4 => true,
            Self::Matrix => report.matrix_side(half).is_some(),
        }
    }
}

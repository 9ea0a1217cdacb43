//! A kernel for a convolution and the number of slices that it makes its sums in.

use super::tiles::{ENOUGH, Params, Tile};
use super::variant::Variant;
use super::winograd;
use crate::gpu::Gpu;

/// Groups of input channels, over all taps, below which a slice is not worth its own sum.
const LEAST: u32 = 32;
/// Numbers of slices that are measured.
const SLICES: [u32; 8] = [1, 2, 3, 4, 6, 8, 12, 16];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    pub variant: Variant,
    /// Parts of the sum, each with workgroups of its own: without them a small output keeps a part of a
    /// device busy, and the last workgroups of another one let the rest wait.
    pub slices: u32,
}

impl Plan {
    pub fn whole(variant: Variant) -> Self {
        Self { variant, slices: 1 }
    }

    /// `tile64`, or `tile64/4` where the sum is in slices.
    pub fn name(self) -> String {
        match self.slices {
            1 => self.variant.name().into(),
            slices => format!("{}/{slices}", self.variant.name()),
        }
    }

    /// What makes its matrix products.
    pub fn tile(self, gpu: &Gpu, p: &Params) -> Tile {
        match self.variant {
            Variant::Tile64 | Variant::Split => Tile::shared(64),
            Variant::Tile128 => Tile::shared(128),
            Variant::Matrix => Tile::matrix(gpu),
            Variant::Plain | Variant::Direct => Tile::direct(gpu),
            Variant::Winograd2 | Variant::Winograd4 if !gpu.report().hardware => Tile::direct(gpu),
            Variant::Winograd2 => winograd::tile(gpu, 2, p),
            Variant::Winograd4 => winograd::tile(gpu, 4, p),
        }
    }

    /// Can it run this?
    pub fn suits(self, gpu: &Gpu, p: &Params) -> bool {
        let fits = match self.variant {
            Variant::Winograd2 => winograd::suits(gpu, (2, &self.tile(gpu, p)), p),
            Variant::Winograd4 => winograd::suits(gpu, (4, &self.tile(gpu, p)), p),
            _ => true,
        };
        fits && self.variant.runs_on(gpu.report(), gpu.is_half())
    }

    /// What `--variant` asks for, where it can run this.
    pub fn forced(gpu: &Gpu, p: &Params) -> Option<Self> {
        let (variant, slices) = Variant::forced(gpu)?;
        let plan = match slices {
            Some(slices) => Self {
                variant,
                slices: p.slices_of(slices.min(fitting(gpu, p))).0,
            },
            None => Self::of(gpu, variant, p),
        };
        Some(plan).filter(|plan| plan.suits(gpu, p))
    }

    /// `variant` in as many slices as should be best.
    pub fn of(gpu: &Gpu, variant: Variant, p: &Params) -> Self {
        let [across, down] = Self::whole(variant)
            .tile(gpu, p)
            .workgroups(p.rows, p.groups_out);
        let workgroups = across * down;
        let slices = match variant {
            Variant::Split => ENOUGH.div_ceil(workgroups),
            // Half of the device would wait.
            Variant::Matrix if 2 * workgroups < ENOUGH && p.steps >= 4 * LEAST => {
                ENOUGH.div_ceil(workgroups)
            }
            _ => 1,
        };
        let slices = slices.min(fitting(gpu, p));
        Self { variant, slices }
    }

    /// What should be fastest, by the adapter and the size.
    pub fn likely(gpu: &Gpu, p: &Params) -> Self {
        if !gpu.report().hardware {
            return Self::whole(Variant::Direct);
        }
        // Twice to five times as fast as the others in f16 where measured.
        let large = 4 * p.groups_out >= 64 && p.steps >= 16;
        if gpu.is_half() && large && Variant::Matrix.runs_on(gpu.report(), true) {
            let winograd = Self::whole(Variant::Winograd2);
            let pays = winograd::pays_on_matrices(p.rows, p.groups_in, p.groups_out);
            if pays && winograd.suits(gpu, p) {
                return winograd;
            }
            return Self::of(gpu, Variant::Matrix, p);
        }
        let workgroups = |side| {
            let [across, down] = Tile::shared(side).workgroups(p.rows, p.groups_out);
            across * down
        };
        if workgroups(64) < ENOUGH && p.steps >= 4 * LEAST {
            return Self::of(gpu, Variant::Split, p);
        }
        Self::whole(match workgroups(128) >= ENOUGH {
            true => Variant::Tile128,
            false => Variant::Tile64,
        })
    }

    /// What is worth being measured.
    pub fn candidates(gpu: &Gpu, p: &Params) -> Vec<Self> {
        let hardware = gpu.report().hardware;
        let variants = Variant::ALL.into_iter().filter(|variant| match variant {
            Variant::Plain => false,
            Variant::Direct => !hardware,
            // The smaller tile in slices.
            Variant::Split => !hardware,
            _ => true,
        });
        let plans = variants.flat_map(|variant| match variant {
            Variant::Tile64 | Variant::Tile128 | Variant::Matrix if hardware => {
                Self::sliced(gpu, variant, p)
            }
            _ => vec![Self::of(gpu, variant, p)],
        });
        plans.filter(|plan| plan.suits(gpu, p)).collect()
    }

    /// `variant` in one slice and in more, up to several times as many workgroups as keep a device busy.
    pub fn sliced(gpu: &Gpu, variant: Variant, p: &Params) -> Vec<Self> {
        let [across, down] = Self::whole(variant)
            .tile(gpu, p)
            .workgroups(p.rows, p.groups_out);
        let most = (4 * ENOUGH / (across * down))
            .min(p.steps / LEAST)
            .min(fitting(gpu, p))
            .max(1);
        Self::up_to(most, variant)
    }

    /// `variant` in up to so many slices.
    pub fn up_to(most: u32, variant: Variant) -> Vec<Self> {
        let counts = SLICES.into_iter().filter(|&slices| slices <= most);
        counts.map(|slices| Self { variant, slices }).collect()
    }
}

/// Slices of a sum that fit a binding.
fn fitting(gpu: &Gpu, p: &Params) -> u32 {
    let size = (4 * p.rows * p.groups_out) as usize;
    (gpu.max_elements() / size).max(1) as u32
}

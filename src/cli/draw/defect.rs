//! Six ways for a flange to go astray: two that only the camera sees, two that only the depth
//! sensor sees, two that both see.

use std::f32::consts::FRAC_PI_3;

use super::part::{BOLT_RADIUS, HOLE, Print, bolt, inside, outline};
use super::random::{Random, lattice_noise};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefectKind {
    /// Camera only: a brown stain.
    Stain,
    /// Camera only: the printed code or the arrow is missing.
    MissingPrint,
    /// Depth only: a shallow hollow; the lamp is diffuse there and gives it no shade.
    Dent,
    /// Depth only: a swelling that stands above the hub, likewise. Lower ones are hard to find:
    /// heights between plate and hub are among a good part's.
    Bump,
    /// Both: a crack from the rim inwards.
    Crack,
    /// Both: a bolt hole that was never drilled through.
    PluggedHole,
}

impl DefectKind {
    pub const ALL: [Self; 6] = [
        Self::Stain,
        Self::MissingPrint,
        Self::Dent,
        Self::Bump,
        Self::Crack,
        Self::PluggedHole,
    ];

    /// The name of the folder with such parts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stain => "stain",
            Self::MissingPrint => "missing_print",
            Self::Dent => "dent",
            Self::Bump => "bump",
            Self::Crack => "crack",
            Self::PluggedHole => "plugged_hole",
        }
    }

    pub fn in_rgb(self) -> bool {
        !matches!(self, Self::Dent | Self::Bump)
    }

    pub fn in_depth(self) -> bool {
        !matches!(self, Self::Stain | Self::MissingPrint)
    }
}

/// One defect in its place.
pub enum Defect {
    Stain {
        at: [f32; 2],
        radius: f32,
        salt: u64,
    },
    MissingPrint(Print),
    /// A dent where `height` (mm) is negative, a bump where it is positive.
    Swelling {
        at: [f32; 2],
        radius: f32,
        height: f32,
    },
    Crack(Vec<[f32; 2]>),
    PluggedHole(usize),
}

impl Defect {
    pub fn random(kind: DefectKind, random: &mut Random) -> Self {
        // Between two bolt holes, where the plate is widest.
        let sector = (random.below(6) as f32 + 0.5) * FRAC_PI_3;
        let angle = sector + random.within(-0.15, 0.15);
        let polar = |radius: f32, angle: f32| [radius * angle.cos(), radius * angle.sin()];
        let at = polar(random.within(27.5, 31.0), angle);
        let radius = random.within(3.8, 5.5);
        match kind {
            DefectKind::Stain => Self::Stain {
                at,
                radius,
                salt: random.next(),
            },
            DefectKind::MissingPrint => {
                Self::MissingPrint([Print::Code, Print::Arrow][random.below(2)])
            }
            DefectKind::Dent => Self::Swelling {
                at,
                radius,
                height: -random.within(2.0, 3.5),
            },
            DefectKind::Bump => Self::Swelling {
                at,
                radius,
                height: random.within(9.0, 12.0),
            },
            DefectKind::Crack => {
                let points = [39.0, 35.5, 32.0, 28.0, 24.0];
                let bend = |r| polar(r, angle + random.within(-0.055, 0.055));
                Self::Crack(points.map(bend).to_vec())
            }
            DefectKind::PluggedHole => Self::PluggedHole(random.below(6)),
        }
    }

    pub fn plugged(&self) -> Option<usize> {
        match self {
            Self::PluggedHole(k) => Some(*k),
            _ => None,
        }
    }

    pub fn missing_print(&self) -> Option<Print> {
        match self {
            Self::MissingPrint(print) => Some(*print),
            _ => None,
        }
    }

    /// Millimetres added to the height at `p`: for the camera's shading, and for the sensor.
    pub fn relief(&self, p: [f32; 2]) -> [f32; 2] {
        match self {
            Self::Swelling { height, .. } => [0.0, height * self.extent(p)],
            Self::Crack(_) => [-4.0 * self.extent(p); 2],
            _ => [0.0; 2],
        }
    }

    /// Colour that covers the surface, and how much of it.
    pub fn colour(&self, p: [f32; 2]) -> ([f32; 3], f32) {
        match self {
            Self::Stain { .. } => ([0.27, 0.15, 0.06], 0.75 * self.extent(p)),
            Self::Crack(_) => ([0.04, 0.04, 0.05], 0.85 * self.extent(p)),
            Self::PluggedHole(_) => ([0.34, 0.33, 0.32], 0.9 * self.extent(p)),
            _ => ([0.0; 3], 0.0),
        }
    }

    /// 1 in the middle of the defect, 0 outside: where it is above 0.3 is the ground truth.
    pub fn extent(&self, p: [f32; 2]) -> f32 {
        match self {
            Self::Stain { at, radius, salt } => {
                let (dx, dy) = (p[0] - at[0], p[1] - at[1]);
                let ragged = 1.3 * lattice_noise(*salt, dx * 0.45, dy * 0.45);
                inside(dx.hypot(dy) - radius - ragged, 1.6) * inside(outline(p), 0.5)
            }
            Self::MissingPrint(print) => inside(print.area(p), 0.4),
            Self::Swelling { at, radius, .. } => {
                let distance = (p[0] - at[0]).hypot(p[1] - at[1]);
                inside(distance - 0.6 * radius, 1.6 * radius) * inside(outline(p) + 0.8, 0.5)
            }
            Self::Crack(points) => {
                let near = |ends: &[[f32; 2]]| segment_distance(p, ends[0], ends[1]);
                let distance = points.windows(2).map(near).fold(f32::MAX, f32::min);
                // Wide at the rim, closing towards the hub.
                let open = ((p[0].hypot(p[1]) - 20.0) / 19.0).clamp(0.0, 1.0);
                inside(distance - 0.4 - 0.7 * open, 0.5) * inside(outline(p), 0.5)
            }
            Self::PluggedHole(k) => {
                let [x, y] = bolt(*k);
                debug_assert!(x.hypot(y) > BOLT_RADIUS - 1.0);
                inside((p[0] - x).hypot(p[1] - y) - HOLE, 0.6)
            }
        }
    }
}

fn segment_distance(p: [f32; 2], a: [f32; 2], b: [f32; 2]) -> f32 {
    let (ab, ap) = ([b[0] - a[0], b[1] - a[1]], [p[0] - a[0], p[1] - a[1]]);
    let along = (ap[0] * ab[0] + ap[1] * ab[1]) / (ab[0] * ab[0] + ab[1] * ab[1]);
    let t = along.clamp(0.0, 1.0);
    (ap[0] - t * ab[0]).hypot(ap[1] - t * ab[1])
}

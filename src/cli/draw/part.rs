//! The good part: a turned flange with six lobes, each with a bolt hole, a hub with an anodised
//! ring, and a printed code and arrow. Lengths are millimetres, heights above the table.

use std::f32::consts::{FRAC_PI_2, FRAC_PI_3, PI};

use super::random::{Random, lattice_noise};

pub const PLATE: f32 = 12.0;
pub const BOLT_RADIUS: f32 = 29.0;
pub const HOLE: f32 = 3.6;
const HUB_RADIUS: f32 = 18.0;
const HUB: f32 = 8.0;
const BORE: f32 = 9.0;

/// What differs between two good parts: placement, light, tint, sensor noise.
pub struct Pose {
    /// Rotation of the part, radians, and its shift, millimetres.
    pub angle: f32,
    pub shift: [f32; 2],
    /// Tilt of the table: millimetres of depth per millimetre along x and y.
    pub tilt: [f32; 2],
    /// Unit vector towards the lamp.
    pub light: [f32; 3],
    pub brightness: f32,
    pub tint: [f32; 3],
    pub salt: u64,
}

impl Pose {
    pub fn random(random: &mut Random) -> Self {
        let azimuth = -2.3 + random.within(-0.15, 0.15);
        let height = 0.8 + random.within(-0.04, 0.04);
        let (sin, cos) = azimuth.sin_cos();
        let (up, flat) = height.sin_cos();
        let tint = random.within(-0.012, 0.012);
        Self {
            angle: random.within(-0.05, 0.05),
            shift: [random.within(-0.8, 0.8), random.within(-0.8, 0.8)],
            tilt: [random.within(-0.012, 0.012), random.within(-0.012, 0.012)],
            light: [cos * flat, sin * flat, up],
            brightness: random.within(0.96, 1.04),
            tint: [1.0 + tint, 1.0, 1.0 - tint],
            salt: random.next(),
        }
    }

    /// From the picture's coordinates to the part's; both have their origin in the middle.
    pub fn to_part(&self, x: f32, y: f32) -> [f32; 2] {
        let (sin, cos) = self.angle.sin_cos();
        let (x, y) = (x - self.shift[0], y - self.shift[1]);
        [x * cos + y * sin, y * cos - x * sin]
    }
}

/// 1 inside (distance < 0), 0 outside, a ramp of `width` between.
pub fn inside(distance: f32, width: f32) -> f32 {
    let t = (0.5 - distance / width).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Signed distance (about) to the outline with its six lobes.
pub fn outline([x, y]: [f32; 2]) -> f32 {
    let radius = (x * x + y * y).sqrt();
    // Far from the rim the lobes do not matter: most pixels need no trigonometry.
    if !(34.0..46.0).contains(&radius) {
        return radius - 38.5;
    }
    radius - 38.5 - 2.0 * (6.0 * y.atan2(x)).cos()
}

/// The middle of bolt hole `k` of 6.
pub fn bolt(k: usize) -> [f32; 2] {
    let (sin, cos) = (k as f32 * FRAC_PI_3).sin_cos();
    [BOLT_RADIUS * cos, BOLT_RADIUS * sin]
}

/// The nearest bolt hole, and how far its middle is.
fn nearest_bolt([x, y]: [f32; 2]) -> (usize, f32) {
    let sector = (y.atan2(x) / FRAC_PI_3).round() as i32;
    let k = sector.rem_euclid(6) as usize;
    let [bx, by] = bolt(k);
    (k, (x - bx).hypot(y - by))
}

/// Height above the table; `plugged` names a bolt hole that is filled.
pub fn height(p: [f32; 2], plugged: Option<usize>) -> f32 {
    let radius = p[0].hypot(p[1]);
    let mut height = PLATE * inside(outline(p), 1.6);
    if height == 0.0 {
        return 0.0;
    }
    height += HUB * inside(radius - HUB_RADIUS, 1.4);
    height -= 0.8 * inside((radius - 22.0).abs() - 0.6, 0.6);
    height *= 1.0 - inside(radius - BORE, 1.0);
    let (k, distance) = nearest_bolt(p);
    if plugged == Some(k) {
        height - 1.2 * inside(distance - HOLE, 0.8)
    } else {
        // A countersink of 1 mm, then the hole.
        let sunk = height - inside(distance - HOLE - 1.2, 1.2);
        sunk * (1.0 - inside(distance - HOLE, 0.6))
    }
}

/// The two printed marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    Code,
    Arrow,
}

impl Print {
    /// Signed distance to the rectangle that holds the mark.
    pub fn area(self, [x, y]: [f32; 2]) -> f32 {
        match self {
            Self::Code => (x.abs() - 7.6).max((y + BOLT_RADIUS).abs() - 3.4),
            Self::Arrow => (x.abs() - 4.6).max((y - BOLT_RADIUS).abs() - 3.8),
        }
    }

    /// Ink, 0 to 1.
    fn ink(self, [x, y]: [f32; 2]) -> f32 {
        match self {
            Self::Code => {
                const BARS: [f32; 9] = [-6.9, -5.4, -3.3, -2.2, -0.4, 1.2, 2.9, 5.0, 6.6];
                const WIDE: [f32; 9] = [0.4, 0.7, 0.3, 0.4, 0.8, 0.3, 0.7, 0.3, 0.5];
                let tall = (y + BOLT_RADIUS).abs() - 2.9;
                let bar = |(middle, half): (&f32, &f32)| inside((x - middle).abs() - half, 0.4);
                let bars = BARS.iter().zip(&WIDE).map(bar).fold(0.0, f32::max);
                bars * inside(tall, 0.4)
            }
            Self::Arrow => {
                let (across, along) = (x.abs(), y - BOLT_RADIUS);
                let head = (across * 0.75 + along * 0.66 - 1.6).max(-along - 0.4);
                let shaft = (across - 1.3).max((along + 1.6).abs() - 1.7);
                inside(head.min(shaft), 0.4)
            }
        }
    }
}

/// Colour of the surface in white light, 0 to 1, and how strongly it shines.
pub fn surface(p: [f32; 2], pose: &Pose, missing: Option<Print>) -> ([f32; 3], f32) {
    let [x, y] = p;
    let part = inside(outline(p), 0.5);
    let weave = 0.012 * lattice_noise(pose.salt ^ 1, x * 1.7, y * 1.7)
        + 0.02 * lattice_noise(17, x * 0.12, y * 0.12);
    let table = [0.125 + weave, 0.150 + weave, 0.185 + weave];
    if part == 0.0 {
        return (table, 0.04);
    }
    let (radius, angle) = (x.hypot(y), y.atan2(x));
    let brushed =
        0.022 * lattice_noise(pose.salt, radius * 3.0, angle * 9.0) + 0.012 * (radius * 5.0).sin();
    let metal = [0.66, 0.675, 0.695].map(|c| c + brushed);
    let mut colour = mix(table, metal, part);

    let ring = inside((radius - 13.6).abs() - 2.6, 0.5);
    colour = mix(colour, [0.07, 0.38, 0.47].map(|c| c + 0.4 * brushed), ring);
    // Graduation marks along the rim, every 15 degrees.
    let step = PI / 12.0;
    let off = (angle + FRAC_PI_2) / step;
    let across = (off - off.round()).abs() * step * radius;
    let mark = (across - 0.3).max((radius - 35.0).abs() - 1.2);
    colour = mix(colour, [0.2, 0.21, 0.23], 0.8 * inside(mark, 0.4));
    for print in [Print::Code, Print::Arrow] {
        if missing != Some(print) && print.area(p) < 0.5 {
            let ink = match print {
                Print::Code => [0.07, 0.07, 0.09],
                Print::Arrow => [0.86, 0.36, 0.07],
            };
            colour = mix(colour, ink, 0.92 * print.ink(p));
        }
    }
    (colour, 0.32 * part * (1.0 - 0.5 * ring))
}

pub fn mix(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

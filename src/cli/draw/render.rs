//! The camera and the depth sensor: from shape and colour to pixels.

use super::defect::Defect;
use super::part::{Pose, height, inside, mix, outline, surface};
use super::random::Random;

/// Side of every picture and depth map, in pixels.
pub const SIDE: usize = 256;
/// Sub-pixels per pixel and axis: edges are smooth.
const FINE: usize = 2;
const GRID: usize = SIDE * FINE;
/// Millimetres per sub-pixel: the picture shows 102 mm.
const PITCH: f32 = 0.4 / FINE as f32;
/// The table is half a metre from the sensor.
const TABLE_MM: f32 = 500.0;

/// One drawn part, each array row by row.
pub struct Sample {
    /// 256 × 256 × 3.
    pub rgb: Vec<u8>,
    /// 256 × 256 × (x, y, z) in metres; all three are 0 where the sensor saw nothing.
    pub xyz: Vec<f32>,
    /// 256 × 256; 255 where the part is defective.
    pub mask: Vec<u8>,
}

/// Sub-pixel grids.
struct Scene {
    /// Height in millimetres as the lamp shades it, and as the sensor measures it.
    shaded: Vec<f32>,
    measured: Vec<f32>,
    extent: Vec<f32>,
}

pub fn render(pose: &Pose, defect: Option<&Defect>, random: &mut Random) -> Sample {
    let scene = build(pose, defect);
    Sample {
        rgb: photograph(&scene, pose, defect, random),
        xyz: measure(&scene, pose, random),
        mask: ground_truth(&scene),
    }
}

/// The place of a sub-pixel in millimetres from the picture's middle.
fn place(index: usize) -> f32 {
    (index as f32 + 0.5 - GRID as f32 / 2.0) * PITCH
}

fn build(pose: &Pose, defect: Option<&Defect>) -> Scene {
    let mut scene = Scene {
        shaded: Vec::with_capacity(GRID * GRID),
        measured: Vec::with_capacity(GRID * GRID),
        extent: Vec::with_capacity(GRID * GRID),
    };
    let plugged = defect.and_then(Defect::plugged);
    for row in 0..GRID {
        for column in 0..GRID {
            let p = pose.to_part(place(column), place(row));
            let base = height(p, plugged);
            let mut relief = [0.0; 2];
            let mut extent = 0.0;
            if let Some(defect) = defect {
                extent = defect.extent(p);
                // Nothing swells or cracks where there is no metal.
                if extent > 0.0 && base > 6.0 {
                    relief = defect.relief(p);
                }
            }
            scene.shaded.push(base + relief[0]);
            scene.measured.push(base + relief[1]);
            scene.extent.push(extent);
        }
    }
    scene
}

/// Blinn-Phong shading with a soft shadow on the table, then the camera's noise.
fn photograph(scene: &Scene, pose: &Pose, defect: Option<&Defect>, random: &mut Random) -> Vec<u8> {
    let mut sums = vec![[0.0f32; 3]; SIDE * SIDE];
    for row in 0..GRID {
        for column in 0..GRID {
            let colour = shade(scene, pose, defect, row, column);
            let sum = &mut sums[row / FINE * SIDE + column / FINE];
            *sum = std::array::from_fn(|i| sum[i] + colour[i]);
        }
    }
    let samples = (FINE * FINE) as f32;
    let mut pixels = Vec::with_capacity(3 * SIDE * SIDE);
    for sum in sums {
        for (channel, tint) in sum.iter().zip(pose.tint) {
            let light = channel / samples * pose.brightness * tint;
            let value = 255.0 * light.clamp(0.0, 1.0).powf(1.0 / 1.4);
            pixels.push((value + 1.6 * random.normal()).round().clamp(0.0, 255.0) as u8);
        }
    }
    pixels
}

fn shade(
    scene: &Scene,
    pose: &Pose,
    defect: Option<&Defect>,
    row: usize,
    column: usize,
) -> [f32; 3] {
    let (x, y) = (place(column), place(row));
    let p = pose.to_part(x, y);
    let (mut colour, mut shine) = surface(p, pose, defect.and_then(Defect::missing_print));
    // Through a hole one sees the dark table.
    let deep = inside(scene.shaded[row * GRID + column] - 3.0, 5.0) * inside(outline(p) + 2.0, 1.0);
    colour = mix(colour, [0.05, 0.06, 0.075], deep);
    shine *= 1.0 - deep;
    if let Some(defect) = defect {
        let (cover, amount) = defect.colour(p);
        colour = mix(colour, cover, amount);
        shine *= 1.0 - amount;
    }

    let at = |row: usize, column: usize| scene.shaded[row * GRID + column];
    let last = GRID - 1;
    let span = 2.0 * PITCH;
    let slope_x = (at(row, (column + 1).min(last)) - at(row, column.saturating_sub(1))) / span;
    let slope_y = (at((row + 1).min(last), column) - at(row.saturating_sub(1), column)) / span;
    let length = (slope_x * slope_x + slope_y * slope_y + 1.0).sqrt();
    let normal = [-slope_x / length, -slope_y / length, 1.0 / length];
    let dot = |a: [f32; 3], b: [f32; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let diffuse = dot(normal, pose.light).max(0.0);
    // Half way between lamp and camera, which looks straight down.
    let half = [pose.light[0], pose.light[1], pose.light[2] + 1.0];
    let half_length = dot(half, half).sqrt();
    let gloss = (dot(normal, half) / half_length).max(0.0).powi(28);

    let shadow = table_shadow(pose, x, y, at(row, column));
    let light = (0.34 + 0.86 * diffuse) * (1.0 - 0.55 * shadow);
    colour.map(|c| c * light + shine * 0.55 * gloss)
}

/// How much of the lamp the part keeps from a low place at (x, y), 0 to 1.
fn table_shadow(pose: &Pose, x: f32, y: f32, height: f32) -> f32 {
    let low = inside(height - 4.0, 4.0);
    if low == 0.0 {
        return 0.0;
    }
    let reach = 6.0 / pose.light[2];
    let towards = pose.to_part(x + reach * pose.light[0], y + reach * pose.light[1]);
    low * inside(outline(towards) - 1.0, 9.0)
}

/// Depth with 0.05 mm of noise; the sensor misses single pixels, small spots, and many pixels on
/// steep edges, but never a corner of the table.
fn measure(scene: &Scene, pose: &Pose, random: &mut Random) -> Vec<f32> {
    let spots: Vec<[f32; 3]> = (0..3)
        .map(|_| {
            let mut within = |low, high| random.within(low, high);
            [within(20.0, 236.0), within(20.0, 236.0), within(0.8, 2.6)]
        })
        .collect();
    let fine = |row: usize, column: usize| scene.measured[row * FINE * GRID + column * FINE];
    let mut xyz = Vec::with_capacity(3 * SIDE * SIDE);
    for row in 0..SIDE {
        for column in 0..SIDE {
            let height = fine(row, column);
            let next = (row + 1).min(SIDE - 1);
            let beside = (column + 1).min(SIDE - 1);
            let step = (fine(next, column) - height).abs() + (fine(row, beside) - height).abs();
            let risk = if step > 3.0 { 0.25 } else { 0.003 };
            let in_spot = spots
                .iter()
                .any(|[r, c, size]| (row as f32 - r).hypot(column as f32 - c) < *size);
            // Drawn in any case, so that a defect changes nothing elsewhere.
            let lost = random.within(0.0, 1.0) < risk;
            let noise = 0.05 * random.normal();
            let edge = |i: usize| !(4..SIDE - 4).contains(&i);
            if (lost || in_spot) && !(edge(row) && edge(column)) {
                xyz.extend([0.0; 3]);
                continue;
            }
            let (x, y) = (place(column * FINE), place(row * FINE));
            let table = TABLE_MM + pose.tilt[0] * x + pose.tilt[1] * y;
            xyz.extend([x, y, table - height + noise].map(|mm| mm / 1000.0));
        }
    }
    xyz
}

fn ground_truth(scene: &Scene) -> Vec<u8> {
    let mut mask = vec![0; SIDE * SIDE];
    for (index, extent) in scene.extent.iter().enumerate() {
        if *extent > 0.3 {
            let (row, column) = (index / GRID / FINE, index % GRID / FINE);
            mask[row * SIDE + column] = 255;
        }
    }
    mask
}

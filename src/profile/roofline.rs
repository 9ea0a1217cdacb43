//! The roofline as inline SVG: every kernel a dot, as large as its share of the time.

use super::{Profile, Roof};
use crate::evaluate::report::escape;

const LEFT: f64 = 64.0;
const RIGHT: f64 = 1080.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 430.0;

/// Whole decades of both axes.
struct Axes {
    x: [f64; 2],
    y: [f64; 2],
}

impl Axes {
    fn of(points: &[(f64, f64)]) -> Self {
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| {
                (low.min(v.log10()), high.max(v.log10()))
            });
            [(low - 0.1).floor(), (high + 0.1).ceil()]
        };
        Self {
            x: range(&mut points.iter().map(|p| p.0)),
            y: range(&mut points.iter().map(|p| p.1)),
        }
    }

    fn x(&self, value: f64) -> f64 {
        let t = (value.log10() - self.x[0]) / (self.x[1] - self.x[0]);
        LEFT + t * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        let t = (value.log10() - self.y[0]) / (self.y[1] - self.y[0]);
        BOTTOM + t * (TOP - BOTTOM)
    }
}

fn decades([low, high]: [f64; 2]) -> impl Iterator<Item = f64> {
    (low as i32..=high as i32).map(|d| 10f64.powi(d))
}

/// Kernels that only move data have no place on it.
pub fn roofline(profile: &Profile) -> String {
    let roof = profile.roof;
    let kernels: Vec<_> = profile
        .kernels
        .iter()
        .filter(|k| k.gflops > 0.0 && k.intensity > 0.0)
        .collect();
    let peak = roof.peak();
    let ridge = peak / roof.gb_per_s;
    let mut points: Vec<(f64, f64)> = kernels
        .iter()
        // What takes no time to speak of would stretch the picture.
        .filter(|k| k.share > 1e-4)
        .map(|k| (k.intensity, k.gflops))
        .collect();
    points.extend([(ridge, peak), (ridge / 4.0, peak / 4.0)]);
    let axes = Axes::of(&points);

    let mut svg = format!(
        "<svg class=\"roofline\" viewBox=\"0 0 1100 480\" role=\"img\" aria-label=\"Roofline\">\
         <clipPath id=\"plot\"><rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/></clipPath>",
        RIGHT - LEFT,
        BOTTOM - TOP
    );
    grid(&mut svg, &axes);
    roof_lines(&mut svg, &axes, &roof, ridge);
    svg.push_str("<g clip-path=\"url(#plot)\">");
    for k in kernels {
        let radius = 3.0 + 30.0 * k.share.sqrt();
        svg += &format!(
            "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\"><title>{}</title></circle>",
            colour(&k.op),
            axes.x(k.intensity),
            axes.y(k.gflops),
            escape(&format!(
                "{} {} {}\n{}{:.1} % of the time, {} calls\n{:.1} GFLOP/s, {:.1} GB/s, {:.1} FLOP/B\n{:.0} % of the roof",
                k.op,
                k.entry,
                k.shapes,
                if k.variant.is_empty() {
                    String::new()
                } else {
                    format!("{}\n", k.variant)
                },
                100.0 * k.share,
                k.calls,
                k.gflops,
                k.gb_per_s,
                k.intensity,
                k.percent_of_roof
            ))
        );
    }
    svg + "</g></svg>"
}

/// The heavy operators have colours of their own.
pub fn colour(op: &str) -> &'static str {
    match op {
        "conv2d" => "k1",
        "depthwise" => "k2",
        "coupling" | "likelihood" | "distance" => "k3",
        "bottleneck" => "k4",
        _ => "k0",
    }
}

fn grid(svg: &mut String, axes: &Axes) {
    for value in decades(axes.x) {
        let x = axes.x(value);
        *svg += &format!(
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>\
             <text class=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{value}</text>",
            BOTTOM + 20.0
        );
    }
    for value in decades(axes.y) {
        let y = axes.y(value);
        *svg += &format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{value}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    let (x, y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
    *svg += &format!(
        "<text class=\"middle\" x=\"{x}\" y=\"{:.1}\">arithmetic intensity, FLOP per byte</text>\
         <text class=\"middle\" transform=\"translate(16 {y}) rotate(-90)\">GFLOP/s</text>",
        BOTTOM + 42.0
    );
}

fn roof_lines(svg: &mut String, axes: &Axes, roof: &Roof, ridge: f64) {
    let low = 10f64.powf(axes.x[0]);
    let peak = roof.peak();
    let (foot, edge) = (axes.y(low * roof.gb_per_s), axes.y(peak));
    let (corner, end) = (axes.x(ridge), RIGHT);
    let what = match peak > roof.gflops {
        true => "matrix units",
        false => "multiply-adds",
    };
    // The slope's label runs along it.
    let angle = (edge - foot).atan2(corner - LEFT).to_degrees();
    let (x, y) = ((axes.x(ridge / 3.0)), axes.y(peak / 3.0));
    *svg += &format!(
        "<path class=\"roof\" clip-path=\"url(#plot)\" d=\"M{LEFT} {foot:.1}L{corner:.1} {edge:.1}L{end} {edge:.1}\"/>\
         <text class=\"strong end\" x=\"{:.1}\" y=\"{:.1}\">{peak:.0} GFLOP/s, {what}</text>\
         <text class=\"strong middle\" transform=\"translate({x:.1} {y:.1}) rotate({angle:.1}) translate(0 -8)\">{:.1} GB/s, copies</text>",
        end - 6.0,
        edge - 8.0,
        roof.gb_per_s
    );
    if peak > roof.gflops {
        // Where kernels without them end.
        let (from, y) = (axes.x(roof.gflops / roof.gb_per_s), axes.y(roof.gflops));
        *svg += &format!(
            "<path class=\"roof lower\" clip-path=\"url(#plot)\" d=\"M{from:.1} {y:.1}L{end} {y:.1}\"/>\
             <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{:.0} GFLOP/s, f32 multiply-adds</text>",
            end - 6.0,
            y - 8.0,
            roof.gflops
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrix_units_raise_the_roof_and_the_lower_one_stays_to_be_seen() {
        let axes = Axes {
            x: [-1.0, 3.0],
            y: [0.0, 4.0],
        };
        let mut roof = Roof {
            gb_per_s: 10.0,
            gflops: 100.0,
            matrix_gflops: None,
            estimated: false,
        };
        let mut drawn = |matrix_gflops: Option<f64>| {
            roof.matrix_gflops = matrix_gflops;
            let mut svg = String::new();
            roof_lines(&mut svg, &axes, &roof, roof.peak() / roof.gb_per_s);
            svg
        };
        let plain = drawn(None);
        assert!(plain.contains("100 GFLOP/s, multiply-adds"), "{plain}");
        // On a software driver they are slower.
        assert_eq!(drawn(Some(50.0)), plain);
        let raised = drawn(Some(1000.0));
        for line in [
            "1000 GFLOP/s, matrix units",
            "100 GFLOP/s, f32 multiply-adds",
        ] {
            assert!(raised.contains(line), "{line}: {raised}");
        }
    }
}

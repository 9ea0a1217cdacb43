//! Charts as inline SVG; their colours come from the page's style sheet.

use super::{push, short};

/// Left, right, top and bottom of a chart's plotting area.
struct Frame {
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
}

impl Frame {
    fn x(&self, t: f32) -> f32 {
        self.left + (self.right - self.left) * t
    }

    fn y(&self, t: f32) -> f32 {
        self.bottom + (self.top - self.bottom) * t
    }
}

/// Good parts upwards, defective parts downwards, the threshold as a line. Scores are (score,
/// defective), finite, at least one.
pub fn histogram(scores: &[(f32, bool)], threshold: Option<f32>) -> String {
    const BINS: usize = 32;
    let frame = Frame {
        left: 34.0,
        right: 670.0,
        top: 22.0,
        bottom: 244.0,
    };
    let axis = Axis::new(scores, threshold);
    let mut counts = [[0usize; 2]; BINS];
    for (score, defective) in scores {
        let bin = (axis.place(*score) * BINS as f32) as usize;
        counts[bin.min(BINS - 1)][usize::from(*defective)] += 1;
    }
    let most = |side: usize| counts.iter().map(|c| c[side]).max().unwrap_or(0);
    let (most_good, most_bad) = (most(0).max(1), most(1).max(1));
    // One scale for both directions.
    let unit = (frame.bottom - frame.top) / (most_good + most_bad) as f32;
    let zero = frame.top + unit * most_good as f32;
    let width = (frame.right - frame.left) / BINS as f32;

    let mut svg = open(680.0, 290.0, "Histogram of scores");
    let mut label = |x: f32, y: f32, class: &str, text: &str| {
        push(
            &mut svg,
            format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>"),
        );
    };
    label(
        frame.left - 8.0,
        frame.top + 5.0,
        "end",
        &most_good.to_string(),
    );
    label(frame.left - 8.0, zero + 4.0, "end", "0");
    label(frame.left - 8.0, frame.bottom, "end", &most_bad.to_string());
    for i in 0..=4 {
        let t = i as f32 / 4.0;
        let class = ["start", "middle", "middle", "middle", "end"][i];
        label(
            frame.x(t),
            frame.bottom + 22.0,
            class,
            &short(axis.value(t)),
        );
    }
    let caption = if axis.logarithmic {
        "score (logarithmic)"
    } else {
        "score"
    };
    label(frame.x(0.5), frame.bottom + 43.0, "middle", caption);
    for (bin, [good, bad]) in counts.into_iter().enumerate() {
        let x = frame.x(bin as f32 / BINS as f32) + 1.0;
        let bars = [
            ("good", good, zero - unit * good as f32),
            ("bad", bad, zero),
        ];
        for (class, count, top) in bars {
            if count > 0 {
                let (wide, tall) = (width - 2.0, unit * count as f32);
                push(
                    &mut svg,
                    format_args!(
                        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" \
                         height=\"{tall:.1}\" rx=\"2\"><title>{count}</title></rect>"
                    ),
                );
            }
        }
    }
    line(&mut svg, "axis", (frame.left, zero), (frame.right, zero));
    if let Some(threshold) = threshold.filter(|t| t.is_finite()) {
        let t = axis.place(threshold);
        let x = frame.x(t);
        line(&mut svg, "limit", (x, frame.top - 6.0), (x, frame.bottom));
        // The label stands on the side that has room.
        let (class, shift) = if t > 0.6 {
            ("end", -6.0)
        } else {
            ("start", 6.0)
        };
        push(
            &mut svg,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" class=\"strong {class}\">threshold {}</text>",
                x + shift,
                frame.top + 2.0,
                short(threshold)
            ),
        );
    }
    svg + "</svg>"
}

/// Receiver operating characteristic, with a dot at the threshold; `None` where one class is
/// missing. Scores are (score, defective), finite.
pub fn roc(scores: &[(f32, bool)], threshold: Option<f32>) -> Option<String> {
    let defective = scores.iter().filter(|s| s.1).count();
    let good = scores.len() - defective;
    if defective == 0 || good == 0 {
        return None;
    }
    let frame = Frame {
        left: 40.0,
        right: 300.0,
        top: 10.0,
        bottom: 250.0,
    };
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut alarms, mut found) = (0usize, 0usize);
    let place = |alarms: usize, found: usize| {
        let x = frame.x(alarms as f32 / good as f32);
        (x, frame.y(found as f32 / defective as f32))
    };
    let mut path = format!("M{:.1} {:.1}", frame.left, frame.bottom);
    // Equal scores are passed together: no threshold can part them.
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        found += tied.iter().filter(|s| s.1).count();
        alarms += tied.iter().filter(|s| !s.1).count();
        let (x, y) = place(alarms, found);
        push(&mut path, format_args!("L{x:.1} {y:.1}"));
    }

    let mut svg = open(310.0, 290.0, "Receiver operating characteristic");
    for i in 0..=4 {
        let t = i as f32 / 4.0;
        let (x, y) = (frame.x(t), frame.y(t));
        line(&mut svg, "grid", (x, frame.top), (x, frame.bottom));
        line(&mut svg, "grid", (frame.left, y), (frame.right, y));
    }
    let (low, high) = ((frame.left, frame.bottom), (frame.right, frame.top));
    line(&mut svg, "chance", low, high);
    for t in [0.0, 0.5, 1.0] {
        let class = if t == 1.0 { "end" } else { "middle" };
        push(
            &mut svg,
            format_args!(
                "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{:.0} %</text>\
                 <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{:.0}</text>",
                frame.x(t),
                frame.bottom + 20.0,
                100.0 * t,
                frame.left - 6.0,
                frame.y(t) + 4.0,
                100.0 * t,
            ),
        );
    }
    push(
        &mut svg,
        format_args!(
            "<text class=\"middle\" x=\"{:.1}\" y=\"{:.1}\">false alarms</text>\
             <path class=\"area\" d=\"{path}L{:.1} {:.1}Z\"/><path class=\"curve\" d=\"{path}\"/>",
            frame.x(0.5),
            frame.bottom + 36.0,
            frame.right,
            frame.bottom,
        ),
    );
    if let Some(threshold) = threshold {
        let above = |class: bool| {
            let of_class = scores.iter().filter(|s| s.1 == class);
            of_class.filter(|s| s.0 > threshold).count()
        };
        let (x, y) = place(above(false), above(true));
        push(
            &mut svg,
            format_args!("<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>"),
        );
    }
    Some(svg + "</svg>")
}

/// Loss per epoch.
pub fn loss(values: &[f32]) -> String {
    let frame = Frame {
        left: 62.0,
        right: 490.0,
        top: 12.0,
        bottom: 170.0,
    };
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = (
        finite().fold(f32::MAX, f32::min),
        finite().fold(f32::MIN, f32::max),
    );
    let mut svg = open(500.0, 208.0, "Loss per epoch");
    for i in 0..=2 {
        let t = i as f32 / 2.0;
        let y = frame.y(t);
        line(&mut svg, "grid", (frame.left, y), (frame.right, y));
        push(
            &mut svg,
            format_args!(
                "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                frame.left - 8.0,
                y + 4.0,
                short(low + (high - low) * t)
            ),
        );
    }
    let mut path = String::new();
    let last = (values.len() - 1).max(1) as f32;
    for (epoch, value) in values.iter().enumerate() {
        if value.is_finite() {
            let t = if high > low {
                (value - low) / (high - low)
            } else {
                0.5
            };
            let (x, y) = (frame.x(epoch as f32 / last), frame.y(t));
            let step = if path.is_empty() { 'M' } else { 'L' };
            push(&mut path, format_args!("{step}{x:.1} {y:.1}"));
        }
    }
    push(
        &mut svg,
        format_args!(
            "<path class=\"curve\" d=\"{path}\"/><text x=\"{:.1}\" y=\"{y:.1}\">1</text>\
             <text class=\"middle\" x=\"{:.1}\" y=\"{y:.1}\">epoch</text>\
             <text class=\"end\" x=\"{:.1}\" y=\"{y:.1}\">{}</text></svg>",
            frame.left,
            frame.x(0.5),
            frame.right,
            values.len(),
            y = frame.bottom + 22.0,
        ),
    );
    svg
}

/// The histogram's axis; logarithmic where the scores span more than a decade above their median.
struct Axis {
    low: f32,
    high: f32,
    logarithmic: bool,
}

impl Axis {
    fn new(scores: &[(f32, bool)], threshold: Option<f32>) -> Self {
        let mut values: Vec<f32> = scores.iter().map(|s| s.0).collect();
        values.extend(threshold.filter(|t| t.is_finite()));
        values.sort_by(f32::total_cmp);
        let (first, last) = (values[0], values[values.len() - 1]);
        let logarithmic = first > 0.0 && last > 10.0 * values[values.len() / 2].max(first);
        let logarithmic = logarithmic || (first > 0.0 && last > 30.0 * first);
        let map = |v: f32| if logarithmic { v.ln() } else { v };
        let (low, high) = (map(first), map(last));
        let margin = if high > low { 0.03 * (high - low) } else { 0.5 };
        Self {
            low: low - margin,
            high: high + margin,
            logarithmic,
        }
    }

    /// Where a score stands, 0 to 1.
    fn place(&self, score: f32) -> f32 {
        let value = if self.logarithmic { score.ln() } else { score };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn value(&self, t: f32) -> f32 {
        let value = self.low + (self.high - self.low) * t;
        if self.logarithmic { value.exp() } else { value }
    }
}

fn open(width: f32, height: f32, label: &str) -> String {
    format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">")
}

fn line(svg: &mut String, class: &str, from: (f32, f32), to: (f32, f32)) {
    push(
        svg,
        format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        ),
    );
}

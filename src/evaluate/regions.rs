//! Where a map is above its threshold: defects as connected regions.

use serde::{Deserialize, Serialize};

use super::aupro::components;

/// An 8-connected region of a map that is above a threshold, in pixels of the part's picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Left, top, width, height.
    #[serde(rename = "box")]
    pub bounds: [usize; 4],
    pub area: usize,
    /// The map's highest value in it, and where: column, row.
    pub peak: f32,
    pub at: [usize; 2],
    /// How often a good part's map has a peak so high anywhere; `None` where that is not known.
    pub p_value: Option<f64>,
}

/// The regions of a `map` of size `from` (height, width) above `threshold`, in pixels of a picture of size `to`;
/// the highest peak first. A value that is no number counts as the highest.
pub fn regions(
    map: &[f32],
    from: (usize, usize),
    threshold: f32,
    to: (usize, usize),
    p_value: impl Fn(f32) -> Option<f64>,
) -> Vec<Region> {
    let above: Vec<u8> = map
        .iter()
        .map(|&v| u8::from(v > threshold || v.is_nan()))
        .collect();
    let (labels, areas) = components(&above, from.1);
    let scale = (to.0 as f64 / from.0 as f64, to.1 as f64 / from.1 as f64);
    // Left, top, right, bottom (both exclusive), and the peak's index, in the map's pixels.
    let mut found = vec![([usize::MAX, usize::MAX, 0, 0], 0, f32::NEG_INFINITY); areas.len()];
    for (i, &label) in labels.iter().enumerate().filter(|(_, label)| **label > 0) {
        let (row, column) = (i / from.1, i % from.1);
        let ([left, top, right, bottom], at, peak) = &mut found[label as usize - 1];
        (*left, *top) = ((*left).min(column), (*top).min(row));
        (*right, *bottom) = ((*right).max(column + 1), (*bottom).max(row + 1));
        if map[i].is_nan() || map[i] > *peak {
            (*at, *peak) = (i, map[i]);
        }
    }
    let mut all: Vec<Region> = (found.into_iter().zip(areas))
        .map(|(([left, top, right, bottom], at, peak), area)| {
            let x = |column: usize| (column as f64 * scale.1).round() as usize;
            let y = |row: usize| (row as f64 * scale.0).round() as usize;
            let middle = |i: usize, scale: f64| ((i as f64 + 0.5) * scale) as usize;
            let bounds = [x(left), y(top), x(right) - x(left), y(bottom) - y(top)];
            let [_, _, width, height] = bounds;
            let area = (f64::from(area) * scale.0 * scale.1).round() as usize;
            Region {
                bounds,
                area: area.min(width * height),
                peak,
                at: [middle(at % from.1, scale.1), middle(at / from.1, scale.0)],
                p_value: p_value(peak),
            }
        })
        .collect();
    all.sort_by(|a, b| b.peak.total_cmp(&a.peak));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_areas_and_peaks_are_the_pictures() {
        #[rustfmt::skip]
        let map = [
            0.0, 3.0, 0.0, 0.0,
            0.0, 0.0, 4.0, 0.0,
            9.0, 0.0, 0.0, 1.0,
        ];
        let found = regions(&map, (3, 4), 1.0, (30, 80), |peak| {
            Some(f64::from(1.0 / peak))
        });
        let of = |bounds, area, peak: f32, at| Region {
            bounds,
            area,
            peak,
            at,
            p_value: Some(f64::from(1.0 / peak)),
        };
        let expected = [
            of([0, 20, 20, 10], 200, 9.0, [10, 25]),
            of([20, 0, 40, 20], 400, 4.0, [50, 15]), // diagonal neighbours are one region
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_number_is_a_region() {
        let found = regions(&[0.0, f32::NAN, 0.5], (1, 3), 1.0, (1, 3), |_| None);
        assert_eq!((found.len(), found[0].bounds), (1, [1, 0, 1, 1]));
        assert!(found[0].peak.is_nan());
        assert_eq!(regions(&[0.0; 3], (1, 3), 1.0, (1, 3), |_| None), []);
    }
}

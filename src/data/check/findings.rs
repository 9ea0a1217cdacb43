//! What stands out among the parts of a data set.

use super::{Facts, Use, unpaired};
use crate::Result;
use crate::data::dataset::{Dataset, Sample};
use crate::data::depth_map::DepthMap;
use crate::data::image::dimensions;
use serde::Serialize;
use std::collections::BTreeMap;

/// A picture is another's near-duplicate where they differ by less than this share of what a picture and the one
/// nearest to it usually differ by.
const NEAR: f32 = 0.25;
/// So many deviations (by the median) from the others' median stand out.
const FAR: f32 = 6.0;
/// Holes in so large a share of a depth map are worth a look.
const HOLES: f32 = 0.3;

/// One thing that stands out, and the parts that it concerns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub what: &'static str,
    pub message: String,
    pub parts: Vec<String>,
}

impl Finding {
    fn new(what: &'static str, message: impl Into<String>, parts: Vec<String>) -> Self {
        Self {
            what,
            message: message.into(),
            parts,
        }
    }
}

/// Everything that stands out; the gravest first.
pub fn findings(all: &[Facts]) -> Vec<Finding> {
    let mut found = problems(all);
    found.extend(duplicates(all));
    found.extend(near_duplicates(all));
    let sizes = all
        .iter()
        .map(|f| (f.name.as_str(), f.size.map(|(w, h)| format!("{w} x {h}"))));
    found.extend(odd("size", sizes));
    let kinds = all.iter().map(|f| (f.name.as_str(), f.kind.clone()));
    found.extend(odd("kind", kinds));
    found.extend(far(
        "brightness",
        "a mean brightness",
        all,
        |f| f.brightness,
        false,
    ));
    found.extend(far("sharpness", "a sharpness", all, |f| f.sharpness, true));
    let holes: Vec<&Facts> = all
        .iter()
        .filter(|f| f.holes.is_some_and(|h| h > HOLES))
        .collect();
    if !holes.is_empty() {
        let message = format!(
            "nothing was measured in more than {:.0} % of the depth map",
            100.0 * HOLES
        );
        found.push(Finding::new("holes", message, names(&holes)));
    }
    found
}

/// What is found without decoding a picture: sizes by the header, and equal files.
///
/// # Errors
/// A file that cannot be read.
pub fn quick(dataset: &Dataset) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for (train, test) in dataset.overlap()? {
        let (train, test) = (train.display().to_string(), test.display().to_string());
        let message = "the same file, in training and test: its score means nothing";
        found.push(Finding::new("duplicate", message, vec![test, train]));
    }
    let mut sizes = Vec::new();
    for Sample {
        name, rgb, depth, ..
    } in &dataset.train
    {
        let size = rgb.as_deref().and_then(|path| dimensions(path).ok());
        let depth = depth
            .as_deref()
            .and_then(|path| DepthMap::dimensions(path).ok());
        let apart = size
            .zip(depth)
            .and_then(|(size, depth)| unpaired(size, depth));
        found.extend(apart.map(|message| Finding::new("depth", message, vec![name.clone()])));
        sizes.push((name.as_str(), size.map(|(w, h)| format!("{w} x {h}"))));
    }
    found.extend(odd("size", sizes.into_iter()));
    Ok(found)
}

fn names(facts: &[&Facts]) -> Vec<String> {
    facts.iter().map(|f| f.name.clone()).collect()
}

/// Parts and masks that cannot be used, a finding each: their messages differ.
fn problems(all: &[Facts]) -> Vec<Finding> {
    let of = |f: &Facts| {
        let unusable = f
            .problems
            .iter()
            .map(|problem| ("unusable", problem.clone()));
        let all = unusable.chain(f.mask.iter().map(|doubt| ("mask", doubt.clone())));
        let all = all.map(|(what, message)| Finding::new(what, message, vec![f.name.clone()]));
        all.collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// Parts with the same bytes.
fn duplicates(all: &[Facts]) -> Vec<Finding> {
    let mut groups = BTreeMap::<[u8; 32], Vec<&Facts>>::new();
    for facts in all {
        if let Some(hash) = facts.sha256 {
            groups.entry(hash).or_default().push(facts);
        }
    }
    let groups = groups.into_values().filter(|group| group.len() > 1);
    groups
        .map(|group| Finding::new("duplicate", across("the same file", &group), names(&group)))
        .collect()
}

/// Says so where a group is on both sides: such test parts were learned.
fn across(what: &str, group: &[&Facts]) -> String {
    let is = |used| group.iter().any(|f| f.used == used);
    match is(Use::Test) && (is(Use::Training) || is(Use::Calibration)) {
        true => format!("{what}, in training and test: their scores mean nothing"),
        false => what.into(),
    }
}

/// Pictures that are nearly alike: saved again, scaled, or taken twice of the same part.
fn near_duplicates(all: &[Facts]) -> Vec<Finding> {
    let seen: Vec<(&Facts, &Vec<f32>)> = all
        .iter()
        .filter_map(|f| Some((f, f.small.as_ref()?)))
        .collect();
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>();
    let mut nearest = vec![f32::MAX; seen.len()];
    let mut pairs = Vec::new();
    for i in 0..seen.len() {
        for j in 0..i {
            let d = distance(seen[i].1, seen[j].1);
            nearest[i] = nearest[i].min(d);
            nearest[j] = nearest[j].min(d);
            pairs.push((d, j, i));
        }
    }
    let Some(usual) = median(&nearest) else {
        return Vec::new();
    };
    pairs.retain(|&(d, i, j)| d < NEAR * usual && seen[i].0.sha256 != seen[j].0.sha256);
    let told = pairs.into_iter().map(|(_, i, j)| {
        let pair = [seen[i].0, seen[j].0];
        Finding::new(
            "near-duplicate",
            across("nearly the same picture", &pair),
            names(&pair),
        )
    });
    told.collect()
}

/// The parts whose value is not that of most.
fn odd<'a>(
    what: &'static str,
    values: impl Iterator<Item = (&'a str, Option<String>)>,
) -> Option<Finding> {
    let mut groups = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in values {
        if let Some(value) = value {
            groups.entry(value).or_default().push(name.into());
        }
    }
    let count: usize = groups.values().map(Vec::len).sum();
    let (usual, most) = groups.iter().max_by_key(|(_, names)| names.len())?;
    if most.len() == count {
        return None;
    }
    let usual = usual.clone();
    if 2 * most.len() <= count {
        let kinds: Vec<&str> = groups.keys().map(String::as_str).take(4).collect();
        let message = format!("of {} kinds: {}, …", groups.len(), kinds.join(", "));
        return Some(Finding::new(what, message, Vec::new()));
    }
    groups.remove(&usual);
    let others: Vec<&str> = groups.keys().map(String::as_str).take(4).collect();
    let message = format!("{}, where most are {usual}", others.join(", "));
    Some(Finding::new(
        what,
        message,
        groups.into_values().flatten().collect(),
    ))
}

/// The parts whose value is far from that of the good training parts.
fn far(
    what: &'static str,
    named: &str,
    all: &[Facts],
    value: impl Fn(&Facts) -> Option<f32>,
    only_below: bool,
) -> Option<Finding> {
    let learned = all.iter().filter(|f| f.used == Use::Training);
    let learned: Vec<f32> = learned.filter_map(&value).collect();
    let middle = median(&learned)?;
    let apart: Vec<f32> = learned.iter().map(|v| (v - middle).abs()).collect();
    // 1.4826: of a normal distribution, the standard deviation; and what nobody sees does not stand out.
    let spread = (1.4826 * median(&apart)?).max(0.05 * middle.abs());
    let is_far = |v: f32| {
        let by = (v - middle) / spread;
        by < -FAR || by > FAR && !only_below
    };
    let far: Vec<&Facts> = all
        .iter()
        .filter(|f| value(f).is_some_and(is_far))
        .collect();
    let worst = far.iter().filter_map(|f| value(f));
    let worst = worst.max_by(|a, b| (a - middle).abs().total_cmp(&(b - middle).abs()))?;
    let message = format!("{named} of up to {worst:.3}, far from the training parts' {middle:.3}");
    Some(Finding::new(what, message, names(&far)))
}

fn median(values: &[f32]) -> Option<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

//! The arguments of `astray calibrate` and `astray threshold`.

use super::{CacheArg, CategoryArg, DeviceArg, finite};
use crate::detector::Detector;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Calibrate {
    /// A model file, or the folder that `train` wrote
    pub model: PathBuf,
    /// Good parts that the model was not trained on: folders of pictures, or data sets, of which
    /// the validation parts or those that training kept back are used [default: those that the model knows]
    #[arg(value_name = "GOOD")]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    pub rate: RateArg,
    /// Refuse the model unless it was trained with these backbone weights
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub category: CategoryArg,
    /// What the folders of good parts are called in a data set [default: good, or the only one called ok, normal, ...]
    #[arg(long, value_name = "NAME")]
    pub good_name: Option<String>,
    #[command(flatten)]
    pub cache: CacheArg,
}

#[derive(Debug, Args)]
pub struct Threshold {
    /// A model file, or the folder that `train` wrote
    pub model: PathBuf,
    #[command(flatten)]
    pub rate: RateArg,
    /// Draw the line at this score, whatever the good parts' scores say
    #[arg(long, value_name = "SCORE", value_parser = finite, conflicts_with = "false_alarm_rate", allow_negative_numbers = true)]
    pub threshold: Option<f32>,
    /// Say how many of these defective parts would be found at which rate; nothing is learned from them
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub known_defects: Vec<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// How often a good part may be called defective.
#[derive(Clone, Debug, Args)]
pub struct RateArg {
    /// The share of good parts that may be called defective, between 0 and 1 [default: the model's, or 0.05, or up to 0.1
    /// where there are fewer than 19]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub false_alarm_rate: Option<f64>,
    /// Refuse a rate that so few good parts do not support, instead of extrapolating their scores
    #[arg(long)]
    pub strict: bool,
}

impl RateArg {
    /// What was asked for, or what the model has.
    pub fn wanted(&self, detector: &Detector) -> Option<f64> {
        let known = detector
            .calibration()
            .and_then(|c| c.record().false_alarm_rate);
        self.false_alarm_rate.or(known)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("expected a number between 0 and 1, such as 0.05".into()),
    }
}

//! The arguments of `astray profile`.

use super::{CacheArg, CategoryArg, ConfigArgs, DeviceArg, ModalityArg, PrecisionArg, positive};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Without a job: a prediction on a drawn part.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ProfileArgs {
    #[command(subcommand)]
    pub job: Option<ProfileJob>,
    #[command(flatten)]
    pub predict: ProfilePredict,
}

#[derive(Debug, Subcommand)]
pub enum ProfileJob {
    /// Profile a prediction: of a model on parts, or of an untrained one on a drawn part
    Predict(Box<ProfilePredict>),
    /// Profile a training; the model is not kept
    Train(Box<ProfileTrain>),
    /// Compare two files of `--json`, kernel by kernel
    Diff(ProfileDiff),
}

#[derive(Debug, Args)]
pub struct ProfilePredict {
    /// A model file, or the folder that `train` wrote [default: an untrained one of the preset]
    pub model: Option<PathBuf>,
    /// Images and folders of images [default: one drawn part]
    pub paths: Vec<PathBuf>,
    /// Depth map of each image, in the same order
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub depth: Vec<PathBuf>,
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Backbone weights of the untrained model: a file (.safetensors or .pth) or a name of `astray
    /// weights list` [default: random ones, which take as long]
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
    #[command(flatten)]
    pub report: ProfileReport,
}

#[derive(Debug, Args)]
pub struct ProfileTrain {
    /// Folder with a data set [default: drawn parts, two epochs each]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What the sensor gives; the same as `--set input.modality=...` [default: the preset's]
    #[arg(long, value_enum)]
    pub modality: Option<ModalityArg>,
    /// Random seed; the same as `--set train.seed=N`
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Backbone weights: a file (.safetensors or .pth) or a name of `astray weights list` [default:
    /// random ones, which take as long]
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
    #[command(flatten)]
    pub category: CategoryArg,
    #[command(flatten)]
    pub cache: CacheArg,
    #[command(flatten)]
    pub report: ProfileReport,
}

#[derive(Debug, Args)]
pub struct ProfileReport {
    /// Write everything as JSON, for `astray profile diff`
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the kernels as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write what ran when, for chrome://tracing or ui.perfetto.dev (the last round)
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write a page with the roofline and the table
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Run the job so often, after a run that is not counted (predict: more of them, for 0.3 s, and the
    /// model is loaded in the first); 1 counts the first [default: 3 for predict, 1 for train]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub rounds: Option<usize>,
    /// Print so many kernels
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub top: usize,
    /// Time launches by the host's clock even where the GPU has timestamps
    #[arg(long)]
    pub no_timestamps: bool,
}

#[derive(Debug, Args)]
pub struct ProfileDiff {
    /// What `astray profile --json` wrote first
    pub before: PathBuf,
    /// And then
    pub after: PathBuf,
    /// End with status 1 where a kernel, or the whole job, is slower by more than this, with 99 %
    /// confidence for all of them together (Holm); the intervals printed are of each alone. Record with
    /// --rounds 5 or more
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub fail_over: Option<f64>,
    /// Compare other devices or jobs all the same
    #[arg(long)]
    pub force: bool,
    /// Print the comparison as JSON
    #[arg(long)]
    pub json: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("expected percent from 0 on, such as 5".into()),
    }
}

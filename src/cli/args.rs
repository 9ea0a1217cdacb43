//! The command line: pure parsing. What the words mean is decided by the commands.

mod data;
mod licenses;
mod memory;
mod profile;
mod threshold;
mod weights;

pub use data::{DataArg, DataArgs, DataCheck, DataJob};
pub use licenses::Licenses;
pub use profile::{
    ProfileArgs, ProfileDiff, ProfileJob, ProfilePredict, ProfileReport, ProfileTrain,
};
pub use threshold::{Calibrate, RateArg, Threshold};
pub use weights::{
    Dtype, WeightsArgs, WeightsConvert, WeightsFetch, WeightsInspect, WeightsJob, WeightsList,
};

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Finds defective parts after seeing only good ones.
#[derive(Debug, Parser)]
#[command(name = "astray", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw a small set of parts, train on it, evaluate, and write a report
    #[command(after_help = "Example: astray demo --out demo")]
    Demo(Demo),
    /// Look at a data set before anything is learned from it
    #[command(after_help = "Example: astray data check parts/screw --page look")]
    Data(Box<DataArgs>),
    /// Learn what good parts look like
    #[command(after_help = "Example: astray train parts/screw --preset tiny --out model")]
    Train(Box<Train>),
    /// Measure a model on labelled parts: image AUROC, pixel AUROC, AUPRO
    #[command(after_help = "Example: astray evaluate model parts/screw --report report")]
    Evaluate(Evaluate),
    /// Score images: score, verdict, heat map
    #[command(after_help = "Example: astray predict model photos/ --out heat --json")]
    Predict(Predict),
    /// Set the threshold from good parts alone
    #[command(
        after_help = "Example: astray calibrate model more-good-parts --false-alarm-rate 0.01"
    )]
    Calibrate(Calibrate),
    /// Show a model's threshold and what it finds, or move it; needs no pictures of good parts
    #[command(
        after_help = "Example: astray threshold model --false-alarm-rate 0.01 --known-defects scratched/"
    )]
    Threshold(Threshold),
    /// Print a configuration as TOML: every key that `--set` and `--config` take, and its value
    #[command(after_help = "Example: astray config --preset mvtec3d")]
    Config(ConfigArgs),
    /// Weights of public networks: list, download, look into, convert
    #[command(after_help = weights::WEIGHTS_HELP)]
    Weights(WeightsArgs),
    /// List the devices that can compute, and which would be chosen
    #[command(after_help = "Example: astray devices")]
    Devices(Devices),
    /// Print what the program contains, weights and crates, and on what terms
    #[command(aliases = ["licence", "licences", "license"], after_help = "Example: astray licenses --json")]
    Licenses(Licenses),
    /// Prove every operator on a device against its reference
    #[command(after_help = "Example: astray selftest --device gpu --operator conv2d")]
    Selftest(Selftest),
    /// Run a real job and show where its time goes: every kernel against the measured roof
    #[command(after_help = "Example: astray profile predict --preset mvtec3d --html profile.html")]
    Profile(Box<ProfileArgs>),
    /// Time operators and whole models: first run, median, 99th percentile, throughput
    #[command(
        after_help = "Example: astray bench student --batch 1,8 --json bench.json",
        after_long_help = BENCH_HELP
    )]
    Bench(Bench),
}

const BENCH_HELP: &str = "\
Example: astray bench student --batch 1,8 --json bench.json

Models, with seeded weights: extractor-b5-768, teacher-2d, teacher-3d, teacher-2d-step,
teacher-3d-step, student, student-step (a step is one of training), predict-2d, predict-3d (from
files to a score), depth-800 (one 800x800 map with 15 % holes prepared). Operators: the sizes of
these models, and the cases of `astray selftest`.

The JSON file is a list of objects, one for each case and batch size:
  name, kind (operator or model), device, batch, shape, cold_ms, p50_ms, p99_ms, runs,
  per_second (pictures, by the median), gflops, gb_per_s, percent_of_roof";

#[derive(Debug, Args)]
pub struct Demo {
    /// Folder for parts, model, heat maps and report
    #[arg(long, value_name = "DIR", default_value = "demo")]
    pub out: PathBuf,
    #[command(flatten)]
    pub device: DeviceArg,
    /// The same seed gives the same parts, model and metrics
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Backbone weights: a file (.safetensors, .pth or .whl), a name of `astray weights list`, or `seeded`
    /// for a random backbone [default: efficientnet-lite0, which is in the program]
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Override one value of the demo's configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Train {
    #[command(flatten)]
    pub data: DataArg,
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What the sensor gives; the same as `--set input.modality=...` [default: the preset's]
    #[arg(long, value_enum)]
    pub modality: Option<ModalityArg>,
    /// Random seed; the same as `--set train.seed=N`
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Backbone weights: a file (.safetensors, .pth or .whl), a name of `astray weights list`, or `seeded`
    /// for a random backbone [default: efficientnet-lite0, which is in the program]
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
    #[command(flatten)]
    pub category: CategoryArg,
    /// Folder for the model
    #[arg(long, value_name = "DIR", default_value = "model")]
    pub out: PathBuf,
    #[command(flatten)]
    pub cache: CacheArg,
}

#[derive(Debug, Args)]
pub struct Evaluate {
    /// A model file, or the folder that `train` wrote
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArg,
    /// Print the metrics as JSON
    #[arg(long)]
    pub json: bool,
    /// Write report.html with heat maps into this folder
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Refuse the model unless it was trained with these backbone weights
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
}

#[derive(Debug, Args)]
pub struct Predict {
    /// A model file, or the folder that `train` wrote
    pub model: PathBuf,
    /// Images and folders of images; `-` reads a list from standard input, one path a line
    #[arg(required_unless_present = "depth")]
    pub paths: Vec<PathBuf>,
    /// Depth map of each image, in the same order; after the images
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub depth: Vec<PathBuf>,
    /// Write a heat map (PNG) and the raw scores (TIFF) for each image into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print one JSON object per image
    #[arg(long)]
    pub json: bool,
    /// Call an image defective above this score, whatever the model was calibrated to
    #[arg(long, value_name = "SCORE", value_parser = finite, allow_negative_numbers = true)]
    pub threshold: Option<f32>,
    /// Refuse the model unless it was trained with these backbone weights
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
}

#[derive(Debug, Args)]
pub struct Devices {
    /// Print the list as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Selftest {
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
    /// Only this operator's cases
    #[arg(long, value_name = "NAME")]
    pub operator: Option<String>,
    /// Seed of the cases' inputs
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// The case of this name, or all whose name contains it
    pub filter: Option<String>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub precision: PrecisionArg,
    /// Batch sizes, of models, predictions and convolutions; depth-800 and the self-test's cases have their own
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1", value_parser = positive)]
    pub batch: Vec<usize>,
    /// How long each case is repeated, at least three runs
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub seconds: f64,
    /// Pack a convolution's weights for every call, instead of once as in a model; the CPU always does
    #[arg(long)]
    pub repack: bool,
    /// Write the results into this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Where the configuration comes from: preset, then file, then settings.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// tiny (for two CPU cores), thorough (longer), mvtec3d or mvtec2d (the paper's) [default: tiny]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Configuration file (TOML); overrides the preset
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one value, such as teacher.hidden=64; may be repeated. `astray config` lists them
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct DeviceArg {
    /// auto, cpu, gpu, a part of an adapter's name, or its number in `astray devices`
    #[arg(long = "device", value_name = "DEVICE", default_value = "auto")]
    pub name: DeviceChoice,
    /// Take the GPU's kernels (WGSL) from this folder, so that they can be edited without compiling;
    /// those that are not there are built in
    #[arg(long, value_name = "DIR")]
    pub shaders: Option<PathBuf>,
    /// The most memory to use, such as 2GiB: training takes smaller batches, and a GPU allocates no more
    #[arg(long, value_name = "SIZE", value_parser = memory::bytes)]
    pub max_memory: Option<u64>,
    /// Of the GPU's kernels for a convolution take this one wherever it applies, such as tile64, or tile64/4
    /// with its sums in 4 slices
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
    /// Measure the kernels for a convolution and keep the fastest, for half a minute at most, also on
    /// a software adapter; on others that is so anyway, for a second
    #[arg(long)]
    pub tune: bool,
}

#[derive(Clone, Debug, Args)]
pub struct PrecisionArg {
    /// How activations and weights are kept on a GPU; sums, distances, scores, and what training changes
    /// and saves, are always f32
    #[arg(long = "precision", value_name = "TYPE", value_enum, default_value_t = Precision::F32)]
    pub value: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    F32,
    F16,
}

#[derive(Clone, Debug, Args)]
pub struct CategoryArg {
    /// Only this category of a data set with several; may be repeated
    #[arg(long = "category", value_name = "NAME")]
    pub names: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct CacheArg {
    /// Folder that keeps extracted features for the next run [default: none are kept]
    #[arg(long = "cache", value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// Where to compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Auto,
    Cpu,
    Gpu,
    /// A number in the list of adapters.
    Index(usize),
    /// A part of the adapter's name, in lower case.
    Name(String),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().to_lowercase();
        match text.as_str() {
            "" => Err("expected auto, cpu, gpu, a part of an adapter's name or its number".into()),
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => Ok(text.parse().map_or(Self::Name(text), Self::Index)),
        }
    }
}

/// The words of `input.modality`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModalityArg {
    #[value(name = "rgb")]
    Rgb,
    #[value(name = "depth")]
    Depth,
    #[value(name = "rgb+depth")]
    RgbDepth,
}

impl ModalityArg {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Depth => "depth",
            Self::RgbDepth => "rgb+depth",
        }
    }
}

impl Train {
    /// `--set`, then the options that are settings under a shorter name.
    pub fn settings(&self) -> Vec<String> {
        let mut settings = self.config.settings.clone();
        settings.extend(
            self.modality
                .map(|m| format!("input.modality={}", m.as_str())),
        );
        settings.extend(self.seed.map(|seed| format!("train.seed={seed}")));
        settings
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(value) if value > 0 => Ok(value),
        _ => Err("expected a whole number above 0, such as 8".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=3600.0).contains(&value) => Ok(value),
        _ => Err("expected seconds from 0 to 3600, such as 0.5".into()),
    }
}

fn finite(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("expected a number, such as 0.42".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind};

    fn parse(line: &str) -> Result<Command, clap::Error> {
        let words = std::iter::once("astray").chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_consistent_and_every_command_has_an_example() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(|text| text.to_string());
            let help = help.unwrap_or_default();
            let example = help.lines().next().unwrap_or_default();
            let example = example.replace("Example: astray ", "");
            let name = command.get_name();
            assert!(example.starts_with(name), "{name}: {example}");
            assert!(parse(&example).is_ok(), "{example}");
        }
    }

    #[test]
    fn train_takes_every_option() {
        let line = "train parts --preset tiny --config a.toml --set teacher.hidden=8 \
                    --set train.batch=2 --weights w.safetensors --device radv --out m \
                    --cache c --seed 3 --category screw --modality rgb+depth --precision f16";
        let Ok(Command::Train(train)) = parse(line) else {
            panic!("{line} was refused");
        };
        assert_eq!(train.config.preset.as_deref(), Some("tiny"));
        assert_eq!(train.device.name, DeviceChoice::Name("radv".into()));
        assert_eq!(train.category.names, ["screw"]);
        assert_eq!(train.precision.value, Precision::F16);
        let settings = train.settings();
        assert_eq!(settings.len(), 4);
        assert_eq!(settings[2..], ["input.modality=rgb+depth", "train.seed=3"]);
    }

    #[test]
    fn devices_are_words_numbers_or_names() {
        for (text, device) in [
            ("auto", DeviceChoice::Auto),
            ("CPU", DeviceChoice::Cpu),
            ("gpu", DeviceChoice::Gpu),
            ("1", DeviceChoice::Index(1)),
            ("LLVMpipe", DeviceChoice::Name("llvmpipe".into())),
        ] {
            assert_eq!(text.parse(), Ok(device));
        }
        assert!(" ".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn predict_takes_paths_a_list_or_depth_alone() {
        for line in [
            "predict model a.png b.png --threshold 0.5",
            "predict model -",
            "predict model --depth a.tiff b.tiff",
            "predict model a.png --depth a.tiff --json --out heat",
            "predict model a.png --device gpu --precision f16",
        ] {
            assert!(matches!(parse(line), Ok(Command::Predict(_))), "{line}");
        }
    }

    #[test]
    fn wrong_usage_is_refused_with_exit_status_2() {
        for (line, kind) in [
            ("train", ErrorKind::MissingRequiredArgument),
            ("predict model", ErrorKind::MissingRequiredArgument),
            ("trian parts", ErrorKind::InvalidSubcommand),
            ("train parts --moodality rgb", ErrorKind::UnknownArgument),
            ("train parts --modality xray", ErrorKind::InvalidValue),
            (
                "calibrate model good --false-alarm-rate 0",
                ErrorKind::ValueValidation,
            ),
            (
                "threshold model --false-alarm-rate 1",
                ErrorKind::ValueValidation,
            ),
            (
                "threshold model --false-alarm-rate 0.1 --threshold 3",
                ErrorKind::ArgumentConflict,
            ),
            (
                "predict model a.png --threshold nan",
                ErrorKind::ValueValidation,
            ),
            ("selftest --seed -1", ErrorKind::UnknownArgument),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{line}");
        }
    }
}

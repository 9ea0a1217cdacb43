//! The arguments of `astray weights`.

use super::seconds;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct WeightsArgs {
    #[command(subcommand)]
    pub job: WeightsJob,
}

#[derive(Debug, Subcommand)]
pub enum WeightsJob {
    /// List what is in the program and the public files: name, size, licence, padding, where it is
    #[command(after_help = "Example: astray weights list")]
    List(WeightsList),
    /// Download a public file, check it, and keep it for `--weights NAME`
    #[command(after_help = FETCH_HELP)]
    Fetch(WeightsFetch),
    /// Show what a file holds: network, naming, padding, where it can be tapped, tensors
    #[command(after_help = "Example: astray weights inspect efficientnet-b5.pth")]
    Inspect(WeightsInspect),
    /// Rewrite a file as safetensors: in half precision, or without the blocks behind a tap
    #[command(
        after_help = "Example: astray weights convert efficientnet-b0 b0.safetensors --dtype f16 --tap 10"
    )]
    Convert(WeightsConvert),
}

pub const WEIGHTS_HELP: &str = "\
Example: astray weights fetch efficientnet-b5

A fetched file is used by its name: astray train parts --weights efficientnet-b5. Without --weights
it is efficientnet-lite0, which is in the program; astray-b0 is, too.";

const FETCH_HELP: &str = "\
Example: astray weights fetch efficientnet-b5

The file is kept only if its sha256 is right and the network can be built from it. A cut download
goes on where it ended, with the next attempt or the next call.

Environment:
  ASTRAY_CACHE           the folder for caches instead of the platform's; the files go to weights/ in it
  ASTRAY_OFFLINE         1: the same as --offline
  ASTRAY_WEIGHTS_MIRROR  addresses of folders with copies, with commas between them, that are asked first
  HTTPS_PROXY, NO_PROXY  the proxy, and for what hosts there is none
  SSL_CERT_FILE          a PEM file of the certificates to trust instead of Mozilla's list";

#[derive(Debug, Args)]
pub struct WeightsList {
    /// Print the list as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WeightsFetch {
    /// A name of `astray weights list`, such as efficientnet-b5 or timm:efficientnet-b5
    pub name: String,
    /// Who published it; the same as the word before the colon [default: torchvision]
    #[arg(long, value_name = "NAME", value_parser = ["torchvision", "efficientnet_pytorch", "timm"])]
    pub source: Option<String>,
    /// Open no connection: check the file that is there, or say how to get it
    #[arg(long)]
    pub offline: bool,
    /// Attempts at each address after the first, with pauses of 1, 2, 4, ... seconds
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=10))]
    pub retries: u32,
    /// The longest silence of a server
    #[arg(long, value_name = "S", default_value_t = 30.0, value_parser = seconds)]
    pub timeout: f64,
}

#[derive(Debug, Args)]
pub struct WeightsInspect {
    /// A weight file (.safetensors, .pth or .whl), or a name of `astray weights list`: in the program, or fetched
    pub file: PathBuf,
    /// Show every tensor
    #[arg(long)]
    pub tensors: bool,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WeightsConvert {
    /// A weight file (.safetensors, .pth or .whl), or a name of `astray weights list`: in the program, or fetched
    pub input: PathBuf,
    /// The safetensors file to write
    pub output: PathBuf,
    /// How the numbers are stored
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = Dtype::F32)]
    pub dtype: Dtype,
    /// The last block to keep, counted from 0; the classifier goes too [default: keep everything]
    #[arg(long, value_name = "BLOCK")]
    pub tap: Option<usize>,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    F32,
    F16,
}

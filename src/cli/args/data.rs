//! Where the parts are.

use super::{CategoryArg, ConfigArgs};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// A data set, or folders of pictures.
#[derive(Clone, Debug, Args)]
pub struct DataArg {
    /// Folder with a data set (MVTec AD, AD 2, LOCO, 3D-AD, BTAD, VisA), with several, or with pictures of good parts
    #[arg(value_name = "DATA", required_unless_present = "good")]
    pub root: Option<PathBuf>,
    /// Instead of DATA: a folder with pictures of good parts
    #[arg(long, value_name = "DIR", conflicts_with = "root")]
    pub good: Option<PathBuf>,
    /// A folder with pictures of defective parts, to test with
    #[arg(long, value_name = "DIR", requires = "good")]
    pub bad: Option<PathBuf>,
    /// A folder with the masks of the defective parts, called as those are, or with `_mask` behind
    #[arg(long, value_name = "DIR", requires = "bad")]
    pub masks: Option<PathBuf>,
    /// What the folders of good parts are called in DATA [default: good, or the only one called ok, normal, ...]
    #[arg(long, value_name = "NAME", conflicts_with = "good")]
    pub good_name: Option<String>,
}

impl DataArg {
    /// The data set, or several, in a folder.
    pub fn of(folder: &Path) -> Self {
        Self {
            root: Some(folder.to_path_buf()),
            good: None,
            bad: None,
            masks: None,
            good_name: None,
        }
    }
}

#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    pub job: DataJob,
}

#[derive(Debug, Subcommand)]
pub enum DataJob {
    /// What would go to training, calibration and test, and what stands out: files that cannot be read, duplicates,
    /// odd sizes and colours, exposure, sharpness, masks that do not fit, holes in depth maps
    #[command(after_help = "Example: astray data check parts/screw --page look")]
    Check(DataCheck),
}

#[derive(Debug, Args)]
pub struct DataCheck {
    #[command(flatten)]
    pub data: DataArg,
    /// Write data.html with a thumbnail of every part into this folder
    #[arg(long, value_name = "DIR")]
    pub page: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub category: CategoryArg,
}

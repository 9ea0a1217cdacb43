//! The arguments of `astray licenses`.

use clap::Args;

#[derive(Debug, Args)]
pub struct Licenses {
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
}

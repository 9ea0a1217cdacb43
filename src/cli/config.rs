//! `astray config`: what a training would be configured with.

use super::args::ConfigArgs;
use crate::Result;
use crate::detector::config::Config;

pub fn run(args: &ConfigArgs) -> Result<u8> {
    let config = Config::load(
        args.preset.as_deref(),
        args.config.as_deref(),
        &args.settings,
    )?;
    super::print(config.to_toml()?.trim_end())?;
    Ok(0)
}

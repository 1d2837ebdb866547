//! `weir run`: the gateway until a signal ends it, or another process takes its place.

use std::process::ExitCode;

use crate::{descriptors, life};

use super::{Source, fail, load};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Take the place of the gateway that runs with the same data directory, without refusing a connection
    #[arg(long)]
    upgrade: bool,
    #[command(flatten)]
    source: Source,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let path = &arguments.source.config;
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    descriptors::raise();
    match life::run(path, &config, arguments.upgrade) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(format_args!("{e}")),
    }
}

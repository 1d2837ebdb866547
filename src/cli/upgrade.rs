//! `weir upgrade`: another process in the place of the one that runs, and what became of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::config;
use crate::handover::ask_for_upgrade;

use super::{Running, fail};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The program to start; by default this one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// How long the new process may take until it serves
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = config::read_duration)]
    within: Duration,
    #[command(flatten)]
    running: Running,
}

pub(super) fn upgrade(arguments: &Arguments) -> ExitCode {
    let data_dir = match arguments.running.data_dir() {
        Ok(directory) => directory,
        Err(code) => return code,
    };
    let binary = match &arguments.binary {
        // The gateway has another working directory.
        Some(path) => std::path::absolute(path),
        None => std::env::current_exe(),
    };
    let binary = match binary {
        Ok(binary) => binary,
        Err(e) => return fail(format_args!("the program cannot be found: {e}")),
    };
    match ask_for_upgrade(&data_dir, binary, arguments.within, |step| println!("{step}")) {
        Ok(pid) => {
            println!("process {pid} serves now; the one before it ends with its last stream");
            ExitCode::SUCCESS
        }
        Err(e) => fail(format_args!("no upgrade: {e}")),
    }
}

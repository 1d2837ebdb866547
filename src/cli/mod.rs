//! Arguments in, exit codes out.

mod demo;
mod doctor;
mod events;
mod explain;
mod prices;
mod run;
mod tail;
mod upgrade;
mod usage;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use weir_filters::key::KeyDigest;

use crate::config;
use crate::demo::ClientKey;

#[derive(Parser)]
#[command(name = "weir", version, about = "A metering reverse proxy for LLM APIs", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what Weir does: a gateway, mock providers and one key, on this machine alone
    Demo(demo::Arguments),
    /// Run the gateway
    Run(run::Arguments),
    /// Check a configuration file: 0 valid, 1 invalid, 2 it cannot be read
    Check(Source),
    /// Client keys
    #[command(subcommand)]
    Key(Key),
    /// Users who sign in
    #[command(subcommand)]
    User(user::User),
    /// Prices
    #[command(subcommand)]
    Prices(prices::Prices),
    /// Show what was used, from the running gateway or, when none runs, from the ledger
    Usage(usage::Arguments),
    /// Requests that were recorded elsewhere
    #[command(subcommand)]
    Events(events::Events),
    /// Show requests of the running gateway as they end
    Tail(tail::Arguments),
    /// Tell what would become of a request, without sending it: 0 sent, 1 refused, 2 it cannot be told
    Explain(explain::Arguments),
    /// Make the running gateway read its configuration anew: 0 it is in force, 1 it was refused
    Reload(Running),
    /// Put another process in the place of the running gateway: 0 it serves, 1 nothing has changed
    Upgrade(upgrade::Arguments),
    /// Look machine, disk, upstreams and the running gateway over: 0 no problem, 1 problems
    Doctor(doctor::Arguments),
}

#[derive(Subcommand)]
enum Key {
    /// Print a new key, and its SHA-256 for the configuration
    New,
}

#[derive(clap::Args)]
struct Source {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "WEIR_CONFIG", default_value = "conf/weir.yaml")]
    config: PathBuf,
}

/// Which gateway is meant.
#[derive(clap::Args)]
struct Running {
    /// Its data directory, for whoever cannot read its configuration; by default the one that this names
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
}

impl Running {
    fn data_dir(&self) -> Result<PathBuf, ExitCode> {
        match &self.data_dir {
            Some(directory) => Ok(directory.clone()),
            None => load(&self.source.config).map(|config| config.data_dir),
        }
    }
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let environment = env_logger::Env::new().filter_or("WEIR_LOG", "warn,weir=info");
    // Pingora's debug lines hold heads as they came, and with them credentials.
    env_logger::Builder::from_env(environment).filter_module("pingora", log::LevelFilter::Warn).init();
    match Arguments::parse().command {
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(source) => check(&source.config),
        Command::Key(Key::New) => key_new(),
        Command::User(command) => user::user(&command),
        Command::Prices(command) => prices::prices(&command),
        Command::Usage(arguments) => usage::usage(&arguments),
        Command::Events(command) => events::events(&command),
        Command::Tail(arguments) => tail::tail(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Reload(running) => usage::reload(&running),
        Command::Upgrade(arguments) => upgrade::upgrade(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
    }
}

fn check(path: &std::path::Path) -> ExitCode {
    let config::Checked { report, exit_code } = config::check(path, &|name| std::env::var(name).ok());
    if exit_code == 0 {
        println!("{}", report.trim_end());
    } else {
        eprintln!("{}", report.trim_end());
    }
    ExitCode::from(exit_code)
}

fn key_new() -> ExitCode {
    match ClientKey::draw() {
        Ok(key) => {
            println!("key:    {}\nsha256: {}", key.key.expose(), KeyDigest(key.sha256));
            ExitCode::SUCCESS
        }
        Err(e) => fail(format_args!("no randomness: {e}")),
    }
}

/// Loads a configuration for a command that needs one; its mistakes go to stderr.
fn load(path: &std::path::Path) -> Result<config::Config, ExitCode> {
    config::load(path, &|name| std::env::var(name).ok()).map_err(|mistakes| {
        for mistake in &mistakes {
            eprintln!("{mistake}");
        }
        ExitCode::FAILURE
    })
}

fn fail(message: std::fmt::Arguments<'_>) -> ExitCode {
    eprintln!("weir: {message}");
    ExitCode::FAILURE
}

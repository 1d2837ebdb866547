//! Two programs for Weir's benchmarks: an upstream that answers like OpenAI, and a load that checks every
//! byte of every answer. Each is one thread around epoll, or both are one, so that neither is ever what a benchmark
//! measures.

mod answer;
mod args;
mod bench;
mod body;
mod head;
mod histogram;
mod load;
mod mock;
mod sys;

use std::process::ExitCode;

use args::Command;

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            print!("{}", args::USAGE);
            ExitCode::SUCCESS
        }
        Ok(Command::Mock(options)) => {
            let Err(error) = mock::run(&options);
            eprintln!("weir-load: {}: {error}", options.listen);
            ExitCode::FAILURE
        }
        Ok(Command::Load(options)) => match load::run(&options) {
            Ok(report) => {
                println!("{report}");
                ExitCode::SUCCESS
            }
            Err(load::CannotRun::Arguments(message)) => refuse(&message),
            Err(load::CannotRun::System(address, error)) => {
                eprintln!("weir-load: {address}: {error}");
                ExitCode::FAILURE
            }
        },
        Err(message) => refuse(&message),
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("weir-load: {message}\nTry --help.");
    ExitCode::from(2)
}

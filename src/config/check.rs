//! `weir check`: what there is to say about a configuration file, and the exit code.
//!
//! Prints nothing itself.

use std::fmt::Write;
use std::path::Path;

use super::load;

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Lines, each with its newline: for standard output if the file is valid, else for standard error.
    pub report: String,
    /// 0: valid. 1: invalid. 2: the file cannot be read.
    pub exit_code: u8,
}

/// Checks the file as `weir run` would read it, with the variables that `env` gives.
pub fn check(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Checked {
    let mut report = String::new();
    let exit_code = match load(path, env) {
        Ok(config) => {
            let counts = [
                (config.channels.len(), "channel"),
                (config.keys.len(), "key"),
                (config.users.len(), "user"),
                (config.routes.len(), "route"),
                (config.listen.len(), "listener"),
            ]
            .map(|(count, noun)| counted(count, noun));
            let prices = config.prices.as_ref().map(|prices| counted(prices.len(), "price"));
            let counts: Vec<String> = counts.into_iter().chain(prices).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(report, "{}: valid: {}", path.display(), counts.join(", "));
            0
        }
        Err(mistakes) => {
            let _ = writeln!(report, "{mistakes}");
            if mistakes.is_unreadable() { 2 } else { 1 }
        }
    };
    Checked { report, exit_code }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

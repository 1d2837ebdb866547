//! What a gateway needs of its machine, its disk and its upstreams, and how the one that runs is doing.
//!
//! Owns the order of the looks and the form of what is found. Nothing is changed but a file of its own, which is
//! removed again, and no finding holds a secret. Refuses to know how findings are shown.

mod addresses;
mod disk;
mod machine;
mod running;
mod secrets;
mod store;
mod upstreams;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::catalog::Catalog;
use crate::config::{self, Config};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It serves, and somebody should look.
    Warning,
    /// It does not serve, or not for long, or money and secrets are in danger.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub what: String,
    /// How it is.
    pub found: String,
    /// What to do, if there is something to do.
    pub advice: Option<String>,
}

impl Level {
    /// The word that is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

impl Finding {
    fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), found: found.into(), advice: None }
    }

    fn warning(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warning, advice: Some(advice.into()), ..Self::ok(what, found) }
    }

    fn problem(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Problem, advice: Some(advice.into()), ..Self::ok(what, found) }
    }
}

/// Looks everything over for the configuration file `path`, with the variables that `env` gives. Takes seconds if
/// an upstream does not answer.
pub fn examine(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let watch = machine::Watch::start();
    let read: RefCell<Vec<PathBuf>> = RefCell::new(vec![path.to_owned()]);
    let config = match config::load_telling(path, env, &|file| read.borrow_mut().push(file.to_owned())) {
        Ok(config) => config,
        Err(mistakes) => return mistakes.iter().map(mistake).collect(),
    };
    let mut findings = vec![Finding::ok("configuration", format!("{} is valid", path.display()))];
    let config = with_catalog(config, &mut findings);
    let running = running::ask(&config);
    findings.extend(secrets::examine(&config, &read.into_inner()));
    findings.push(machine::descriptors(running.figures()));
    findings.extend(disk::examine(&config));
    findings.extend(running.findings());
    if !running.is_there() {
        findings.extend(store::examine(&config));
        findings.extend(addresses::examine(&config));
    }
    findings.extend(upstreams::examine(&config));
    findings.push(machine::clock(&config.data_dir, &watch));
    findings
}

fn mistake(mistake: &config::Mistake) -> Finding {
    Finding::problem("configuration", mistake.to_string(), "correct it; `weir check` says the same")
}

/// What is in force beside the file: channels and keys that were made over the admin API.
fn with_catalog(config: Config, findings: &mut Vec<Finding>) -> Config {
    match Catalog::open(&config.data_dir).and_then(|catalog| catalog.merge(&config)) {
        Ok(merged) => merged,
        Err(e) => {
            let advice = "the gateway does not start like this: restore the file from a copy, or move it away";
            findings.push(Finding::problem("catalog", e.to_string(), advice));
            config
        }
    }
}

//! `weir prices`: prices from elsewhere into the price file.

mod change;
mod litellm;
mod number;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{PriceFile, parse_prices};

use super::fail;

use change::{Change, environment};

/// LiteLLM's file has some 3 MB; a price file is read up to 16 MiB.
const MAX_FILE_BYTES: u64 = 64 << 20;

#[derive(clap::Subcommand)]
pub(super) enum Prices {
    /// Take prices over from a `model_prices_and_context_window.json` of LiteLLM
    ///
    /// They are put into the part `imported:` at the end of the price file, each under its exact name. Prices
    /// in `models:` always come first, and nothing of theirs is changed: neither a price nor a comment. Models
    /// that are imported already and not in FILE are kept. The difference is shown before anything is written.
    ///
    /// Exit code 0: the price file is as FILE has it; 1: it is not, because nobody said yes or something
    /// failed; 2: wrong usage.
    Import(Import),
}

#[derive(clap::Args)]
pub(super) struct Import {
    /// The JSON file to read
    file: PathBuf,
    /// The price file to write
    #[arg(long, value_name = "FILE", default_value = "conf/prices.yaml")]
    into: PathBuf,
    /// Write without asking
    #[arg(long)]
    yes: bool,
}

pub(super) fn prices(command: &Prices) -> ExitCode {
    let Prices::Import(import) = command;
    match run(import) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => fail(format_args!("{message}")),
    }
}

/// Whether the price file is as the import has it.
fn run(import: &Import) -> Result<bool, String> {
    let at = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = read(&import.file).map_err(|e| at(&import.file, &e))?;
    let imported = litellm::read(&text).map_err(|e| at(&import.file, &e))?;
    if imported.tariffs.is_empty() && imported.refused.is_empty() {
        return Err(at(&import.file, &"holds no models"));
    }
    let before = match read(&import.into) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(at(&import.into, &e)),
    };
    let present = match &before {
        Some(text) => parse_prices(text, &import.into, &environment).map_err(|mistakes| mistakes.to_string())?,
        None => PriceFile::default(),
    };
    let change = Change::new(&present, &imported);
    say(&change.report(&imported));
    if change.is_empty() {
        return Ok(true);
    }
    let after = change.apply(before.as_deref()).map_err(|e| at(&import.into, &e))?;
    if !import.yes && !confirmed(&import.into) {
        say("nothing was written; --yes writes without asking\n");
        return Ok(false);
    }
    replace(&import.into, &after).map_err(|e| at(&import.into, &e))?;
    say(&format!("{} is written; `weir reload` puts it in force\n", import.into.display()));
    Ok(true)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    Ok(text)
}

/// Whoever closes the pipe has seen enough.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Only a person at a terminal can say yes.
fn confirmed(path: &Path) -> bool {
    let input = io::stdin();
    if !input.is_terminal() || !io::stdout().is_terminal() {
        return false;
    }
    say(&format!("Write {}? [y/N] ", path.display()));
    let _ = io::stdout().flush();
    let mut answer = String::new();
    let asked = input.lock().take(16).read_line(&mut answer);
    asked.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

/// Replaces the file: at every moment there is the whole old one or the whole new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link stays a link to the file that is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new().prefix(".prices-").tempfile_in(folder)?;
    draft.write_all(text.as_bytes())?;
    let permissions = fs::metadata(&path).map(|present| present.permissions());
    draft.as_file().set_permissions(permissions.unwrap_or_else(|_| readable_by_all()))?;
    draft.as_file().sync_all()?;
    draft.persist(&path).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}

/// Prices are no secret, and the gateway may run as somebody else.
fn readable_by_all() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

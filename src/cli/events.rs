//! `weir events import`: requests that other gateways served, or this one before its ledger was lost, into the
//! counters. Through the running gateway, or into the ledger itself when none runs.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::admin;
use crate::admin::client::{Client, ClientError};
use crate::config::Config;
use crate::import::{self, MAX_LINE, Parts, Report};
use crate::ledger::{Ledger, LedgerOptions, WhenLocked};

use super::load;
use super::usage::said;

/// The exit code of an import that did not come to the end of its file.
const NOT_DONE: u8 = 2;

#[derive(clap::Subcommand)]
pub(super) enum Events {
    /// Count requests of APIPark's `ai_event` messages, or of Weir's own records, each once however often it is imported:
    /// 0 every line was read, 1 some could not be, 2 it broke off
    Import(Import),
}

#[derive(clap::Args)]
pub(super) struct Import {
    /// One JSON object a line, packed by gzip or not; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON, as the admin API does
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: super::Source,
}

pub(super) fn events(command: &Events) -> ExitCode {
    let Events::Import(arguments) = command;
    let Ok(config) = load(&arguments.source.config) else { return ExitCode::from(NOT_DONE) };
    let name = arguments.file.display().to_string();
    let mut importer = Importer { config: &config, way: Way::Gateway(client(&config)), sum: Report::default() };
    let done = open(&arguments.file).and_then(Parts::of).map_err(|e| e.to_string()).and_then(|parts| {
        parts.into_iter().try_for_each(|part| {
            let report = importer.part(part.map_err(|e| e.to_string())?)?;
            if !arguments.json {
                report.errors.iter().for_each(|mistake| eprintln!("{name}:{}: {}", mistake.line, mistake.reason));
            }
            importer.sum.add(report);
            Ok(())
        })
    });
    let Importer { way, sum, .. } = importer;
    if arguments.json {
        println!("{}", serde_json::json!(sum));
    } else {
        print!("{}", summary(&name, &sum, matches!(way, Way::Gateway(_))));
    }
    match done {
        Ok(()) if sum.unread == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("weir: {name}: {message}");
            ExitCode::from(NOT_DONE)
        }
    }
}

/// Where to.
enum Way {
    Gateway(Client),
    Ledger(Ledger),
}

struct Importer<'a> {
    config: &'a Config,
    way: Way,
    sum: Report,
}

impl Importer<'_> {
    fn part(&mut self, part: import::Part) -> Result<Report, String> {
        let bytes = Bytes::from(part.bytes);
        let mut report = match self.send(bytes.clone(), part.first)? {
            Some(report) => report,
            None => self.send(bytes, part.first)?.unwrap_or_default(),
        };
        for line in part.too_long {
            report.miss(line, format!("longer than {} MiB", MAX_LINE >> 20));
        }
        report.errors.sort_by_key(|mistake| mistake.line);
        Ok(report)
    }

    /// `None`: no gateway runs, and the ledger is open now.
    fn send(&mut self, lines: Bytes, first: u64) -> Result<Option<Report>, String> {
        let client = match &self.way {
            Way::Ledger(ledger) => {
                let counted = import::count(ledger, &lines, first, now_ms());
                return counted.map(|(report, _)| Some(report)).map_err(|e| format!("the ledger takes no more: {e}"));
            }
            Way::Gateway(client) => client,
        };
        match client.post_body_blocking(&format!("/admin/api/events/import?first_line={first}"), lines) {
            Ok(answer) if answer.status == 200 => {
                serde_json::from_slice(&answer.body).map(Some).map_err(|e| format!("the gateway's answer: {e}"))
            }
            Ok(answer) => Err(said(&answer.body)),
            // A gateway that has left in the middle may be about to come back, with the ledger.
            Err(ClientError::NotRunning(_)) if first == 1 => {
                self.way = Way::Ledger(open_ledger(self.config)?);
                Ok(None)
            }
            Err(e) => Err(e.to_string()),
        }
    }
}

fn client(config: &Config) -> Client {
    Client::new(config.data_dir.join(admin::SOCKET))
}

fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    if file == Path::new("-") { Ok(Box::new(io::stdin())) } else { Ok(Box::new(File::open(file)?)) }
}

fn open_ledger(config: &Config) -> Result<Ledger, String> {
    let directory = config.data_dir.clone();
    let at = |e: &dyn std::fmt::Display| format!("{}: {e}", directory.display());
    // As the gateway makes it: who used what is nobody else's business.
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|e| at(&e))?;
    Ledger::open(LedgerOptions {
        directory: directory.clone(),
        shards: 1,
        durability: config.ledger.durability,
        keep_minutes: config.ledger.keep_minutes,
        keep_hours: config.ledger.keep_hours,
        when_locked: WhenLocked::Refuse,
    })
    .map_err(|e| at(&e))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn summary(name: &str, sum: &Report, has_gateway: bool) -> String {
    let Report { lines, imported, known, skipped, unread, statuses, .. } = sum;
    let mut text = format!("{name}: {lines} lines: {imported} imported, {known} known before");
    for (count, what) in [(skipped, "without a key"), (unread, "that could not be read")] {
        if *count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text.push('\n');
    if statuses.seen + statuses.unread > 0 {
        text += &format!("{} statuses of upstream keys, ", statuses.seen);
        text += &match (has_gateway, statuses.applied) {
            (false, _) => "none applied: no gateway runs".to_owned(),
            (true, 0) => "none of a configured key, new and recent".to_owned(),
            (true, applied) => format!("applied to {applied} keys"),
        };
        if statuses.unread > 0 {
            text += &format!("; {} that could not be read", statuses.unread);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::Statuses;

    #[test]
    fn a_summary_says_what_became_of_every_line() {
        let statuses = Statuses { seen: 4, applied: 0, unread: 0 };
        let sum = Report { lines: 9, imported: 5, known: 4, ..Report::default() };
        assert_eq!(summary("f", &sum, true), "f: 9 lines: 5 imported, 4 known before\n");
        let sum = Report { lines: 12, skipped: 1, unread: 2, statuses, ..sum };
        let lines = "f: 12 lines: 5 imported, 4 known before, 1 without a key, 2 that could not be read\n";
        let said = |applied, unread, has_gateway| {
            let statuses = Statuses { applied, unread, ..statuses };
            summary("f", &Report { statuses, ..sum.clone() }, has_gateway).strip_prefix(lines).unwrap().to_owned()
        };
        assert_eq!(said(0, 0, false), "4 statuses of upstream keys, none applied: no gateway runs\n");
        assert_eq!(said(0, 0, true), "4 statuses of upstream keys, none of a configured key, new and recent\n");
        assert_eq!(said(2, 1, true), "4 statuses of upstream keys, applied to 2 keys; 1 that could not be read\n");
    }
}

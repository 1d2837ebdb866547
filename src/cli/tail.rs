//! `weir tail`: the requests of the running gateway, in the terminal, as they end.
//!
//! Owns how a record is shown on one line. What is shown is chosen by the gateway.

use std::collections::HashSet;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_filters::price::NanoUsd;

use crate::admin::client::ClientError;

use super::usage::{client, query_string, said};
use super::{Running, fail};

/// How long a gateway is waited for that has gone: another process may be taking its place.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(250);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Only requests of the key with this name
    #[arg(long)]
    key: Option<String>,
    /// Only requests of this user's keys
    #[arg(long)]
    user: Option<String>,
    /// Only requests for this model
    #[arg(long)]
    model: Option<String>,
    /// Only requests that this channel served
    #[arg(long)]
    channel: Option<String>,
    /// Only requests with this status: 429, 4xx, or none for clients that left
    #[arg(long)]
    status: Option<String>,
    /// How many of the latest are shown first
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    lines: u32,
    /// Show only the latest, and end
    #[arg(long)]
    no_follow: bool,
    /// Print whole records, one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

pub(super) fn tail(arguments: &Arguments) -> ExitCode {
    let data_dir = match arguments.running.data_dir() {
        Ok(directory) => directory,
        Err(code) => return code,
    };
    let client = client(&data_dir);
    let mut shown = Shown { json: arguments.json, ids: HashSet::new(), is_latest: true };
    if !arguments.no_follow {
        return follow(&client, arguments, &mut shown);
    }
    match latest(&client, arguments) {
        Ok(records) => {
            records.iter().all(|record| shown.show(record));
            ExitCode::SUCCESS
        }
        Err(message) => fail(format_args!("{message}")),
    }
}

fn follow(client: &crate::admin::client::Client, arguments: &Arguments, shown: &mut Shown) -> ExitCode {
    let (mut gone, mut last): (Option<Instant>, Option<String>) = (None, None);
    loop {
        let mut parameters = arguments.filters();
        // What ends between two streams of one process comes with the second.
        parameters.extend(last.clone().map(|id| ("last_event_id".to_owned(), id)));
        let path = format!("/admin/api/events?{}", query_string(&parameters));
        let (mut event, mut id) = (String::new(), None);
        let mut is_open = true;
        let ended = client.follow_blocking(&path, |line| {
            gone = None;
            if shown.is_latest {
                shown.is_latest = false;
                // What ends meanwhile comes from the stream as well: it is shown once.
                // On a thread of its own: this one's runtime waits for the stream.
                let asks = std::thread::scope(|scope| scope.spawn(|| latest(client, arguments)).join());
                match asks.unwrap_or_else(|_| Err("the latest requests cannot be asked for".to_owned())) {
                    Ok(latest) => is_open = latest.iter().all(|record| shown.show_latest(record)),
                    Err(message) => eprintln!("weir: {message}; what comes is shown"),
                }
            }
            match line.split_once(": ") {
                Some(("id", said)) => id = Some(said.to_owned()),
                Some(("event", name)) => name.clone_into(&mut event),
                Some(("data", data)) if event == "request" => {
                    is_open &= shown.show(data);
                }
                Some(("data", data)) if event == "missed" => {
                    eprintln!("weir: {}", missed(data));
                }
                // What an event says is whole with the line that is empty.
                None if line.is_empty() => last = id.take().or(last.take()),
                _ => {}
            }
            is_open
        });
        match ended {
            // Whoever reads what is printed has gone.
            Ok(_) if !is_open => return ExitCode::SUCCESS,
            Ok(None) => {}
            Ok(Some(answer)) => return fail(format_args!("{}", said(&answer.body))),
            Err(ClientError::NotRunning(_) | ClientError::Http(_)) if !shown.is_latest => {}
            Err(e) => return fail(format_args!("{e}")),
        }
        if gone.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return fail(format_args!("the gateway has ended"));
        }
        std::thread::sleep(RETRY);
    }
}

/// What is said of requests that did not come.
fn missed(data: &str) -> String {
    let missed: Value = serde_json::from_str(data).unwrap_or_default();
    match missed["records"].as_u64() {
        Some(records) => format!("{records} requests came too fast to be shown"),
        None => "requests that ended meanwhile may not be shown: another process serves, or it was too long".to_owned(),
    }
}

/// The latest records, the oldest first, as they were written.
fn latest(client: &crate::admin::client::Client, arguments: &Arguments) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Page {
        rows: Vec<Box<serde_json::value::RawValue>>,
    }

    if arguments.lines == 0 {
        return Ok(Vec::new());
    }
    let mut parameters = arguments.filters();
    parameters.push(("limit".to_owned(), arguments.lines.to_string()));
    let answer = client.get_blocking(&format!("/admin/api/requests?{}", query_string(&parameters)));
    match answer {
        Ok(answer) if answer.status == 200 => {
            let page: Page = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
            Ok(page.rows.iter().rev().map(|row| row.get().to_owned()).collect())
        }
        Ok(answer) => Err(said(&answer.body)),
        Err(e) => Err(e.to_string()),
    }
}

impl Arguments {
    fn filters(&self) -> Vec<(String, String)> {
        let all = [
            ("key", &self.key),
            ("user", &self.user),
            ("model", &self.model),
            ("channel", &self.channel),
            ("status", &self.status),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
    }
}

/// What was shown.
struct Shown {
    json: bool,
    /// Of those that were the latest when it began.
    ids: HashSet<String>,
    is_latest: bool,
}

impl Shown {
    /// Shows one of those that had ended when it began.
    fn show_latest(&mut self, record: &str) -> bool {
        let read: Value = serde_json::from_str(record).unwrap_or_default();
        self.ids.insert(read["id"].as_str().unwrap_or_default().to_owned());
        self.print(record, &read)
    }

    /// `false`: nobody reads it any more.
    fn show(&mut self, record: &str) -> bool {
        let read: Value = serde_json::from_str(record).unwrap_or_default();
        let is_shown = self.ids.remove(read["id"].as_str().unwrap_or_default());
        is_shown || self.print(record, &read)
    }

    fn print(&self, record: &str, read: &Value) -> bool {
        let line = if self.json { record.to_owned() } else { line(read) };
        writeln!(io::stdout(), "{line}").is_ok()
    }
}

/// A record on one line: when, what became of it, who asked, for what, where it went, what it used and took.
fn line(record: &Value) -> String {
    // What a client has named so could be an order to the terminal.
    let text = |field: &str| record[field].as_str().unwrap_or("-").replace(char::is_control, "\u{fffd}");
    let time = text("time");
    let clock = time.get(11..23).unwrap_or(&time);
    let status = record["status"].as_u64().map_or_else(|| "-".to_owned(), |status| status.to_string());
    let ended = match record["outcome"].as_str() {
        Some("ok") | None => String::new(),
        Some(outcome) => format!(" {outcome}"),
    };
    let error = record["error"].as_str().map(|error| format!(" ({error})")).unwrap_or_default();
    let figure = |field: &str| record[field].as_u64().unwrap_or(0);
    let tokens = format!("{}→{}", figure("input_tokens"), figure("output_tokens"));
    let took = record["duration_ms"].as_f64().map_or_else(|| "-".to_owned(), milliseconds);
    let first = record["ttft_ms"].as_f64().map(|ms| format!(" first {}", milliseconds(ms))).unwrap_or_default();
    let cost = figure("cost_nano_usd");
    let usd = NanoUsd(cost).to_string();
    let cost = if cost == 0 { String::new() } else { format!(" ${}", usd.trim_end_matches('0').trim_end_matches('.')) };
    format!(
        "{clock} {status}{ended}{error} {} {} via {} {tokens} tokens {took}{first}{cost}",
        text("key_name"),
        text("model_requested"),
        text("channel"),
    )
}

fn milliseconds(ms: f64) -> String {
    if ms >= 1000.0 { format!("{:.1} s", ms / 1000.0) } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_one_line() {
        let record = json!({
            "time": "2026-11-30T19:20:04.123Z", "status": 200, "outcome": "ok", "error": null, "key_name": "alice",
            "model_requested": "gpt-4o", "channel": "openai", "input_tokens": 1200, "output_tokens": 34,
            "duration_ms": 1234.5, "ttft_ms": 210.4, "cost_nano_usd": 3_450_000,
        });
        assert_eq!(
            line(&record),
            "19:20:04.123 200 alice gpt-4o via openai 1200→34 tokens 1.2 s first 210 ms $0.00345"
        );
        let left = json!({
            "time": "2026-11-30T19:20:04.123Z", "status": null, "outcome": "client_abort", "error": "client_left",
            "key_name": null, "model_requested": null, "channel": null, "input_tokens": 0, "output_tokens": 0,
            "duration_ms": 12.0, "ttft_ms": null, "cost_nano_usd": 0,
        });
        let forged = json!({ "model_requested": "\u{1b}]0;x\u{7}\nforged\u{9b}2J" });
        assert!(!line(&forged).contains(char::is_control), "{}", line(&forged));
        assert_eq!(line(&left), "19:20:04.123 - client_abort (client_left) - - via - 0→0 tokens 12 ms");
    }

    #[test]
    fn what_was_missed_is_counted_if_anybody_knows() {
        assert_eq!(missed("{\"records\":7}"), "7 requests came too fast to be shown");
        assert!(missed("{\"records\":null}").starts_with("requests that ended meanwhile may not be shown"));
    }

    #[test]
    fn what_is_both_among_the_latest_and_in_the_stream_is_shown_once() {
        let mut shown = Shown { json: true, ids: HashSet::new(), is_latest: false };
        assert!(shown.show_latest(r#"{"id":"a"}"#) && shown.ids.contains("a"));
        assert!(shown.show(r#"{"id":"a"}"#) && shown.ids.is_empty());
    }
}

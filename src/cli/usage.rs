//! `weir usage` and `weir reload`: questions to the running gateway, over the socket in its data
//! directory; the ledger is read directly when none runs.

mod parts;

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::PossibleValuesParser;
use serde_json::Value;
use weir_filters::calendar::rfc3339;
use weir_filters::moment::parse_ms;

use crate::admin;
use crate::admin::client::{Answer, Client, ClientError};
use crate::config::Config;
use crate::ledger::{self, By, Step};

use super::{fail, load};
use parts::Part;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What makes a row
    #[arg(long, value_parser = PossibleValuesParser::new(By::ALL.map(By::name)))]
    by: String,
    /// From this time on, inclusive: RFC 3339 or seconds since 1970
    #[arg(long)]
    from: Option<String>,
    /// Up to this time, exclusive
    #[arg(long)]
    to: Option<String>,
    /// One row for each step of time
    #[arg(long, value_parser = PossibleValuesParser::new(Step::ALL.map(Step::name)))]
    step: Option<String>,
    /// Print JSON, as the admin API does
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: super::Source,
}

impl Arguments {
    /// The same question as the admin API's parameters.
    fn parameters(&self) -> Vec<(String, String)> {
        [
            ("by", Some(self.by.clone())),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
            ("step", self.step.clone()),
        ]
        .into_iter()
        .filter_map(|(parameter, value)| Some((parameter.to_owned(), value?)))
        .collect()
    }
}

pub(super) fn usage(arguments: &Arguments) -> ExitCode {
    let config = match load(&arguments.source.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let rows = match from_gateway(&client(&config.data_dir), arguments) {
        Err(Unanswered::NotRunning) => from_ledger(&config, &arguments.parameters()),
        Err(Unanswered::Said(message)) => Err(message),
        Ok(rows) => Ok(Value::Array(rows)),
    };
    match rows {
        Ok(rows) if arguments.json => {
            println!("{}", serde_json::json!({ "rows": rows }));
            ExitCode::SUCCESS
        }
        Ok(rows) => {
            print!("{}", table(rows.as_array().map(Vec::as_slice).unwrap_or_default()));
            ExitCode::SUCCESS
        }
        Err(message) => fail(format_args!("{message}")),
    }
}

pub(super) fn reload(running: &super::Running) -> ExitCode {
    let data_dir = match running.data_dir() {
        Ok(directory) => directory,
        Err(code) => return code,
    };
    match client(&data_dir).post_blocking("/admin/api/reload") {
        Ok(answer) if answer.status == 200 => {
            let version = answer.json().map(|json| json["version"].clone()).unwrap_or_default();
            println!("configuration {version} is in force");
            ExitCode::SUCCESS
        }
        Ok(answer) => fail(format_args!("{}", said(&answer.body))),
        Err(e) => fail(format_args!("{e}")),
    }
}

pub(super) fn query_string(parameters: &[(String, String)]) -> String {
    let encode = |value: &str| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':');
        value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    };
    let parts: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    parts.join("&")
}

pub(super) fn client(data_dir: &Path) -> Client {
    Client::new(data_dir.join(admin::SOCKET))
}

/// Why there are no rows.
enum Unanswered {
    NotRunning,
    Said(String),
}

impl From<String> for Unanswered {
    fn from(message: String) -> Self {
        Self::Said(message)
    }
}

fn from_gateway(client: &Client, arguments: &Arguments) -> Result<Vec<Value>, Unanswered> {
    // What cannot be read as a time is the gateway's to complain of.
    let read = |time: &Option<String>| time.as_deref().and_then(parse_ms);
    let span = (read(&arguments.from), read(&arguments.to));
    let ask = |part: parts::Span| {
        let mut parameters = arguments.parameters();
        if part != span {
            parameters.retain(|(name, _)| !matches!(name.as_str(), "from" | "to"));
            let written = [("from", part.0), ("to", part.1)];
            parameters.extend(written.into_iter().filter_map(|(name, ms)| Some((name.to_owned(), rfc3339(ms?)))));
        }
        part_of(client.get_blocking(&format!("/admin/api/usage?{}", query_string(&parameters))))
    };
    let step = Step::ALL.into_iter().find(|step| arguments.step.as_deref() == Some(step.name()));
    parts::all(span, step, now_ms(), &ask)
}

fn part_of(answered: Result<Answer, ClientError>) -> Result<Part, Unanswered> {
    let answer = match answered {
        Ok(answer) => answer,
        Err(ClientError::NotRunning(..)) => return Err(Unanswered::NotRunning),
        Err(e) => return Err(e.to_string().into()),
    };
    if answer.status == 200 {
        let mut json = answer.json().map_err(|e| e.to_string())?;
        let rows = json["rows"].take();
        return Ok(Part::Rows(if let Value::Array(rows) = rows { rows } else { Vec::new() }));
    }
    // The step itself is one that there is: what is wrong with it is that it is too fine.
    let is_too_fine = answer.json().is_ok_and(|json| json["error"]["parameter"] == "step");
    let message = said(&answer.body);
    if is_too_fine { Ok(Part::TooMany(message)) } else { Err(message.into()) }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn from_ledger(config: &Config, parameters: &[(String, String)]) -> Result<Value, String> {
    let directory = &config.data_dir;
    if !directory.exists() {
        return Err(format!("{}: no gateway runs, and there is no ledger", directory.display()));
    }
    let (query, _) = admin::api::usage::parse(parameters).map_err(|e| e.to_string())?;
    let ledger = ledger::read_only(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let rows: Vec<Value> = ledger.usage(&query).iter().map(|row| row.to_json(query.by)).collect();
    Ok(Value::Array(rows))
}

/// The message of an error answer.
pub(super) fn said(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = json["error"]["message"].as_str().unwrap_or("the gateway's answer cannot be read").to_owned();
    let mistakes = json["error"]["mistakes"].as_array().map(Vec::as_slice).unwrap_or_default();
    mistakes.iter().filter_map(Value::as_str).fold(message, |all, mistake| format!("{all}\n{mistake}"))
}

/// What a row may have, in the order in which it is read.
const COLUMNS: [&str; 16] = [
    "key",
    "user",
    "model",
    "channel",
    "route",
    "day",
    "time",
    "requests",
    "failed",
    "events",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_micro_usd",
];

/// Rows as columns, the first left-aligned.
fn table(rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else { return "nothing was used\n".into() };
    let shown = |name: &&str| first.contains_key(*name) && rows.iter().any(|row| !row[*name].is_null());
    let names: Vec<&str> = COLUMNS.into_iter().filter(shown).collect();
    let cell = |row: &Value, name: &str| match &row[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut lines = vec![names.iter().map(|name| name.replace('_', " ")).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| names.iter().map(|name| cell(row, name)).collect()));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    lines.iter().fold(String::new(), |mut text, line| {
        for (i, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let numeric = i > 0 && names[i] != "time";
            text.push_str(&if numeric { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") });
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_become_columns() {
        let rows = [
            json!({"key": "alice", "time": null, "requests": 3, "input_tokens": 1200}),
            json!({"key": "bob-laptop", "time": null, "requests": 12, "input_tokens": 7}),
        ];
        let text = "key         requests  input tokens
alice              3          1200
bob-laptop        12             7
";
        assert_eq!(table(&rows), text);
    }

    #[test]
    fn a_time_is_encoded_for_the_query() {
        let parameters = [("from", "2026-01-01T00:00:00+02:00")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(query_string(&parameters), "from=2026-01-01T00:00:00%2B02:00");
    }

    #[test]
    fn no_rows_are_said_so() {
        assert_eq!(table(&[]), "nothing was used\n");
    }
}

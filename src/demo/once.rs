//! `weir demo --once`: every case through the gateway, one after the other, and whether the gateway,
//! the mock and the client agree on each.
//!
//! Knows nothing of where the gateway keeps its figures: it is given a way to read them.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use weir_filters::route::Operation;

use super::cases::{Case, CaseBody, ServedBy, cases};
use super::mock::{Entry, Mock};
use super::send::{Received, send};
use super::table;

/// How long a settlement may take to be seen: folding goes on in the background.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the gateway has metered for one operation and model, from its start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteredRow {
    /// The operation.
    pub operation: Operation,
    /// The model that clients asked for, or empty.
    pub model: String,
    /// Settled requests.
    pub requests: u64,
    /// Server-sent events.
    pub events: u64,
    /// Input tokens, cached ones included.
    pub input: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// Input tokens read from a cache.
    pub cache_read: u64,
    /// Input tokens written to a cache.
    pub cache_write: u64,
    /// Output tokens that were reasoning.
    pub reasoning: u64,
}

/// Runs every case and prints the table. Returns whether all sides agree on every case.
///
/// Nothing else may use the gateway meanwhile: a case is found in the figures by what they have grown.
///
/// # Errors
/// When `out` cannot be written to. A request that fails is a disagreement, not an error.
pub async fn run(
    gateway: SocketAddr,
    key: &str,
    mock: &Mock,
    metered: impl Fn() -> Vec<MeteredRow>,
    out: &mut impl Write,
) -> io::Result<bool> {
    let mut rows = Vec::new();
    let mut verdicts = vec!["verdict".to_owned()];
    let mut disagreements = 0_usize;
    for case in cases() {
        let seen = observe(gateway, key, mock, &metered, &case).await;
        let faults = seen.faults(&case);
        disagreements += usize::from(!faults.is_empty());
        rows.push(seen.cells(&case));
        verdicts.push(if faults.is_empty() { "agree".to_owned() } else { faults.join("; ") });
    }
    let head = [
        "operation",
        "model",
        "answer",
        "status",
        "events",
        "input",
        "output",
        "cache read",
        "cache write",
        "reasoning",
        "bytes",
    ];
    for (line, verdict) in table::lines(head, &rows, 3).iter().zip(verdicts) {
        writeln!(out, "{line}  {verdict}")?;
    }
    let verdict = match disagreements {
        0 => "gateway and mock agree on every request".to_owned(),
        number => format!("gateway and mock disagree on {number}"),
    };
    writeln!(out, "\nFigures are gateway/mock. *: but for the usage chunk that the client did not ask for.")?;
    writeln!(out, "{} requests: {verdict}.", rows.len())?;
    out.flush()?;
    Ok(disagreements == 0)
}

/// All sides of one case.
struct Seen {
    received: io::Result<Received>,
    /// What the mock's ledger gained.
    entries: Vec<Entry>,
    /// By what the gateway's figures grew.
    grown: Vec<MeteredRow>,
}

/// Whether the client has the bytes that the mock sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Identical,
    /// But for the usage chunk that Weir asked for and took out again.
    WithoutUsageChunk,
    Differ,
}

async fn observe(
    gateway: SocketAddr,
    key: &str,
    mock: &Mock,
    metered: &impl Fn() -> Vec<MeteredRow>,
    case: &Case,
) -> Seen {
    let before = metered();
    let last = mock.ledger().last().map_or(0, |entry| entry.number);
    let received = send(gateway, key, case, &[]).await;
    let entries: Vec<Entry> = mock.ledger().into_iter().filter(|entry| entry.number > last).collect();
    let mut grown = growth(&before, metered());
    if case.served_by == ServedBy::Upstream && received.is_ok() {
        let deadline = tokio::time::Instant::now() + SETTLED_WITHIN;
        while grown.is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
            grown = growth(&before, metered());
        }
    }
    Seen { received, entries, grown }
}

/// The rows that have grown, each with its growth.
fn growth(before: &[MeteredRow], after: Vec<MeteredRow>) -> Vec<MeteredRow> {
    after
        .into_iter()
        .map(|row| {
            let old = before.iter().find(|old| old.operation == row.operation && old.model == row.model);
            let Some(old) = old else { return row };
            MeteredRow {
                requests: row.requests.saturating_sub(old.requests),
                events: row.events.saturating_sub(old.events),
                input: row.input.saturating_sub(old.input),
                output: row.output.saturating_sub(old.output),
                cache_read: row.cache_read.saturating_sub(old.cache_read),
                cache_write: row.cache_write.saturating_sub(old.cache_write),
                reasoning: row.reasoning.saturating_sub(old.reasoning),
                ..row
            }
        })
        .filter(|row| row_figures(row) != [0; 7])
        .collect()
}

fn row_figures(row: &MeteredRow) -> [u64; 7] {
    [row.requests, row.events, row.input, row.output, row.cache_read, row.cache_write, row.reasoning]
}

fn entry_figures(entry: &Entry) -> [u64; 7] {
    let usage = &entry.usage;
    let (input, output) = (usage.input(), usage.output);
    [1, entry.events, input, output, usage.cache_read, usage.cache_write(), usage.reasoning]
}

impl Seen {
    /// What does not agree; empty if all does.
    fn faults(&self, case: &Case) -> Vec<String> {
        let received = match &self.received {
            Ok(received) => received,
            Err(error) => return vec![format!("no answer: {error}")],
        };
        let mut faults = Vec::new();
        if received.status != 200 {
            faults.push(format!("status {}", received.status));
        }
        if !received.headers.contains_key("x-weir-request-id") {
            faults.push("no request id".to_owned());
        }
        if case.served_by == ServedBy::Gateway {
            if !self.entries.is_empty() {
                faults.push("reached the upstream".to_owned());
            }
            return faults;
        }
        let [entry] = &self.entries[..] else {
            faults.push(format!("{} requests upstream", self.entries.len()));
            return faults;
        };
        if entry.status != received.status {
            faults.push(format!("upstream status {}", entry.status));
        }
        if !entry.finished {
            faults.push("cut short".to_owned());
        }
        if !entry.strays.is_empty() {
            faults.push(format!("leaked {}", entry.strays.join(", ")));
        }
        if !case.edits_body && entry.request_sha256 != <[u8; 32]>::from(Sha256::digest(case.bytes())) {
            faults.push("request changed".to_owned());
        }
        if bytes(case, received, entry) == Comparison::Differ {
            faults.push("answer changed".to_owned());
        }
        match &self.grown[..] {
            [row] => {
                // The model of a form is not where a body's model is; it may be left unnamed.
                let may_be_unnamed = matches!(case.body, CaseBody::Form(_)) && row.model.is_empty();
                if row.operation != case.operation || (row.model != case.model && !may_be_unnamed) {
                    faults.push(format!("metered as {} of {:?}", row.operation, row.model));
                }
                if row_figures(row) != entry_figures(entry) {
                    faults.push("figures".to_owned());
                }
            }
            rows => faults.push(format!("metered {} times", rows.len())),
        }
        faults
    }

    fn cells(&self, case: &Case) -> [String; 11] {
        let status = self.received.as_ref().map_or_else(|_| "-".to_owned(), |received| received.status.to_string());
        let gateway = self.grown.first().map(row_figures);
        let mock = self.entries.first().map(entry_figures);
        let both = |at: usize| {
            let shown = |figures: Option<[u64; 7]>| figures.map_or_else(|| "-".to_owned(), |f| f[at].to_string());
            if gateway.is_none() && mock.is_none() {
                return "-".to_owned();
            }
            format!("{}/{}", shown(gateway), shown(mock))
        };
        let bytes = match (&self.received, self.entries.first()) {
            (Ok(received), Some(entry)) => match bytes(case, received, entry) {
                Comparison::Identical => "identical",
                Comparison::WithoutUsageChunk => "identical*",
                Comparison::Differ => "differ",
            },
            _ => "-",
        };
        let model = if case.model.is_empty() { "-" } else { case.model };
        [
            case.operation.name().to_owned(),
            model.to_owned(),
            if case.stream { "stream" } else { "plain" }.to_owned(),
            status,
            both(1),
            both(2),
            both(3),
            both(4),
            both(5),
            both(6),
            bytes.to_owned(),
        ]
    }
}

/// Only a request that Weir may have edited may lose its usage chunk: a client that asked for it must get it.
fn bytes(case: &Case, received: &Received, entry: &Entry) -> Comparison {
    let got: [u8; 32] = Sha256::digest(&received.body).into();
    match entry.response_sha256_without_usage {
        Some(without) if case.edits_body && got == without => Comparison::WithoutUsageChunk,
        _ if got == entry.response_sha256 && !(case.edits_body && entry.response_sha256_without_usage.is_some()) => {
            Comparison::Identical
        }
        _ => Comparison::Differ,
    }
}

#[cfg(test)]
mod tests {
    use weir_filters::secret::Secret;

    use super::*;
    use crate::demo::mock::MockOptions;
    use crate::demo::relay;

    const KEY: &str = "sk-upstream-canary";

    fn row(operation: Operation, model: &str, figures: [u64; 7]) -> MeteredRow {
        let [requests, events, input, output, cache_read, cache_write, reasoning] = figures;
        let model = model.to_owned();
        MeteredRow { operation, model, requests, events, input, output, cache_read, cache_write, reasoning }
    }

    /// Meters as the mock's ledger says.
    fn honest(mock: &Mock) -> Vec<MeteredRow> {
        let mut rows: Vec<MeteredRow> = Vec::new();
        for entry in mock.ledger() {
            let figures = entry_figures(&entry);
            match rows.iter_mut().find(|row| row.operation == entry.operation && row.model == entry.model) {
                Some(old) => {
                    let sum = std::array::from_fn(|at| row_figures(old)[at] + figures[at]);
                    *old = row(entry.operation, &entry.model, sum);
                }
                None => rows.push(row(entry.operation, &entry.model, figures)),
            }
        }
        rows
    }

    async fn demo(falsify: impl Fn(&mut Vec<MeteredRow>)) -> (bool, String) {
        let mock = Mock::start(MockOptions { upstream_key: Secret::new(KEY) }).expect("a free port");
        let gateway = relay::start(mock.address(), KEY).await;
        let metered = || {
            let mut rows = honest(&mock);
            falsify(&mut rows);
            rows
        };
        let mut out = Vec::new();
        let agree = run(gateway, "sk-weir-demo", &mock, metered, &mut out).await.expect("memory");
        (agree, String::from_utf8(out).expect("text"))
    }

    #[tokio::test]
    async fn an_honest_gateway_agrees_with_the_mock() {
        let (agree, table) = demo(|_| {}).await;
        assert!(agree, "{table}");
        assert_eq!(table.lines().filter(|line| line.ends_with("  agree")).count(), cases().len(), "{table}");
        let last = format!("{} requests: gateway and mock agree on every request.", cases().len());
        assert_eq!(table.lines().last(), Some(last.as_str()));
    }

    #[tokio::test]
    async fn one_token_too_many_is_found() {
        let (agree, table) = demo(|rows| {
            for row in rows.iter_mut().filter(|row| row.model == "grok-4") {
                row.output += row.requests;
            }
        })
        .await;
        assert!(!agree);
        let wrong: Vec<&str> = table.lines().filter(|line| line.ends_with("  figures")).collect();
        assert_eq!(wrong.len(), 2, "{table}");
        assert!(wrong.iter().all(|line| line.contains("grok-4")), "{table}");
    }

    #[tokio::test]
    async fn a_request_metered_under_another_model_is_found() {
        let (agree, table) = demo(|rows| {
            for row in rows.iter_mut().filter(|row| row.model == "kimi-k2") {
                row.model = "other".to_owned();
            }
        })
        .await;
        assert!(!agree);
        assert!(table.contains("metered as openai.chat of \"other\""), "{table}");
    }

    fn entry() -> Entry {
        Entry {
            number: 1,
            operation: Operation::OpenAiChat,
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            model: "gpt-4o-mini".into(),
            stream: true,
            status: 200,
            usage: weir_filters::usage::Usage::default(),
            events: 1,
            request_bytes: 0,
            request_sha256: [0; 32],
            response_bytes: 0,
            response_sha256: Sha256::digest(b"with").into(),
            response_sha256_without_usage: Some(Sha256::digest(b"without").into()),
            finished: true,
            header_names: Vec::new(),
            strays: Vec::new(),
            request_id: None,
        }
    }

    #[test]
    fn only_a_client_that_did_not_ask_goes_without_its_usage_chunk() {
        let streams: Vec<Case> = cases().into_iter().filter(|c| c.model == "gpt-4o-mini" && c.stream).collect();
        let [silent, asking] = &streams[..] else { panic!("two streams of gpt-4o-mini") };
        assert_eq!((silent.edits_body, asking.edits_body), (true, false));
        let compared = |case: &Case, body: &'static [u8]| {
            let headers = http::HeaderMap::new();
            bytes(case, &Received { status: 200, headers, body: bytes::Bytes::from_static(body) }, &entry())
        };
        assert_eq!(compared(silent, b"without"), Comparison::WithoutUsageChunk);
        assert_eq!(compared(silent, b"with"), Comparison::Differ);
        assert_eq!(compared(asking, b"with"), Comparison::Identical);
        assert_eq!(compared(asking, b"without"), Comparison::Differ);
    }

    #[test]
    fn a_leaked_credential_is_a_fault() {
        let case = cases().remove(1);
        let mut headers = http::HeaderMap::new();
        headers.insert("x-weir-request-id", http::HeaderValue::from_static("0"));
        let received = Received { status: 200, headers, body: bytes::Bytes::from_static(b"without") };
        let entry = Entry { strays: vec!["?key="], ..entry() };
        let grown = vec![row(Operation::OpenAiChat, "gpt-4o-mini", entry_figures(&entry))];
        let seen = Seen { received: Ok(received), entries: vec![entry], grown };
        assert_eq!(seen.faults(&case), ["leaked ?key="]);
    }
}

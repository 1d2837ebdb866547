//! The live table of `weir demo`: what has been metered so far.
//!
//! Knows nothing of where the figures come from or when they are read.

use std::io::{self, Write};
use std::net::SocketAddr;

use super::cases::samples;
use super::curl;
use super::once::MeteredRow;
use super::table;

/// A table that is drawn again and again.
#[derive(Debug)]
pub struct LiveTable {
    is_terminal: bool,
    shown: Vec<MeteredRow>,
    lines: usize,
}

impl LiveTable {
    /// On a terminal the table is redrawn in place; elsewhere only changed rows are printed.
    pub fn new(is_terminal: bool) -> Self {
        Self { is_terminal, shown: Vec::new(), lines: 0 }
    }

    /// Shows `rows`, if anything has changed.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn draw(&mut self, rows: &[MeteredRow], out: &mut impl Write) -> io::Result<()> {
        if rows == self.shown {
            return Ok(());
        }
        let changed: Vec<MeteredRow> = if self.is_terminal {
            rows.to_vec()
        } else {
            rows.iter().filter(|row| !self.shown.contains(row)).cloned().collect()
        };
        if self.is_terminal && self.lines > 0 {
            // Up to the table's first line, then clear to the end of the screen.
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        let lines = rendered(&changed);
        // Off a terminal the head is printed once.
        let from = usize::from(!self.is_terminal && !self.shown.is_empty());
        for line in &lines[from..] {
            writeln!(out, "{line}")?;
        }
        self.lines = lines.len();
        self.shown = rows.to_vec();
        out.flush()
    }
}

/// Prints a curl line for every protocol and form of answer.
///
/// # Errors
/// When `out` cannot be written to.
pub fn print_curl_lines(gateway: SocketAddr, key: &str, out: &mut impl Write) -> io::Result<()> {
    for case in samples() {
        let how = if case.stream { "streamed" } else { "plain" };
        writeln!(out, "# {}, {how}\n{}\n", case.operation, curl::line(gateway, key, &case))?;
    }
    out.flush()
}

fn rendered(rows: &[MeteredRow]) -> Vec<String> {
    let head =
        ["operation", "model", "requests", "events", "input", "output", "cache read", "cache write", "reasoning"];
    let cells: Vec<[String; 9]> = rows
        .iter()
        .map(|row| {
            let model = if row.model.is_empty() { "-" } else { &row.model };
            [
                row.operation.name().to_owned(),
                model.to_owned(),
                row.requests.to_string(),
                row.events.to_string(),
                row.input.to_string(),
                row.output.to_string(),
                row.cache_read.to_string(),
                row.cache_write.to_string(),
                row.reasoning.to_string(),
            ]
        })
        .collect();
    table::lines(head, &cells, 2)
}

#[cfg(test)]
mod tests {
    use weir_filters::route::Operation;

    use super::*;

    fn row(model: &str, requests: u64) -> MeteredRow {
        MeteredRow {
            operation: Operation::OpenAiChat,
            model: model.to_owned(),
            requests,
            events: 12,
            input: 30,
            output: 9,
            cache_read: 4,
            cache_write: 0,
            reasoning: 1,
        }
    }

    const HEAD: &str = "operation    model  requests  events  input  output  cache read  cache write  reasoning\n";
    const A1: &str = "openai.chat  a             1      12     30       9           4            0          1\n";
    const A2: &str = "openai.chat  a             2      12     30       9           4            0          1\n";
    const B1: &str = "openai.chat  b             1      12     30       9           4            0          1\n";

    fn drawn(is_terminal: bool, frames: &[&[MeteredRow]]) -> String {
        let mut table = LiveTable::new(is_terminal);
        let mut out = Vec::new();
        for frame in frames {
            table.draw(frame, &mut out).expect("memory takes everything");
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_terminal_is_redrawn_in_place() {
        let shown = drawn(true, &[&[row("a", 1)], &[row("a", 1)], &[row("a", 2), row("b", 1)]]);
        assert_eq!(shown, format!("{HEAD}{A1}\x1b[2A\x1b[J{HEAD}{A2}{B1}"));
    }

    #[test]
    fn elsewhere_only_changed_rows_are_printed() {
        let shown = drawn(false, &[&[row("a", 1)], &[row("a", 1)], &[row("a", 1), row("b", 1)]]);
        assert_eq!(shown, format!("{HEAD}{A1}{B1}"));
    }

    #[test]
    fn a_curl_line_stands_under_its_title() {
        let mut out = Vec::new();
        print_curl_lines("127.0.0.1:8514".parse().expect("an address"), "KEY", &mut out).expect("memory");
        let text = String::from_utf8(out).expect("text");
        let first = "# openai.chat, plain\ncurl -N http://127.0.0.1:8514/v1/chat/completions \
            -H 'Authorization: Bearer KEY' -H 'content-type: application/json' -d '{";
        assert!(text.starts_with(first), "{text}");
    }
}

//! The bytes of every answer: the mock writes them and the load expects them, to the byte.
//!
//! An event's length is known from its place in the stream, so checking it is comparing it.

/// The JSON answer's body.
pub(crate) const JSON_BODY: &[u8] = br#"{"id":"chatcmpl-bench","object":"chat.completion","created":1760000000,"model":"bench-model","choices":[{"index":0,"message":{"role":"assistant","content":"A weir is a low dam across a river. Water flows over its top, so the level above it says how much passes: hydrologists measure rivers with weirs of known shape. They need no moving part, survive floods and cost little.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":46,"total_tokens":65,"prompt_tokens_details":{"cached_tokens":0}},"system_fingerprint":"fp_bench"}"#;

/// An event of text, up to its number; the number; then the time, and the end.
const TEXT: [&[u8]; 3] = [
    br#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","model":"bench-model","choices":[{"index":0,"delta":{"content":" measuring it"}}],"n":""#,
    br#"","t":""#,
    b"\"}\n\n",
];

/// The last of text. Its usage stands beside a choice, whether it was asked for or not.
const USAGE: [&[u8]; 3] = [
    br#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","model":"bench-model","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":46,"total_tokens":65},"n":""#,
    br#"","t":""#,
    b"\"}\n\n",
];

/// The report that a request asks for: usage without a choice. A proxy that asked by itself takes it out again.
const REPORT: [&[u8]; 3] = [
    br#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","model":"bench-model","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":46,"total_tokens":65},"n":""#,
    br#"","t":""#,
    b"\"}\n\n",
];

const DONE: &[u8] = b"data: [DONE]\n\n";

const NUMBER_DIGITS: usize = 10;
const TIME_DIGITS: usize = 20;

/// The longest event.
pub(crate) const MAX_EVENT: usize = length(USAGE);

/// Which events a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// How many, the report and `[DONE]` among them.
    total: u64,
    reports: bool,
}

impl Script {
    /// A stream of so many events, and the report as one more if it was asked for.
    pub(crate) fn new(events: u64, reports: bool) -> Self {
        Self { total: events.saturating_add(u64::from(reports)), reports }
    }

    pub(crate) fn total(self) -> u64 {
        self.total
    }

    fn parts(self, index: u64) -> Option<[&'static [u8]; 3]> {
        match (self.total - index, self.reports) {
            (1, _) => None,
            (2, true) => Some(REPORT),
            (2, false) | (3, true) => Some(USAGE),
            _ => Some(TEXT),
        }
    }

    /// The length of the event at a place before `total`.
    fn event_len(self, index: u64) -> usize {
        self.parts(index).map_or(DONE.len(), length)
    }
}

/// What is checked of an event once it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// When the mock wrote it; `[DONE]` does not say.
    pub(crate) written: Option<u64>,
}

/// An event that is not the one that this place of the stream has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Altered;

const fn length(parts: [&[u8]; 3]) -> usize {
    parts[0].len() + NUMBER_DIGITS + parts[1].len() + TIME_DIGITS + parts[2].len()
}

/// Appends an event as a chunk of its own, and the last chunk behind the last event.
pub(crate) fn push_chunk(out: &mut Vec<u8>, index: u64, script: Script, now: u64) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let length = script.event_len(index);
    for shift in [8, 4, 0] {
        if length >> shift > 0 {
            out.push(HEX[length >> shift & 0xf]);
        }
    }
    out.extend_from_slice(b"\r\n");
    push_event(out, index, script, now);
    out.extend_from_slice(if index + 1 == script.total { b"\r\n0\r\n\r\n" } else { b"\r\n" });
}

const _: () = assert!(
    length(TEXT) <= MAX_EVENT && length(REPORT) <= MAX_EVENT && MAX_EVENT <= 0xfff,
    "a chunk's size has up to three digits"
);

fn push_event(out: &mut Vec<u8>, index: u64, script: Script, now: u64) {
    let Some([head, middle, end]) = script.parts(index) else { return out.extend_from_slice(DONE) };
    out.extend_from_slice(head);
    out.extend_from_slice(&digits::<NUMBER_DIGITS>(index));
    out.extend_from_slice(middle);
    out.extend_from_slice(&digits::<TIME_DIGITS>(now));
    out.extend_from_slice(end);
}

fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// Checks the bytes of one event, which are as many as the script says.
fn check(bytes: &[u8], index: u64, script: Script) -> Result<Event, Altered> {
    let Some([head, middle, end]) = script.parts(index) else {
        return if bytes == DONE { Ok(Event { written: None }) } else { Err(Altered) };
    };
    let rest = bytes.strip_prefix(head).ok_or(Altered)?;
    let rest = rest.strip_prefix(&digits::<NUMBER_DIGITS>(index)).ok_or(Altered)?;
    let rest = rest.strip_prefix(middle).ok_or(Altered)?;
    let (time, rest) = rest.split_at_checked(TIME_DIGITS).ok_or(Altered)?;
    let written = crate::head::number(time).ok_or(Altered)?;
    if rest == end { Ok(Event { written: Some(written) }) } else { Err(Altered) }
}

/// Checks the events of one stream, however its bytes are cut: each whole, in order, none missing, none twice.
#[derive(Debug)]
pub(crate) struct EventCheck {
    script: Script,
    next: u64,
    /// The beginning of the next event.
    held: [u8; MAX_EVENT],
    held_len: usize,
}

impl EventCheck {
    pub(crate) fn new(script: Script) -> Self {
        Self { script, next: 0, held: [0; MAX_EVENT], held_len: 0 }
    }

    /// Takes the stream's next bytes and reports each event that they complete.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut on_event: impl FnMut(Event)) -> Result<(), Altered> {
        while !bytes.is_empty() {
            if self.next == self.script.total {
                return Err(Altered);
            }
            let missing = self.script.event_len(self.next) - self.held_len;
            let Some((piece, rest)) = bytes.split_at_checked(missing) else {
                self.held[self.held_len..self.held_len + bytes.len()].copy_from_slice(bytes);
                self.held_len += bytes.len();
                return Ok(());
            };
            let whole = if self.held_len == 0 {
                piece
            } else {
                let whole = &mut self.held[..self.held_len + missing];
                whole[self.held_len..].copy_from_slice(piece);
                whole
            };
            let event = check(whole, self.next, self.script)?;
            self.next += 1;
            self.held_len = 0;
            bytes = rest;
            on_event(event);
        }
        Ok(())
    }

    /// Whether every event has come.
    pub(crate) fn is_whole(&self) -> bool {
        self.next == self.script.total
    }

    /// The place of the event that is expected next.
    pub(crate) fn expected(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: Script = Script { total: 5, reports: false };

    fn stream(order: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        order.iter().for_each(|index| push_event(&mut bytes, *index, SCRIPT, 1_000 + index));
        bytes
    }

    fn feed(parts: &[&[u8]]) -> Result<(Vec<Option<u64>>, bool), Altered> {
        let mut check = EventCheck::new(SCRIPT);
        let mut times = Vec::new();
        for part in parts {
            check.feed(part, |event| times.push(event.written))?;
        }
        Ok((times, check.is_whole()))
    }

    #[test]
    fn the_answers_are_json_that_counts_tokens() {
        let json: serde_json::Value = serde_json::from_slice(JSON_BODY).unwrap();
        assert_eq!(json["usage"]["total_tokens"], 65);
        let bytes = stream(&[0, 3]);
        let events: Vec<serde_json::Value> = std::str::from_utf8(&bytes)
            .unwrap()
            .split_terminator("\n\n")
            .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
            .collect();
        assert_eq!(events[0]["choices"][0]["delta"]["content"], " measuring it");
        assert_eq!(events[0]["t"], "00000000000000001000");
        assert_eq!(events[1]["usage"]["total_tokens"], 65);
        assert_eq!(events[1]["n"], "0000000003");
        assert_eq!(SCRIPT.event_len(0), 190);
    }

    #[test]
    fn events_are_checked_at_every_split_in_three() {
        let bytes = stream(&[0, 1, 2, 3, 4]);
        let expected = Ok((vec![Some(1_000), Some(1_001), Some(1_002), Some(1_003), None], true));
        for first in (0..=bytes.len()).step_by(3) {
            for second in first..=bytes.len() {
                let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(feed(&parts), expected, "split at {first} and {second}");
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(feed(&single), expected, "byte by byte");
    }

    #[test]
    fn a_report_that_was_asked_for_is_one_event_more() {
        let asked = Script::new(5, true);
        let mut bytes = Vec::new();
        (0..asked.total()).for_each(|index| push_event(&mut bytes, index, asked, 1_000));
        let text = std::str::from_utf8(&bytes).unwrap();
        let report = text.split_terminator("\n\n").nth(4).unwrap().strip_prefix("data: ").unwrap();
        let report: serde_json::Value = serde_json::from_str(report).unwrap();
        assert_eq!((&report["choices"], &report["n"]), (&serde_json::json!([]), &"0000000004".into()));
        assert_eq!(report["usage"]["total_tokens"], 65);
        let mut expecting = EventCheck::new(asked);
        assert_eq!(expecting.feed(&bytes, |_| {}), Ok(()));
        assert!(expecting.is_whole());
        assert_eq!(feed(&[&bytes]), Err(Altered), "nobody asked");
        let mut lacking = EventCheck::new(asked);
        let _ = lacking.feed(&stream(&[0, 1, 2, 3, 4]), |_| {});
        assert!(!lacking.is_whole(), "it is missing");
        assert_eq!(Script::new(5, false), SCRIPT);
    }

    #[test]
    fn missing_repeated_and_exchanged_events_are_found() {
        for order in [[0, 2, 3, 4, 4], [0, 0, 1, 2, 3], [0, 2, 1, 3, 4], [1, 0, 2, 3, 4], [0, 1, 2, 4, 3]] {
            assert_eq!(feed(&[&stream(&order)]), Err(Altered), "{order:?}");
        }
        assert_eq!(feed(&[&stream(&[0, 1, 2, 3, 4, 4])]), Err(Altered), "one too many");
        assert!(!feed(&[&stream(&[0, 1, 2, 3])]).unwrap().1, "one too few");
    }

    #[test]
    fn no_altered_byte_passes_unnoticed() {
        let bytes = stream(&[0, 1, 2, 3, 4]);
        let honest = feed(&[&bytes]);
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert_ne!(feed(&[&altered]), honest, "byte {at}");
        }
    }

    #[test]
    fn a_chunk_holds_one_event_and_the_last_ends_the_body() {
        let mut chunk = Vec::new();
        push_chunk(&mut chunk, 4, SCRIPT, 0);
        assert_eq!(chunk, b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
        chunk.clear();
        push_chunk(&mut chunk, 0, SCRIPT, 0);
        assert!(chunk.starts_with(b"be\r\ndata: {") && chunk.ends_with(b"\"}\n\n\r\n"));
        chunk.clear();
        push_chunk(&mut chunk, 3, SCRIPT, 0);
        assert!(chunk.starts_with(b"102\r\ndata: {") && chunk.len() == 0x102 + 7);
    }
}

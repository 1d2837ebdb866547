//! Server-sent events out of bytes that arrive in pieces, by the WHATWG rules
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>).
//!
//! Any split of the stream gives the same events; an event that lies whole in one piece is passed
//! on without a copy. It knows nothing of what an event means: not even `[DONE]`.

use memchr::memchr2;

/// The longest event that is read: a megabyte is far above any delta or usage report, and it bounds
/// what one stream can hold in memory. Of a longer event only the beginning is passed on.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// What a line is kept of: the longest data, its field name, and a byte order mark.
const MAX_LINE_BYTES: usize = MAX_EVENT_BYTES + 16;

/// Event names are short: of a longer one, which matches nothing anyway, the beginning is kept.
pub const MAX_NAME_BYTES: usize = 1024;

/// A buffer that grew beyond this for one long event is given back: streams live for minutes.
const KEPT_CAPACITY: usize = 16 << 10;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The value of its last `event` field, empty if it had none.
    pub name: &'a [u8],
    /// The values of its `data` fields, joined by newlines.
    pub data: &'a [u8],
    /// Whether `data` is all of it. Of an event above [`MAX_EVENT_BYTES`] it is the beginning.
    pub whole: bool,
}

/// Finds the events in a stream.
#[derive(Debug)]
pub struct Scanner {
    /// A line whose end has not come yet.
    line: Vec<u8>,
    /// Data of the open event that no longer lies in the piece at hand.
    data: Vec<u8>,
    name: Vec<u8>,
    state: Data,
    after_cr: bool,
    first_line: bool,
}

/// What the open event has of `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    None,
    Whole,
    /// More than is kept.
    Cut,
}

enum Line<'a> {
    Blank,
    Data(&'a [u8]),
    Name(&'a [u8]),
    Other,
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner::new()
    }
}

impl Scanner {
    /// A scanner at the beginning of a stream. Nothing is allocated until a line is split.
    pub const fn new() -> Scanner {
        Scanner {
            line: Vec::new(),
            data: Vec::new(),
            name: Vec::new(),
            state: Data::None,
            after_cr: false,
            first_line: true,
        }
    }

    /// Reads the next piece, of any length, and passes on each event that ends in it.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Event<'_>)) {
        let mut rest = chunk;
        // The open event's name, and its only data so far, while they lie in this piece.
        let mut name: Option<&[u8]> = None;
        let mut direct: Option<&[u8]> = None;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        loop {
            // The empty line after nearly every line of data is not worth a search.
            if let [b'\n', tail @ ..] = rest
                && self.line.is_empty()
            {
                rest = tail;
                self.first_line = false;
                self.dispatch(name.take(), direct.take(), &mut each);
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else { break };
            let (head, tail) = (&rest[..end], &rest[end + 1..]);
            if rest[end] == b'\r' {
                self.after_cr = tail.is_empty();
                rest = tail.strip_prefix(b"\n").unwrap_or(tail);
            } else {
                rest = tail;
            }
            if self.line.is_empty() {
                match self.field(head) {
                    Line::Blank => self.dispatch(name.take(), direct.take(), &mut each),
                    Line::Data(value) if self.state == Data::None => {
                        self.state = Data::whole(value.len() <= MAX_EVENT_BYTES);
                        direct = Some(&value[..value.len().min(MAX_EVENT_BYTES)]);
                    }
                    Line::Data(value) => {
                        self.data.extend_from_slice(direct.take().unwrap_or_default());
                        self.append(value);
                    }
                    Line::Name(value) => name = Some(value),
                    Line::Other => {}
                }
            } else {
                self.data.extend_from_slice(direct.take().unwrap_or_default());
                self.hold(head);
                // A name in the line that was split comes after one that lies in this piece.
                self.keep_name(name.take());
                self.line_ended();
            }
        }
        self.data.extend_from_slice(direct.unwrap_or_default());
        self.keep_name(name);
        self.hold(rest);
    }

    /// The stream is over. An event without its empty line is no event by the rules and is not
    /// counted as one, but a report that it carries was delivered: it is passed on here.
    pub fn finish(&mut self, mut rest: impl FnMut(Event<'_>)) {
        self.line_ended();
        if self.state != Data::None {
            self.dispatch(None, None, &mut rest);
        }
    }

    fn line_ended(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            match self.field(&line) {
                Line::Data(value) => self.append(value),
                Line::Name(value) => self.keep_name(Some(value)),
                Line::Blank | Line::Other => {}
            }
        }
        line.clear();
        line.shrink_to(KEPT_CAPACITY);
        self.line = line;
    }

    fn field<'a>(&mut self, line: &'a [u8]) -> Line<'a> {
        let line = if std::mem::take(&mut self.first_line) { line.strip_prefix(BOM).unwrap_or(line) } else { line };
        if line.is_empty() {
            return Line::Blank;
        }
        if let Some(value) = line.strip_prefix(b"data") {
            if let Some(value) = value.strip_prefix(b":") {
                return Line::Data(value.strip_prefix(b" ").unwrap_or(value));
            }
            if value.is_empty() {
                return Line::Data(value);
            }
        } else if let Some(value) = line.strip_prefix(b"event")
            && (value.is_empty() || value[0] == b':')
        {
            let value = value.strip_prefix(b":").unwrap_or(value);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            return Line::Name(&value[..value.len().min(MAX_NAME_BYTES)]);
        }
        Line::Other
    }

    fn keep_name(&mut self, name: Option<&[u8]>) {
        if let Some(name) = name {
            self.name.clear();
            self.name.extend_from_slice(name);
        }
    }

    fn append(&mut self, value: &[u8]) {
        let room = MAX_EVENT_BYTES - self.data.len();
        let newline = usize::from(self.state != Data::None);
        let fits = newline + value.len() <= room;
        if newline == 1 && room > 0 {
            self.data.push(b'\n');
        }
        let room = room.saturating_sub(newline);
        self.data.extend_from_slice(&value[..value.len().min(room)]);
        self.state = Data::whole(fits && self.state != Data::Cut);
    }

    fn hold(&mut self, piece: &[u8]) {
        let room = MAX_LINE_BYTES.saturating_sub(self.line.len());
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// `name` and `direct` are those of the event that lie in the piece at hand.
    fn dispatch(&mut self, name: Option<&[u8]>, direct: Option<&[u8]>, each: &mut impl FnMut(Event<'_>)) {
        if self.state != Data::None {
            let (name, data) = (name.unwrap_or(&self.name), direct.unwrap_or(&self.data));
            each(Event { name, data, whole: self.state == Data::Whole });
            if direct.is_none() {
                self.data.clear();
                self.data.shrink_to(KEPT_CAPACITY);
            }
        }
        self.name.clear();
        self.state = Data::None;
    }
}

impl Data {
    fn whole(whole: bool) -> Data {
        if whole { Data::Whole } else { Data::Cut }
    }
}

//! The client gets the stream that it asked for: where Weir asked for usage in its stead, the extra
//! usage chunk of an OpenAI stream is taken out.
//!
//! Exactly the event with an empty `choices` array and a `usage` object goes, with the empty line
//! that ends it. Every other byte passes, in order and as soon as it cannot belong to that event.
//! It does not read usage: the meter is fed with the stream before the cut.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use crate::sse::MAX_EVENT_BYTES;
use crate::text::Needle;
use crate::walk::{Found, Walker, Wanted};

/// The longest event that is held back; a usage chunk has a few hundred bytes.
const MAX_HELD_BYTES: usize = MAX_EVENT_BYTES;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Enough of a line's beginning to know its field.
const MAX_FIELD_BYTES: usize = BOM.len() + b"data:".len();

/// Takes the usage chunk out of one stream.
pub struct UsageCut {
    /// Earlier bytes of the open event, while it may be the usage chunk.
    held: BytesMut,
    event: State,
    line: Line,
    field: [u8; MAX_FIELD_BYTES],
    field_len: usize,
    first_line: bool,
    walker: Walker<Mark>,
    marks: Marks,
    /// Whether the open event has data so far.
    walked: bool,
    /// After a CR an LF still belongs to the line's end; whether it goes with a cut event.
    after_cr: Option<Fate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No field yet: comments and empty lines pass.
    Fresh,
    /// It may be the usage chunk.
    Open,
    /// It is not.
    Passing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Its field is not known yet.
    Start,
    /// The value of `data`, walked.
    Data,
    /// Nothing of interest up to its end.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Usage,
    Choices,
    Choice,
}

#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    usage: bool,
    choices: bool,
    choice: bool,
}

const WANTED: &[Wanted<Mark>] = &[
    Wanted { path: &["usage"], what: Mark::Usage, mark: true },
    Wanted { path: &["choices"], what: Mark::Choices, mark: true },
    Wanted { path: &["choices", "0"], what: Mark::Choice, mark: true },
];

impl Marks {
    fn set(&mut self, found: &Found<'_, Mark>) {
        match found {
            Found::Value(Mark::Usage, first, _) => self.usage = *first == b"{",
            Found::Value(Mark::Choices, first, _) => self.choices = *first == b"[",
            Found::Value(Mark::Choice, ..) => self.choice = true,
            Found::End => {}
        }
    }

    fn is_usage_chunk(self) -> bool {
        self.usage && self.choices && !self.choice
    }
}

impl Default for UsageCut {
    fn default() -> Self {
        UsageCut::new()
    }
}

impl UsageCut {
    /// A cut at the beginning of a stream.
    pub fn new() -> UsageCut {
        UsageCut {
            held: BytesMut::new(),
            event: State::Fresh,
            line: Line::Start,
            field: [0; MAX_FIELD_BYTES],
            field_len: 0,
            first_line: true,
            walker: Walker::new(WANTED, &[]),
            marks: Marks::default(),
            walked: false,
            after_cr: None,
        }
    }

    /// What the client gets of the next bytes. Without a copy if nothing is cut or held.
    pub fn feed(&mut self, chunk: Bytes) -> Bytes {
        let mut out = Output::default();
        // Bytes before `kept` are out or cut; the open event begins at `begin`, or was held.
        let (mut kept, mut begin, mut at) = (0, 0, 0);
        while at < chunk.len() {
            if let Some(fate) = self.after_cr.take()
                && chunk[at] == b'\n'
            {
                at += 1;
                match fate {
                    Fate::Gone => kept = at,
                    Fate::Kept => {}
                }
                if self.event == State::Fresh {
                    begin = at;
                }
                continue;
            }
            match self.line {
                Line::Start => {
                    if self.event == State::Fresh
                        && self.field_len == 0
                        && let Some(end) = passing_event(&chunk[at..])
                    {
                        // The usual case: an event that lies here whole and has no usage.
                        at += end;
                        begin = at;
                        self.first_line = false;
                        continue;
                    }
                    let byte = chunk[at];
                    at += 1;
                    if !matches!(byte, b'\n' | b'\r') {
                        self.field(byte);
                        if self.field_len == 0 {
                            // A byte order mark belongs to no event.
                            self.release(&mut out);
                            begin = at;
                        }
                        continue;
                    }
                    let blank = self.is_blank();
                    let fate = if blank { self.verdict(at - begin) } else { Fate::Kept };
                    if blank {
                        if fate == Fate::Gone {
                            self.held.clear();
                            out.push(chunk.slice(kept..begin.max(kept)));
                            kept = at;
                        } else {
                            self.release(&mut out);
                        }
                        self.event_ended();
                    }
                    self.line_ended(byte, fate);
                    if self.event == State::Fresh {
                        begin = at;
                    }
                }
                Line::Data | Line::Other => {
                    let end = memchr2(b'\n', b'\r', &chunk[at..]);
                    let rest = &chunk[at..end.map_or(chunk.len(), |end| at + end)];
                    if self.line == Line::Data && self.event == State::Open {
                        self.walk(rest, &mut out);
                    }
                    at += rest.len();
                    if end.is_some() {
                        if self.line == Line::Data && self.event == State::Open {
                            self.walk(b"\n", &mut out);
                        }
                        self.line_ended(chunk[at], Fate::Kept);
                        at += 1;
                        if self.event == State::Fresh {
                            begin = at;
                        }
                    }
                }
            }
        }
        let holds =
            self.event == State::Open || self.event == State::Fresh && self.line == Line::Start && self.field_len > 0;
        if holds && self.held.len() + chunk.len() - begin.max(kept) <= MAX_HELD_BYTES {
            out.push(chunk.slice(kept..begin.max(kept)));
            self.held.extend_from_slice(&chunk[begin.max(kept)..]);
        } else {
            if holds {
                self.event = State::Passing;
            }
            self.release(&mut out);
            out.push(if kept == 0 { chunk } else { chunk.slice(kept..) });
        }
        out.take()
    }

    /// What was held back when the stream ended. A usage chunk whose empty line never came goes.
    pub fn finish(&mut self) -> Bytes {
        let held = std::mem::take(&mut self.held).freeze();
        if self.event == State::Open && self.marks.is_usage_chunk() && self.walker.is_between() {
            Bytes::new()
        } else {
            held
        }
    }

    fn field(&mut self, byte: u8) {
        self.field[self.field_len] = byte;
        self.field_len += 1;
        if self.first_line && self.field[..self.field_len] == *BOM {
            self.first_line = false;
            self.field_len = 0;
            return;
        }
        let field = &self.field[..self.field_len];
        if b"data:".starts_with(field) || self.first_line && BOM.starts_with(field) {
            if field.len() == b"data:".len() {
                self.line = Line::Data;
                self.open();
            }
        } else {
            self.line = Line::Other;
            if field[0] != b':' {
                self.open();
            }
        }
    }

    fn open(&mut self) {
        if self.event == State::Fresh {
            self.event = State::Open;
        }
    }

    fn is_blank(&self) -> bool {
        self.field_len == 0
    }

    fn walk(&mut self, value: &[u8], out: &mut Output) {
        self.walked = true;
        let marks = &mut self.marks;
        self.walker.feed(value, |found| marks.set(&found));
        if marks.choice {
            self.event = State::Passing;
            self.release(out);
        }
    }

    /// The event's last byte came; `here` of its bytes lie in the chunk at hand.
    fn verdict(&self, here: usize) -> Fate {
        let cut = self.event == State::Open && self.marks.is_usage_chunk() && self.held.len() + here <= MAX_HELD_BYTES;
        if cut { Fate::Gone } else { Fate::Kept }
    }

    fn release(&mut self, out: &mut Output) {
        if !self.held.is_empty() {
            out.push(std::mem::take(&mut self.held).freeze());
        }
    }

    fn event_ended(&mut self) {
        self.event = State::Fresh;
        self.marks = Marks::default();
        self.walked = false;
        self.walker.end(|_| {});
    }

    fn line_ended(&mut self, byte: u8, fate: Fate) {
        if self.event == State::Fresh && self.line == Line::Start && self.field_len > 0 {
            // A line such as `data` without a colon.
            self.event = State::Open;
        }
        self.line = Line::Start;
        self.field_len = 0;
        self.first_line = false;
        self.after_cr = (byte == b'\r').then_some(fate);
    }
}

/// Where an event ends in `rest`, with its empty line, if it is one line of data without usage.
fn passing_event(rest: &[u8]) -> Option<usize> {
    static USAGE: LazyLock<Needle> = LazyLock::new(|| Needle::new("\"usage\""));
    let value = rest.strip_prefix(b"data:")?;
    let end = memchr2(b'\n', b'\r', value)?;
    let after = &value[end..];
    let blank = [&b"\n\n"[..], b"\r\n\r\n"].into_iter().find(|blank| after.starts_with(blank))?;
    (!USAGE.hits(&value[..end])).then_some(b"data:".len() + end + blank.len())
}

/// What goes to the client: nearly always one slice of the chunk at hand.
#[derive(Default)]
struct Output {
    first: Bytes,
    more: BytesMut,
}

impl Output {
    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
        } else if !piece.is_empty() {
            if self.more.is_empty() {
                self.more.extend_from_slice(&self.first);
            }
            self.more.extend_from_slice(&piece);
        }
    }

    fn take(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}

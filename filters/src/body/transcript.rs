//! What a model wrote, put together from the pieces of a stream.
//!
//! Owns: how parts are told apart and how they are written down. Text is written as it is; everything else stands
//! on lines of its own behind a word in brackets, so that it is not taken for the answer. Knows no protocol.

use std::fmt::Write as _;

use crate::mask::Mask;

/// More choices, blocks and calls than any answer has: OpenAI gives at most 128 choices, and 128 calls of tools.
const MAX_PARTS: usize = 1024;

/// What a part of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What is shown to the user. Parts of text that follow one another are one text.
    Text,
    /// What the model thought before.
    Reasoning,
    /// Why it does not answer.
    Refusal,
    /// A call of a tool: its arguments.
    Call,
    /// The protocol's error.
    Error,
    /// An event that cannot be read.
    Data,
}

/// Where a part stands: in which choice, in which of its items, in which part of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) choice: u64,
    pub(super) item: u64,
    pub(super) part: u64,
}

#[derive(Debug)]
struct Part {
    place: Place,
    kind: Kind,
    /// A call's tool, and the call's own name.
    name: Vec<u8>,
    id: Vec<u8>,
    text: Vec<u8>,
}

/// The parts of an answer, in the order in which they began.
#[derive(Debug)]
pub(super) struct Transcript {
    parts: Vec<Part>,
    /// Bytes of text that are still taken.
    room: usize,
    cut: bool,
}

impl Transcript {
    /// One that takes up to `limit` bytes of text.
    pub(super) fn new(limit: usize) -> Transcript {
        Transcript { parts: Vec::new(), room: limit, cut: false }
    }

    /// A further piece of the part at this place.
    pub(super) fn push(&mut self, place: Place, kind: Kind, piece: &[u8]) {
        if !piece.is_empty()
            && let Some(at) = self.part(place, kind)
        {
            self.append(at, piece);
        }
    }

    /// A piece of a choice whose parts have no places: it goes on with what the choice had last, if that is such.
    pub(super) fn push_next(&mut self, choice: u64, kind: Kind, piece: &[u8]) {
        let last = self.parts.iter().rev().find(|part| part.place.choice == choice);
        let place = match last {
            Some(last) if last.kind == kind => last.place,
            _ => self.next_place(choice),
        };
        self.push(place, kind, piece);
    }

    /// A call that comes whole, where calls have no places.
    pub(super) fn push_call(&mut self, choice: u64, tool: &[u8], arguments: &[u8]) {
        let place = self.next_place(choice);
        self.call(place, tool, b"");
        self.push(place, Kind::Call, arguments);
    }

    /// The call at this place is one of `tool`. A second call at the same place, told by its id, is another one.
    pub(super) fn call(&mut self, place: Place, tool: &[u8], id: &[u8]) {
        let earlier = self.find(place, Kind::Call);
        let is_other = |part: &Part| !id.is_empty() && !part.id.is_empty() && part.id != id;
        let at = match earlier {
            Some(at) if !is_other(&self.parts[at]) => Some(at),
            _ => self.begin(place, Kind::Call),
        };
        let Some(at) = at else { return };
        if self.parts[at].id.is_empty() {
            // It is kept to be compared, and never written.
            self.parts[at].id = id[..id.len().min(256)].to_vec();
        }
        if self.parts[at].name.is_empty() {
            let kept = self.take(tool);
            self.parts[at].name.extend_from_slice(kept);
        }
    }

    /// An error, or an event that cannot be read; it belongs to no choice.
    pub(super) fn push_aside(&mut self, kind: Kind, text: &[u8]) {
        if let Some(at) = self.begin(Place { choice: u64::MAX, ..Place::default() }, kind) {
            self.append(at, text);
        }
    }

    /// Whether something of the kind was said at this place.
    pub(super) fn has(&self, place: Place, kind: Kind) -> bool {
        self.find(place, kind).is_some_and(|at| !self.parts[at].text.is_empty())
    }

    /// Whether there is anything that the model wrote.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| matches!(part.kind, Kind::Error | Kind::Data) || part.is_empty())
    }

    /// Whether nothing more is taken, and something was left out.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// All of it: choices by their number, their parts in order, a part a line.
    pub(super) fn write(mut self, mask: &Mask) -> String {
        self.parts.retain(|part| !part.is_empty());
        self.parts.sort_by_key(|part| part.place.choice);
        let mut text = String::new();
        let mut choice = 0;
        for run in
            self.parts.chunk_by(|a, b| (a.kind, b.kind) == (Kind::Text, Kind::Text) && a.place.choice == b.place.choice)
        {
            let Some(first) = run.first() else { continue };
            if !text.is_empty() {
                text.push('\n');
            }
            if first.place.choice != choice && first.place.choice != u64::MAX {
                choice = first.place.choice;
                // Writing to a String cannot fail.
                let _ = writeln!(text, "[choice {choice}]");
            }
            // Any part may break off, so that the end of each may be the beginning of a secret.
            let masked = |bytes: Vec<u8>| mend(mask.apply_cut(mend(bytes).as_bytes()).into_owned());
            let inside = masked(run.iter().flat_map(|part| &part.text).copied().collect());
            match first.kind {
                Kind::Text => text.push_str(&inside),
                Kind::Reasoning => text.extend(["[reasoning] ", &inside]),
                Kind::Refusal => text.extend(["[refusal] ", &inside]),
                Kind::Call => text.extend(["[call] ", &masked(first.name.clone()), "(", &inside, ")"]),
                Kind::Error => text.extend(["[error] ", &inside]),
                Kind::Data => text.extend(["[data] ", &inside]),
            }
        }
        text
    }

    fn next_place(&self, choice: u64) -> Place {
        Place { choice, item: self.parts.len() as u64, part: 0 }
    }

    fn part(&mut self, place: Place, kind: Kind) -> Option<usize> {
        self.find(place, kind).or_else(|| self.begin(place, kind))
    }

    fn find(&self, place: Place, kind: Kind) -> Option<usize> {
        self.parts.iter().rposition(|part| part.place == place && part.kind == kind)
    }

    fn begin(&mut self, place: Place, kind: Kind) -> Option<usize> {
        if self.parts.len() == MAX_PARTS {
            self.cut = true;
            return None;
        }
        self.parts.push(Part { place, kind, name: Vec::new(), id: Vec::new(), text: Vec::new() });
        Some(self.parts.len() - 1)
    }

    fn append(&mut self, at: usize, piece: &[u8]) {
        let kept = self.take(piece);
        self.parts[at].text.extend_from_slice(kept);
    }

    /// What of a piece there is room for. Nothing follows what was cut, or the text would have holes.
    fn take<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        if piece.len() <= self.room {
            self.room -= piece.len();
            return piece;
        }
        self.cut = true;
        let kept = (0..=self.room).rev().find(|end| piece[*end] & 0xC0 != 0x80).unwrap_or(0);
        self.room = 0;
        &piece[..kept]
    }
}

impl Part {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.name.is_empty()
    }
}

/// UTF-8 out of pieces in which surrogate pairs may be torn: halves that meet become their character again, what is
/// left over becomes U+FFFD.
fn mend(bytes: Vec<u8>) -> String {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len());
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let valid = std::str::from_utf8(rest).map_or_else(|error| error.valid_up_to(), str::len);
        text.push_str(std::str::from_utf8(&rest[..valid]).unwrap_or_default());
        rest = match rest[valid..] {
            [0xED, a @ 0xA0..=0xAF, b, 0xED, c @ 0xB0..=0xBF, d, ref tail @ ..] => {
                let half = |high: u8, low: u8| u32::from(high & 0x0F) << 6 | u32::from(low & 0x3F);
                text.push(char::from_u32(0x1_0000 + (half(a, b) << 10) + half(c, d)).unwrap_or('\u{FFFD}'));
                tail
            }
            [0xED, 0xA0..=0xBF, _, ref tail @ ..] | [_, ref tail @ ..] => {
                text.push('\u{FFFD}');
                tail
            }
            [] => &[],
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(choice: u64, item: u64) -> Place {
        Place { choice, item, part: 0 }
    }

    fn written(transcript: Transcript) -> String {
        transcript.write(&Mask::new(&[]))
    }

    #[test]
    fn choices_stand_one_after_the_other_whatever_their_order_was() {
        let mut transcript = Transcript::new(1000);
        for (choice, piece) in [(2, "c"), (0, "a"), (1, "b"), (0, "A"), (2, "C")] {
            transcript.push(at(choice, 0), Kind::Text, piece.as_bytes());
        }
        transcript.push_aside(Kind::Error, b"late");
        assert_eq!(written(transcript), "aA\n[choice 1]\nb\n[choice 2]\ncC\n[error] late");
    }

    #[test]
    fn texts_that_follow_one_another_are_one_text() {
        let mut transcript = Transcript::new(1000);
        transcript.push(at(0, 0), Kind::Text, b"It is ");
        transcript.push(at(0, 1), Kind::Text, b"cited");
        transcript.push(at(0, 2), Kind::Call, b"{}");
        transcript.call(at(0, 2), b"look", b"");
        transcript.push(at(0, 3), Kind::Text, b"!");
        transcript.push(at(0, 4), Kind::Reasoning, b"Hm");
        transcript.push(at(0, 5), Kind::Reasoning, b"Well");
        assert_eq!(written(transcript), "It is cited\n[call] look({})\n!\n[reasoning] Hm\n[reasoning] Well");
    }

    #[test]
    fn calls_at_one_place_are_told_apart_by_their_ids() {
        let mut transcript = Transcript::new(1000);
        for (tool, id, arguments) in
            [("a", "1", "x"), ("", "", "y"), ("a", "1", "z"), ("b", "2", "x"), ("", "", "y"), ("c", "", "z")]
        {
            transcript.call(at(0, 0), tool.as_bytes(), id.as_bytes());
            transcript.push(at(0, 0), Kind::Call, arguments.as_bytes());
        }
        assert_eq!(written(transcript), "[call] a(xyz)\n[call] b(xyz)");
    }

    #[test]
    fn parts_without_places_go_on_until_another_kind_follows() {
        let mut transcript = Transcript::new(1000);
        for (kind, piece) in [
            (Kind::Reasoning, "h"),
            (Kind::Reasoning, "m"),
            (Kind::Text, "a"),
            (Kind::Text, "b"),
            (Kind::Reasoning, "so"),
        ] {
            transcript.push_next(0, kind, piece.as_bytes());
        }
        transcript.push_call(0, b"f", b"1");
        transcript.push_call(0, b"g", b"");
        assert_eq!(written(transcript), "[reasoning] hm\nab\n[reasoning] so\n[call] f(1)\n[call] g()");
    }

    #[test]
    fn errors_alone_are_nothing_that_a_model_wrote() {
        let mut transcript = Transcript::new(1000);
        transcript.push(at(0, 0), Kind::Text, b"");
        transcript.push_aside(Kind::Error, b"overloaded");
        transcript.push_aside(Kind::Data, b"?");
        assert!(transcript.is_empty());
        transcript.call(at(0, 0), b"f", b"");
        assert!(!transcript.is_empty());
        assert_eq!(written(transcript), "[call] f()\n[error] overloaded\n[data] ?");
    }

    #[test]
    fn no_more_is_taken_than_the_limit_and_no_character_is_split() {
        let mut transcript = Transcript::new(6);
        transcript.push(at(0, 0), Kind::Text, b"abc");
        assert!(!transcript.is_cut());
        transcript.push(at(0, 0), Kind::Text, "é🦀".as_bytes());
        assert!(transcript.is_cut());
        transcript.push(at(0, 0), Kind::Text, b"z");
        assert_eq!(written(transcript), "abcé");

        let mut many = Transcript::new(usize::MAX);
        for item in 0..=MAX_PARTS as u64 {
            assert!(!many.is_cut());
            many.push(at(0, item), Kind::Text, b"a");
        }
        assert!(many.is_cut());
        assert_eq!(written(many).len(), MAX_PARTS);
    }

    #[test]
    fn a_secret_that_is_spelled_in_pieces_is_masked_and_so_is_one_that_breaks_off() {
        let mask = Mask::new(&["sk-upstream-key"]);
        let mut transcript = Transcript::new(1000);
        for (item, piece) in [(0, "It is sk-up"), (1, "stream"), (1, "-key"), (2, ". ")] {
            transcript.push(at(0, item), Kind::Text, piece.as_bytes());
        }
        transcript.push(at(0, 3), Kind::Call, b"sk-upstr");
        transcript.push(at(1, 0), Kind::Reasoning, b"sk-upstream-ke");
        assert_eq!(transcript.write(&mask), "It is [secret]. \n[call] ([secret])\n[choice 1]\n[reasoning] [secret]");
    }

    #[test]
    fn torn_surrogate_pairs_are_mended() {
        for (bytes, expected) in [
            (&b"a\xED\xA0\xBE\xED\xB6\x80b"[..], "a\u{1F980}b"),
            (b"\xED\xA0\x80\xED\xB0\x80\xED\xAF\xBF\xED\xBF\xBF", "\u{10000}\u{10FFFF}"),
            (b"\xED\xB6\x80\xED\xA0\xBE", "\u{FFFD}\u{FFFD}"),
            (b"\xED\xA0\xBE!", "\u{FFFD}!"),
            (b"\xED\xA0", "\u{FFFD}\u{FFFD}"),
            (b"\xFFx\xC3", "\u{FFFD}x\u{FFFD}"),
        ] {
            assert_eq!(mend(bytes.to_vec()), expected);
        }
    }
}

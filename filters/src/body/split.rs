//! The documents of a stream, in whichever of the three ways it is laid out.
//!
//! Any split of the bytes gives the same documents. Knows nothing of what a document means, and does not look
//! whether it is JSON.

use crate::meter::Shape;
use crate::sse::{Event, MAX_EVENT_BYTES, Scanner};
use crate::text::string_end;

/// Finds the documents.
#[derive(Debug)]
pub(super) enum Splitter {
    Sse(Scanner),
    Lines(Vec<u8>),
    Array(Array),
}

impl Splitter {
    /// For a stream of this shape; none if it is none.
    pub(super) fn of(shape: Shape) -> Option<Splitter> {
        match shape {
            Shape::Sse => Some(Splitter::Sse(Scanner::new())),
            Shape::Ndjson => Some(Splitter::Lines(Vec::new())),
            Shape::JsonArray => Some(Splitter::Array(Array::default())),
            Shape::Json | Shape::Opaque => None,
        }
    }

    /// Reads the next piece, and passes on what ends in it. What is no event has no name.
    pub(super) fn feed(&mut self, piece: &[u8], mut each: impl FnMut(Event<'_>)) {
        match self {
            Splitter::Sse(scanner) => scanner.feed(piece, each),
            Splitter::Lines(line) => {
                let mut rest = piece;
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    hold(line, &rest[..end]);
                    pass(line, &mut each);
                    line.clear();
                    rest = &rest[end + 1..];
                }
                hold(line, rest);
            }
            Splitter::Array(array) => array.feed(piece, each),
        }
    }

    /// The stream is over: passes on what had no end, and may be a part.
    pub(super) fn finish(self, mut each: impl FnMut(Event<'_>)) {
        match self {
            Splitter::Sse(mut scanner) => scanner.finish(each),
            Splitter::Lines(line) => pass(&line, &mut each),
            Splitter::Array(array) => pass(&array.document, &mut each),
        }
    }
}

/// The elements of one array; also documents that follow one another.
#[derive(Debug, Default)]
pub(super) struct Array {
    document: Vec<u8>,
    depth: usize,
    /// Whether the array itself has begun.
    begun: bool,
    /// Whether bytes belong to a string, and whether its last one escapes the next.
    in_string: bool,
    escaped: bool,
}

impl Array {
    fn feed(&mut self, piece: &[u8], mut each: impl FnMut(Event<'_>)) {
        // Where the open element begins in this piece.
        let (mut from, mut at) = (0, 0);
        while at < piece.len() {
            if self.in_string {
                let end = string_end(&piece[at..], &mut self.escaped);
                self.in_string = end.is_none();
                at = end.map_or(piece.len(), |end| at + end + 1);
                continue;
            }
            match piece[at] {
                b'"' => self.in_string = true,
                b'[' if !self.begun => self.begun = true,
                b'{' | b'[' => {
                    if self.depth == 0 {
                        from = at;
                    }
                    self.begun = true;
                    self.depth += 1;
                }
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        hold(&mut self.document, &piece[from..=at]);
                        pass(&self.document, &mut each);
                        self.document.clear();
                    }
                }
                _ => {}
            }
            at += 1;
        }
        if self.depth > 0 {
            hold(&mut self.document, &piece[from..]);
        }
    }
}

/// Of a document that is too long one byte more is held than may be, which tells.
fn hold(document: &mut Vec<u8>, piece: &[u8]) {
    let room = (MAX_EVENT_BYTES + 1).saturating_sub(document.len());
    document.extend_from_slice(&piece[..piece.len().min(room)]);
}

fn pass(document: &[u8], each: &mut impl FnMut(Event<'_>)) {
    if !document.trim_ascii().is_empty() {
        let data = &document[..document.len().min(MAX_EVENT_BYTES)];
        each(Event { name: b"", data, whole: data.len() == document.len() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The documents that ended, and the one that did not.
    fn split(shape: Shape, pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut splitter = Splitter::of(shape).unwrap();
        let text = |event: Event<'_>| String::from_utf8_lossy(event.data).into_owned();
        let (mut ended, mut open) = (Vec::new(), None);
        for piece in pieces {
            splitter.feed(piece, |event| ended.push(text(event)));
        }
        splitter.finish(|event| open = Some(text(event)));
        (ended, open)
    }

    fn strings(strings: &[&str]) -> Vec<String> {
        strings.iter().map(|string| (*string).to_owned()).collect()
    }

    #[test]
    fn the_elements_of_an_array_are_told_by_their_brackets() {
        for (array, ended, open) in [
            (r#"[{"a":1},{"b":[2]}]"#, &[r#"{"a":1}"#, r#"{"b":[2]}"#][..], None),
            (" [ {\"a\":\n1}\n,\n{\"}\":\"]\\\"}\"} ]\n", &["{\"a\":\n1}", r#"{"}":"]\"}"}"#], None),
            (r#"[{"a":1},{"b":"#, &[r#"{"a":1}"#], Some(r#"{"b":"#)),
            (r#"{"a":1}{"b":2}"#, &[r#"{"a":1}"#, r#"{"b":2}"#], None),
            (r#"[[1],"{",2]"#, &["[1]"], None),
            ("[]}]", &[], None),
            ("no JSON", &[], None),
        ] {
            let expected = (strings(ended), open.map(str::to_owned));
            assert_eq!(split(Shape::JsonArray, &[array.as_bytes()]), expected, "{array}");
        }
    }

    #[test]
    fn lines_that_say_nothing_are_no_documents() {
        let (ended, open) = split(Shape::Ndjson, &[b"\n{\"a\":1}\r\n\r\n  \n{\"b\"", b":2}\nrest"]);
        assert_eq!((ended, open), (strings(&["{\"a\":1}\r", "{\"b\":2}"]), Some("rest".to_owned())));
    }

    #[test]
    fn of_a_document_that_is_too_long_the_beginning_is_passed_on_as_a_part() {
        for (shape, before, after) in [(Shape::Ndjson, "", "\n"), (Shape::JsonArray, "[", "]")] {
            for (length, whole) in [(MAX_EVENT_BYTES, true), (MAX_EVENT_BYTES + 1, false), (MAX_EVENT_BYTES + 9, false)]
            {
                let document = format!("{{\"{}\"}}", "x".repeat(length - 4));
                let stream = [before, &document, after].concat();
                let mut found = Vec::new();
                Splitter::of(shape).unwrap().feed(stream.as_bytes(), |e| found.push((e.data.len(), e.whole)));
                assert_eq!(found, [(MAX_EVENT_BYTES, whole)]);
            }
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_documents(
            bytes in prop::collection::vec(prop::sample::select(b"[]{}\",\\ \nadt:1".to_vec()), 0..120),
            at in 0..120_usize,
        ) {
            let (head, tail) = bytes.split_at(at.min(bytes.len()));
            for shape in [Shape::Sse, Shape::Ndjson, Shape::JsonArray] {
                prop_assert_eq!(split(shape, &[head, b"", tail]), split(shape, &[&bytes]));
            }
        }
    }
}

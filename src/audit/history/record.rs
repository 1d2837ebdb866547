//! What the index wants to know of a record, read out of its line.
//!
//! Owns the few fields that can be asked for. Refuses to know the others, but that the line is one JSON object.

use std::borrow::Cow;

use serde::Deserialize;
use weir_filters::moment::parse_ms;

use crate::audit::batch::{Entry, term};

/// The fields of a record that can be asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    status: Option<u16>,
    #[serde(borrow)]
    key_id: Option<Text<'a>>,
    #[serde(borrow)]
    key_name: Option<Text<'a>>,
    #[serde(borrow)]
    user: Option<Text<'a>>,
    #[serde(borrow)]
    model_requested: Option<Text<'a>>,
    #[serde(borrow)]
    channel: Option<Text<'a>>,
}

/// In an `Option` of its own a `Cow` would always be owned.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Record<'a> {
    /// `None`: the line is not a record, or damaged.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        // A structure can be read out of a list too.
        let text = std::str::from_utf8(line).ok().filter(|text| text.starts_with('{'))?;
        serde_json::from_str(text).ok()
    }

    fn id(&self) -> Option<u128> {
        let digits = self.id.len() == 32 && self.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(&self.id, 16).ok()).flatten()
    }

    /// The names of key, user, model and channel, in the order of [`super::table::NAMES`]; empty: none.
    pub(super) fn names(&self) -> [&str; 4] {
        [&self.key_name, &self.user, &self.model_requested, &self.channel]
            .map(|text| text.as_ref().map_or("", |text| &*text.0))
    }

    /// The id of the key; empty: none.
    pub(super) fn key_id(&self) -> &str {
        self.key_id.as_ref().map_or("", |text| &*text.0)
    }

    /// What whoever made the record said of it, with the line's length for its end.
    pub(super) fn entry(&self, length: usize) -> Option<Entry> {
        let [key, user, model, channel] = self.names().map(term);
        let (id, time_ms, status) = (self.id()?, parse_ms(&self.time)?, self.status.unwrap_or(0));
        Some(Entry { end: length, id, time_ms, status, key, user, model, channel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"schema_version":1,"id":"000000000000000000000000000000ff","time":"2026-11-30T19:20:04.123Z","key_name":"al\"ice","user":null,"status":499,"model_requested":"gpt-4o","channel":"","x":[1,{}]}
"#;

    #[test]
    fn the_fields_of_a_line_are_those_of_its_entry() {
        let entry = Record::read(LINE.as_bytes()).unwrap().entry(LINE.len()).unwrap();
        let expected = Entry {
            end: LINE.len(),
            id: 255,
            time_ms: 1_796_066_404_123,
            status: 499,
            key: term("al\"ice"),
            user: 0,
            model: term("gpt-4o"),
            channel: 0,
        };
        assert_eq!(entry, expected);
    }

    #[test]
    fn what_is_not_a_record_has_no_entry() {
        for (from, to) in [
            ("{\"schema", "[\"schema"),
            ("0000ff", "0000fg"),
            ("0000ff", "0ff"),
            ("19:20", "1920"),
            ("499", "\"499\""),
            ("\"time\"", "\"tim\""),
            ("]}", "]"),
            ("]}", "]}}"),
        ] {
            let line = LINE.replacen(from, to, 1);
            assert_ne!(line, LINE);
            let entry = Record::read(line.as_bytes()).and_then(|record| record.entry(line.len()));
            assert_eq!(entry, None, "{from} → {to}");
        }
        assert!(Record::read(b"{\"id\":\"\xff\"}").is_none());
        assert!(Record::read(br#"["00","2026-11-30T19:20:04Z",null,null,null,null,null]"#).is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(at in 0..LINE.len(), byte: u8) {
            let mut line = LINE.as_bytes().to_vec();
            line[at] = byte;
            let _ = Record::read(&line).and_then(|record| record.entry(line.len()));
        }
    }
}

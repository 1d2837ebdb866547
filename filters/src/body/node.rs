//! A JSON value as it stands in the bytes, looked into only where something is asked of it.
//!
//! Knows no document. It is lenient as clients are: of a key that occurs twice the last value counts, and a string
//! may hold half of a surrogate pair.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

/// A value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a>(&'a RawValue);

impl<'a> Node<'a> {
    /// Of a whole document; none if it is no JSON.
    pub(super) fn of(document: &'a str) -> Option<Node<'a>> {
        serde_json::from_str(document).ok().map(Node)
    }

    /// The members of an object under these keys, but for nulls.
    pub(super) fn members<const N: usize>(self, keys: [&str; N]) -> [Option<Node<'a>>; N] {
        let mut members = [None; N];
        // What is no object has none.
        let _ = self.read(Members { keys, members: &mut members });
        members
    }

    /// The elements of an array.
    pub(super) fn each(self, each: impl FnMut(Node<'a>)) {
        let _ = self.read(Elements(each));
    }

    /// A string's characters in UTF-8, half of a surrogate pair as if it were a character.
    pub(super) fn string(self) -> Option<Cow<'a, [u8]>> {
        self.read(Characters).ok()
    }

    /// A whole number.
    pub(super) fn number(self) -> Option<u64> {
        self.0.get().parse().ok()
    }

    /// The value as it stands.
    pub(super) fn raw(self) -> &'a str {
        self.0.get()
    }

    fn read<S: DeserializeSeed<'a>>(self, seed: S) -> serde_json::Result<S::Value> {
        seed.deserialize(&mut serde_json::Deserializer::from_str(self.0.get()))
    }
}

/// An object's key.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<'m, 'a, 'k, const N: usize> {
    keys: [&'k str; N],
    members: &'m mut [Option<Node<'a>>; N],
}

impl<'a, const N: usize> DeserializeSeed<'a> for Members<'_, 'a, '_, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, const N: usize> Visitor<'a> for Members<'_, 'a, '_, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if let Some(at) = self.keys.iter().position(|wanted| *wanted == key) {
                self.members[at] = map.next_value::<Option<&RawValue>>()?.map(Node);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Elements<F>(F);

impl<'a, F: FnMut(Node<'a>)> DeserializeSeed<'a> for Elements<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a, F: FnMut(Node<'a>)> Visitor<'a> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element()? {
            (self.0)(Node(element));
        }
        Ok(())
    }
}

/// Read as bytes, because only so halves of surrogate pairs are let pass.
struct Characters;

impl<'a> DeserializeSeed<'a> for Characters {
    type Value = Cow<'a, [u8]>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'a> Visitor<'a> for Characters {
    type Value = Cow<'a, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'a [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(document: &'static str, key: &str) -> Option<&'static str> {
        let [member] = Node::of(document).expect("JSON").members([key]);
        member.map(Node::raw)
    }

    #[test]
    fn members_are_found_as_they_stand() {
        assert_eq!(member(r#" {"a":{"b":1},"b": [2, 3] } "#, "b"), Some("[2, 3]"));
        assert_eq!(member(r#"{"a":1,"a":2}"#, "a"), Some("2"));
        assert_eq!(member(r#"{"\u0061":1}"#, "a"), Some("1"));
        assert_eq!(member(r#"{"a":null}"#, "a"), None);
        assert_eq!(member(r#"{"a":1,"a":null}"#, "a"), None);
        for other in ["[1]", "1", "null", "\"a\""] {
            assert_eq!(member(other, "a"), None);
        }
        for broken in ["", "{", "{}x", "{'a':1}", "[1,]"] {
            assert!(Node::of(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn elements_come_in_their_order() {
        let elements = |document| {
            let mut elements = Vec::new();
            Node::of(document).unwrap().each(|element| elements.push(element.raw()));
            elements
        };
        assert_eq!(elements(r#"[1, {"a":2} ,null]"#), ["1", r#"{"a":2}"#, "null"]);
        assert_eq!(elements("{}"), [""; 0]);
    }

    #[test]
    fn strings_and_numbers_are_read_only_as_what_they_are() {
        let string = |document| Node::of(document).unwrap().string();
        assert_eq!(string(r#""a\n\u00e9\ud83e\udd80""#).unwrap(), "a\né🦀".as_bytes());
        assert_eq!(string(r#""\ud83e""#).unwrap(), &b"\xED\xA0\xBE"[..]);
        for other in ["1", "[97]", "null", "{}"] {
            assert!(string(other).is_none(), "{other}");
        }
        let number = |document| Node::of(document).unwrap().number();
        assert_eq!(number("7"), Some(7));
        for other in ["-1", "1.0", "\"1\"", "null"] {
            assert!(number(other).is_none(), "{other}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let document = format!(r#"{{"x":{deep},"a":1}}"#);
        let [member] = Node::of(&document).unwrap().members(["a"]);
        assert_eq!(member.map(Node::raw), Some("1"));
    }
}

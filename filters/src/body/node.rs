//! A JSON value as it stands in the bytes, looked into only where something is asked of it.
//!
//! It does not validate: members must be members, strings and brackets closed, and what else is wrong inside of a
//! value is passed over. It is lenient as clients are: of a key that occurs twice the last value counts, and a string
//! may hold half of a surrogate pair. Knows no document.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, Visitor};

use crate::text::string_end;
use crate::walk::{CLASSES, Class};

/// A value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a>(&'a str);

impl<'a> Node<'a> {
    /// The members of a whole document under these keys, but for nulls; none if it is not one object.
    pub(super) fn document<const N: usize>(document: &'a str, keys: [&str; N]) -> Option<[Option<Node<'a>>; N]> {
        let mut members = [None; N];
        let after = read_members(document.trim_ascii(), keys, &mut members)?;
        after.is_empty().then_some(members)
    }

    /// The members of an object under these keys, but for nulls.
    pub(super) fn members<const N: usize>(self, keys: [&str; N]) -> [Option<Node<'a>>; N] {
        let mut members = [None; N];
        read_members(self.0, keys, &mut members);
        members
    }

    /// The elements of an array.
    pub(super) fn each(self, mut each: impl FnMut(Node<'a>)) {
        let mut rest = self.0.strip_prefix('[').unwrap_or_default();
        while let Some((element, after)) = value(rest) {
            each(element);
            match after.trim_ascii_start().strip_prefix(',') {
                Some(after) => rest = after,
                None => break,
            }
        }
    }

    /// A string's characters in UTF-8, half of a surrogate pair as if it were a character.
    pub(super) fn string(self) -> Option<Cow<'a, [u8]>> {
        let (inside, _) = string(self.0)?;
        if !is_escaped(inside) {
            return Some(inside.as_bytes().into());
        }
        Characters.deserialize(&mut serde_json::Deserializer::from_str(self.0)).ok()
    }

    /// A whole number.
    pub(super) fn number(self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// The value as it stands.
    pub(super) fn raw(self) -> &'a str {
        self.0
    }
}

/// Reads the object that begins here, and gives what follows it; none if it does not come to its end.
fn read_members<'a, const N: usize>(
    object: &'a str,
    keys: [&str; N],
    members: &mut [Option<Node<'a>>; N],
) -> Option<&'a str> {
    let mut rest = object.strip_prefix('{')?.trim_ascii_start();
    if let Some(after) = rest.strip_prefix('}') {
        return Some(after);
    }
    loop {
        let (key, after) = string(rest)?;
        let (value, after) = value(after.trim_ascii_start().strip_prefix(':')?)?;
        let spelled = keys.iter().position(|wanted| *wanted == key);
        let escaped = || if is_escaped(key) { keys.iter().position(|wanted| spells(key, wanted)) } else { None };
        if let Some(at) = spelled.or_else(escaped) {
            members[at] = Some(value).filter(|value| value.0 != "null");
        }
        let after = after.trim_ascii_start();
        if let Some(after) = after.strip_prefix('}') {
            return Some(after);
        }
        rest = after.strip_prefix(',')?.trim_ascii_start();
    }
}

/// The inside of the string that begins here, and what follows it.
fn string(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('"')?;
    let end = string_end(inside.as_bytes(), &mut false)?;
    Some((&inside[..end], &inside[end + 1..]))
}

/// The value that begins here, behind space, and what follows it.
fn value(text: &str) -> Option<(Node<'_>, &str)> {
    let text = text.trim_ascii_start();
    let (value, after) = text.split_at_checked(value_end(text.as_bytes())?)?;
    Some((Node(value), after))
}

/// Where the value ends that begins here; none if it has no end, or if there is none.
fn value_end(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match CLASSES[usize::from(*bytes.get(at)?)] {
            Class::Quote => at += string_end(&bytes[at + 1..], &mut false)? + 1,
            Class::Open => depth += 1,
            Class::Close => depth = depth.checked_sub(1)?,
            Class::Scalar if depth == 0 => {
                let rest = &bytes[at..];
                return Some(
                    at + rest.iter().position(|b| CLASSES[usize::from(*b)] != Class::Scalar).unwrap_or(rest.len()),
                );
            }
            Class::Space | Class::Colon | Class::Comma if depth == 0 => return None,
            Class::Space | Class::Colon | Class::Comma | Class::Scalar => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn is_escaped(inside: &str) -> bool {
    memchr::memchr(b'\\', inside.as_bytes()).is_some()
}

/// Whether a key that is written with escapes is this one.
fn spells(key: &str, wanted: &str) -> bool {
    Node(&format!("\"{key}\"")).string().as_deref() == Some(wanted.as_bytes())
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
    use proptest::prelude::*;
    use serde_json::Value;

    fn member(document: &'static str, key: &str) -> Option<&'static str> {
        let [member] = Node::document(document, [key]).expect("an object");
        member.map(Node::raw)
    }

    #[test]
    fn members_are_found_as_they_stand() {
        assert_eq!(member(r#" {"a":{"b":1},"b": [2, 3] } "#, "b"), Some("[2, 3]"));
        assert_eq!(member(r#"{"a" : "}\"," , "b":2}"#, "a"), Some(r#""}\",""#));
        assert_eq!(member(r#"{"a":1,"a":2}"#, "a"), Some("2"));
        assert_eq!(member(r#"{"\u0061":1}"#, "a"), Some("1"));
        assert_eq!(member(r#"{"a":null}"#, "a"), None);
        assert_eq!(member(r#"{"a":1,"a":null}"#, "a"), None);
        assert_eq!(member(r#"{"b":{"a":1}}"#, "a"), None);
        assert_eq!(member(" { } ", "a"), None);
        let [member] = Node("[{\"a\":1}]").members(["a"]);
        assert!(member.is_none());
    }

    #[test]
    fn what_is_not_one_closed_object_is_no_document() {
        let closed =
            ["", "1", "null", "\"a\"", "[{}]", "{", "{}x", "{}{}", r#"{"a":"}"#, r#"{"a":[1}"#, "}{", "Bad {}"];
        let members = [r#"{"a"}"#, r#"{"a" 1}"#, r#"{"a":}"#, r#"{"a":,"b":1}"#, "{a:1}", "{,}", r#"{"a":1,}"#];
        for other in closed.into_iter().chain(members) {
            assert!(Node::document(other, ["a"]).is_none(), "{other}");
        }
    }

    #[test]
    fn elements_come_in_their_order() {
        let elements = |document| {
            let mut elements = Vec::new();
            Node(document).each(|element| elements.push(element.raw()));
            elements
        };
        assert_eq!(elements(r#"[1, {"a":[2]} ,null,"]"]"#), ["1", r#"{"a":[2]}"#, "null", "\"]\""]);
        for none in ["{}", "[]", "[ ]", "1", "\"[1]\""] {
            assert_eq!(elements(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn strings_and_numbers_are_read_only_as_what_they_are() {
        let string = |document| Node(document).string();
        assert_eq!(string(r#""a\n\u00e9\ud83e\udd80""#).unwrap(), "a\né🦀".as_bytes());
        assert_eq!(string(r#""\ud83e""#).unwrap(), &b"\xED\xA0\xBE"[..]);
        for other in ["1", "[97]", "null", "{}", r#""\x""#] {
            assert!(string(other).is_none(), "{other}");
        }
        assert_eq!(Node("7").number(), Some(7));
        for other in ["-1", "1.0", "\"1\"", "null", "18446744073709551616"] {
            assert!(Node(other).number().is_none(), "{other}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let document = format!(r#"{{"x":{deep},"a":1}}"#);
        let [member] = Node::document(&document, ["a"]).unwrap();
        assert_eq!(member.map(Node::raw), Some("1"));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,9}|[\"\\\\{}\\[\\],:\n ]{0,9}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ab\"\\\\]{0,2}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The value, read by nothing but nodes.
    fn agrees(node: Node<'_>, value: &Value) -> bool {
        match value {
            Value::Object(object) => object.iter().all(|(key, value)| {
                let [member] = node.members([key]);
                member.map_or(value.is_null(), |member| agrees(member, value))
            }),
            Value::Array(array) => {
                let (mut at, mut all) = (0, true);
                node.each(|element| {
                    all &= array.get(at).is_some_and(|value| agrees(element, value));
                    at += 1;
                });
                all && at == array.len()
            }
            Value::String(string) => node.string().as_deref() == Some(string.as_bytes()),
            other => serde_json::from_str::<Value>(node.raw()).is_ok_and(|read| read == *other),
        }
    }

    proptest! {
        #[test]
        fn what_is_json_is_read_as_serde_json_reads_it(value in json(), pretty: bool) {
            let object = serde_json::json!({ "it": value });
            let text = if pretty { serde_json::to_string_pretty(&object).unwrap() } else { object.to_string() };
            let [it] = Node::document(&text, ["it"]).unwrap();
            prop_assert!(it.map_or(value.is_null(), |it| agrees(it, &value)));
        }

        #[test]
        fn what_is_not_is_passed_over(text in "[{}\\[\\]\",:\\\\ a1é]{0,60}") {
            let text = format!("{{{text}}}");
            let is_json = serde_json::from_str::<Value>(&text).is_ok();
            let members = Node::document(&text, ["a", "1"]);
            prop_assert!(members.is_some() || !is_json);
            for member in members.into_iter().flatten().flatten() {
                prop_assert!(text.contains(member.raw()));
                member.each(|element| drop(element.string()));
            }
        }
    }
}

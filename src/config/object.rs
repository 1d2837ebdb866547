//! One key, user or channel by itself, in the words of the file: what the admin API is given.
//!
//! Owns what is different there: a mistake is placed by its field, and neither variables nor files are read,
//! because whoever may use the API may not for that reason read the gateway's environment and disk. Fields and
//! their rules are those of the file (`raw`, `validate`); rules between objects belong to whoever has them all.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use weir_filters::glob::Glob;
use weir_filters::price::Price;

use super::load::Sources;
use super::mistake::{Mistakes, Report, nearest};
use super::raw::{self, RawChannel, RawKey, RawUser};
use super::scalar::{self, Word};
use super::section::{Fields, Reader, Section};
use super::tree::{NodeId, Tree};
use super::validate::{self, Check};
use super::{Channel, Key, User, prices, time};

/// An object as it is written: fields and values.
pub type Written = Map<String, Value>;

/// Something wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where, such as `limits.rpm` or `keys[0].value`; empty: no field in particular.
    pub field: String,
    /// What, as a sentence that names the field, with what was probably meant.
    pub message: String,
}

impl Wrong {
    /// Something wrong with a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// A name that stands for nothing, with the nearest of those that stand for something.
    pub fn unknown<'n>(field: &str, what: &str, name: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        let message = match nearest(name, known) {
            Some(near) => format!("unknown {what} `{name}`; did you mean \"{near}\"?"),
            None => format!("unknown {what} `{name}`"),
        };
        Self::new(field, message)
    }
}

/// `field: message`
impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.message),
            field => write!(f, "{field}: {}", self.message),
        }
    }
}

/// Reads a client key.
///
/// # Errors
/// All that is wrong with it.
pub fn read_key(written: &Written) -> Result<Key, Vec<Wrong>> {
    read(written, &raw::KEY, |check, section| validate::key(RawKey::read(check.r, section)))
}

/// Reads a user.
///
/// # Errors
/// All that is wrong with it.
pub fn read_user(written: &Written) -> Result<User, Vec<Wrong>> {
    read(written, &raw::USER, |check, section| validate::user(RawUser::read(check.r, section)))
}

/// Reads a channel.
///
/// # Errors
/// All that is wrong with it.
pub fn read_channel(written: &Written) -> Result<Channel, Vec<Wrong>> {
    read(written, &raw::CHANNEL, |check, section| {
        let raw = RawChannel::read(check.r, section);
        check.upstream_key_names(&raw);
        check.channel(raw)
    })
}

/// Reads a price table: a list, because the members of a JSON object have no order. The fields of an entry are
/// those of the price file, and `model` is what stands before them there.
///
/// # Errors
/// All that is wrong with it.
pub fn read_prices(entries: &[Written]) -> Result<Vec<(Glob, Price)>, Vec<Wrong>> {
    let (mut globs, mut wrong) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let mut prices = Vec::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        let mut fields = entry.clone();
        let model = match fields.remove("model") {
            None => Err("is missing".to_owned()),
            Some(Value::String(text)) => {
                let glob = scalar::glob(Word { text: &text, raw: &text }).map_err(|complaint| complaint.message);
                if seen.insert(text) { glob } else { Err("is given twice".to_owned()) }
            }
            Some(_) => Err("must be text".to_owned()),
        };
        match model {
            Ok(glob) => globs.push(glob),
            Err(what) => wrong.push(Wrong::new(format!("models[{place}].model"), format!("`model` {what}"))),
        }
        prices.push(Value::Object(fields));
    }
    let listed = Written::from_iter([("models".to_owned(), Value::Array(prices))]);
    let read = read(&listed, &Fields { known: &["models"], later: &[] }, |check, section| {
        let at = check.r.required(section, "models")?;
        check.r.list(at, |r, item| Some(prices::price(r, item)))
    });
    match read {
        Ok(prices) if wrong.is_empty() => Ok(globs.into_iter().zip(prices.value).collect()),
        Ok(_) => Err(wrong),
        Err(more) => Err([wrong, more].concat()),
    }
}

/// Reads a duration such as `24h`.
///
/// # Errors
/// What is wrong with it, as a clause: "must be a duration …".
pub fn read_duration(text: &str) -> Result<Duration, String> {
    time::duration(Word { text, raw: text }).map_err(|complaint| complaint.message)
}

/// Reads 64 hex digits; `None` if they are none.
pub fn read_sha256(text: &str) -> Option<[u8; 32]> {
    scalar::sha256(Word { text, raw: text }).ok()
}

fn read<T>(
    written: &Written,
    fields: &Fields,
    read: impl FnOnce(&mut Check<'_, '_>, &Section) -> Option<T>,
) -> Result<T, Vec<Wrong>> {
    let nowhere = Path::new("");
    let text = serde_json::to_string(written).map_err(|e| vec![Wrong::new("", e.to_string())])?;
    let mut report = Report::default();
    let tree = Tree::parse_as_it_is(&text, nowhere, &mut report).map_err(|mistakes| placeless(&mistakes))?;
    let mut reader = Reader { tree: &tree, report: &mut report };
    let section = reader.section(NodeId::ROOT, fields);
    let sources = Sources { env: &|_| None, read: &no_file, cores: 1 };
    let meant = read(&mut Check { folder: nowhere, sources: &sources, r: &mut reader }, &section);
    match meant {
        Some(meant) if report.is_empty() => Ok(meant),
        _ => Err(report.into_wrongs(&tree)),
    }
}

fn no_file(_: &Path) -> io::Result<String> {
    Err(io::Error::other("no files are read for the admin API; give the value itself"))
}

/// What keeps the text from being read at all: a character that no file may hold either.
fn placeless(mistakes: &Mistakes) -> Vec<Wrong> {
    mistakes.iter().map(|mistake| Wrong::new("", mistake.message.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "5e884898da28047151d0e56f8dc6292773603d0d6aabbd62a11ef721d1542d88";

    fn written(value: Value) -> Written {
        match value {
            Value::Object(written) => written,
            other => panic!("not an object: {other}"),
        }
    }

    fn wrong<T: fmt::Debug>(read: Result<T, Vec<Wrong>>) -> Vec<String> {
        read.expect_err("a mistake").iter().map(ToString::to_string).collect()
    }

    fn channel(change: impl FnOnce(&mut Value)) -> Written {
        let mut channel = json!({
            "name": "miniai", "protocol": "openai", "base_url": "https://api.example.com",
            "keys": [{ "name": "main", "value": "sk-canary" }], "models": ["gpt-*"],
        });
        change(&mut channel);
        written(channel)
    }

    #[test]
    fn an_object_is_read_as_the_file_reads_it() {
        let timeouts = |channel: &mut Value| channel["timeouts"] = json!({ "connect": "5s" });
        let key = json!({
            "name": "la\"p\\top \u{1F600}", "user": "Älice", "sha256": DIGEST, "models": ["gpt-*", 4],
            "limits": { "rpm": 60, "budget_usd": { "day": "2.50" } }, "expires": null, "enabled": false,
        });
        let user = json!({ "name": "Älice", "limits": { "tpm": 5 } });
        let file = json!({ "channels": [channel(timeouts)], "users": [user], "keys": [key] }).to_string();
        let file = super::super::parse(&file, Path::new("weir.yaml"), &|_| None);
        let file = file.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(file.keys[0].name, "la\"p\\top \u{1F600}");
        assert_eq!(read_key(&written(key)).unwrap(), file.keys[0]);
        assert_eq!(read_user(&written(user)).unwrap(), file.users[0]);
        assert_eq!(read_channel(&channel(timeouts)).unwrap(), file.channels[0]);
    }

    #[test]
    fn a_mistake_names_its_field_and_what_was_meant() {
        for (object, expected) in [
            (json!({}), vec!["name: `name` is missing", "sha256: `sha256` is missing"]),
            (
                json!({ "name": "a", "sha256": DIGEST, "modles": [] }),
                vec!["modles: unknown field `modles`; did you mean \"models\"?"],
            ),
            (
                json!({ "name": "a", "sha256": DIGEST, "limits": { "rmp": 1 } }),
                vec!["limits.rmp: unknown field `rmp`; did you mean \"rpm\"?"],
            ),
            (
                json!({ "name": "a/b", "sha256": DIGEST, "models": ["a b"], "limits": { "rpm": -1 } }),
                vec![
                    "limits.rpm: `rpm` must be a whole number from 0, not `-1`; leave it out for no limit",
                    "models[0]: `models[0]` must be a name or a glob without spaces, at most 256 bytes, not `a b`",
                    "name: `name` must be a printable name without `/ * ? #`, at most 128 bytes, not `a/b`",
                ],
            ),
            (
                json!({ "name": ["a"], "sha256": DIGEST, "enabled": 1 }),
                vec![
                    "enabled: `enabled` must be `true` or `false`, not `1`; did you mean \"true\"?",
                    "name: `name` must be a single value, not a list",
                ],
            ),
            (json!({ "name": "a\u{7f}", "sha256": DIGEST }), vec!["the character U+007F is not allowed"]),
        ] {
            assert_eq!(wrong(read_key(&written(object.clone()))), expected, "{object}");
        }
        let twice = channel(|c| c["keys"] = json!([{ "name": "a", "value": "x" }, { "name": "a", "value": "y" }]));
        assert_eq!(wrong(read_channel(&twice)), ["keys[1].name: the upstream key `a` is declared twice"]);
        let missing = channel(|c| c["keys"] = json!([{ "name": "a" }]));
        assert_eq!(wrong(read_channel(&missing)), ["keys[0]: `value` or `value_file` is missing"]);
    }

    #[test]
    fn neither_variables_nor_files_are_read() {
        let refused = "variables are not replaced here; give the value itself";
        for value in ["${HOME}", "x${HOME:-default}", "${", "$${HOME}"] {
            let object = channel(|c| c["keys"][0]["value"] = json!(value));
            assert_eq!(wrong(read_channel(&object)), [format!("keys[0].value: {refused}")], "{value}");
            let object = written(json!({ "name": value, "sha256": DIGEST }));
            assert_eq!(wrong(read_key(&object)), [format!("name: {refused}")], "{value}");
        }
        let file = channel(|c| c["keys"] = json!([{ "name": "main", "value_file": "/etc/hostname" }]));
        let refused = "keys[0].value_file: `value_file` names a file which cannot be read: \
                       no files are read for the admin API; give the value itself";
        assert_eq!(wrong(read_channel(&file)), [refused]);
        let dollars = channel(|c| c["keys"][0]["value"] = json!("pa$$word$"));
        assert_eq!(read_channel(&dollars).unwrap().keys[0].value.expose(), "pa$$word$", "a dollar is a dollar");
    }

    #[test]
    fn no_mistake_repeats_a_secret() {
        for change in [
            json!({ "keys": [{ "name": "main", "value": "sk-canary-1\n" }] }),
            json!({ "keys": [{ "name": "main", "value": ["sk-canary-1"] }] }),
            json!({ "keys": [{ "name": "sk-canary-1 ", "value": "x" }] }),
            json!({ "keys": [{ "sk-canary-1": null }] }),
            json!({ "sk-canary-1": 1 }),
            json!({ "base_url": "https://sk-canary-1@h" }),
        ] {
            let object = channel(|c| {
                let fields = c.as_object_mut().expect("an object");
                fields.extend(change.as_object().expect("an object").clone());
            });
            let wrong = wrong(read_channel(&object));
            assert!(!wrong.is_empty() && !wrong.concat().contains("canary-1"), "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_object_panics(name in "\\PC*", field in "\\PC{0,12}", value in "[\\x00-\\x7f]{0,20}", number: f64) {
            for object in [
                json!({ "name": name, "sha256": value, field.as_str(): number }),
                json!({ "name": value, field.as_str(): [{ value.as_str(): number }], "limits": { "rpm": number } }),
            ] {
                let object = written(object);
                let _ = (read_key(&object), read_user(&object), read_channel(&object));
            }
        }
    }
}

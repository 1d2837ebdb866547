//! What an `ai_event` says of the upstream keys that were tried.
//!
//! Owns the forms of the list and the words in it. Refuses to know channels.

use serde_json::{Map, Value};

use super::scalars::{is_nothing, text};

/// What one try says of the key that it was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The provider.
    pub provider: String,
    /// The key, as it stands there.
    pub key: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a try, as far as its key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The key is good.
    Good,
    /// The upstream does not take the key, or no more of it for now.
    Refused,
    /// No answer in time: APIPark holds that against the key.
    Slow,
    /// The key is not to blame: the request was wrong.
    WrongRequest,
    /// Nothing: there is no word, or one that is not known.
    Silent,
}

impl KeyStatus {
    /// The names that the key may go by, the longest first: as it stands there, without the kind of object that
    /// apinto has behind an `@`, and without the provider in front of that.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let bare = self.key.split_once('@').map_or(&*self.key, |(bare, _)| bare);
        let short = bare.strip_prefix(&*self.provider).and_then(|rest| rest.strip_prefix('-'));
        [Some(&*self.key), (bare != self.key).then_some(bare), short].into_iter().flatten()
    }
}

/// The statuses of `written`, in order, and how many of them cannot be read: a list, one alone, or either as JSON
/// in a text.
pub(super) fn read(written: Option<&Value>) -> (Vec<KeyStatus>, u64) {
    match written {
        None => (Vec::new(), 0),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            // A text in a text is none.
            Ok(Value::String(_)) | Err(_) => (Vec::new(), 1),
            Ok(value) => read(Some(&value)),
        },
        Some(Value::Array(items)) => {
            let mut unread = 0;
            let read = items.iter().filter(|item| !is_nothing(item)).filter_map(|item| {
                let status = item.as_object().and_then(one);
                unread += u64::from(status.is_none());
                status
            });
            (read.collect(), unread)
        }
        Some(Value::Object(fields)) => one(fields).map_or((Vec::new(), 1), |status| (vec![status], 0)),
        Some(nothing) if is_nothing(nothing) => (Vec::new(), 0),
        Some(_) => (Vec::new(), 1),
    }
}

fn one(fields: &Map<String, Value>) -> Option<KeyStatus> {
    let field = |name| match fields.get(name) {
        Some(value) if !is_nothing(value) => text(value).ok(),
        _ => Some(String::new()),
    };
    Some(KeyStatus { provider: field("provider")?, key: field("key")?, verdict: verdict(&field("status")?) })
}

fn verdict(word: &str) -> Verdict {
    match word.to_ascii_lowercase().replace(['_', '-'], " ").trim() {
        "normal" => Verdict::Good,
        // The last is what APIPark itself calls a key of which it has learnt any of the others.
        "invalid" | "expired" | "quota exhausted" | "exceeded" | "error" => Verdict::Refused,
        "timeout" => Verdict::Slow,
        "invalid request" => Verdict::WrongRequest,
        _ => Verdict::Silent,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_form_of_the_list_is_read() {
        let entry = json!({"provider": "openai", "model": "gpt-4o", "key": "openai-k1@ai-key", "status": "expired"});
        let expected =
            KeyStatus { provider: "openai".into(), key: "openai-k1@ai-key".into(), verdict: Verdict::Refused };
        for written in [json!([entry]), entry.clone(), json!(json!([entry]).to_string()), json!([null, entry, ""])] {
            assert_eq!(read(Some(&written)), (vec![expected.clone()], 0), "{written}");
        }
        for nothing in [json!(null), json!(""), json!([]), json!("[]"), json!("null")] {
            let nothing = Some(&nothing).filter(|value| !is_nothing(value));
            assert_eq!(read(nothing), (vec![], 0), "{nothing:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_costs_no_other() {
        for (written, unread) in
            [(json!("[{broken"), 1), (json!(7), 1), (json!("\"text\""), 1), (json!([7, ["x"], {"key": []}]), 3)]
        {
            assert_eq!(read(Some(&written)), (vec![], unread), "{written}");
        }
        let (read, unread) = read(Some(&json!([7, {"key": "k", "status": "normal"}])));
        assert_eq!((read.len(), unread), (1, 1));
    }

    #[test]
    fn words_say_what_became_of_the_key() {
        for (word, expected) in [
            ("normal", Verdict::Good),
            ("Normal", Verdict::Good),
            ("invalid", Verdict::Refused),
            ("expired", Verdict::Refused),
            ("quota exhausted", Verdict::Refused),
            ("quota_exhausted", Verdict::Refused),
            ("exceeded", Verdict::Refused),
            ("timeout", Verdict::Slow),
            ("invalid request", Verdict::WrongRequest),
            ("disabled", Verdict::Silent),
            ("", Verdict::Silent),
        ] {
            assert_eq!(verdict(word), expected, "{word}");
        }
    }

    #[test]
    fn a_key_is_known_by_its_short_name_too() {
        let status = |provider: &str, key: &str| KeyStatus {
            provider: provider.into(),
            key: key.into(),
            verdict: Verdict::Good,
        };
        let names = |status: &KeyStatus| status.names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(&status("openai", "openai-main@ai-key")), ["openai-main@ai-key", "openai-main", "main"]);
        assert_eq!(names(&status("openai", "main")), ["main"]);
        assert_eq!(names(&status("open", "openai-main")), ["openai-main"]);
        assert_eq!(names(&status("", "@")), ["@", ""]);
    }
}

//! Which conversation a request belongs to, as far as the request says.
//!
//! Owns where its identity is looked for: in a header, in the body's members that name a session, and else
//! in the messages that every turn of a conversation begins with. It refuses to know channels, and for how
//! long something is remembered. Two conversations that are taken for one share a channel and nothing else.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use crate::walk::{Found, Walker, Wanted};

/// How much of a body is looked at. Conversations beyond it, a novel's length, are known by what stands
/// before.
const MAX_SCANNED: usize = 1 << 20;

/// A member of the body that names a session, in the order of their rank.
const SESSIONS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Want {
    Session(usize),
    Messages,
}

/// `metadata.user_id` is what Claude Code says its session in, `prompt_cache_key` what OpenAI's caches go by.
const WANTED: &[Wanted<Want>] = &[
    Wanted { path: &["prompt_cache_key"], what: Want::Session(0), mark: false },
    Wanted { path: &["session_id"], what: Want::Session(1), mark: false },
    Wanted { path: &["metadata", "session_id"], what: Want::Session(2), mark: false },
    Wanted { path: &["metadata", "user_id"], what: Want::Session(3), mark: false },
    Wanted { path: &["messages"], what: Want::Messages, mark: false },
    Wanted { path: &["contents"], what: Want::Messages, mark: false },
    Wanted { path: &["input"], what: Want::Messages, mark: false },
    Wanted { path: &["prompt"], what: Want::Messages, mark: false },
];

#[derive(Clone, Copy, Debug)]
enum Part {
    Role,
    Content,
}

const MESSAGE: &[Wanted<Part>] = &[
    Wanted { path: &["role"], what: Part::Role, mark: false },
    Wanted { path: &["content"], what: Part::Content, mark: false },
    Wanted { path: &["parts"], what: Part::Content, mark: false },
];

/// The conversation of a request made with the key `key_id`: the same number for each of its turns. `None`:
/// the request does not say.
///
/// `header` is the value of the header that was configured for this. Where neither it nor the body names a
/// session, the messages up to the first of the user's are its name, of which up to 16 KiB matter.
pub fn conversation(key_id: &str, header: Option<&[u8]>, body: &[Bytes]) -> Option<u64> {
    if let Some(header) = header.filter(|header| !header.is_empty()) {
        return Some(number(key_id, "header", header));
    }
    let mut sessions = [None; SESSIONS];
    let mut opening = None;
    let mut walker = Walker::new(WANTED, &[]);
    let mut left = MAX_SCANNED;
    let mut found = |found: Found<'_, Want>| match found {
        // `null`, and what is no text or is empty, names nothing.
        Found::Value(Want::Session(rank), value, _) if value.len() > 2 && value[0] == b'"' => {
            sessions[rank] = Some(number(key_id, "session", value));
        }
        Found::Value(Want::Messages, value, _) if value.len() > 2 => {
            opening = opening.or_else(|| Some(number(key_id, "opening", &opening_of(value)?.to_ne_bytes())));
        }
        Found::Value(..) | Found::End => {}
    };
    for piece in body {
        let piece = &piece[..piece.len().min(left)];
        left -= piece.len();
        walker.feed(piece, &mut found);
    }
    walker.end(&mut found);
    sessions.into_iter().flatten().next().or(opening)
}

/// What a conversation begins with: its messages to the first of the user's. `value` is a list of messages,
/// or a text, or the beginning of one.
fn opening_of(value: &[u8]) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    if value[0] != b'[' {
        value.hash(&mut hasher);
        return (value[0] == b'"').then(|| hasher.finish());
    }
    let mut walker = Walker::new(MESSAGE, &[]);
    let (mut is_users, mut is_over, mut is_any) = (true, false, false);
    let mut found = |found: Found<'_, Part>| match found {
        _ if is_over => {}
        Found::Value(Part::Role, role, _) => is_users = role == br#""user""#,
        Found::Value(Part::Content, content, _) => {
            content.hash(&mut hasher);
            is_any = true;
        }
        Found::End => {
            // Without a role it is the user's.
            is_over = is_any && is_users;
            is_users = true;
        }
    };
    walker.feed(value, &mut found);
    walker.end(&mut found);
    is_any.then(|| hasher.finish())
}

/// A session's name belongs to the key that used it: two keys that say the same do not share it.
fn number(key_id: &str, kind: &str, value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key_id, kind, value).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn of(body: &Value) -> Option<u64> {
        conversation("key", None, &[body.to_string().into()])
    }

    fn chat(messages: &[(&str, &str)]) -> Value {
        let messages: Vec<_> = messages.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
        json!({"model": "m", "messages": messages, "stream": true})
    }

    #[test]
    fn every_turn_of_a_conversation_is_the_same_one() {
        let first = of(&chat(&[("system", "be brief"), ("user", "hello")]));
        let later = of(&chat(&[("system", "be brief"), ("user", "hello"), ("assistant", "hi"), ("user", "more")]));
        let other = of(&chat(&[("system", "be brief"), ("user", "goodbye")]));
        assert!(first.is_some() && other.is_some());
        assert_eq!(first, later);
        assert_ne!(first, other, "an application's prompt is not a conversation");
    }

    #[test]
    fn a_session_goes_before_messages_and_a_header_before_both() {
        let body = |session: &str, text: &str| json!({"messages": [{"role": "user", "content": text}], "metadata": {"user_id": session}});
        assert_eq!(of(&body("s-1", "a")), of(&body("s-1", "b")));
        assert_ne!(of(&body("s-1", "a")), of(&body("s-2", "a")));
        assert_eq!(of(&body("", "a")), of(&json!({"messages": [{"role": "user", "content": "a"}]})), "an empty name");
        let pieces = |session: &str| [Bytes::from(body(session, "a").to_string())];
        let with = |header: &str, session: &str| conversation("key", Some(header.as_bytes()), &pieces(session));
        assert_eq!(with("h", "s-1"), with("h", "s-2"));
        assert_ne!(with("h", "s-1"), with("i", "s-1"));
        assert_eq!(with("", "s-1"), of(&body("s-1", "a")), "an empty header says nothing");
    }

    #[test]
    fn the_same_words_of_another_key_are_another_conversation() {
        let body = [Bytes::from(chat(&[("user", "hello")]).to_string())];
        assert_ne!(conversation("a", None, &body), conversation("b", None, &body));
        assert_ne!(conversation("a", Some(b"x"), &body), conversation("b", Some(b"x"), &body));
    }

    #[test]
    fn each_protocol_says_it_in_its_own_words() {
        for (first, later) in [
            (
                json!({"contents": [{"role": "user", "parts": [{"text": "a"}]}]}),
                json!({"contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": []}]}),
            ),
            (json!({"input": "a"}), json!({"input": "a", "model": "x"})),
            (json!({"prompt": "a"}), json!({"prompt": "a", "n": 1})),
            (
                json!({"prompt_cache_key": "k", "input": "a"}),
                json!({"input": [{"role": "user", "content": "b"}], "prompt_cache_key": "k"}),
            ),
            (json!({"session_id": "k"}), json!({"session_id": "k", "metadata": {"user_id": "u"}})),
        ] {
            assert!(of(&first).is_some(), "{first}");
            assert_eq!(of(&first), of(&later), "{first}");
        }
    }

    #[test]
    fn what_says_nothing_is_nobodys_conversation() {
        for body in [
            json!({}),
            json!({"messages": []}),
            json!({"messages": {}, "metadata": {"user_id": null}}),
            json!({"input": 5, "session_id": 5}),
            json!({"messages": [{"role": "user"}]}),
        ] {
            assert_eq!(of(&body), None, "{body}");
        }
        assert_eq!(conversation("key", None, &[]), None);
    }

    proptest! {
        #[test]
        fn any_split_of_the_body_is_the_same_conversation(cuts in prop::collection::vec(0..400_usize, 0..6)) {
            let body = chat(&[("system", "be brief"), ("user", "hello \\ \"you\""), ("assistant", "hi")]).to_string();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([0, body.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|w| Bytes::copy_from_slice(&body.as_bytes()[w[0]..w[1]])).collect();
            prop_assert_eq!(conversation("key", None, &pieces), conversation("key", None, &[body.into()]));
        }

        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = conversation("key", None, &[body.into()]);
        }
    }
}

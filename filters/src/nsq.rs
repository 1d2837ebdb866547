//! Messages as nsqd's `POST /mpub` takes them, and what its answers mean.
//!
//! Owns what nsqd wants, by its documentation and its source (nsqio/nsq at 3103474b, `nsqd/http.go`,
//! `nsqd/protocol_v2.go`, `nsqd/options.go`). It refuses to know how a body travels and what a message says.
//!
//! The binary form is used: `[4 bytes: number of messages]([4 bytes: size][message])…`, numbers in network order. The
//! other one ends each message with a line feed, and would lose what holds one.

use std::ops::Range;

/// The largest message that nsqd takes by default (`--max-msg-size`).
pub const MAX_MESSAGE: usize = 1 << 20;

/// The largest body that nsqd takes by default (`--max-body-size`).
pub const MAX_BODY: usize = 5 << 20;

/// Bytes of the number before each message, and before all.
const NUMBER: usize = 4;

/// Messages in their order.
#[derive(Debug, Default)]
pub struct Messages {
    /// Each with its size before it.
    framed: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// nsqd has the messages: all of them, since it reads a whole body before it takes the first.
    Taken,
    /// A message, or all of them together, are more than this nsqd takes.
    TooLarge,
    /// It says nothing of the messages: they are sent again.
    Again,
    /// They are refused.
    Refused,
}

impl Messages {
    /// One more; whether it was taken. nsqd refuses a body in which one is empty.
    pub fn push(&mut self, message: &[u8]) -> bool {
        let Some(size) = u32::try_from(message.len()).ok().filter(|size| *size > 0) else { return false };
        self.framed.extend_from_slice(&size.to_be_bytes());
        self.framed.extend_from_slice(message);
        self.ends.push(self.framed.len());
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes a body has that holds all of them.
    pub fn size(&self) -> usize {
        NUMBER + self.framed.len()
    }

    /// How many bytes it will have with one more of `len` bytes.
    pub fn size_with(&self, len: usize) -> usize {
        self.size() + NUMBER + len
    }

    /// One of them; panics if there are fewer.
    pub fn get(&self, at: usize) -> &[u8] {
        &self.framed[self.begin(at) + NUMBER..self.ends[at]]
    }

    /// A body that holds those of a range that is not empty; panics if there are fewer.
    pub fn body(&self, range: Range<usize>) -> Vec<u8> {
        let framed = &self.framed[self.begin(range.start)..self.ends[range.end - 1]];
        // Each takes five bytes at least, of which a vector has no more than 2^63.
        let count = u32::try_from(range.len()).unwrap_or(u32::MAX);
        [&count.to_be_bytes(), framed].concat()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.framed.clear();
        self.ends.clear();
    }

    fn begin(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// Path and query of a request that publishes at `topic`, behind the path of nsqd's address. Of what a topic's name
/// may hold only the `#` of an ephemeral one means something else in a URL.
pub fn target(path: &str, topic: &str) -> String {
    format!("{path}/mpub?topic={}&binary=true", topic.replace('#', "%23"))
}

/// What an answer means. nsqd says 200 and `OK`, and nothing else that is good: another 200, or a redirect, comes from
/// what stands before it or in its place, such as a form to log in, which has not taken anything.
pub fn verdict(status: u16, body: &[u8]) -> Verdict {
    match status {
        200 if body == b"OK" => Verdict::Taken,
        413 => Verdict::TooLarge,
        408 | 425 | 429 => Verdict::Again,
        400..=499 => Verdict::Refused,
        _ => Verdict::Again,
    }
}

/// The word in which nsqd says why not, as in `{"message":"INVALID_TOPIC"}`. What another server says is not repeated.
pub fn reason(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Why {
        message: String,
    }
    let Why { message } = serde_json::from_slice(body).ok()?;
    let is_word = (1..=32).contains(&message.len()) && message.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    is_word.then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn messages(texts: &[&str]) -> Messages {
        let mut messages = Messages::default();
        for text in texts {
            assert!(messages.push(text.as_bytes()));
        }
        messages
    }

    #[test]
    fn a_body_has_the_number_of_messages_and_the_size_of_each_before_it() {
        let messages = messages(&["{}", "a\nb", "é"]);
        assert_eq!(messages.body(0..3), b"\0\0\0\x03\0\0\0\x02{}\0\0\0\x03a\nb\0\0\0\x02\xc3\xa9");
        assert_eq!(messages.body(1..2), b"\0\0\0\x01\0\0\0\x03a\nb");
        assert_eq!((messages.get(0), messages.get(2)), (&b"{}"[..], "é".as_bytes()));
        assert_eq!((messages.size(), messages.size_with(2)), (23, 29));
    }

    #[test]
    fn an_empty_message_is_not_taken_because_nsqd_would_refuse_the_others_with_it() {
        let mut messages = messages(&["a"]);
        assert!(!messages.push(b""));
        assert_eq!((messages.len(), messages.size()), (1, 9));
        messages.clear();
        assert_eq!((messages.len(), messages.size(), messages.is_empty()), (0, 4, true));
    }

    #[test]
    fn an_ephemeral_topic_stays_one_in_a_url() {
        assert_eq!(target("", "weir.ai-event_1"), "/mpub?topic=weir.ai-event_1&binary=true");
        assert_eq!(target("/nsq", "weir#ephemeral"), "/nsq/mpub?topic=weir%23ephemeral&binary=true");
    }

    #[test]
    fn only_its_own_ok_takes_messages() {
        assert_eq!(verdict(200, b"OK"), Verdict::Taken);
        for body in ["", "ok", "OK\n", "<html>OK</html>", "{\"message\":\"OK\"}"] {
            assert_eq!(verdict(200, body.as_bytes()), Verdict::Again, "{body}");
        }
        for status in [100, 201, 204, 301, 302, 307, 408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(verdict(status, b"OK"), Verdict::Again, "{status}");
        }
        assert_eq!(verdict(413, b"{\"message\":\"BODY_TOO_BIG\"}"), Verdict::TooLarge);
        for status in [400, 401, 403, 404, 405, 422, 499] {
            assert_eq!(verdict(status, b"OK"), Verdict::Refused, "{status}");
        }
    }

    #[test]
    fn a_reason_is_a_word_of_nsqds_own() {
        assert_eq!(reason(b"{\"message\":\"INVALID_TOPIC\"}").as_deref(), Some("INVALID_TOPIC"));
        for other in [
            "",
            "OK",
            "{}",
            "{\"message\":7}",
            "{\"message\":\"\"}",
            "{\"message\":\"the token sk-canary is wrong\"}",
            "{\"message\":\"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG\"}",
        ] {
            assert_eq!(reason(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_part_of_the_messages_is_read_again(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 1..20),
            cut in 0..20_usize,
        ) {
            let mut messages = Messages::default();
            for text in &texts {
                prop_assert!(messages.push(text));
            }
            let cut = cut.min(texts.len());
            for range in [0..cut, cut..texts.len(), 0..texts.len()] {
                if !range.is_empty() {
                    prop_assert_eq!(read(&messages.body(range.clone())), &texts[range]);
                }
            }
            prop_assert_eq!(messages.size(), messages.body(0..texts.len()).len());
        }
    }

    fn read(body: &[u8]) -> Vec<Vec<u8>> {
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap()) as usize;
        let mut at = 4;
        let all = (0..number(0)).map(|_| {
            let message = body[at + 4..at + 4 + number(at)].to_vec();
            at += 4 + message.len();
            message
        });
        let all = all.collect();
        assert_eq!(at, body.len());
        all
    }
}

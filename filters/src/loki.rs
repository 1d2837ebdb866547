//! Request records as a push to Loki: which stream a record belongs to and when, how a push is written, and what its
//! answer means.
//!
//! Owns what Loki's push API wants. A stream has the labels `service` (`weir`; Loki makes `service_name` of it
//! itself), `route`, `status` (`2xx` and so on) and those that the configuration gives, the same for all; all else
//! is in the line, because every value of a label is a stream of its own. Nothing is put into structured metadata:
//! a Loki that does not allow it refuses the record. It refuses to know how a push travels and what waits for it.

mod answer;
mod body;
mod frame;
mod labels;
mod line;
mod streams;

pub use answer::{Verdict, verdict};
pub use body::{Body, Format, MAX_PUSH, body, cost, stream_cost};
pub use frame::{Entry, Frame};
pub use labels::Labels;
pub use line::{MAX_LINE, Seen, read};
pub use streams::Streams;

/// A class of statuses, as the label `status` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class(u8);

impl Class {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// The class of a status; 0: the client left before one was sent.
    pub fn of(status: u16) -> Self {
        Self((status / 100).min(9).to_le_bytes()[0])
    }

    /// The class with this number; `None`: there is none.
    pub fn numbered(number: u8) -> Option<Self> {
        (usize::from(number) < Self::COUNT).then_some(Self(number))
    }

    /// Its number, below [`Class::COUNT`].
    pub fn number(self) -> u8 {
        self.0
    }

    /// The label's value.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; Class::COUNT] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx"];
        NAMES[usize::from(self.0)]
    }
}

/// The beginning of a text, `max` bytes at most.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_class_and_no_status_has_one_too() {
        for (status, name) in [
            (0, "none"),
            (99, "none"),
            (101, "1xx"),
            (200, "2xx"),
            (299, "2xx"),
            (404, "4xx"),
            (599, "5xx"),
            (u16::MAX, "9xx"),
        ] {
            assert_eq!(Class::of(status).name(), name, "{status}");
        }
        let numbers: Vec<_> = (0..=u8::MAX).filter_map(Class::numbered).map(Class::number).collect();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_text_is_cut_between_two_characters() {
        let cuts: Vec<_> = (0..5).map(|max| cut("aüb", max)).collect();
        assert_eq!(cuts, ["", "a", "a", "aü", "aüb"]);
    }
}

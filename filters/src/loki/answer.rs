//! Owns what Loki's answer means for the records of a push. Refuses to know a connection.

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Loki has the records.
    Taken,
    /// It says nothing of the records: the push is sent again.
    Again,
    /// Some of the records are refused for what they are, or all are too much at once. Loki keeps those of such a
    /// push that it takes, and knows them again by time and line; a part of the push is sent again to tell.
    RefusedInPart,
    /// The push is refused, with all its records.
    Refused,
}

/// What an answer with this status means. `is_empty`: it has no body.
///
/// Loki answers 204. What answers 200 with a page is no Loki, but what stands before it or in its place, such as a
/// form to log in: it has not taken anything, and neither has one that sends elsewhere.
pub fn verdict(status: u16, is_empty: bool) -> Verdict {
    match status {
        200..=299 if is_empty => Verdict::Taken,
        400 | 413 | 422 => Verdict::RefusedInPart,
        408 | 425 | 429 => Verdict::Again,
        401..=499 => Verdict::Refused,
        _ => Verdict::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_answer_of_success_takes_records() {
        for status in [200, 202, 204] {
            assert_eq!(verdict(status, true), Verdict::Taken, "{status}");
            assert_eq!(verdict(status, false), Verdict::Again, "{status} with a page");
        }
    }

    #[test]
    fn what_is_no_fault_of_the_records_is_sent_again() {
        for status in [100, 301, 302, 307, 408, 425, 429, 500, 502, 503, 504, 529, 599, 600, 0] {
            assert_eq!(verdict(status, true), Verdict::Again, "{status}");
        }
        for status in [400, 413, 422] {
            assert_eq!(verdict(status, false), Verdict::RefusedInPart, "{status}");
        }
        for status in [401, 403, 404, 405, 411, 415, 499] {
            assert_eq!(verdict(status, true), Verdict::Refused, "{status}");
        }
    }
}

//! Whether a request that failed is tried again elsewhere, and what its failure says of the upstream.
//!
//! Owns the rules. It refuses to know who else could be asked, and what time it is.

use std::time::Duration;

/// How an attempt failed before its answer began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection, or one that broke off before the head of an answer, or an answer that is not HTTP.
    Connect,
    /// No head in time.
    Timeout,
    /// An answer with this status.
    Status(u16),
}

/// Whose failure an answer's status is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody's, or the request's own.
    None,
    /// The upstream key's, which is refused. `certain`: for sure, and not for this request alone.
    Key {
        /// Whether no other request would fare better with this key.
        certain: bool,
    },
    /// The upstream's.
    Channel,
}

/// When a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often a request is tried in all, the first time included.
    pub attempts: u32,
    /// How long all attempts together may take to get an answer's head.
    pub within: Duration,
    /// The failures after which another is tried.
    pub on: Vec<Failure>,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Attempts so far, the one that failed included.
    pub attempts: u32,
    /// The time since the first began.
    pub elapsed: Duration,
    /// Whether all of its body is at hand, to be sent again.
    pub is_whole: bool,
    /// Whether the client has been told anything.
    pub is_answered: bool,
}

impl Failure {
    /// Whose it is. A refused key is the key's: 401 and 429 for certain. A 403 may be for this model or this
    /// region alone, which a client could provoke at will, so it takes several.
    pub fn blame(self) -> Blame {
        match self {
            Self::Connect | Self::Timeout => Blame::Channel,
            Self::Status(401 | 429) => Blame::Key { certain: true },
            Self::Status(403) => Blame::Key { certain: false },
            // 501 is an answer to a request that the upstream does not know.
            Self::Status(status) if status >= 500 && status != 501 => Blame::Channel,
            Self::Status(_) => Blame::None,
        }
    }
}

impl Retries {
    /// Whether another may be tried after `failure`. A key that the upstream does not take is the gateway's
    /// fault and never the client's: that is always tried again, if there is another one.
    pub fn allow(&self, failure: Failure, progress: &Progress) -> bool {
        let is_listed = self.on.contains(&failure) || matches!(failure, Failure::Status(401 | 403));
        is_listed
            && progress.is_whole
            && !progress.is_answered
            && progress.attempts < self.attempts
            && progress.elapsed < self.within
    }
}

/// The wait that a `Retry-After` in seconds, or a `retry-after-ms`, asks for.
///
/// The form with a date (RFC 9110, section 10.2.3) is overlooked: no provider of models sends it, and it
/// would make two clocks agree.
pub fn wait(retry_after: Option<&[u8]>, retry_after_ms: Option<&[u8]>) -> Option<Duration> {
    let number = |value: &[u8]| std::str::from_utf8(value).ok()?.trim().parse::<f64>().ok();
    let millis = retry_after_ms.and_then(number).map(|ms| ms / 1000.0);
    let seconds = millis.or_else(|| retry_after.and_then(number))?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn retries() -> Retries {
        let on = [Failure::Connect, Failure::Timeout, Failure::Status(429), Failure::Status(503)].into();
        Retries { attempts: 3, within: Duration::from_secs(60), on }
    }

    const FIRST: Progress = Progress { attempts: 1, elapsed: Duration::ZERO, is_whole: true, is_answered: false };

    #[test]
    fn only_what_is_listed_is_tried_again_and_what_is_the_gateways_own_fault() {
        for (failure, expected) in [
            (Failure::Connect, true),
            (Failure::Timeout, true),
            (Failure::Status(429), true),
            (Failure::Status(503), true),
            (Failure::Status(401), true),
            (Failure::Status(403), true),
            (Failure::Status(500), false),
            (Failure::Status(400), false),
        ] {
            assert_eq!(retries().allow(failure, &FIRST), expected, "{failure:?}");
        }
    }

    #[test]
    fn attempts_time_the_body_and_the_answer_each_end_it() {
        let (late, almost) = (Duration::from_secs(60), Duration::from_millis(59_999));
        for (progress, expected) in [
            (FIRST, true),
            (Progress { attempts: 2, ..FIRST }, true),
            (Progress { attempts: 3, ..FIRST }, false),
            (Progress { elapsed: almost, ..FIRST }, true),
            (Progress { elapsed: late, ..FIRST }, false),
            (Progress { is_whole: false, ..FIRST }, false),
            (Progress { is_answered: true, ..FIRST }, false),
        ] {
            assert_eq!(retries().allow(Failure::Connect, &progress), expected, "{progress:?}");
        }
    }

    #[test]
    fn each_failure_has_one_to_blame() {
        for (failure, blame) in [
            (Failure::Connect, Blame::Channel),
            (Failure::Timeout, Blame::Channel),
            (Failure::Status(200), Blame::None),
            (Failure::Status(400), Blame::None),
            (Failure::Status(401), Blame::Key { certain: true }),
            (Failure::Status(403), Blame::Key { certain: false }),
            (Failure::Status(404), Blame::None),
            (Failure::Status(429), Blame::Key { certain: true }),
            (Failure::Status(500), Blame::Channel),
            (Failure::Status(501), Blame::None),
            (Failure::Status(529), Blame::Channel),
        ] {
            assert_eq!(failure.blame(), blame, "{failure:?}");
        }
    }

    #[test]
    fn a_wait_is_read_where_it_is_a_number() {
        let ms = |n| Some(Duration::from_millis(n));
        for (after, after_ms, expected) in [
            (Some("7"), None, ms(7_000)),
            (Some(" 1.5 "), None, ms(1_500)),
            (Some("7"), Some("20"), ms(20)),
            (Some("7"), Some("soon"), ms(7_000)),
            (Some("Wed, 21 Oct 2015 07:28:00 GMT"), None, None),
            (Some("-1"), None, None),
            (Some("nan"), None, None),
            (Some("inf"), None, None),
            (Some("1e300"), None, None),
            (Some(""), None, None),
            (None, None, None),
        ] {
            assert_eq!(wait(after.map(str::as_bytes), after_ms.map(str::as_bytes)), expected, "{after:?} {after_ms:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_of_an_upstream_panics(value in prop::collection::vec(any::<u8>(), 0..12), digits in "[0-9e.+-]{0,12}") {
            let _ = wait(Some(&value), None);
            let _ = wait(None, Some(digits.as_bytes()));
        }

        #[test]
        fn a_request_is_never_tried_more_often_than_it_may_be(attempts in 0..9_u32, cap in 1..5_u32, listed: bool) {
            let retries = Retries { attempts: cap, on: if listed { retries().on } else { vec![] }, ..retries() };
            let progress = Progress { attempts, ..FIRST };
            prop_assert_eq!(retries.allow(Failure::Connect, &progress), listed && attempts < cap);
        }
    }
}

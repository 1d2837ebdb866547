//! How a request ended, in one word: the same in records, counters and metrics. Knows no request.

use std::fmt;
use std::str::FromStr;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// The client has the whole answer, whatever its status.
    Ok = 0,
    /// The client left before the answer was whole.
    ClientAbort = 1,
    /// The upstream broke off in the middle of its answer.
    UpstreamAbort = 2,
    /// Weir refused the request: credential, permission, shape or size.
    Refused = 3,
    /// No answer could be had from the upstream, or its status was 5xx.
    UpstreamError = 4,
    /// The upstream was too slow.
    Timeout = 5,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 6] = [
        Outcome::Ok,
        Outcome::ClientAbort,
        Outcome::UpstreamAbort,
        Outcome::Refused,
        Outcome::UpstreamError,
        Outcome::Timeout,
    ];

    /// The name used in records.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::ClientAbort => "client_abort",
            Outcome::UpstreamAbort => "upstream_abort",
            Outcome::Refused => "refused",
            Outcome::UpstreamError => "upstream_error",
            Outcome::Timeout => "timeout",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Outcome {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_what_it_names() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.name().parse(), Ok(outcome));
        }
        assert_eq!("OK".parse::<Outcome>(), Err(()));
    }
}

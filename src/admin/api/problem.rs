//! Every way in which a request can be refused: a status, a code that programs can rely on, and when.
//!
//! Owns the words. Who gives which answer, and the message in it, is decided where it is given.

/// A kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) when: &'static str,
}

const fn problem(status: u16, code: &'static str, when: &'static str) -> Problem {
    Problem { status, code, when }
}

pub(super) const BAD_REQUEST: Problem =
    problem(400, "bad_request", "the query string, a header or the body as a whole cannot be read");
pub(super) const INVALID: Problem = problem(400, "invalid", "a field is wrong; all that are wrong are listed");
pub(super) const UNAUTHORIZED: Problem = problem(401, "unauthorized", "no credential was given, or an unknown one");
pub(super) const FORBIDDEN: Problem = problem(403, "forbidden", "it is not for whoever asks");
pub(super) const CSRF: Problem =
    problem(403, "csrf", "a change by a session without `x-weir-csrf`, or that another page asks for");
pub(super) const WRONG_PASSWORD: Problem = problem(403, "wrong_password", "the old password is not right");
pub(super) const NOT_FOUND: Problem = problem(404, "not_found", "there is no such thing");
pub(super) const DECLARED: Problem =
    problem(409, "declared", "the configuration file declares it, so it is changed there");
pub(super) const NAME_TAKEN: Problem = problem(409, "name_taken", "another one has this name");
pub(super) const IN_USE: Problem = problem(409, "in_use", "others name it");
pub(super) const TOO_MANY_KEYS: Problem =
    problem(409, "too_many_keys", "the user has as many keys as `max_keys` allows");
pub(super) const FULL: Problem = problem(409, "full", "the document of all objects would become too large");
pub(super) const UPGRADING: Problem =
    problem(409, "upgrading", "another process is taking over; ask again in a moment");
pub(super) const BUSY: Problem = problem(409, "busy", "as much is being tried out as may be at once");
pub(super) const NOT_PROBED: Problem =
    problem(409, "not_probed", "the channel has no `probe`, which says what it is asked");
pub(super) const NO_USER: Problem = problem(409, "no_user", "who has the admin token has no password");
pub(super) const NOT_GRANTED: Problem =
    problem(409, "not_granted", "an administrator has not granted that, or the key is not one that users change");
pub(super) const HISTORY_DISABLED: Problem = problem(409, "history_disabled", "no records are kept here");
pub(super) const CHANGED: Problem = problem(412, "changed", "it is no longer as `If-Match` says");
pub(super) const TOO_LARGE: Problem = problem(413, "too_large", "the body is larger than is taken");
pub(super) const REFUSED: Problem = problem(422, "invalid", "the configuration has mistakes; all are listed");
pub(super) const THROTTLED: Problem =
    problem(429, "throttled", "too many tries or questions; `Retry-After` says when there is another");
pub(super) const FAILED: Problem = problem(500, "failed", "the gateway failed to answer; its log says why");
pub(super) const NOT_KEPT: Problem =
    problem(500, "not_kept", "the disk did not take it; the message says what holds now");
pub(super) const UNAVAILABLE: Problem = problem(503, "unavailable", "it cannot be answered now, or takes too long");

/// What may keep any change from being made.
pub(super) const CHANGE: [Problem; 3] = [NOT_KEPT, UPGRADING, FULL];

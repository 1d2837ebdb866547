//! Sessions: who has signed in, until when, and whether what they signed in with still counts.
//!
//! Owns the table and its rules; a session is known by the SHA-256 of a token that only the browser has. Knows no
//! clock, no disk and no HTTP.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weir_filters::secret::Secret;

use crate::config::{Role, Written};

use super::directory::{Directory, Stamp};

/// A session that nobody uses ends after this, in milliseconds.
pub(crate) const IDLE_MS: u64 = 12 * 3_600_000;

/// Every session ends after this.
pub(crate) const TOTAL_MS: u64 = 7 * 86_400_000;

/// Sessions of one user, and those by the token together: whoever signs in once more ends the one that was used last
/// the longest time ago.
const MAX_OF_ONE: usize = 32;

/// Sessions in all. Each is some 200 bytes on the disk, and all are written at each sign-in.
const MAX: usize = 10_000;

/// The last use is written down this much late at most: by so much earlier an idle session may end after a kill.
const NOTE_USE_EVERY_MS: u64 = 10 * 60_000;

/// What a session is known by: the SHA-256 of its token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId([u8; 32]);

impl SessionId {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// It can find the session's line in the file, and is nobody else's business.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

/// What whoever signed in is now.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    /// `None`: who has the admin token.
    pub(crate) user: Option<Arc<str>>,
    pub(crate) role: Role,
    /// What a page of ours sends along to show that it is one.
    pub(crate) csrf: Secret,
    /// When it ends if it is not used, in milliseconds since 1970.
    pub(crate) expires_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    user: Option<Arc<str>>,
    stamp: Stamp,
    began_ms: u64,
    used_ms: u64,
    /// Its user is about to have another password, and has shown the one before.
    moves: bool,
}

impl Kept {
    fn ends_ms(&self) -> u64 {
        (self.used_ms.saturating_add(IDLE_MS)).min(self.began_ms.saturating_add(TOTAL_MS))
    }
}

/// Every session.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: HashMap<SessionId, Kept>,
    /// When uses were last written down, or this began.
    noted_ms: Option<u64>,
}

impl Sessions {
    /// Begins a session; ends those that are over, and the oldest if there are too many.
    pub(super) fn begin(&mut self, token: &Secret, user: Option<Arc<str>>, stamp: Stamp, now_ms: u64) {
        self.all.retain(|_, kept| kept.ends_ms() > now_ms);
        let of_this_one = |kept: &Kept| kept.user == user;
        while self.all.values().filter(|kept| of_this_one(kept)).count() >= MAX_OF_ONE {
            self.end_oldest(of_this_one);
        }
        while self.all.len() >= MAX {
            self.end_oldest(|_| true);
        }
        self.all.insert(
            SessionId::of(token.expose()),
            Kept { user, stamp, began_ms: now_ms, used_ms: now_ms, moves: false },
        );
    }

    fn end_oldest(&mut self, of: impl Fn(&Kept) -> bool) {
        let oldest = self.all.iter().filter(|(_, kept)| of(kept)).min_by_key(|(_, kept)| kept.used_ms);
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.all.remove(&id);
        }
    }

    /// The session of this token, which is used now.
    pub(super) fn find(&mut self, token: &str, directory: &Directory, now_ms: u64) -> Option<Session> {
        let id = SessionId::of(token);
        let (role, user) = self.standing(id, directory, now_ms)?;
        let kept = self.all.get_mut(&id)?;
        kept.used_ms = kept.used_ms.max(now_ms);
        Some(Session { id, user, role, csrf: csrf(token), expires_ms: kept.ends_ms() })
    }

    /// Who has the session of this id, if it has not ended. It is not used by that.
    pub(super) fn standing(
        &self,
        id: SessionId,
        directory: &Directory,
        now_ms: u64,
    ) -> Option<(Role, Option<Arc<str>>)> {
        let kept = self.all.get(&id).filter(|kept| kept.ends_ms() > now_ms)?;
        Some((role(directory, kept)?, kept.user.clone()))
    }

    /// Ends those whose credential counts no more. Whether there were any.
    pub(super) fn end_strangers(&mut self, directory: &Directory) -> bool {
        let before = self.all.len();
        // While it is not known who can sign in, nothing is known of their sessions.
        self.all.retain(|_, kept| !directory.knows(kept.user.is_some()) || role(directory, kept).is_some());
        self.all.len() < before
    }

    /// Ends one.
    pub(super) fn end(&mut self, id: SessionId) {
        self.all.remove(&id);
    }

    /// Lets a session go on whatever becomes of its user's password, or does so no more.
    pub(super) fn set_moving(&mut self, id: SessionId, moves: bool) {
        if let Some(kept) = self.all.get_mut(&id) {
            kept.moves = moves;
        }
    }

    /// Goes on with a session whose user has another credential now. That user's others are over by themselves.
    pub(super) fn go_on(&mut self, id: SessionId, stamp: Stamp) {
        if let Some(kept) = self.all.get_mut(&id) {
            kept.stamp = stamp;
        }
    }

    /// Whether uses are to be written down, which is said once in a while.
    pub(super) fn has_uses_to_note(&mut self, now_ms: u64) -> bool {
        let is_time = now_ms.saturating_sub(*self.noted_ms.get_or_insert(now_ms)) >= NOTE_USE_EVERY_MS;
        if is_time {
            self.noted_ms = Some(now_ms);
        }
        is_time && self.all.values().any(|kept| kept.used_ms > kept.began_ms)
    }

    /// Each as an object of a document. What was signed in with is in it as a digest, and the token as another.
    pub(super) fn written(&self) -> Vec<String> {
        let object = |(id, kept): (&SessionId, &Kept)| {
            json!({
                "sha256": hex(&id.0),
                "user": kept.user.as_deref(),
                "stamp": hex(&kept.stamp),
                "began_ms": kept.began_ms,
                "used_ms": kept.used_ms,
            })
            .to_string()
        };
        let mut objects: Vec<String> = self.all.iter().map(object).collect();
        objects.sort_unstable();
        objects
    }

    /// What [`Sessions::written`] wrote; `None`: it is something else.
    pub(super) fn read(objects: &[Written]) -> Option<Self> {
        let all = objects.iter().take(MAX).map(|object| {
            let user = match object.get("user")? {
                Value::Null => None,
                user => Some(user.as_str()?.into()),
            };
            let stamp = unhex(object.get("stamp")?.as_str()?)?;
            let (began_ms, used_ms) = (object.get("began_ms")?.as_u64()?, object.get("used_ms")?.as_u64()?);
            Some((
                SessionId(unhex(object.get("sha256")?.as_str()?)?),
                Kept { user, stamp, began_ms, used_ms, moves: false },
            ))
        });
        Some(Self { all: all.collect::<Option<_>>()?, noted_ms: None })
    }
}

/// The role of whoever has a session, if what they signed in with still counts.
fn role(directory: &Directory, kept: &Kept) -> Option<Role> {
    match kept.user.as_deref() {
        None => (directory.token() == Some(kept.stamp)).then_some(Role::Admin),
        Some(user) => {
            let member = directory.find(user).filter(|member| kept.moves || member.stamp == kept.stamp);
            member.map(|member| member.role)
        }
    }
}

/// What is sent along with each change, made of the token: it needs no keeping, and does not give the token away.
fn csrf(token: &str) -> Secret {
    let mut hash = Sha256::new_with_prefix(b"weir csrf of ");
    hash.update(token);
    Secret::new(hex(&hash.finalize()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use weir_filters::limits::Limits;
    use weir_filters::price::PriceRate;

    use crate::config::User;

    use super::*;

    const TOKEN: Stamp = [7; 16];
    const HOUR: u64 = 3_600_000;

    fn directory(users: &[(&str, Role, &str)]) -> Directory {
        let user = |&(name, role, password): &(&str, Role, &str)| User {
            name: name.into(),
            limits: Limits::default(),
            price_rate: PriceRate::default(),
            max_keys: 1,
            role,
            password: Some(Secret::new(password)),
        };
        Directory::of(&users.iter().map(user).collect::<Vec<_>>()).trusting(Some(TOKEN))
    }

    fn begin(sessions: &mut Sessions, directory: &Directory, token: &str, user: &str, now_ms: u64) {
        let member = directory.find(user).expect("a member");
        sessions.begin(&Secret::new(token), Some(member.name.clone()), member.stamp, now_ms);
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_in_any_case() {
        let directory = directory(&[("alice", Role::User, "h1")]);
        let mut sessions = Sessions::default();
        begin(&mut sessions, &directory, "t", "alice", 1000);
        let mut find = |now_ms| sessions.find("t", &directory, now_ms).map(|session| session.expires_ms);
        assert_eq!(find(1000), Some(1000 + 12 * HOUR));
        assert_eq!(find(999 + 12 * HOUR), Some(999 + 24 * HOUR), "a use puts its end off");
        assert_eq!(find(999 + 24 * HOUR), None, "it was idle");
        let mut sessions = Sessions::default();
        begin(&mut sessions, &directory, "t", "alice", 0);
        let mut find = |now_ms| sessions.find("t", &directory, now_ms).map(|session| session.expires_ms);
        for hour in (0..168).step_by(11) {
            assert!(find(hour * HOUR).is_some(), "hour {hour}");
        }
        assert_eq!(find(168 * HOUR - 1), Some(168 * HOUR));
        assert_eq!(find(168 * HOUR), None, "after a week at the latest");
    }

    #[test]
    fn another_password_another_role_and_no_user_end_a_session() {
        let before = directory(&[("alice", Role::User, "h1")]);
        for (what, after) in [
            ("another password", directory(&[("alice", Role::User, "h2")])),
            ("another role", directory(&[("alice", Role::Admin, "h1")])),
            ("no user", directory(&[("bob", Role::User, "h1")])),
        ] {
            let mut sessions = Sessions::default();
            begin(&mut sessions, &before, "t", "alice", 0);
            assert_eq!(sessions.find("t", &before, 1).map(|s| s.role), Some(Role::User));
            assert!(sessions.find("t", &after, 1).is_none(), "{what}");
        }
        let mut sessions = Sessions::default();
        sessions.begin(&Secret::new("t"), None, TOKEN, 0);
        assert_eq!(sessions.find("t", &before, 1).map(|s| (s.role, s.user)), Some((Role::Admin, None)));
        let other = before.trusting(Some([8; 16]));
        assert!(sessions.find("t", &other, 1).is_none(), "another admin token");
    }

    #[test]
    fn what_has_ended_does_not_come_back_with_the_credential_of_before() {
        let before = directory(&[("alice", Role::User, "h1")]);
        let after = directory(&[("alice", Role::Admin, "h1")]);
        let mut sessions = Sessions::default();
        begin(&mut sessions, &before, "t", "alice", 0);
        sessions.begin(&Secret::new("admin"), None, TOKEN, 0);
        assert!(!sessions.end_strangers(&before.trusting(None)), "the token is not known yet");
        assert!(!sessions.end_strangers(&before));
        assert!(sessions.end_strangers(&after));
        assert!(sessions.find("t", &before, 1).is_none());
        assert!(sessions.find("admin", &before, 1).is_some());
        assert!(sessions.end_strangers(&before.trusting(Some([8; 16]))));
        assert!(sessions.find("admin", &before, 1).is_none());
    }

    #[test]
    fn who_changes_a_password_stays_and_the_others_of_that_user_do_not() {
        let before = directory(&[("alice", Role::User, "h1"), ("bob", Role::User, "h1")]);
        let after = directory(&[("alice", Role::User, "h2"), ("bob", Role::User, "h1")]);
        let mut sessions = Sessions::default();
        for (token, user) in [("a1", "alice"), ("a2", "alice"), ("b", "bob")] {
            begin(&mut sessions, &before, token, user, 0);
        }
        sessions.set_moving(SessionId::of("a1"), true);
        assert!(sessions.end_strangers(&after), "the other one of that user");
        sessions.go_on(SessionId::of("a1"), after.find("alice").expect("a member").stamp);
        sessions.set_moving(SessionId::of("a1"), false);
        let is_there = |sessions: &mut Sessions, token| sessions.find(token, &after, 1).is_some();
        assert!(is_there(&mut sessions, "a1") && !is_there(&mut sessions, "a2") && is_there(&mut sessions, "b"));
        assert_eq!(sessions.written().len(), 2);
    }

    #[test]
    fn there_are_so_many_of_one_and_the_one_that_was_used_last_stays() {
        let directory = directory(&[("alice", Role::User, "h1"), ("bob", Role::User, "h1")]);
        let mut sessions = Sessions::default();
        begin(&mut sessions, &directory, "b", "bob", 0);
        for number in 0..MAX_OF_ONE {
            begin(&mut sessions, &directory, &format!("a{number}"), "alice", number as u64);
        }
        sessions.find("a0", &directory, 500);
        begin(&mut sessions, &directory, "more", "alice", 600);
        let is_there = |token: &str| sessions.all.contains_key(&SessionId::of(token));
        assert_eq!([is_there("a0"), is_there("a1"), is_there("more"), is_there("b")], [true, false, true, true]);
        assert_eq!(sessions.all.len(), MAX_OF_ONE + 1);
    }

    #[test]
    fn what_is_written_is_read_again_and_holds_no_token() {
        let directory = directory(&[("alice", Role::User, "h1")]);
        let mut sessions = Sessions::default();
        begin(&mut sessions, &directory, "token-of-alice", "alice", 5);
        sessions.begin(&Secret::new("token-of-admin"), None, TOKEN, 6);
        let csrf = sessions.find("token-of-alice", &directory, 7).expect("a session").csrf;
        let text = sessions.written().join("\n");
        let hidden = ["token-of", "h1", csrf.expose()];
        assert!(hidden.iter().all(|hidden| !text.contains(hidden)), "{text}");
        let objects: Vec<Written> = text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        let mut read = Sessions::read(&objects).expect("what was written");
        assert_eq!(read.all, sessions.all);
        assert_eq!(read.find("token-of-alice", &directory, 8).expect("a session").csrf, csrf);
        for wrong in [r#"{"sha256":"ab"}"#, "{}", &text.lines().next().expect("a line").replace("used_ms", "used")] {
            assert!(Sessions::read(&[serde_json::from_str(wrong).expect("an object")]).is_none(), "{wrong}");
        }
    }

    #[test]
    fn uses_are_noted_once_in_a_while() {
        let directory = directory(&[("alice", Role::User, "h1")]);
        let mut sessions = Sessions::default();
        begin(&mut sessions, &directory, "t", "alice", 0);
        let mut at = |now_ms| {
            sessions.find("t", &directory, now_ms);
            sessions.has_uses_to_note(now_ms)
        };
        assert_eq!([at(0), at(599_999), at(600_000), at(600_001), at(1_200_000)], [false, false, true, false, true]);
    }
}

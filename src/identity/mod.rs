//! People who sign in: their passwords, their sessions, and how often somebody may try.
//!
//! Owns who is signed in, `sessions.json` in the data directory, and one thread for all that takes time. It refuses to
//! know what HTTP is, what a role may do, and where users and their hashes are kept: the configuration in force tells
//! it (`control`). Nothing here runs on a thread that carries traffic.
//!
//! A session holds a stamp of the credential that it began with. It counts as long as the configuration says the same:
//! another password, another role, no user or another admin token end it, whoever makes the change and however.

mod directory;
mod password;
mod sessions;
mod worker;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use weir_filters::secret::Secret;
use weir_filters::throttle::{Attempt, Attempts, Pace, Subjects};

use crate::catalog::document;
use crate::config::User;

use directory::{Directory, Member};
pub(crate) use directory::{Stamp, stamp};
pub(crate) use password::{Hashing, complaint};
pub(crate) use sessions::{Session, SessionId, TOTAL_MS};
use sessions::{Sessions, hex};
use worker::Worker;

/// The file of the sessions, in the data directory.
const FILE: &str = "sessions.json";

/// Of a name: ten wrong passwords at once, then four a minute.
const NAMES: Pace = Pace { burst: 10, every_ms: 15_000 };

/// Of an address, which a whole office may have.
const ADDRESSES: Pace = Pace { burst: 30, every_ms: 3_000 };

/// Places for names and for addresses. Who would fill them all with wrong tries has to make more of them in a second
/// than are looked at.
const PLACES: usize = 4096;

/// Bytes of a token: 256 bits.
const TOKEN_BYTES: usize = 32;

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotIn {
    /// What was presented is not right.
    Wrong,
    /// It was tried too often; there is another try in so many seconds.
    Throttled {
        /// From 1.
        retry_s: u64,
    },
    /// Another process is about to take over: nothing is changed here any more.
    Upgrading,
    /// The system gave no random bytes, or a part of Weir failed.
    Failed,
}

/// A session that has just begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// What the browser is to keep.
    pub(crate) token: Secret,
    /// The session.
    pub(crate) session: Session,
}

/// A session that goes on while its user's password changes.
#[must_use = "it lasts until it is dropped"]
pub(crate) struct Moving<'i> {
    identity: &'i Identity,
    id: SessionId,
}

impl Moving<'_> {
    /// Its user has the password of this stamp now, and the session goes on by that. It does not if another password has
    /// come after that one: so it is no matter what is in force at this moment.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn arrive(self, stamp: Stamp) -> Result<(), NotIn> {
        let id = self.id;
        self.identity.change(move |sessions| sessions.go_on(id, stamp)).await
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        lock(&self.identity.inner.sessions).set_moving(self.id, false);
    }
}

/// Who is signed in, and who may be.
pub struct Identity {
    inner: Arc<Inner>,
    worker: Worker,
    attempts: Mutex<Attempts>,
    /// Nobody outside can choose which subjects share a place.
    seed: RandomState,
    started: Instant,
}

struct Inner {
    directory: ArcSwap<Directory>,
    hashing: Hashing,
    path: PathBuf,
    sessions: Mutex<Sessions>,
    /// Held from before a change to after it is on the disk.
    writing: Mutex<()>,
    /// How many wait for a successor that has read, or will read, what is here.
    frozen: AtomicUsize,
}

impl Identity {
    /// With the sessions that an earlier process left in `data_dir`. A file that cannot be read is no reason not to
    /// start: then everybody signs in anew.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        Self::open_with(data_dir, Hashing::default())
    }

    /// The same, with passwords hashed that way.
    pub(crate) fn open_with(data_dir: &Path, hashing: Hashing) -> io::Result<Self> {
        let path = data_dir.join(FILE);
        let read = document::read(&path).map(|objects| Sessions::read(&objects));
        let sessions = read.ok().flatten().unwrap_or_else(|| {
            log::warn!("{}: cannot be read; everybody has to sign in anew", path.display());
            Sessions::default()
        });
        let inner = Inner {
            directory: ArcSwap::default(),
            hashing,
            path,
            sessions: Mutex::new(sessions),
            writing: Mutex::default(),
            frozen: AtomicUsize::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
            worker: Worker::start()?,
            attempts: Mutex::new(Attempts::new(NAMES, ADDRESSES, PLACES)),
            seed: RandomState::new(),
            started: Instant::now(),
        })
    }

    /// From now on these are the users. Sessions that began with what counts no more are over.
    pub(crate) fn know(&self, users: &[User]) {
        let before = self.inner.directory.load();
        self.put(Directory::of(users).trusting(before.token()));
    }

    /// From now on this is the admin token's stamp.
    pub(crate) fn trust(&self, token: Stamp) {
        let before = self.inner.directory.load();
        self.put(before.trusting(Some(token)));
    }

    fn put(&self, directory: Directory) {
        let directory = Arc::new(directory);
        self.inner.directory.store(Arc::clone(&directory));
        // Before the token is known, nobody can tell whether a session of it counts.
        let has_ended = lock(&self.inner.sessions).end_strangers(&directory);
        if has_ended {
            self.note();
        }
    }

    /// Lets the user of that name in.
    ///
    /// # Errors
    /// Why not. It takes the same time for a name that nobody has as for a wrong password.
    pub(crate) async fn sign_in(&self, name: &str, password: Secret, from: IpAddr) -> Result<Begun, NotIn> {
        let member = self.check(name, password, from).await?;
        self.begin(Some(member.name), member.stamp).await
    }

    /// Lets in who has the admin token, which `is_right` compares.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn sign_in_by_token(&self, is_right: impl FnOnce() -> bool, from: IpAddr) -> Result<Begun, NotIn> {
        let attempt = self.attempt(None, from)?;
        if !is_right() {
            return Err(NotIn::Wrong);
        }
        lock(&self.attempts).was_right(attempt);
        let token = self.inner.directory.load().token().ok_or(NotIn::Failed)?;
        self.begin(None, token).await
    }

    /// Whether this is the password of the user of that name: for whoever is about to change it. What was looked at may be
    /// another one by then: this is its stamp.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn confirm(&self, name: &str, password: Secret, from: IpAddr) -> Result<Stamp, NotIn> {
        self.check(name, password, from).await.map(|member| member.stamp)
    }

    /// The stamp of the user of that name, if that one has a password.
    pub(crate) fn stamp_of(&self, name: &str) -> Option<Stamp> {
        self.inner.directory.load().find(name).map(|member| member.stamp)
    }

    /// The stamp that this user will have with that password.
    pub(crate) fn stamp_with(&self, name: &str, password: &Secret) -> Option<Stamp> {
        self.inner.directory.load().find(name).map(|member| directory::stamp_of(member.role, password))
    }

    /// The session of this token, if there is one.
    pub(crate) fn session(&self, token: &str) -> Option<Session> {
        let now_ms = now_ms();
        let directory = self.inner.directory.load();
        let (session, is_to_note) = {
            let mut sessions = lock(&self.inner.sessions);
            let session = sessions.find(token, &directory, now_ms)?;
            (session, sessions.has_uses_to_note(now_ms))
        };
        if is_to_note {
            self.note();
        }
        Some(session)
    }

    /// Whether a session has not ended. It is not used by that.
    pub(crate) fn is_open(&self, id: SessionId) -> bool {
        let directory = self.inner.directory.load();
        lock(&self.inner.sessions).standing(id, &directory, now_ms()).is_some()
    }

    /// Ends a session for good.
    ///
    /// # Errors
    /// Why it may come back.
    pub(crate) async fn sign_out(&self, id: SessionId) -> Result<(), NotIn> {
        self.change(move |sessions| sessions.end(id)).await
    }

    /// Lets a session go on whose user has shown their password and is about to have another one. Whoever drops it
    /// before [`Moving::arrive`] has only the old password's session, which ends with that.
    pub(crate) fn moving(&self, id: SessionId) -> Moving<'_> {
        lock(&self.inner.sessions).set_moving(id, true);
        Moving { identity: self, id }
    }

    /// What is kept of a password. It waits for its turn: not for a thread that serves others.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn hash(&self, password: Secret) -> io::Result<Secret> {
        let inner = Arc::clone(&self.inner);
        let hashed = self.worker.ask(move || inner.hashing.hash(&password)).blocking_recv();
        hashed.unwrap_or_else(|_| Err(io::Error::other("the thread for passwords failed")))
    }

    /// From now on no session begins or ends here: another process reads them. What is being written is written when
    /// this returns.
    pub(crate) fn freeze(&self) {
        self.inner.frozen.fetch_add(1, Ordering::AcqRel);
        drop(lock(&self.inner.writing));
    }

    /// Takes an [`Identity::freeze`] back.
    pub(crate) fn thaw(&self) {
        self.inner.frozen.fetch_sub(1, Ordering::AcqRel);
    }

    async fn check(&self, name: &str, password: Secret, from: IpAddr) -> Result<Member, NotIn> {
        let attempt = self.attempt(Some(name), from)?;
        let Some(place) = self.worker.place() else {
            lock(&self.attempts).was_not_looked_at(attempt);
            return Err(NotIn::Throttled { retry_s: 1 });
        };
        let inner = Arc::clone(&self.inner);
        let member = inner.directory.load().find(name).cloned();
        let checked = self.worker.ask(move || {
            let _place = place;
            let is_right = inner.hashing.is_right(&password, member.as_ref().map(|member| &member.password));
            member.filter(|_| is_right)
        });
        let member = checked.await.map_err(|_| NotIn::Failed)?.ok_or(NotIn::Wrong)?;
        lock(&self.attempts).was_right(attempt);
        Ok(member)
    }

    fn attempt(&self, name: Option<&str>, from: IpAddr) -> Result<Attempt, NotIn> {
        let address = network(from);
        let subjects = Subjects {
            name: name.map(|name| self.seed.hash_one(("name", name))),
            address: self.seed.hash_one(("address", address)),
            pair: self.seed.hash_one(("pair", name, address)),
        };
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let taken = lock(&self.attempts).begin(subjects, now_ms);
        taken.map_err(|wait_ms| NotIn::Throttled { retry_s: wait_ms.div_ceil(1000).max(1) })
    }

    async fn begin(&self, user: Option<Arc<str>>, stamp: Stamp) -> Result<Begun, NotIn> {
        let mut random = [0; TOKEN_BYTES];
        getrandom::fill(&mut random).map_err(|_| NotIn::Failed)?;
        let token = Secret::new(hex(&random));
        let now_ms = now_ms();
        let made = token.clone();
        self.change(move |sessions| sessions.begin(&made, user, stamp, now_ms)).await?;
        // What it was checked against may have changed meanwhile.
        let session = self.session(token.expose()).ok_or(NotIn::Wrong)?;
        Ok(Begun { token, session })
    }

    async fn change(&self, make: impl FnOnce(&mut Sessions) + Send + 'static) -> Result<(), NotIn> {
        let inner = Arc::clone(&self.inner);
        self.worker.ask(move || inner.change(make)).await.unwrap_or(Err(NotIn::Failed))
    }

    /// Has the sessions written as they are, at some time.
    fn note(&self) {
        let inner = Arc::clone(&self.inner);
        drop(self.worker.ask(move || inner.change(|_| ())));
    }
}

impl Inner {
    /// Changes the sessions and writes them down. A disk that takes nothing keeps nobody out: what it does not have
    /// ends with this process, or comes back with the next one.
    fn change(&self, make: impl FnOnce(&mut Sessions)) -> Result<(), NotIn> {
        let _writing = lock(&self.writing);
        if self.frozen.load(Ordering::Acquire) > 0 {
            return Err(NotIn::Upgrading);
        }
        let objects = {
            let mut sessions = lock(&self.sessions);
            make(&mut sessions);
            sessions.written()
        };
        let text = document::of(objects.iter().map(String::as_str));
        if let Err(e) = document::replace(&self.path, &text, |_| Ok(())) {
            log::error!("{}: who is signed in could not be written down: {e:?}", self.path.display());
        }
        Ok(())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// What counts as one address: of IPv6, the network of 64 bits that one customer has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Nothing is half done under any of them when something panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

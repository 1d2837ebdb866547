//! The configuration in force: who changes it, one at a time.
//!
//! Owns the file's configuration as it was last read, the catalogue beside it, and the moment at which both
//! become another snapshot. Nothing here runs on a thread that carries traffic, and no request waits for it.

mod drain;
mod file;
mod own;
mod recorded;
mod rows;
mod running;
mod standing;
mod tags;
mod users;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use serde_json::{Map, Value, json};
use weir_filters::etag::IfMatch;
use weir_filters::limits::{Limits, Subject};

use crate::accounts::Limited;
use crate::audit::Event;
use crate::catalog::{Catalog, Command, Draft, Kind, NewKey, Picked, Refused, Stored, Wanted, pick, shadows};
use crate::changes::{self, Actor, Change, Changes};
use crate::config::{self, Admin, Channel, Config, Key, User, Written, Wrong};
use crate::draw::{self, ClientKey};
use crate::identity::Identity;
use crate::proxy::{Shared, Snapshot};

pub(crate) use file::Reloaded;
use file::{Fault, Masked};
use rows::{Drawn, Found, Known, Showable};
pub(crate) use standing::fares;
use tags::Tags;

/// A secret that is replaced counts this long at most: whoever has not taken the new one by then needs a key of
/// their own.
const MAX_OVERLAP: Duration = Duration::from_secs(30 * 86_400);

/// What is said to whoever would change something while another process takes over.
const FROZEN: &str = "an upgrade is under way: ask again when the new process serves";

/// What changes the configuration in force.
pub(crate) struct Control {
    shared: Arc<Shared>,
    /// It is told who the users are.
    identity: Arc<Identity>,
    state: Mutex<State>,
    changes: Arc<Changes>,
    tags: Tags,
    /// How many wait for a successor that has read, or will read, what is here.
    frozen: AtomicUsize,
    /// When what is in force was put in force, in milliseconds since 1970.
    loaded_ms: AtomicU64,
    /// How the last reload went.
    reloaded: ArcSwapOption<Reloaded>,
    /// What was shown of the file.
    masked: ArcSwapOption<Masked>,
}

/// Who asks for a change, and what they have seen of what they want to change.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) who: &'a Actor,
    pub(crate) expected: Option<&'a IfMatch>,
}

/// What is to be changed.
#[derive(Clone, Copy)]
enum Target<'h> {
    /// What is not there yet.
    New,
    /// The object of that name or id.
    One(Kind, &'h str),
    /// The same, whose secret is replaced.
    Secret(&'h str),
    /// Several users.
    Users,
    /// The order of the channels.
    Order,
    /// The price table.
    Prices,
}

impl Target<'_> {
    /// What is done to an object that was there and still is.
    const fn verb(self) -> &'static str {
        match self {
            Target::Secret(_) => "rotate",
            _ => "update",
        }
    }
}

struct State {
    /// What the file declares.
    file: Config,
    catalog: Catalog,
}

impl Control {
    /// For a gateway that serves `file` and `catalog` already, which are `merged`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        identity: Arc<Identity>,
        file: Config,
        catalog: Catalog,
        merged: &Config,
        changes: Arc<Changes>,
    ) -> Self {
        warn_of_shadowed(&catalog, &file);
        identity.know(&merged.users);
        Self {
            shared,
            identity,
            state: Mutex::new(State { file, catalog }),
            changes,
            tags: Tags::default(),
            frozen: AtomicUsize::new(0),
            loaded_ms: AtomicU64::new(now_ms()),
            reloaded: ArcSwapOption::empty(),
            masked: ArcSwapOption::empty(),
        }
    }

    /// From now on nothing is changed: another process reads it. What is being changed is changed when this returns.
    pub(crate) fn freeze(&self) {
        self.frozen.fetch_add(1, Ordering::AcqRel);
        drop(self.lock());
        self.identity.freeze();
    }

    fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire) > 0
    }

    /// Takes a [`Control::freeze`] back.
    pub(crate) fn thaw(&self) {
        self.frozen.fetch_sub(1, Ordering::AcqRel);
        self.identity.thaw();
    }

    /// Reads the file anew and puts it in force with the catalogue; gives its version. `who` wants it so.
    ///
    /// # Errors
    /// All mistakes of the file, or all that no longer goes with it; what was in force stays.
    pub(crate) fn reload(&self, who: &Actor, path: &Path) -> Result<u64, Vec<String>> {
        let mut state = self.lock();
        if self.is_frozen() {
            return Err(vec![FROZEN.to_owned()]);
        }
        // Whoever has moved the files of records says so by this, be the configuration good or bad.
        self.shared.audit.reopen();
        let metrics = &self.shared.metrics;
        let (file, merged) = match state.read(path) {
            Ok(read) => read,
            Err(faults) => {
                metrics.set_last_reload_success(false);
                let lines: Vec<String> = faults.iter().map(Fault::line).collect();
                log::error!("reload refused, the last good configuration stays: {}", lines.join("; "));
                self.reloaded.store(Some(Arc::new(Reloaded { time_ms: now_ms(), faults })));
                return Err(lines);
            }
        };
        for part in needs_restart(&state.file, &file) {
            log::warn!("reload: a change of {part} takes effect at the next start");
        }
        warn_of_shadowed(&state.catalog, &file);
        let before = self.shared.live.load().version();
        let version = self.put_in_force(&merged);
        metrics.set_last_reload_success(true);
        self.reloaded.store(Some(Arc::new(Reloaded { time_ms: now_ms(), faults: Vec::new() })));
        state.file = file;
        self.record_reload(who, before, version);
        Ok(version)
    }

    /// The change is the file's and not made here: a disk that takes no record does not keep anybody from it.
    fn record_reload(&self, who: &Actor, before: u64, after: u64) {
        let shown = |version: u64| Some(Map::from_iter([("version".to_owned(), version.into())]));
        let (before, after) = (shown(before), shown(after));
        let change = Change { action: "reload", kind: "config", name: None, before, after };
        if let Err(e) = self.changes.note(who, now_ms(), change) {
            log::error!("a reload was not recorded among the changes: {e}");
        }
    }

    /// Answers a question about the catalogue, or changes it: a change is durable and in force when this returns.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn command(&self, command: Command, asker: Asker<'_>) -> Result<Value, Refused> {
        match command {
            Command::List(Kind::Key, wanted) => Ok(self.list::<Key>(&wanted)),
            Command::List(Kind::User, wanted) => Ok(self.list::<User>(&wanted)),
            Command::List(Kind::Channel, wanted) => Ok(self.list::<Channel>(&wanted)),
            Command::Show(Kind::Key, id) => self.show::<Key>(&id),
            Command::Show(Kind::User, name) => self.show::<User>(&name),
            Command::Show(Kind::Channel, name) => self.show::<Channel>(&name),
            Command::Make(Kind::Key, fields) => self.make_key(&fields, asker),
            Command::Make(Kind::User, fields) => self.make_user(fields, asker),
            Command::Make(Kind::Channel, fields) => {
                self.one::<Channel>("made", asker, Target::New, |draft| draft.make_channel(&fields))
            }
            Command::Change(kind, handle, patch) => {
                let target = Target::One(kind, &handle);
                match kind {
                    Kind::Key => self.one::<Key>("changed", asker, target, |d| d.change_key(&handle, &patch)),
                    Kind::User => self.change_user(&handle, patch, asker),
                    Kind::Channel => {
                        self.one::<Channel>("changed", asker, target, |d| d.change_channel(&handle, &patch))
                    }
                }
            }
            Command::Remove(kind, handle) => {
                self.change(asker, Target::One(kind, &handle), |draft| match kind {
                    Kind::Key => draft.remove_key(&handle),
                    Kind::User => draft.remove_user(&handle),
                    Kind::Channel => draft.remove_channel(&handle),
                })?;
                if kind == Kind::Channel {
                    self.forget_drained(&handle);
                    self.tell_of_removed(&handle);
                }
                log::info!("the {} {handle} was removed over the admin API", kind.name());
                Ok(Value::Null)
            }
            Command::Rotate(id, fields) => self.rotate(&id, &fields, asker),
            Command::Prices => Ok(self.tagged_prices()),
            Command::SetPrices(fields) => {
                let entries = price_entries(&fields)?;
                self.change(asker, Target::Prices, |draft| draft.set_prices(Some(&entries)))?;
                log::info!("a price table of {} entries was given over the admin API", entries.len());
                Ok(self.tagged_prices())
            }
            Command::UnsetPrices => {
                self.change(asker, Target::Prices, |draft| draft.set_prices(None))?;
                log::info!("the price table is the file's again, by the admin API");
                Ok(Value::Null)
            }
            Command::Rates(fields) => self.set_rates(&fields, asker),
            Command::ShowOrder => Ok(self.tagged_order()),
            Command::Order(names) => {
                let ordered = self.change(asker, Target::Order, |draft| draft.order_channels(&names))?;
                log::info!("the channels were put in order over the admin API");
                let mut said = json!({ "rows": self.rows_of(&ordered) });
                said["etag"] = self.tagged_order()["etag"].take();
                Ok(said)
            }
            Command::Own(owner, own) => self.own(&owner, own, asker),
        }
    }

    fn make_key(&self, fields: &Written, asker: Asker<'_>) -> Result<Value, Refused> {
        let (id, drawn) = (draw::id(), ClientKey::draw());
        let (Ok(id), Ok(drawn)) = (id, drawn) else { return Err(Refused::NoRandomness) };
        let new = NewKey { id, sha256: drawn.sha256 };
        let made = self.one::<Key>("made", asker, Target::New, |draft| draft.make_key(fields, &new))?;
        Ok(with_secret(made, &drawn))
    }

    fn rotate(&self, id: &str, fields: &Written, asker: Asker<'_>) -> Result<Value, Refused> {
        let overlap = overlap(fields)?;
        let Ok(drawn) = ClientKey::draw() else { return Err(Refused::NoRandomness) };
        let until = (!overlap.is_zero()).then(|| SystemTime::now() + overlap);
        let rotate = |draft: &mut Draft<'_>| draft.rotate_key(id, drawn.sha256, until);
        let rotated = self.one::<Key>("rotated", asker, Target::Secret(id), rotate)?;
        Ok(with_secret(rotated, &drawn))
    }

    fn set_rates(&self, fields: &Written, asker: Asker<'_>) -> Result<Value, Refused> {
        let (named, rate) = rates(fields)?;
        let change = |draft: &mut Draft<'_>| draft.change_users(named.as_deref(), "price_rate", &rate);
        let changed = self.change(asker, Target::Users, change)?;
        log::info!("the price rates of {} users were changed over the admin API", changed.len());
        Ok(json!({ "rows": self.rows_of(&changed) }))
    }

    /// Changes one object, and says what has become of it.
    fn one<T: Showable>(
        &self,
        done: &str,
        asker: Asker<'_>,
        target: Target<'_>,
        make: impl FnOnce(&mut Draft<'_>) -> Result<Arc<Stored<T>>, Refused>,
    ) -> Result<Value, Refused> {
        let stored = self.change(asker, target, make)?;
        log::info!("the {} `{}` was {done} over the admin API", T::KIND.name(), stored.meant.name());
        let row = self.rows_of(&[stored]).pop().unwrap_or_default();
        if T::KIND == Kind::Channel {
            self.tell_of(&row);
        }
        Ok(row)
    }

    /// All or nothing: compared with what was expected, drafted, checked as a whole, recorded, written, put in force,
    /// and all of it before anybody else changes anything.
    fn change<R>(
        &self,
        asker: Asker<'_>,
        target: Target<'_>,
        make: impl FnOnce(&mut Draft<'_>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        let mut state = self.lock();
        if self.is_frozen() {
            return Err(Refused::Conflict { code: "upgrading", message: FROZEN.to_owned() });
        }
        // What is not there at all is said by whoever looks for it.
        if let (Some(expected), Some(tag)) = (asker.expected, self.tag_of(&state, target))
            && !expected.admits(&tag)
        {
            return Err(Refused::Changed);
        }
        let State { file, catalog } = &mut *state;
        let mut draft = catalog.draft(file);
        let made = make(&mut draft)?;
        let finished = draft.finish()?;
        let Some(part) = finished.touched else { return Ok(made) };
        let changes = recorded::changes(target, part, file, catalog.shelves(), &finished.shelves);
        if changes.is_empty() {
            return Ok(made);
        }
        let recorded = self.record(asker.who, &changes)?;
        match catalog.keep(finished.shelves, part) {
            Ok(()) => {
                self.put_in_force(&finished.config);
                Ok(made)
            }
            Err((refused, in_place)) => {
                if in_place {
                    self.put_in_force(&finished.config);
                } else {
                    self.take_back(recorded);
                }
                Err(refused)
            }
        }
    }

    /// Puts changes that are about to be made into their record: without one they are not made.
    fn record(&self, who: &Actor, changes: &[Change]) -> Result<changes::Written, Refused> {
        self.changes.append(who, now_ms(), changes).map_err(|e| {
            log::error!("a change was not made, because it cannot be recorded: {e}");
            Refused::NotKept(format!("the record of the change could not be written, and it is not made: {e}"))
        })
    }

    /// Takes out of the record what was not made after all.
    fn take_back(&self, recorded: changes::Written) {
        if let Err(e) = self.changes.take_back(recorded) {
            log::error!("the record of changes has one that was not made, and keeps it: {e}");
        }
    }

    fn put_in_force(&self, config: &Config) -> u64 {
        let Shared { live, ledger, metrics, audit, accounts, registry, .. } = &*self.shared;
        let version = live.load().version() + 1;
        accounts.apply(&limited(config), ledger, now_ms());
        live.store(Arc::new(Snapshot::new(version, config, metrics, accounts, registry, Some(ledger.id()))));
        self.identity.know(&config.users);
        audit.apply(config);
        audit.publish(Event::ConfigReloaded(version));
        metrics.set_config_version(version);
        self.loaded_ms.store(now_ms(), Ordering::Relaxed);
        log::info!("configuration {version} is in force");
        version
    }

    /// Those of a kind that are wanted. No others are drawn.
    fn list<T: Showable>(&self, wanted: &Wanted) -> Value {
        let (drawn, next, total) = {
            let state = self.lock();
            let Picked { objects, next, total } = pick(rows::all::<T>(&state).collect(), wanted);
            (objects.iter().map(|found| found.drawn(&self.tags)).collect::<Vec<Drawn<T>>>(), next, total)
        };
        let next = next.map(|next| next.to_string());
        json!({ "rows": Known::rows(&self.shared, &drawn), "next": next, "total": total })
    }

    fn show<T: Showable>(&self, handle: &str) -> Result<Value, Refused> {
        let drawn = {
            let state = self.lock();
            let found = rows::all::<T>(&state).find(|found| found.object().is_called(handle));
            found.map(|found| found.drawn(&self.tags))
        };
        let drawn = drawn.ok_or(Refused::NotFound(T::KIND))?;
        Ok(Known::of(&self.shared, std::slice::from_ref(&drawn)).row(&drawn))
    }

    fn rows_of<T: Showable>(&self, made: &[Arc<Stored<T>>]) -> Vec<Value> {
        let drawn: Vec<Drawn<T>> = {
            let state = self.lock();
            let shadows = shadows::<T>(&state.file);
            let found = made.iter().map(|stored| Found::Made { stored, shadowed: shadows.hide(&stored.meant) });
            found.map(|found| found.drawn(&self.tags)).collect()
        };
        Known::rows(&self.shared, &drawn)
    }

    /// What panics under it has changed nothing: a draft is kept and put in force by single assignments.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everybody to whom `config` sets a limit.
pub(crate) fn limited(config: &Config) -> Vec<Limited> {
    let limited = |subject, name, limits: Limits| (!limits.is_none()).then_some(Limited { subject, name, limits });
    let keys = config.keys.iter().map(|key| (Subject::Key, key.id(), key.limits));
    let users = config.users.iter().map(|user| (Subject::User, user.name.clone(), user.limits));
    let channels = config.channels.iter().map(|channel| (Subject::Channel, channel.name.clone(), channel.limits));
    keys.chain(users).chain(channels).filter_map(|(subject, name, limits)| limited(subject, name, limits)).collect()
}

/// The time of day, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn warn_of_shadowed(catalog: &Catalog, file: &Config) {
    for (kind, name) in catalog.shadowed(file) {
        let kind = kind.name();
        log::warn!("the {kind} `{name}` that was made over the admin API is not in force: the file declares one");
    }
}

/// The changed parts that a running gateway cannot take over.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("listen", old.listen != new.listen),
        ("server.threads", old.server.threads != new.server.threads),
        ("server.upstream_ca", old.server.upstream_ca != new.server.upstream_ca),
        (
            "admin",
            old.admin != Admin { allow_private_upstreams: old.admin.allow_private_upstreams, ..new.admin.clone() },
        ),
        ("data_dir", old.data_dir != new.data_dir),
        // Each request asks what becomes of it, so that alone may change.
        ("ledger", old.ledger != config::Ledger { when_full: old.ledger.when_full, ..new.ledger.clone() }),
    ]
    .into_iter()
    .filter_map(|(part, changed)| changed.then_some(part))
    .collect()
}

/// The only place where a key is shown.
fn with_secret(mut row: Value, drawn: &ClientKey) -> Value {
    row["key"] = drawn.key.expose().into();
    row
}

/// How long the old secret counts beside the new one: `{overlap?}`.
fn overlap(fields: &Written) -> Result<Duration, Refused> {
    knows(fields, &["overlap"])?;
    let Some(written) = fields.get("overlap").filter(|written| !written.is_null()) else { return Ok(Duration::ZERO) };
    let read = written.as_str().ok_or_else(|| "must be a duration such as 24h".to_owned());
    match read.and_then(config::read_duration) {
        Ok(overlap) if overlap <= MAX_OVERLAP => Ok(overlap),
        Ok(_) => Err(Refused::invalid("overlap", "`overlap` must be at most 30d")),
        Err(message) => Err(Refused::invalid("overlap", format!("`overlap` {message}"))),
    }
}

/// Whose rate, `None` for all, and which: `{users?, price_rate}`.
fn rates(fields: &Written) -> Result<(Option<Vec<String>>, Value), Refused> {
    knows(fields, &["users", "price_rate"])?;
    let named = match fields.get("users") {
        None | Some(Value::Null) => None,
        Some(Value::Array(names)) if !names.is_empty() => {
            let names: Option<Vec<_>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
            Some(names.ok_or_else(|| Refused::invalid("users", "`users` must be a list of names"))?)
        }
        Some(_) => return Err(Refused::invalid("users", "`users` must be a list of names; leave it out for all")),
    };
    match fields.get("price_rate") {
        None => Err(Refused::invalid("price_rate", "`price_rate` is missing")),
        Some(rate) => Ok((named, rate.clone())),
    }
}

/// The entries of a price table: `{models: [{…}]}`.
fn price_entries(fields: &Written) -> Result<Vec<Written>, Refused> {
    knows(fields, &["models"])?;
    let entries = fields.get("models").and_then(Value::as_array);
    let entries: Option<Vec<Written>> = entries.and_then(|list| list.iter().map(|e| e.as_object().cloned()).collect());
    entries.ok_or_else(|| Refused::invalid("models", "`models` must be a list of entries, each with its `model`"))
}

fn knows(fields: &Written, known: &[&'static str]) -> Result<(), Refused> {
    let unknown = fields.keys().filter(|field| !known.contains(&field.as_str()));
    let wrong: Vec<Wrong> = unknown.map(|field| Wrong::unknown(field, "field", field, known.iter().copied())).collect();
    if wrong.is_empty() { Ok(()) } else { Err(Refused::Invalid(wrong)) }
}

//! What is said and done of one's own: figures of limits, models with what they cost whoever asks, keys.
//!
//! Owns what a user or a client key gets to see: what is not named here is not. Never the rate, what others have, how a
//! channel is called or what it is asked with.

use std::time::SystemTime;

use serde_json::{Value, json};
use weir_filters::glob::Glob;
use weir_filters::limits::Subject;
use weir_filters::price::Tariff;
use weir_filters::protocol::Protocol;

use crate::catalog::{NewKey, Own, Owner, Refused, shadows, show, shown_price};
use crate::config::{Key, User, Written};
use crate::draw::{self, ClientKey};

use super::rows::{Known, Origin, used};
use super::{Control, overlap, with_secret};

/// Fields of a key's row that its user sees.
const KEY_FIELDS: [&str; 13] = [
    "id",
    "name",
    "user",
    "enabled",
    "expires",
    "protocols",
    "models",
    "limits",
    "used",
    "last_used",
    "previous_until",
    "origin",
    "shadowed",
];

impl Control {
    /// Answers a question of somebody about their own, or changes it.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn own(&self, owner: &Owner, own: Own) -> Result<Value, Refused> {
        if !own.is_change() {
            return Ok(match own {
                Own::Limits => self.own_limits(owner),
                Own::Models => self.own_models(owner),
                _ => self.own_keys(owner).into(),
            });
        }
        let Owner::User(user) = owner else {
            let message = "a key cannot change keys; sign in";
            return Err(Refused::Conflict { code: "not_granted", message: message.to_owned() });
        };
        let row = match own {
            Own::MakeKey(fields) => {
                let (Ok(id), Ok(drawn)) = (draw::id(), ClientKey::draw()) else { return Err(Refused::NoRandomness) };
                let new = NewKey { id, sha256: drawn.sha256 };
                let now = SystemTime::now();
                let made = self.one::<Key>("made", |draft| draft.make_own_key(user, &fields, &new, now))?;
                with_secret(made, &drawn)
            }
            Own::ChangeKey(id, patch) => self.one::<Key>("changed", |draft| draft.change_own_key(user, &id, &patch))?,
            Own::RotateKey(id, fields) => self.rotate_own(user, &id, &fields)?,
            Own::RemoveKey(id) => {
                self.change(|draft| draft.remove_own_key(user, &id))?;
                log::info!("the key {id} was removed by its user");
                return Ok(Value::Null);
            }
            Own::Limits | Own::Models | Own::Keys => return Ok(Value::Null),
        };
        Ok(trimmed(row))
    }

    fn rotate_own(&self, user: &str, id: &str, fields: &Written) -> Result<Value, Refused> {
        let overlap = overlap(fields)?;
        let Ok(drawn) = ClientKey::draw() else { return Err(Refused::NoRandomness) };
        let until = (!overlap.is_zero()).then(|| SystemTime::now() + overlap);
        let rotated = self.one::<Key>("rotated", |draft| {
            draft.find_own(user, id)?;
            draft.rotate_key(id, drawn.sha256, until)
        })?;
        Ok(with_secret(rotated, &drawn))
    }

    fn own_keys(&self, owner: &Owner) -> Vec<Value> {
        let known = Known::of(&self.shared);
        let state = self.lock();
        let shadows = shadows::<Key>(&state.file);
        let declared = state.file.keys.iter().filter(|key| is_of(key, owner));
        let declared = declared.map(|key| known.row(key, Origin::File));
        let made = state.catalog.shelves().keys.iter().map(|stored| &stored.meant);
        let made = made.filter(|key| is_of(key, owner));
        let made = made.map(|key| known.row(key, Origin::Api { shadowed: shadows.hide(key) }));
        declared.chain(made).map(trimmed).collect()
    }

    /// The limits of the user, or of the key alone.
    fn own_limits(&self, owner: &Owner) -> Value {
        let (subject, name) = match owner {
            Owner::User(name) => (Subject::User, name),
            Owner::Key { id, .. } => (Subject::Key, id),
        };
        let limits = {
            let state = self.lock();
            let shelves = state.catalog.shelves();
            match owner {
                Owner::User(name) => {
                    let mut users = state.file.users.iter().chain(shelves.users.iter().map(|stored| &stored.meant));
                    users.find(|user| user.name == *name).map(|user| user.limits)
                }
                Owner::Key { id, .. } => {
                    let mut keys = state.file.keys.iter().chain(shelves.keys.iter().map(|stored| &stored.meant));
                    keys.find(|key| key.id() == *id).map(|key| key.limits)
                }
            }
        };
        let mut shown = show::limits(&limits.unwrap_or_default());
        shown["used"] = used(&self.shared, subject, name);
        shown
    }

    /// Models that some channel names and that may be used, each with what it costs.
    fn own_models(&self, owner: &Owner) -> Value {
        let (terms, rate) = {
            let state = self.lock();
            let shelves = state.catalog.shelves();
            let shadows = shadows::<Key>(&state.file);
            let made = shelves.keys.iter().map(|stored| &stored.meant).filter(|key| !shadows.hide(*key));
            let keys = state.file.keys.iter().chain(made);
            let now = SystemTime::now();
            let own: Vec<&Key> = keys.filter(|key| is_of(key, owner)).collect();
            let is_alive = |key: &&&Key| key.enabled && key.expires.is_none_or(|end| end > now);
            let terms: Option<Vec<Key>> =
                (!own.is_empty()).then(|| own.iter().filter(is_alive).map(|key| (*key).clone()).collect());
            let user = match owner {
                Owner::User(name) => Some(name.as_str()),
                Owner::Key { user, .. } => user.as_deref(),
            };
            let mut users = state.file.users.iter().chain(shelves.users.iter().map(|stored| &stored.meant));
            let rate = users.find(|known: &&User| Some(known.name.as_str()) == user).map(|user| user.price_rate);
            (terms, rate.unwrap_or_default())
        };
        let permitted = |protocol: Protocol, model: &str, channel: &str| match &terms {
            // Who has no key yet may make one that may do everything.
            None => true,
            Some(keys) => keys.iter().any(|key| permits(key, protocol, model, channel)),
        };
        let offered = self.shared.live.load().offered(permitted);
        let row = |(model, tariff): (String, Option<Tariff>)| {
            let prices = tariff.map(|tariff| shown_price(&tariff.at(rate)));
            json!({ "model": model, "prices": prices })
        };
        offered.into_iter().map(row).collect()
    }
}

/// Whether a key is the user's, or the very one that asks.
fn is_of(key: &Key, owner: &Owner) -> bool {
    match owner {
        Owner::User(name) => key.user.as_deref() == Some(name),
        Owner::Key { id, .. } => key.id() == *id,
    }
}

fn permits(key: &Key, protocol: Protocol, model: &str, channel: &str) -> bool {
    let one_of = |globs: &[Glob], name: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(name));
    (key.protocols.is_empty() || key.protocols.contains(&protocol))
        && one_of(&key.models, model)
        && one_of(&key.channels, channel)
}

fn trimmed(mut row: Value) -> Value {
    if let Value::Object(fields) = &mut row {
        // The secret is there once, when it has been drawn.
        fields.retain(|field, _| KEY_FIELDS.contains(&field.as_str()) || field == "key");
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_its_user_names_no_channel_and_nothing_that_is_new() {
        let row = json!({ "id": "1", "name": "n", "channels": ["canary"], "etag": "canary", "key": "sk-weir-1" });
        assert_eq!(trimmed(row), json!({ "id": "1", "name": "n", "key": "sk-weir-1" }));
    }
}

//! What is said and done of one's own: figures of limits, models with what they cost whoever asks, keys.
//!
//! Owns what a user or a client key gets to see: what is not named here is not. Never the rate, what others have, how a
//! channel is called or what it is asked with.

use std::time::SystemTime;

use serde_json::{Value, json};
use weir_filters::glob::Glob;
use weir_filters::limits::Subject;
use weir_filters::protocol::Protocol;

use crate::catalog::{Kind, NewKey, OWN_KEY_FIELDS, Own, Owner, Refused, shadows, show, shown_price};
use crate::config::{Key, User, Written};
use crate::draw::{self, ClientKey};

use super::rows::{self, Drawn, Found, Known};
use super::{Asker, Control, Target, overlap, with_secret};

impl Control {
    /// Answers a question of somebody about their own, or changes it.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn own(&self, owner: &Owner, own: Own, asker: Asker<'_>) -> Result<Value, Refused> {
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
                let made =
                    self.one::<Key>("made", asker, Target::New, |draft| draft.make_own_key(user, &fields, &new, now))?;
                with_secret(made, &drawn)
            }
            Own::ChangeKey(id, patch) => {
                let target = Target::One(Kind::Key, &id);
                self.one::<Key>("changed", asker, target, |draft| draft.change_own_key(user, &id, &patch))?
            }
            Own::RotateKey(id, fields) => self.rotate_own(user, &id, &fields, asker)?,
            Own::RemoveKey(id) => {
                self.change(asker, Target::One(Kind::Key, &id), |draft| draft.remove_own_key(user, &id))?;
                log::info!("the key {id} was removed by its user");
                return Ok(Value::Null);
            }
            Own::Limits | Own::Models | Own::Keys => return Ok(Value::Null),
        };
        Ok(trimmed(row))
    }

    fn rotate_own(&self, user: &str, id: &str, fields: &Written, asker: Asker<'_>) -> Result<Value, Refused> {
        let overlap = overlap(fields)?;
        let Ok(drawn) = ClientKey::draw() else { return Err(Refused::NoRandomness) };
        let until = (!overlap.is_zero()).then(|| SystemTime::now() + overlap);
        let rotated = self.one::<Key>("rotated", asker, Target::Secret(id), |draft| {
            draft.find_own(user, id)?;
            draft.rotate_key(id, drawn.sha256, until)
        })?;
        Ok(with_secret(rotated, &drawn))
    }

    fn own_keys(&self, owner: &Owner) -> Vec<Value> {
        let rows = self.all_of_keys(owner);
        rows.into_iter().map(trimmed).collect()
    }

    fn all_of_keys(&self, owner: &Owner) -> Vec<Value> {
        let drawn: Vec<Drawn<Key>> = {
            let state = self.lock();
            let is_own = |found: &Found<'_, Key>| match owner {
                Owner::User(name) => found.object().user.as_deref() == Some(name),
                Owner::Key { id, .. } => found.object().id() == *id && !found.is_shadowed(),
            };
            rows::all::<Key>(&state).filter(is_own).map(|found| found.drawn(&self.tags)).collect()
        };
        Known::rows(&self.shared, &drawn)
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
        shown["used"] = Known::used(&self.shared, subject, name);
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
            let of_owner = |key: &&Key| match owner {
                Owner::User(name) => key.user.as_deref() == Some(name),
                Owner::Key { id, .. } => key.id() == *id,
            };
            let is_alive = |key: &&Key| key.enabled && key.expires.is_none_or(|end| end > now);
            let terms: Vec<Key> = keys.filter(of_owner).filter(is_alive).cloned().collect();
            let user = match owner {
                Owner::User(name) => Some(name.as_str()),
                Owner::Key { user, .. } => user.as_deref(),
            };
            let mut users = state.file.users.iter().chain(shelves.users.iter().map(|stored| &stored.meant));
            let rate = users.find(|known: &&User| Some(known.name.as_str()) == user).map(|user| user.price_rate);
            (terms, rate.unwrap_or_default())
        };
        let permitted = |protocol: Protocol, model: &str, channel: &str| {
            terms.iter().any(|key| permits(key, protocol, model, channel))
        };
        let offered = self.shared.live.load().offered(permitted);
        let row = |(model, tariff): (String, Option<weir_filters::price::Tariff>)| json!({ "model": model, "prices": tariff.map(|tariff| shown_price(&tariff.at(rate))) });
        offered.into_iter().map(row).collect()
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
        fields.retain(|field, _| OWN_KEY_FIELDS.contains(&field.as_str()) || field == "key");
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

//! Changes of channels.
//!
//! Owns what is a channel's alone: upstream keys that are written and never read, how far it may lead, and the
//! order.

use std::sync::Arc;

use serde_json::Value;

use crate::config::{Channel, Written, Wrong, reserved};

use super::draft::{in_use, is_declared, is_not_reserved, keeps_its_name, patched};
use super::{Draft, Object, Refused, Stored};

impl Draft<'_> {
    /// Makes a channel.
    pub(crate) fn make_channel(&mut self, fields: &Written) -> Result<Arc<Stored<Channel>>, Refused> {
        is_not_reserved(fields, reserved::channel)?;
        let made = self.add::<Channel>(&patched(Written::new(), fields))?;
        self.is_within_reach(&made.meant)?;
        Ok(made)
    }

    /// Changes a channel. A key that is named without its value keeps the one it has, unless it would be sent
    /// elsewhere from now on: a value that cannot be read over the API must not be had by way of it either.
    pub(crate) fn change_channel(&mut self, name: &str, patch: &Written) -> Result<Arc<Stored<Channel>>, Refused> {
        let at = self.find_in_force::<Channel>(name)?;
        keeps_its_name(name, patch)?;
        let before = self.shelves.channels[at].clone();
        let mut written = patched(before.written(), patch);
        let all_kept = !patch.contains_key("keys");
        let some_kept = fill_in(&mut written, &before.meant);
        let changed = self.put::<Channel>(at, &written)?;
        let target = |channel: &Channel| {
            let url = &channel.base_url;
            (url.tls, url.host.to_ascii_lowercase(), url.port)
        };
        if target(&changed.meant) != target(&before.meant) {
            if all_kept || some_kept {
                let message = "`base_url` leads to another server: give the value of every key in `keys` too";
                return Err(Refused::invalid("base_url", message));
            }
            self.is_within_reach(&changed.meant)?;
        }
        Ok(changed)
    }

    /// An address that such a channel could never be connected to. A name is looked up when it is needed, each
    /// time anew.
    fn is_within_reach(&self, channel: &Channel) -> Result<(), Refused> {
        match channel.base_url.class() {
            Some(class) if !self.file.admin.reach().permits(class) => {
                let message = format!(
                    "`base_url` leads to {class}: over the API only public addresses may be given, unless the file sets \
                     `admin.allow_private_upstreams`"
                );
                Err(Refused::invalid("base_url", message))
            }
            _ => Ok(()),
        }
    }

    /// Takes a channel away that no key names.
    pub(crate) fn remove_channel(&mut self, name: &str) -> Result<(), Refused> {
        let at = self.find::<Channel>(name)?;
        // The file's routes and keys can only name its own. One that is shadowed is named by nobody.
        if !self.file.channels.iter().any(|channel| channel.name == name) {
            let kept = self.shelves.keys.iter().map(|stored| &stored.meant);
            let names_it =
                kept.filter(|key| key.channels.iter().any(|glob| glob.is_literal() && glob.as_str() == name));
            let keys: Vec<&str> = names_it.map(Object::name).collect();
            if !keys.is_empty() {
                return Err(in_use::<Channel>(name, &keys));
            }
        }
        self.take::<Channel>(at);
        Ok(())
    }

    /// Puts the channels that were made here in this order: each has its place for a priority.
    pub(crate) fn order_channels(&mut self, names: &[String]) -> Result<Vec<Arc<Stored<Channel>>>, Refused> {
        let is_file = |name: &&String| self.file.channels.iter().any(|channel| channel.name == **name);
        let declared: Vec<&str> = names.iter().filter(is_file).map(|name| &**name).collect();
        if !declared.is_empty() {
            return Err(is_declared::<Channel>(&declared));
        }
        let shadows = super::shadows::<Channel>(self.file);
        let kept = self.shelves.channels.iter().map(|stored| &stored.meant).filter(|channel| !shadows.hide(*channel));
        let known: Vec<String> = kept.map(|channel| channel.name.clone()).collect();
        let mut wrong = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let field = format!("[{place}]");
            if !known.contains(name) {
                wrong.push(Wrong::unknown(&field, "channel", name, known.iter().map(String::as_str)));
            } else if names[..place].contains(name) {
                wrong.push(Wrong::new(field, format!("the channel `{name}` is named twice")));
            }
        }
        let missing = known.iter().filter(|name| !names.contains(name));
        wrong.extend(missing.map(|name| Wrong::new("", format!("the channel `{name}` is not named"))));
        if !wrong.is_empty() {
            return Err(Refused::Invalid(wrong));
        }
        let priority = |place: usize| Written::from_iter([("priority".to_owned(), place.into())]);
        names.iter().enumerate().map(|(place, name)| self.change_channel(name, &priority(place))).collect()
    }
}

/// Gives every key of `written` that has no value the one that `before` has under its name. Whether there was any.
fn fill_in(written: &mut Written, before: &Channel) -> bool {
    let Some(Value::Array(keys)) = written.get_mut("keys") else { return false };
    let mut any = false;
    for key in keys.iter_mut().filter_map(Value::as_object_mut) {
        let has_value = ["value", "value_file"].iter().any(|field| key.contains_key(*field));
        let same = before.keys.iter().find(|same| key.get("name").and_then(Value::as_str) == Some(&*same.name));
        if let (false, Some(same)) = (has_value, same) {
            key.insert("value".to_owned(), same.value.expose().into());
            any = true;
        }
    }
    any
}

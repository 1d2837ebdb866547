//! A channel is taken out of service, or back.
//!
//! Owns the order: the disk has it before the channel is drained or asked again. What being drained means is the
//! channels' business.

use serde_json::{Map, Value};

use crate::catalog::{Kind, Refused};
use crate::changes::{Actor, Change};
use crate::config::Channel;

use super::{Control, FROZEN};

impl Control {
    /// From now on nothing new is sent to the channel of that name, or again; its row. It survives a restart. What is so
    /// already is no change, and not recorded as one.
    ///
    /// # Errors
    /// There is no such channel, or the disk does not take it.
    pub(crate) fn drain(&self, name: &str, is_drained: bool, who: &Actor) -> Result<Value, Refused> {
        {
            let mut state = self.lock();
            if self.is_frozen() {
                return Err(Refused::Conflict { code: "upgrading", message: FROZEN.to_owned() });
            }
            if !self.shared.live.load().channels().iter().any(|channel| **channel.name() == *name) {
                return Err(Refused::NotFound(Kind::Channel));
            }
            if state.catalog.is_drained(name) == is_drained {
                drop(state);
                return self.show::<Channel>(name);
            }
            let fields = |is_drained: bool| Map::from_iter([("draining".to_owned(), is_drained.into())]);
            let change = Change {
                action: "update",
                kind: Kind::Channel.name(),
                name: Some(name.to_owned()),
                before: Some(fields(!is_drained)),
                after: Some(fields(is_drained)),
            };
            let recorded = self.record(who, &[change])?;
            match state.catalog.drain(name, is_drained) {
                Ok(()) => self.shared.registry.drain(name, is_drained),
                Err((refused, in_place)) => {
                    if in_place {
                        self.shared.registry.drain(name, is_drained);
                    } else {
                        self.take_back(recorded);
                    }
                    return Err(refused);
                }
            }
        }
        let done = if is_drained { "drained" } else { "put back in service" };
        log::info!("the channel `{name}` is {done}, by the admin API");
        let row = self.show::<Channel>(name)?;
        self.tell_of(&row);
        Ok(row)
    }

    /// A channel that is made anew under a name starts in service.
    pub(super) fn forget_drained(&self, name: &str) {
        let mut state = self.lock();
        // One that the file declares under the same name is there still.
        if state.file.channels.iter().any(|channel| channel.name == name) {
            return;
        }
        match state.catalog.drain(name, false) {
            Err((_, false)) => log::warn!("a channel that is made anew as `{name}` will be drained"),
            Ok(()) | Err((_, true)) => self.shared.registry.drain(name, false),
        }
    }
}

//! Which channel serves a request: those that may, in their order, and one of them.
//!
//! Owns all channels of a configuration. It refuses to know what a channel is beyond its name, its protocol,
//! its models, what probes say of these, and whether it can be asked.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use weir_filters::balance::{Candidate, Pick, pick};
use weir_filters::protocol::Protocol;

use crate::config;

use super::index::Index;
use super::{Channel, Hold, Registry};

/// How often a choice is repeated because what was chosen was taken by another request just then. Each time
/// one candidate fewer is ready, so that more would be needed only in a crowd that has no room anyway.
const MAX_ROUNDS: u64 = 16;

/// Why no channel serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChannel {
    /// No channel that the route and the dialect allow serves the model.
    Unserved,
    /// One does, but the key may not use it.
    NotPermitted,
    /// Those that could have no room for another request.
    Busy,
    /// Those that could are being taken out of service.
    Draining,
}

/// What a request asks of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The dialect.
    pub protocol: Protocol,
    /// The model; `None`: whichever.
    pub model: Option<&'a str>,
    /// The channels that the route names; empty: all.
    pub among: &'a [String],
    /// The channel of the conversation's last turn: it is taken before all others, if it is ready and its probes do not
    /// say that the model fails there.
    pub last: Option<&'a str>,
    /// Any number: chance.
    pub chance: u64,
    /// The time.
    pub now: Instant,
}

/// A channel, one of its keys, and the leave to ask it.
#[derive(Debug)]
pub struct Choice {
    /// The channel.
    pub channel: Arc<Channel>,
    /// The place of the key among the channel's.
    pub key: usize,
    /// Given back when the request has ended.
    pub hold: Hold,
}

/// All channels, in the order of their priorities and else of the configuration.
#[derive(Default)]
pub struct Channels {
    all: Vec<Arc<Channel>>,
    /// One for each protocol, at the place of its discriminant.
    indexes: [Index; Protocol::ALL.len()],
}

impl Channels {
    /// Takes them as configured, and what `registry` knows of them.
    pub fn new(channels: &[config::Channel], registry: &Registry) -> Self {
        let mut sorted: Vec<&config::Channel> = channels.iter().collect();
        sorted.sort_by_key(|channel| channel.failover.priority);
        let states = registry.states(&sorted);
        let all: Vec<_> = sorted
            .into_iter()
            .zip(states)
            .enumerate()
            .map(|(i, (config, state))| Arc::new(Channel::new(i, config.clone(), state)))
            .collect();
        let mut indexes = <[Index; Protocol::ALL.len()]>::default();
        for protocol in Protocol::ALL {
            let speakers: Vec<&Channel> = all.iter().map(|c| &**c).filter(|c| c.config.protocol == protocol).collect();
            indexes[protocol as usize] = Index::new(&speakers);
        }
        Self { all, indexes }
    }

    /// The channel that a request is to ask first. `permits`: the key may use it; `admits`: it has room, by
    /// whatever else is limited.
    ///
    /// Of those that are ready it is one of the lowest priority, by weight. If all cool down it is the one that
    /// recovers first (see [`weir_filters::balance`]).
    ///
    /// Those at which probes say that the model fails are only asked if no other one can be, and then as if there were
    /// no probes: these know less than whoever asks, and must never be all that stands between a client and an answer.
    ///
    /// Without a model it is always the first in order, in whatever state: files and batches are at the
    /// upstream where they were made, and another one does not know them.
    pub fn choose(
        &self,
        wish: &Wish<'_>,
        permits: impl Fn(&str) -> bool,
        admits: impl Fn(&Channel) -> bool,
    ) -> Result<Choice, NoChannel> {
        let refusal = Cell::new(NoChannel::Unserved);
        let permitted = || {
            self.candidates(wish).filter(|channel| {
                let permitted = permits(channel.name());
                if !permitted {
                    refusal.set(NoChannel::NotPermitted);
                }
                permitted
            })
        };
        let Some(model) = wish.model else {
            let first = permitted().next().ok_or_else(|| refusal.get())?;
            let why = if first.is_drained() { NoChannel::Draining } else { NoChannel::Busy };
            return admits(first).then(|| first.force(wish.now)).flatten().ok_or(why);
        };
        let last = |even_failing: bool| {
            let channel = wish.last.and_then(|last| permitted().find(|channel| **channel.name() == *last))?;
            let may_be_asked = (even_failing || !channel.is_failing(model)) && admits(channel);
            may_be_asked.then(|| channel.claim(wish.now)).flatten()
        };
        if let Some(choice) = last(false) {
            return Ok(choice);
        }
        for round in 0..MAX_ROUNDS {
            let (mut picked, passed_over) = pick_sound(permitted(), wish, round, &admits);
            if passed_over && matches!(picked, Pick::Full | Pick::None) {
                if let Some(choice) = last(true) {
                    return Ok(choice);
                }
                picked = pick_any(permitted(), wish, round, &admits);
            }
            let chosen = match picked {
                Pick::Ready(channel) => channel.claim(wish.now),
                Pick::Cooling(channel) => channel.force(wish.now),
                Pick::Full => None,
                Pick::None => return Err(refusal.get()),
            };
            if let Some(choice) = chosen {
                return Ok(choice);
            }
        }
        Err(if permitted().all(|channel| channel.is_drained()) { NoChannel::Draining } else { NoChannel::Busy })
    }

    /// The channel that a request is to ask after those that failed it (`tried`): only one that is ready. One at which
    /// probes say that the model fails may still do better than they, and is the last to be asked.
    pub fn choose_next(
        &self,
        wish: &Wish<'_>,
        permits: impl Fn(&str) -> bool,
        admits: impl Fn(&Channel) -> bool,
        tried: impl Fn(&Channel) -> bool,
    ) -> Option<Choice> {
        for round in 0..MAX_ROUNDS {
            let untried = || self.candidates(wish).filter(|channel| permits(channel.name()) && !tried(channel));
            let (mut picked, passed_over) = pick_sound(untried(), wish, round, &admits);
            if passed_over && !matches!(picked, Pick::Ready(_)) {
                picked = pick_any(untried(), wish, round, &admits);
            }
            let Pick::Ready(channel) = picked else { return None };
            if let Some(choice) = channel.claim(wish.now) {
                return Some(choice);
            }
        }
        None
    }

    /// Whether there is more than one way to serve a request: another channel, or another key. A channel whose probes
    /// fail is one: it is asked if the others cannot be.
    pub fn has_several(&self, wish: &Wish<'_>, permits: impl Fn(&str) -> bool) -> bool {
        let permitted = self.candidates(wish).filter(|channel| permits(channel.name()));
        let ways = permitted.map(|channel| channel.config.keys.len());
        ways.scan(0, |sum, ways| (*sum < 2).then(|| *sum += ways).map(|()| *sum)).any(|sum| sum > 1)
    }

    /// The channels that serve a request and that the key may use.
    pub fn permitted<'a>(
        &'a self,
        wish: &Wish<'_>,
        permits: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = &'a Arc<Channel>> {
        self.candidates(wish).filter(move |channel| permits(channel.name()))
    }

    /// The channels that serve a request, each once, in order. They are found one by one: those behind the
    /// last that is looked at cost nothing.
    ///
    /// What a route does not name is passed over one by one too, as is what a key does not permit.
    fn candidates<'a>(&'a self, wish: &Wish<'_>) -> impl Iterator<Item = &'a Arc<Channel>> {
        let among = wish.among;
        let serving = self.indexes[wish.protocol as usize].serving(wish.model).map(|channel| &self.all[channel]);
        serving.filter(move |channel| among.is_empty() || among.iter().any(|name| **name == *channel.name))
    }

    /// Every channel.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.all.iter()
    }
}

/// Picks one at which probes do not say that the model fails. `true`: others were passed over.
fn pick_sound<'a>(
    channels: impl Iterator<Item = &'a Arc<Channel>>,
    wish: &Wish<'_>,
    round: u64,
    admits: impl Fn(&Channel) -> bool,
) -> (Pick<&'a Arc<Channel>>, bool) {
    let mut passed_over = false;
    let sound = channels.filter(|channel| {
        let is_failing = wish.model.is_some_and(|model| channel.is_failing(model));
        passed_over |= is_failing;
        !is_failing
    });
    (pick_any(sound, wish, round, admits), passed_over)
}

fn pick_any<'a>(
    channels: impl Iterator<Item = &'a Arc<Channel>>,
    wish: &Wish<'_>,
    round: u64,
    admits: impl Fn(&Channel) -> bool,
) -> Pick<&'a Arc<Channel>> {
    pick(channels.map(|channel| candidate(channel, wish.now, &admits)), wish.chance.wrapping_add(round))
}

fn candidate(channel: &Arc<Channel>, now: Instant, admits: impl Fn(&Channel) -> bool) -> Candidate<&Arc<Channel>> {
    let failover = &channel.config.failover;
    Candidate {
        what: channel,
        priority: failover.priority,
        weight: failover.weight,
        standing: channel.standing(now, admits),
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|c| &c.name)).finish()
    }
}

#[cfg(test)]
mod tests;

//! The leave to ask a channel with one of its keys, and the reports of what came of it.

use std::sync::Arc;
use std::time::Instant;

use weir_filters::health::{Blow, Standing, Ticket};

use super::state::{Place, State};
use super::{Channel, Choice};

/// Leave to ask. What was taken with it, a place among the channel's requests or a trial, comes back on drop.
///
/// Reports go to the channel that it is for, which whoever holds it has at hand.
#[derive(Debug)]
pub struct Hold {
    channel: Ticket,
    key: Ticket,
    /// Only for a trial: who has to be told if nothing comes of it.
    trial: Option<(Arc<State>, usize)>,
    place: Option<Place>,
    has_failed: bool,
}

impl Channel {
    /// Takes it with the key whose turn it is. `None`: it can no longer be asked.
    pub(super) fn claim(self: &Arc<Self>, now: Instant) -> Option<Choice> {
        let state = &self.state;
        let place = self.place()?;
        let (key, key_ticket) = state.turns().find_map(|key| Some((key, state.key_health[key].claim(now)?)))?;
        let Some(ticket) = state.health.claim(now) else {
            state.key_health[key].abandoned(key_ticket, now);
            return None;
        };
        Some(Choice { channel: self.clone(), key, hold: Hold::new(state, ticket, (key, key_ticket), place) })
    }

    /// Takes it although it may cool down, with the key that recovers first. `None`: there is no room. It is
    /// never the trial: a body that comes slowly would hold that up for all others.
    pub(super) fn force(self: &Arc<Self>, now: Instant) -> Option<Choice> {
        let state = &self.state;
        let place = self.place()?;
        let ready_at = |key: &usize| match state.key_health[*key].standing(now) {
            Standing::Ready => now,
            Standing::Cooling { until } => until.max(now),
        };
        // A channel has at least one key.
        let key = state.turns().min_by_key(ready_at).unwrap_or_default();
        let (ticket, key_ticket) = (state.health.force(), state.key_health[key].force());
        Some(Choice { channel: self.clone(), key, hold: Hold::new(state, ticket, (key, key_ticket), place) })
    }

    /// Takes it with the key at a place for a request that a person makes to see how it fares, be it full, drained or
    /// cooling down. What comes of it counts as for any other.
    pub(crate) fn try_out(self: &Arc<Self>, key: usize) -> Hold {
        let state = &self.state;
        Hold::new(state, state.health.force(), (key, state.key_health[key].force()), None)
    }

    /// A place for one more request: `Some(None)` where they are not counted.
    #[expect(clippy::option_option, reason = "no place is needed, and no place is free")]
    fn place(&self) -> Option<Option<Place>> {
        if self.state.is_drained() {
            return None;
        }
        match self.config.failover.max_concurrency {
            0 => Some(None),
            max => self.state.enter(max).map(Some),
        }
    }
}

impl Hold {
    fn new(state: &Arc<State>, channel: Ticket, (key, key_ticket): (usize, Ticket), place: Option<Place>) -> Self {
        let is_trial = channel.is_trial() || key_ticket.is_trial();
        let trial = is_trial.then(|| (state.clone(), key));
        Self { channel, key: key_ticket, trial, place, has_failed: false }
    }

    /// An answer has begun that is nobody's failure.
    pub fn answered(&self, channel: &Channel, key: usize) {
        self.channel_answered(channel);
        channel.state.key_health[key].answered(self.key, &channel.config.failover.cooldown);
    }

    fn channel_answered(&self, channel: &Channel) {
        channel.state.health.answered(self.channel, &channel.config.failover.cooldown);
    }

    /// The answer was whole: the place is free for another request before the client can make one.
    pub fn succeeded(&mut self, channel: &Channel, key: usize) {
        self.place = None;
        if !self.has_failed {
            channel.state.health.succeeded(self.channel);
            channel.state.key_health[key].succeeded(self.key);
        }
    }

    /// The channel failed. `true`: with this it cools down.
    pub fn channel_failed(&mut self, channel: &Channel, blow: Blow, now: Instant) -> bool {
        self.has_failed = true;
        channel.state.health.failed(self.channel, blow, &channel.config.failover.cooldown, now)
    }

    /// The channel answered that it does not take the key. `true`: with this the key cools down.
    pub fn key_failed(&mut self, channel: &Channel, key: usize, blow: Blow, now: Instant) -> bool {
        self.has_failed = true;
        self.channel_answered(channel);
        channel.state.key_health[key].failed(self.key, blow, &channel.config.failover.cooldown, now)
    }

    /// Goes on with another key of the same channel, one that is ready and not `tried`; it keeps its place.
    /// Gives the key.
    pub fn change_key(&mut self, channel: &Channel, now: Instant, tried: impl Fn(usize) -> bool) -> Option<usize> {
        let state = &channel.state;
        let mut untried = state.turns().filter(|key| !tried(*key));
        let (key, ticket) = untried.find_map(|key| Some((key, state.key_health[key].claim(now)?)))?;
        self.key = ticket;
        self.has_failed = false;
        self.trial = (self.channel.is_trial() || ticket.is_trial()).then(|| (state.clone(), key));
        Some(key)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((state, key)) = &self.trial {
            // What was reported stands: a trial that is over cannot be abandoned.
            let now = Instant::now();
            state.health.abandoned(self.channel, now);
            state.key_health[*key].abandoned(self.key, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_filters::health::Condition;
    use weir_filters::protocol::Protocol;

    use super::super::tests::{channel, made};
    use super::*;
    use crate::config::{self, Failover};

    const BLOW: Blow = Blow { is_final: true, wait: None };

    fn limited(max_concurrency: usize) -> Arc<Channel> {
        let failover = Failover { max_concurrency, ..Failover::default() };
        Arc::new(made(config::Channel { failover, ..channel("one", Protocol::OpenAi, &["*"]) }))
    }

    #[test]
    fn a_place_is_held_until_the_hold_is_dropped() {
        let (channel, now) = (limited(1), Instant::now());
        let held = channel.claim(now).unwrap();
        assert!(channel.claim(now).is_none() && channel.force(now).is_none());
        drop(held);
        assert!(channel.claim(now).is_some());
    }

    #[test]
    fn a_drained_channel_is_asked_by_nobody_but_who_tries_it_out() {
        let config = channel("one", Protocol::OpenAi, &["*"]);
        let registry = super::super::Registry::default();
        let state = registry.states(&[&config]).remove(0);
        let channel = Arc::new(Channel::new(0, config, state));
        let now = Instant::now();
        let under_way = channel.claim(now).unwrap();
        registry.drain("one", true);
        assert!(channel.claim(now).is_none() && channel.force(now).is_none());
        let mut tried = channel.try_out(1);
        assert!(tried.key_failed(&channel, 1, BLOW, now));
        assert_eq!(channel.key_condition(1, now), Condition::Cooling { until: now + Duration::from_secs(30) });
        drop(under_way);
        registry.drain("one", false);
        assert!(channel.claim(now).is_some());
    }

    #[test]
    fn a_key_that_is_refused_cools_down_alone_and_all_of_them_are_the_channel() {
        let (channel, now) = (limited(0), Instant::now());
        let Choice { key, mut hold, .. } = channel.claim(now).unwrap();
        assert!(hold.key_failed(&channel, key, BLOW, now));
        assert_eq!((channel.keys_cooling(now), channel.is_up(now)), (1, true));
        let other = hold.change_key(&channel, now, |tried| tried == key).unwrap();
        assert_ne!(other, key);
        for _ in 0..5 {
            assert_eq!(channel.claim(now).unwrap().key, other, "the other has no turn");
        }
        assert!(hold.key_failed(&channel, other, BLOW, now));
        assert_eq!(hold.change_key(&channel, now, |_| false), None);
        assert!(channel.claim(now).is_none());
        assert_eq!((channel.keys_cooling(now), channel.is_up(now)), (2, false));
        assert!(channel.force(now).is_some(), "if nothing else is there it is asked all the same");
        let later = now + channel.config.failover.cooldown.time;
        assert!(channel.is_up(later) && channel.claim(later).is_some());
    }

    #[test]
    fn a_trial_that_comes_to_nothing_is_given_back() {
        let (channel, start) = (limited(0), Instant::now());
        let Choice { mut hold, .. } = channel.claim(start).unwrap();
        assert!(hold.channel_failed(&channel, BLOW, start));
        assert!(channel.claim(start).is_none());
        let later = start + channel.config.failover.cooldown.time;
        let _forced = channel.force(later).unwrap();
        let trial = channel.claim(later).unwrap();
        assert!(channel.claim(later).is_none(), "one at a time");
        drop(trial);
        let again = channel.claim(later + Duration::from_secs(1)).unwrap();
        again.hold.answered(&channel, again.key);
        drop(again);
        assert!(channel.claim(later).is_some() && channel.is_up(later));
    }
}

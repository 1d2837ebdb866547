//! What is known of channels beyond their configuration: health, requests in flight, whose turn it is.
//!
//! Owns what outlives a configuration. A reload finds it again by a channel's name; what it says of an
//! upstream or a key that has changed is forgotten, because a mistake that was corrected is to be tried.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config;

use super::verdicts::Verdicts;
use super::vitals::Vitals;

/// The states of all channels, by name.
#[derive(Debug, Default)]
pub struct Registry(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    states: HashMap<String, Arc<State>>,
    /// The names of those that are drained, whether there is such a channel or not.
    drained: HashSet<String>,
}

/// The state of one channel.
#[derive(Debug)]
pub(super) struct State {
    base_url: config::BaseUrl,
    keys: Vec<config::UpstreamKey>,
    pub(super) health: Arc<Vitals>,
    pub(super) key_health: Vec<Arc<Vitals>>,
    pub(super) verdicts: Arc<Verdicts>,
    next_key: AtomicUsize,
    in_use: Arc<AtomicUsize>,
    /// Written under the registry's lock alone.
    is_drained: AtomicBool,
}

/// A place among the requests that a channel serves at a time, given back on drop.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Registry {
    /// The states for `channels`, in their order: those that are known, and new ones. Others are forgotten.
    pub(super) fn states(&self, channels: &[&config::Channel]) -> Vec<Arc<State>> {
        let mut known = self.lock();
        let states: Vec<_> = channels
            .iter()
            .map(|channel| {
                let state = State::next(known.states.get(&channel.name), channel);
                state.is_drained.store(known.drained.contains(&channel.name), Ordering::Relaxed);
                if channel.probe.is_none() {
                    // No probe would ever say otherwise.
                    state.verdicts.forget(|_| false);
                }
                state
            })
            .collect();
        known.states =
            channels.iter().zip(&states).map(|(channel, state)| (channel.name.clone(), state.clone())).collect();
        states
    }

    /// From now on nothing new is sent to the channel of that name, or again. Requests that are under way go on.
    pub(crate) fn drain(&self, name: &str, is_drained: bool) {
        let mut known = self.lock();
        if is_drained {
            known.drained.insert(name.to_owned());
        } else {
            known.drained.remove(name);
        }
        if let Some(state) = known.states.get(name) {
            state.is_drained.store(is_drained, Ordering::Relaxed);
        }
    }

    /// What panics under it leaves a table that is still one.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The state for `channel`, which had the state `before`.
    fn next(before: Option<&Arc<Self>>, channel: &config::Channel) -> Arc<Self> {
        let same_url = before.filter(|before| before.base_url == channel.base_url);
        if let Some(before) = same_url.filter(|before| before.keys == channel.keys) {
            return before.clone();
        }
        let health_of = |key: &config::UpstreamKey| {
            let at = same_url?.keys.iter().position(|known| known == key)?;
            Some(same_url?.key_health[at].clone())
        };
        Arc::new(Self {
            base_url: channel.base_url.clone(),
            health: same_url.map(|before| before.health.clone()).unwrap_or_default(),
            key_health: channel.keys.iter().map(|key| health_of(key).unwrap_or_default()).collect(),
            verdicts: same_url.map(|before| before.verdicts.clone()).unwrap_or_default(),
            keys: channel.keys.clone(),
            next_key: AtomicUsize::new(0),
            in_use: before.map(|before| before.in_use.clone()).unwrap_or_default(),
            is_drained: AtomicBool::new(false),
        })
    }

    /// The places of all keys, beginning with the one whose turn it is.
    pub(super) fn turns(&self) -> impl Iterator<Item = usize> {
        let count = self.keys.len();
        // With one key there are no turns, and nothing that threads would share.
        let first = if count > 1 { self.next_key.fetch_add(1, Ordering::Relaxed) } else { 0 };
        (0..count).map(move |n| first.wrapping_add(n) % count)
    }

    /// Whether nothing new is sent to it.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Relaxed)
    }

    /// Whether there is room for one more request.
    pub(super) fn has_place(&self, max: usize) -> bool {
        max == 0 || self.in_use.load(Ordering::Relaxed) < max
    }

    /// A place among `max`, if one is free.
    pub(super) fn enter(&self, max: usize) -> Option<Place> {
        let taken = self.in_use.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < max).then_some(n + 1));
        taken.ok().map(|_| Place(self.in_use.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::channel;
    use super::*;
    use std::time::Duration;
    use weir_filters::monitor::{Cap, Standing};
    use weir_filters::protocol::Protocol;
    use weir_filters::secret::Secret;

    fn configured() -> config::Channel {
        channel("one", Protocol::OpenAi, &["*"])
    }

    fn probe() -> config::Probe {
        config::Probe {
            every: Duration::from_secs(60),
            models: vec![],
            prompt: weir_filters::probe::PROMPT.into(),
            max_tokens: weir_filters::probe::FEW_TOKENS,
            timeout: Duration::from_secs(30),
            cap: Cap::default(),
            pause_on_traffic: true,
        }
    }

    fn state(registry: &Registry, channel: &config::Channel) -> Arc<State> {
        registry.states(&[channel]).remove(0)
    }

    #[test]
    fn a_reload_keeps_what_it_does_not_change() {
        let registry = Registry::default();
        let before = state(&registry, &configured());
        let same = state(&registry, &config::Channel { inject_usage: true, ..configured() });
        assert!(Arc::ptr_eq(&before, &same));

        let mut other_key = configured();
        other_key.keys[1].value = Secret::new("corrected");
        let after = state(&registry, &other_key);
        assert!(Arc::ptr_eq(&before.health, &after.health));
        assert!(Arc::ptr_eq(&before.key_health[0], &after.key_health[0]));
        assert!(!Arc::ptr_eq(&before.key_health[1], &after.key_health[1]), "the corrected key is tried at once");

        let mut other_url = other_key.clone();
        other_url.base_url.port += 1;
        let moved = state(&registry, &other_url);
        assert!(!Arc::ptr_eq(&after.health, &moved.health));
        assert!(Arc::ptr_eq(&before.in_use, &moved.in_use), "requests are still in flight");
    }

    #[test]
    fn what_probes_said_is_kept_while_the_address_is_and_there_are_probes() {
        let registry = Registry::default();
        let probed = config::Channel { probe: Some(probe()), ..configured() };
        let before = state(&registry, &probed);
        let mut other_key = probed.clone();
        other_key.keys[1].value = Secret::new("corrected");
        let after = state(&registry, &other_key);
        assert!(!Arc::ptr_eq(&before, &after) && Arc::ptr_eq(&before.verdicts, &after.verdicts));

        let mut other_url = other_key.clone();
        other_url.base_url.port += 1;
        let moved = state(&registry, &other_url);
        assert!(!Arc::ptr_eq(&after.verdicts, &moved.verdicts), "another upstream is not judged by it");

        moved.verdicts.set("o3", Standing::Failing);
        assert!(state(&registry, &other_url).verdicts.is_failing("o3"));
        other_url.probe = None;
        assert!(!state(&registry, &other_url).verdicts.is_failing("o3"), "no probe would ever take it back");
    }

    #[test]
    fn a_channel_that_is_gone_is_forgotten() {
        let registry = Registry::default();
        let before = state(&registry, &configured());
        registry.states(&[]);
        assert!(!Arc::ptr_eq(&before, &state(&registry, &configured())));
    }

    #[test]
    fn places_are_never_more_than_there_are_and_all_come_back() {
        let registry = Registry::default();
        let state = state(&registry, &configured());
        let (max, most) = (5, AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Some(_place) = state.enter(max) {
                            most.fetch_max(state.in_use.load(Ordering::Relaxed), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!((1..=max).contains(&most.into_inner()));
        assert!(state.has_place(1), "all came back");
        let _all: Vec<_> = (0..max).map(|_| state.enter(max).unwrap()).collect();
        assert!(!state.has_place(max) && state.enter(max).is_none());
    }

    #[test]
    fn a_drained_channel_stays_drained_through_reloads_and_under_its_name() {
        let registry = Registry::default();
        registry.drain("one", true);
        let drained = state(&registry, &configured());
        assert!(drained.is_drained(), "it was drained before it was there");
        let mut other_key = configured();
        other_key.keys[1].value = Secret::new("corrected");
        let changed = state(&registry, &other_key);
        assert!(changed.is_drained() && !Arc::ptr_eq(&drained, &changed));
        registry.states(&[]);
        assert!(state(&registry, &configured()).is_drained(), "it was gone for a while");
        let same = state(&registry, &configured());
        registry.drain("one", false);
        assert!(!same.is_drained(), "requests that began before see it too");
        assert!(!state(&registry, &configured()).is_drained());
    }

    #[test]
    fn keys_take_turns() {
        let state = state(&Registry::default(), &configured());
        let turns: Vec<Vec<usize>> = (0..3).map(|_| state.turns().collect()).collect();
        assert_eq!(turns, [[0, 1], [1, 0], [0, 1]]);
    }
}

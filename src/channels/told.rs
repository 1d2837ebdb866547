//! What another gateway says of a key: that it serves, or that the upstream does not take it.
//!
//! Owns what becomes of such a word. It counts like an answer to a request of one's own, and no more: a key that cools
//! down for it is tried again after a while.

use std::sync::Arc;
use std::time::Instant;

use weir_filters::health::Blow;
use weir_filters::import::Verdict;

use super::{Channel, Channels};

impl Channels {
    /// The channel of that name, and the place of its key that goes by the first of `names` that one has.
    pub(crate) fn find_key<'a>(
        &self,
        channel: &str,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Option<(&Arc<Channel>, usize)> {
        let channel = self.iter().find(|known| **known.name() == *channel)?;
        let keys = &channel.config().keys;
        let key = names.find_map(|name| keys.iter().position(|key| key.name == name))?;
        Some((channel, key))
    }
}

impl Channel {
    /// Takes the word for the key at a place.
    pub(crate) fn told(&self, key: usize, verdict: Verdict, now: Instant) {
        let (health, cooldown) = (&self.state.key_health[key], &self.config.failover.cooldown);
        let ticket = health.force();
        let is_final = match verdict {
            Verdict::Good => {
                health.answered(ticket, cooldown);
                health.succeeded(ticket);
                return;
            }
            // What a 401 or a 429 would say.
            Verdict::Refused => true,
            Verdict::Slow => false,
            Verdict::WrongRequest | Verdict::Silent => return,
        };
        if health.failed(ticket, Blow { is_final, wait: None }, cooldown, now) {
            log::warn!("channel {}: key cools down, another gateway says that it is refused", self.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_filters::protocol::Protocol;

    use super::super::Registry;
    use super::super::tests::channel;
    use super::*;

    fn channels() -> Channels {
        let all = ["openai", "azure"].map(|name| channel(name, Protocol::OpenAi, &["*"]));
        Channels::new(&all, &Registry::default())
    }

    #[test]
    fn a_key_is_found_by_the_first_name_that_one_has() {
        let channels = channels();
        let found = |channel: &str, names: &[&str]| {
            let (channel, key) = channels.find_key(channel, names.iter().copied())?;
            Some((channel.name().to_string(), key))
        };
        assert_eq!(found("azure", &["x", "b", "a"]), Some(("azure".into(), 1)));
        assert_eq!(found("openai", &["a"]), Some(("openai".into(), 0)));
        assert_eq!((found("openai", &["x"]), found("Openai", &["a"])), (None, None));
    }

    #[test]
    fn a_key_that_is_refused_elsewhere_cools_down_and_one_that_serves_is_back() {
        let (channels, now) = (channels(), Instant::now());
        let (channel, key) = channels.find_key("openai", ["b"].into_iter()).unwrap();
        for silent in [Verdict::Silent, Verdict::WrongRequest, Verdict::Good, Verdict::Slow, Verdict::Slow] {
            channel.told(key, silent, now);
            assert_eq!(channel.keys_cooling(now), 0);
        }
        channel.told(key, Verdict::Slow, now);
        assert_eq!(channel.keys_cooling(now), 1, "three times too slow is a failure");
        channel.told(key, Verdict::Good, now);
        assert_eq!((channel.keys_cooling(now), channel.is_up(now)), (0, true));
        for _ in 0..2 {
            channel.told(key, Verdict::Refused, now);
            assert_eq!(channel.keys_cooling(now), 1);
            assert_eq!(channel.keys_cooling(now + channel.config().failover.cooldown.time), 0, "it is tried again");
        }
        let other = channels.find_key("azure", ["b"].into_iter()).unwrap().0;
        assert_eq!(other.keys_cooling(now), 0);
    }
}

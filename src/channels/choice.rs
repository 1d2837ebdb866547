//! Which channels serve a request, in which order, and the first of them that the key permits.
//!
//! Owns all channels of a configuration and the index of what they serve, which is made once with
//! it. It refuses to know what a channel is beyond its name, its protocol and its models.

use std::fmt;
use std::sync::Arc;

use ahash::AHashMap;
use weir_filters::glob::Glob;
use weir_filters::protocol::Protocol;

use crate::config;

use super::Channel;

/// Why no channel serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChannel {
    /// No channel that the route and the dialect allow serves the model.
    Unserved,
    /// One does, but the key may not use it.
    NotPermitted,
}

/// All channels, in the order in which they are tried.
#[derive(Default)]
pub struct Channels {
    all: Vec<Arc<Channel>>,
    /// One for each protocol, at the place of its discriminant.
    indexes: [Index; Protocol::ALL.len()],
}

impl Channels {
    /// Takes them as configured.
    pub fn new(channels: &[config::Channel]) -> Self {
        let all: Vec<_> = channels.iter().enumerate().map(|(i, c)| Arc::new(Channel::new(i, c.clone()))).collect();
        let mut indexes = <[Index; Protocol::ALL.len()]>::default();
        for protocol in Protocol::ALL {
            let speakers: Vec<&Channel> = all.iter().map(|c| &**c).filter(|c| c.config.protocol == protocol).collect();
            indexes[protocol as usize] = Index::new(&speakers);
        }
        Self { all, indexes }
    }

    /// The first channel of `protocol` that serves `model` (any, if there is none), that the route
    /// names (`among`; empty: all) and that the key permits.
    pub fn choose(
        &self,
        protocol: Protocol,
        model: Option<&str>,
        among: &[String],
        permits: impl Fn(&str) -> bool,
    ) -> Result<&Arc<Channel>, NoChannel> {
        let mut refusal = NoChannel::Unserved;
        for channel in self.candidates(protocol, model, among) {
            if permits(channel.name()) {
                return Ok(channel);
            }
            refusal = NoChannel::NotPermitted;
        }
        Err(refusal)
    }

    /// The channels that [`Channels::choose`] chooses from, each once, in order. They are found one
    /// by one: those behind the last that is taken cost nothing.
    ///
    /// What a route does not name is passed over one by one too, as is what a key does not permit.
    fn candidates<'a>(
        &'a self,
        protocol: Protocol,
        model: Option<&str>,
        among: &[String],
    ) -> impl Iterator<Item = &'a Arc<Channel>> {
        let serving = self.indexes[protocol as usize].serving(model).map(|channel| &self.all[channel]);
        serving.filter(|channel| among.is_empty() || among.iter().any(|name| **name == *channel.name))
    }

    /// Every channel.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.all.iter()
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|c| &c.name)).finish()
    }
}

/// What the channels of one protocol serve. A model is looked up among the names, then among the
/// beginnings of globs; only globs that could still match it are compared with it. So a choice is
/// linear in the globs that begin alike, and in those that begin with a star.
#[derive(Default)]
struct Index {
    /// All of them: any serves a request without a model.
    all: Vec<Entry>,
    /// By the models that they name, as a glob without a star or as a model that they map.
    named: AHashMap<Box<str>, Vec<Entry>>,
    /// The globs that begin with text, sorted by it. No group's beginning begins with another's, so
    /// that a model belongs to one group at most: `gpt-*` and `gpt-4*` are in the group of `gpt-`.
    groups: Vec<Group>,
    /// The globs that begin with a star.
    open: Group,
}

/// Globs that begin with the same text.
#[derive(Default)]
struct Group {
    prefix: Box<str>,
    entries: Vec<Entry>,
}

/// That a channel serves a model: the one under which the entry stands, if the glob matches it.
struct Entry {
    channel: usize,
    /// `None` where there is nothing left to compare.
    glob: Option<Glob>,
}

impl Index {
    /// Takes channels in order, so that every list of entries is in that order.
    fn new(channels: &[&Channel]) -> Self {
        let mut index = Self::default();
        for channel in channels {
            index.all.push(Entry { channel: channel.index, glob: None });
            for model in channel.named_models() {
                index.named.entry(model.into()).or_default().push(Entry { channel: channel.index, glob: None });
            }
        }
        let globs = channels.iter().flat_map(|channel| channel.config.models.iter().map(|glob| (channel.index, glob)));
        let starred: Vec<_> =
            globs.filter_map(|(at, glob)| Some((at, glob, glob.as_str().split_once('*')?.0))).collect();

        let mut prefixes: Vec<&str> = starred.iter().map(|(.., prefix)| *prefix).filter(|p| !p.is_empty()).collect();
        prefixes.sort_unstable();
        prefixes.dedup_by(|later, kept| later.starts_with(*kept));
        index.groups = prefixes.into_iter().map(|p| Group { prefix: p.into(), entries: Vec::new() }).collect();
        for (channel, glob, prefix) in starred {
            let group = match index.group_of(prefix) {
                Some(at) => &mut index.groups[at],
                None => &mut index.open,
            };
            let decided = glob.as_str().trim_end_matches('*') == &*group.prefix;
            group.entries.push(Entry { channel, glob: (!decided).then(|| glob.clone()) });
        }
        index
    }

    /// The place of the group whose prefix `text` begins with. It can only be the last that is not
    /// greater: what sorts between a prefix and a text that begins with it begins with it as well.
    fn group_of(&self, text: &str) -> Option<usize> {
        let at = self.groups.partition_point(|group| *group.prefix <= *text).checked_sub(1)?;
        text.starts_with(&*self.groups[at].prefix).then_some(at)
    }

    /// The channels that serve `model` (all, if there is none), each once, in order.
    fn serving(&self, model: Option<&str>) -> impl Iterator<Item = usize> {
        let mut lists: [&[Entry]; 3] = match model {
            None => [&self.all, &[], &[]],
            Some(model) => [
                self.named.get(model).map_or(&[], Vec::as_slice),
                self.group_of(model).map_or(&[], |at| &self.groups[at].entries),
                &self.open.entries,
            ],
        };
        let merged = std::iter::from_fn(move || {
            let nearest = lists.iter_mut().min_by_key(|list| list.first().map_or(usize::MAX, |entry| entry.channel))?;
            let (entry, rest) = nearest.split_first()?;
            *nearest = rest;
            Some(entry)
        });
        let model = model.unwrap_or_default();
        let matching = merged.filter(move |entry| entry.glob.as_ref().is_none_or(|glob| glob.matches(model)));
        // A channel can serve a model by several of its names and globs.
        let mut last = None;
        matching.map(|entry| entry.channel).filter(move |channel| last.replace(*channel) != Some(*channel))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::tests::channel;
    use super::*;

    fn channels() -> Channels {
        Channels::new(&[
            channel("first", Protocol::OpenAi, &["o1-*"]),
            channel("second", Protocol::OpenAi, &["o1-mini", "o3"]),
            channel("claude", Protocol::Anthropic, &["*"]),
        ])
    }

    fn chosen(model: Option<&str>, among: &[&str], permitted: &str) -> Result<String, NoChannel> {
        let among: Vec<_> = among.iter().map(|&n| n.to_owned()).collect();
        channels()
            .choose(Protocol::OpenAi, model, &among, |name| permitted == "*" || name == permitted)
            .map(|c| c.name.to_string())
    }

    #[test]
    fn the_first_channel_that_serves_the_model_is_chosen() {
        assert_eq!(chosen(Some("o1-mini"), &[], "*"), Ok("first".into()));
        assert_eq!(chosen(Some("o3"), &[], "*"), Ok("second".into()));
        assert_eq!(chosen(Some("gpt-4o"), &[], "*"), Ok("first".into()), "a mapped model is served");
        assert_eq!(chosen(None, &[], "*"), Ok("first".into()));
        assert_eq!(chosen(Some("O3"), &[], "*"), Err(NoChannel::Unserved));
        assert_eq!(chosen(Some("claude-x"), &[], "*"), Err(NoChannel::Unserved), "another dialect");
    }

    #[test]
    fn route_and_key_narrow_the_choice() {
        assert_eq!(chosen(Some("o1-mini"), &["second"], "*"), Ok("second".into()));
        assert_eq!(chosen(Some("o1-mini"), &[], "second"), Ok("second".into()));
        assert_eq!(chosen(Some("o3"), &[], "first"), Err(NoChannel::NotPermitted));
        assert_eq!(chosen(Some("o3"), &["first"], "*"), Err(NoChannel::Unserved));
        assert_eq!(chosen(None, &["second", "claude"], "*"), Ok("second".into()));
        assert_eq!(chosen(None, &["claude"], "*"), Err(NoChannel::Unserved), "routed to another dialect alone");
        assert_eq!(chosen(None, &[], "claude"), Err(NoChannel::NotPermitted));
    }

    #[test]
    fn candidates_come_in_the_order_of_the_configuration_and_once() {
        let channels = Channels::new(&[
            channel("star", Protocol::OpenAi, &["*"]),
            channel("name", Protocol::OpenAi, &["gpt-4o"]),
            channel("longer", Protocol::OpenAi, &["gpt-4*"]),
            channel("shorter", Protocol::OpenAi, &["gp*"]),
            channel("other", Protocol::OpenAi, &["gpz*", "gpt-5*"]),
            channel("gemini", Protocol::Gemini, &["*"]),
            channel("suffix", Protocol::OpenAi, &["*-mini"]),
            channel("all", Protocol::OpenAi, &["gpt-4o-mini", "gpt-*", "*mini", "gpt-4*-mini", "**"]),
        ]);
        let candidates = |model: Option<&str>| -> Vec<&str> {
            channels.candidates(Protocol::OpenAi, model, &[]).map(|channel| &**channel.name()).collect()
        };
        assert_eq!(candidates(Some("gpt-4o-mini")), ["star", "longer", "shorter", "suffix", "all"]);
        assert_eq!(
            candidates(Some("gpt-4o")),
            ["star", "name", "longer", "shorter", "other", "suffix", "all"],
            "all of them map it"
        );
        assert_eq!(candidates(Some("gpt-5")), ["star", "shorter", "other", "all"]);
        assert_eq!(candidates(Some("gp")), ["star", "shorter", "all"]);
        assert_eq!(candidates(Some("o3-mini")), ["star", "suffix", "all"]);
        assert_eq!(candidates(Some("")), ["star", "all"]);
        assert_eq!(candidates(None), ["star", "name", "longer", "shorter", "other", "suffix", "all"]);
    }

    /// What the index must find: whoever serves the model, by a glob or because it maps it.
    fn walk<'a>(
        channels: &'a [config::Channel],
        protocol: Protocol,
        model: Option<&'a str>,
        among: &'a [String],
    ) -> impl Iterator<Item = &'a str> {
        let serves = move |channel: &config::Channel| {
            model.is_none_or(|model| {
                channel.models.iter().any(|glob| glob.matches(model)) || channel.model_map.contains_key(model)
            })
        };
        channels
            .iter()
            .filter(move |channel| channel.protocol == protocol && serves(channel))
            .map(|channel| channel.name.as_str())
            .filter(move |name| among.is_empty() || among.iter().any(|routed| routed == name))
    }

    fn any_channel() -> impl Strategy<Value = config::Channel> {
        let models = prop::collection::vec("[abé*]{0,4}", 0..5);
        let mapped = prop::collection::vec("[abé*]{0,3}", 0..2);
        (prop::sample::select(&Protocol::ALL[..]), models, mapped).prop_map(|(protocol, models, mapped)| {
            let models: Vec<_> = models.iter().map(String::as_str).collect();
            let model_map: BTreeMap<_, _> = mapped.into_iter().map(|model| (model, "other".to_owned())).collect();
            config::Channel { model_map, ..channel("", protocol, &models) }
        })
    }

    fn any_channels() -> impl Strategy<Value = Vec<config::Channel>> {
        prop::collection::vec(any_channel(), 0..12).prop_map(|mut channels| {
            channels.iter_mut().enumerate().for_each(|(i, channel)| channel.name = format!("c{i}"));
            channels
        })
    }

    fn any_names(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec((0..13).prop_map(|i| format!("c{i}")), count)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_index_finds_what_a_walk_over_all_channels_finds(
            configured in any_channels(),
            protocol in prop::sample::select(&Protocol::ALL[..]),
            model in prop::option::weighted(0.9, "[abé*]{0,4}"),
            among in prop_oneof![Just(Vec::new()), any_names(1..9)],
            permitted in prop_oneof![Just(None), any_names(0..9).prop_map(Some)],
        ) {
            let channels = Channels::new(&configured);
            let permits = |name: &str| permitted.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
            let walked: Vec<&str> = walk(&configured, protocol, model.as_deref(), &among).collect();
            let found: Vec<&str> =
                channels.candidates(protocol, model.as_deref(), &among).map(|channel| &**channel.name()).collect();
            prop_assert_eq!(&found, &walked);

            let refusal = if walked.is_empty() { NoChannel::Unserved } else { NoChannel::NotPermitted };
            let first = walked.into_iter().find(|name| permits(name)).ok_or(refusal);
            let chosen = channels.choose(protocol, model.as_deref(), &among, permits);
            prop_assert_eq!(chosen.map(|channel| &**channel.name()), first);
        }
    }
}

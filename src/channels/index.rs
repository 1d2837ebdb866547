//! What the channels of one protocol serve, looked up by model.

use ahash::AHashMap;
use weir_filters::glob::Glob;

use super::Channel;

/// What the channels of one protocol serve. A model is looked up among the names, then among the
/// beginnings of globs; only globs that could still match it are compared with it. So a choice is
/// linear in the globs that begin alike, and in those that begin with a star.
#[derive(Default)]
pub(super) struct Index {
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
    pub(super) fn new(channels: &[&Channel]) -> Self {
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
    pub(super) fn serving(&self, model: Option<&str>) -> impl Iterator<Item = usize> {
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

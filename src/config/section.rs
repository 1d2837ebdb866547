//! Reading typed fields out of the tree, collecting mistakes instead of stopping at the first.
//!
//! Knows how a mapping, a list and a word are read; knows nothing of which fields there are.

use std::collections::HashMap;
use std::hash::Hash;

use super::mistake::{Complaint, Report};
use super::scalar::{Parsed, Word, shown};
use super::tree::{Kind, NodeId, Tree};

/// A value and the node that it was read from.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: NodeId,
}

/// The fields of one kind of mapping.
#[derive(Debug)]
pub(super) struct Fields {
    /// Those that are read.
    pub(super) known: &'static [&'static str],
    /// Those that another version of Weir reads: passing over them in silence would let a limit be
    /// thought to hold that does not.
    pub(super) later: &'static [&'static str],
}

/// A mapping whose field names have been checked.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) at: NodeId,
    entries: Vec<(&'static str, NodeId)>,
}

impl Section {
    /// A mapping that was left out of the one at `at`.
    pub(super) const fn absent(at: NodeId) -> Self {
        Self { at, entries: Vec::new() }
    }

    /// Where the field's value is, if the field is there at all, `null` included.
    pub(super) fn entry(&self, name: &str) -> Option<NodeId> {
        self.entries.iter().find(|(field, _)| *field == name).map(|(_, value)| *value)
    }
}

/// Reads nodes and reports what does not fit. `None` from any method is either "not given" or
/// "reported"; whoever needs a value asks with a `required` method.
pub(super) struct Reader<'a> {
    pub(super) tree: &'a Tree,
    pub(super) report: &'a mut Report,
}

impl<'a> Reader<'a> {
    /// Reports a complaint that reads on from the node's name.
    pub(super) fn complain(&mut self, at: NodeId, complaint: Complaint) {
        let Complaint { message, suggestion } = complaint;
        let message = format!("`{}` {message}", self.tree.label(at));
        self.report.add(at, Complaint { message, suggestion });
    }

    /// A mapping with the given fields. Nothing written counts as an empty one.
    pub(super) fn section(&mut self, at: NodeId, fields: &Fields) -> Section {
        let tree = self.tree;
        let mut section = Section { at, entries: Vec::new() };
        let mut keys: Vec<NodeId> = Vec::new();
        for (key, value) in self.entries(at).unwrap_or_default() {
            let Some(name) = self.key(key) else { continue };
            let raw = name.raw;
            let Some(field) = fields.known.iter().find(|field| **field == raw) else {
                let is_bare = matches!(tree.kind(value), Kind::Null);
                self.report.add(key, unknown(raw, is_bare, fields));
                continue;
            };
            if let Some(first) = section.entries.iter().position(|(name, _)| name == field) {
                let message = format!("`{}` is given twice", tree.label(key));
                self.report.add_repeated(key, keys[first], message);
            } else {
                section.entries.push((field, value));
                keys.push(key);
            }
        }
        section
    }

    /// A field's value, unless nothing is written there.
    pub(super) fn optional(&self, section: &Section, name: &str) -> Option<NodeId> {
        section.entry(name).filter(|&at| !matches!(self.tree.kind(at), Kind::Null))
    }

    /// A field's value, which must be written.
    pub(super) fn required(&mut self, section: &Section, name: &str) -> Option<NodeId> {
        let found = self.optional(section, name);
        if found.is_none() {
            match section.entry(name) {
                Some(at) => self.complain(at, Complaint::new("has no value")),
                None => self.report.add_missing(section.at, name),
            }
        }
        found
    }

    /// An optional field with a single value.
    pub(super) fn optional_word<T>(
        &mut self,
        section: &Section,
        name: &str,
        read: impl Fn(Word<'_>) -> Parsed<T>,
    ) -> Option<At<T>> {
        let at = self.optional(section, name)?;
        self.word(at, read)
    }

    /// A required field with a single value.
    pub(super) fn required_word<T>(
        &mut self,
        section: &Section,
        name: &str,
        read: impl Fn(Word<'_>) -> Parsed<T>,
    ) -> Option<At<T>> {
        let at = self.required(section, name)?;
        self.word(at, read)
    }

    /// A single value.
    pub(super) fn word<T>(&mut self, at: NodeId, read: impl Fn(Word<'_>) -> Parsed<T>) -> Option<At<T>> {
        match self.tree.kind(at) {
            Kind::Scalar(scalar) => {
                let word = Word { text: scalar.text.as_deref()?, raw: &scalar.raw };
                match read(word) {
                    Ok(value) => return Some(At { value, at }),
                    Err(complaint) => self.complain(at, complaint),
                }
            }
            _ => self.wrong_kind(at, "a single value"),
        }
        None
    }

    /// A list, item by item.
    pub(super) fn list<T>(
        &mut self,
        at: NodeId,
        mut read: impl FnMut(&mut Self, NodeId) -> Option<T>,
    ) -> Option<At<Vec<T>>> {
        let tree = self.tree;
        let Kind::List(items) = tree.kind(at) else {
            self.wrong_kind(at, "a list");
            return None;
        };
        let value = items.iter().filter_map(|&item| read(self, item)).collect();
        Some(At { value, at })
    }

    /// A list of mappings.
    pub(super) fn sections<T>(
        &mut self,
        at: NodeId,
        fields: &Fields,
        read: impl Fn(&mut Self, &Section) -> T,
    ) -> Option<At<Vec<T>>> {
        self.list(at, |reader, item| {
            let section = reader.section(item, fields);
            Some(read(reader, &section))
        })
    }

    /// An optional field with a list of single values. An empty list is refused: it would read as
    /// "none" and, where leaving the field out means "all", do the opposite.
    pub(super) fn optional_words<T>(
        &mut self,
        section: &Section,
        name: &str,
        read: impl Fn(Word<'_>) -> Parsed<T>,
    ) -> Option<At<Vec<At<T>>>> {
        let at = self.optional(section, name)?;
        self.words(at, read)
    }

    /// A list of single values, not empty.
    pub(super) fn words<T>(&mut self, at: NodeId, read: impl Fn(Word<'_>) -> Parsed<T>) -> Option<At<Vec<At<T>>>> {
        if self.is_empty_list(at) {
            self.complain(at, Complaint::new("must not be an empty list"));
        }
        self.list(at, |reader, item| reader.word(item, &read))
    }

    /// A mapping whose names are free: pairs of single values, in the order of the file.
    pub(super) fn pairs<K: PartialEq, V>(
        &mut self,
        at: NodeId,
        read_key: impl Fn(Word<'_>) -> Parsed<K>,
        read_value: impl Fn(Word<'_>) -> Parsed<V>,
    ) -> Vec<(At<K>, At<V>)> {
        let mut pairs: Vec<(At<K>, At<V>)> = Vec::new();
        for (key, value) in self.entries(at).unwrap_or_default() {
            if self.key(key).is_none() {
                continue;
            }
            let value = self.word(value, &read_value);
            let Some(key) = self.word(key, &read_key) else {
                continue;
            };
            if let Some((first, _)) = pairs.iter().find(|(first, _)| first.value == key.value) {
                let message = format!("`{}` is given twice", self.tree.label(key.at));
                self.report.add_repeated(key.at, first.at, message);
            } else if let Some(value) = value {
                pairs.push((key, value));
            }
        }
        pairs
    }

    /// A mapping whose names are free: each name and where its value is, in the order of the file. Without
    /// its name comes a value whose name does not fit, or is given twice: it can be looked at all the same.
    pub(super) fn members<K: Clone + Eq + Hash>(
        &mut self,
        at: NodeId,
        read_name: impl Fn(Word<'_>) -> Parsed<K>,
    ) -> Vec<(Option<K>, NodeId)> {
        let mut members = Vec::new();
        let mut seen: HashMap<K, NodeId> = HashMap::new();
        for (name, value) in self.entries(at).unwrap_or_default() {
            let name = self.key(name).and_then(|_| self.word(name, &read_name)).filter(|name| {
                let first = *seen.entry(name.value.clone()).or_insert(name.at);
                if first != name.at {
                    let message = format!("`{}` is given twice", self.tree.label(name.at));
                    self.report.add_repeated(name.at, first, message);
                }
                first == name.at
            });
            members.push((name.map(|name| name.value), value));
        }
        members
    }

    pub(super) fn is_empty_list(&self, at: NodeId) -> bool {
        matches!(self.tree.kind(at), Kind::List(items) if items.is_empty())
    }

    fn entries(&mut self, at: NodeId) -> Option<Vec<(NodeId, NodeId)>> {
        match self.tree.kind(at) {
            Kind::Map(entries) => return Some(entries.clone()),
            Kind::Null => {}
            _ => self.wrong_kind(at, "a mapping"),
        }
        None
    }

    fn key(&mut self, key: NodeId) -> Option<Word<'a>> {
        match self.tree.kind(key) {
            Kind::Scalar(scalar) if scalar.raw == "<<" => {
                self.report.add(key, Complaint::new("merge keys (`<<`) are not supported"));
            }
            Kind::Scalar(scalar) => {
                return Some(Word { text: scalar.text.as_deref()?, raw: &scalar.raw });
            }
            _ => {
                let found = self.tree.describe(key);
                self.report.add(key, Complaint::new(format!("a field's name must be text, not {found}")));
            }
        }
        None
    }

    fn wrong_kind(&mut self, at: NodeId, expected: &str) {
        let found = self.tree.describe(at);
        let complaint = Complaint::new(format!("must be {expected}, not {found}"));
        self.complain(at, complaint);
    }
}

/// A mapping in a mapping; left out, it is one without fields.
pub(super) fn subsection(r: &mut Reader<'_>, parent: &Section, name: &str, fields: &Fields) -> Section {
    match r.optional(parent, name) {
        Some(at) => r.section(at, fields),
        None => Section::absent(parent.at),
    }
}

/// A name without a value may be a value without a name, a secret even, so it is not repeated.
fn unknown(raw: &str, is_bare: bool, fields: &Fields) -> Complaint {
    if fields.later.contains(&raw) {
        return Complaint::new(format!("`{raw}` is not supported by this version"));
    }
    match shown(raw).filter(|_| !is_bare) {
        Some(name) => {
            Complaint::new(format!("unknown field `{name}`")).suggest_nearest(name, fields.known.iter().copied())
        }
        None => Complaint::new("unknown field").suggest_nearest(raw, fields.known.iter().copied()),
    }
}

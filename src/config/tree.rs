//! The document as a tree of scalars, lists and mappings, each of which knows where it stands.
//!
//! serde_yaml tells a position only with an error. So the tree is read without positions, and the
//! position of a node is found, when a mistake needs it, by reading the document again and failing
//! at that node. Knows nothing of what the document means.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::expand;
use super::mistake::{Mistakes, Report, position};
use super::scalar::{Parsed, shown};

/// Anchors can make a small file stand for a huge tree. A hundred thousand keys with a name and a digest are
/// half of this.
const MAX_NODES: usize = 1_000_000;

/// A node's number: document order, keys and values alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(usize);

impl NodeId {
    /// The whole document.
    pub(super) const ROOT: Self = Self(0);
}

/// A parsed document.
#[derive(Debug)]
pub(super) struct Tree {
    /// What serde_yaml reads: the file's text with references covered up.
    covered: String,
    /// Never empty: the first is the root.
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    parent: Option<NodeId>,
    step: Step,
    kind: Kind,
    /// One past the last node in it.
    end: usize,
}

/// How a node is reached from its parent.
#[derive(Clone, Copy, Debug)]
enum Step {
    Root,
    Key,
    Value(NodeId),
    Item(usize),
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind {
    /// Nothing was written, or `null`.
    Null,
    /// Text, number or boolean, all as written.
    Scalar(Scalar),
    /// A list.
    List(Vec<NodeId>),
    /// A mapping, in the order of the file, repeated keys included.
    Map(Vec<(NodeId, NodeId)>),
    /// Something with a `!tag` of its own.
    Tagged,
}

/// A scalar's text.
#[derive(Debug)]
pub(super) struct Scalar {
    /// As it stands in the file, unquoted.
    pub(super) raw: String,
    /// With variables replaced; `None` if one could not be, which has been reported.
    pub(super) text: Option<String>,
}

impl Tree {
    /// Reads a document. What is no YAML is one mistake; unresolved variables are added to `report`.
    pub(super) fn parse(
        text: &str,
        file: &Path,
        env: &dyn Fn(&str) -> Option<String>,
        report: &mut Report,
    ) -> Result<Self, Mistakes> {
        Self::read(text, expand::cover, &|raw| expand::expand(raw, env), file, report)
    }

    /// Reads a document in which nothing is replaced; what looks like a variable is added to `report`.
    pub(super) fn parse_as_it_is(text: &str, file: &Path, report: &mut Report) -> Result<Self, Mistakes> {
        Self::read(text, str::to_owned, &expand::as_it_is, file, report)
    }

    fn read(
        text: &str,
        cover: fn(&str) -> String,
        expand: &dyn Fn(&str) -> Parsed<String>,
        file: &Path,
        report: &mut Report,
    ) -> Result<Self, Mistakes> {
        if let Some((at, c)) = text.char_indices().find(|&(_, c)| !is_allowed(c)) {
            let message = format!("the character U+{:04X} is not allowed", u32::from(c));
            return Err(Mistakes::single(file, position(text, at), message));
        }
        let covered = cover(text);
        let mut nodes = Vec::new();
        let mut documents = serde_yaml::Deserializer::from_str(&covered);
        if let Some(first) = documents.next() {
            Grow { nodes: &mut nodes, parent: None, step: Step::Root }
                .deserialize(first)
                .map_err(|error| not_yaml(file, &error))?;
        }
        if let Some(second) = documents.next() {
            let Err(error) = Stop.deserialize(second);
            let at = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            return Err(Mistakes::single(file, at, "a second document begins here".to_owned()));
        }
        drop(documents);
        if nodes.is_empty() {
            nodes.push(Node { parent: None, step: Step::Root, kind: Kind::Null, end: 1 });
        }
        let mut tree = Self { covered, nodes };
        tree.read_scalars(expand, report).map_err(|error| not_yaml(file, &error))?;
        Ok(tree)
    }

    pub(super) fn kind(&self, id: NodeId) -> &Kind {
        &self.nodes[id.0].kind
    }

    /// What the node is, in words.
    pub(super) fn describe(&self, id: NodeId) -> &'static str {
        match self.kind(id) {
            Kind::Null => "nothing",
            Kind::Scalar(_) => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
            Kind::Tagged => "a tagged value",
        }
    }

    /// The name a message gives to a node: its field, with its place in a list.
    pub(super) fn label(&self, id: NodeId) -> String {
        let node = &self.nodes[id.0];
        match (node.step, node.parent) {
            (Step::Value(key), _) => self.name(key),
            (Step::Key, _) => self.name(id),
            (Step::Item(index), Some(parent)) => format!("{}[{index}]", self.label(parent)),
            _ => "configuration".to_owned(),
        }
    }

    /// The dotted path of a node, such as `channels[0].timeouts.connect`; empty for the root.
    pub(super) fn path(&self, id: NodeId) -> String {
        let node = &self.nodes[id.0];
        let Some(parent) = node.parent else {
            return String::new();
        };
        let path = self.path(parent);
        let name = match node.step {
            Step::Root => return path,
            Step::Item(index) => {
                return format!("{path}[{index}]");
            }
            // A name without a value may be a value without a name.
            Step::Key if self.is_bare(id) => "…".to_owned(),
            Step::Key => self.name(id),
            Step::Value(key) => self.name(key),
        };
        if path.is_empty() { name } else { format!("{path}.{name}") }
    }

    /// Line and column of a node, both from 1. A node reached by an alias is where its anchor is.
    pub(super) fn locate(&self, id: NodeId) -> (usize, usize) {
        if id == NodeId::ROOT && matches!(self.kind(id), Kind::Null) {
            return (1, 1); // To libyaml an empty document is at the end of its comments.
        }
        let mut walk = Walk { nodes: &self.nodes, next: 0, goal: Goal::Find(id) };
        serde_yaml::Deserializer::from_str(&self.covered)
            .next()
            .and_then(|document| Along(&mut walk).deserialize(document).err())
            .and_then(|error| error.location())
            .map_or((1, 1), |at| (at.line(), at.column()))
    }

    /// A single value as messages may show it: with the names of variables, not their values.
    pub(super) fn shown(&self, id: NodeId) -> Option<&str> {
        match self.kind(id) {
            Kind::Scalar(scalar) => shown(&scalar.raw),
            _ => None,
        }
    }

    fn name(&self, key: NodeId) -> String {
        self.shown(key).unwrap_or("…").to_owned()
    }

    /// Whether nothing stands behind a name.
    fn is_bare(&self, key: NodeId) -> bool {
        let mapping = self.nodes[key.0].parent.map(|parent| self.kind(parent));
        let Some(Kind::Map(entries)) = mapping else {
            return false;
        };
        let value = entries.iter().find(|(name, _)| *name == key).map(|(_, value)| self.kind(*value));
        matches!(value, Some(Kind::Null))
    }

    /// Numbers and booleans come from serde_yaml as values. A digest of digits only or a model named
    /// `4` must be read as written, so a second reading asks for the text of every scalar.
    fn read_scalars(
        &mut self,
        expand: &dyn Fn(&str) -> Parsed<String>,
        report: &mut Report,
    ) -> Result<(), serde_yaml::Error> {
        let mut walk = Walk { nodes: &self.nodes, next: 0, goal: Goal::Read(Vec::new()) };
        if let Some(document) = serde_yaml::Deserializer::from_str(&self.covered).next() {
            Along(&mut walk).deserialize(document)?;
        }
        let Goal::Read(scalars) = walk.goal else {
            return Ok(());
        };
        for (id, covered) in scalars {
            let raw = expand::uncover(&covered);
            let text = expand(&raw).map_err(|complaint| report.add(id, complaint)).ok();
            self.nodes[id.0].kind = Kind::Scalar(Scalar { raw, text });
        }
        Ok(())
    }
}

/// What YAML allows, less the covers. <https://yaml.org/spec/1.1/#c-printable>
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}'
        | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
        && !expand::is_cover(c)
}

/// serde_yaml's own words, without the position that the mistake shows anyway, and without a value:
/// libyaml's messages hold none, but those about a standard tag that does not fit do.
fn not_yaml(file: &Path, error: &serde_yaml::Error) -> Mistakes {
    let at = error.location().map(|at| (at.line(), at.column()));
    let mut words = error.to_string();
    if words.contains("invalid value: ") || words.contains("invalid type: ") {
        words = "a value does not fit its tag".to_owned();
    }
    if let Some((line, column)) = at {
        words = words.replacen(&format!(" at line {line} column {column}"), "", 1);
    }
    Mistakes::single(file, at.unwrap_or((1, 1)), format!("not valid YAML: {}", expand::uncover(&words)))
}

/// The first reading: makes the nodes.
struct Grow<'n> {
    nodes: &'n mut Vec<Node>,
    parent: Option<NodeId>,
    step: Step,
}

impl<'de> DeserializeSeed<'de> for Grow<'_> {
    type Value = NodeId;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<NodeId, D::Error> {
        let id = NodeId(self.nodes.len());
        if id.0 >= MAX_NODES {
            return Err(D::Error::custom(format_args!("there are more than {MAX_NODES} values")));
        }
        let Self { nodes, parent, step } = self;
        nodes.push(Node { parent, step, kind: Kind::Null, end: 0 });
        let kind = deserializer.deserialize_any(GrowKind { nodes, id })?;
        let end = nodes.len();
        nodes[id.0].kind = kind;
        nodes[id.0].end = end;
        Ok(id)
    }
}

struct GrowKind<'n> {
    nodes: &'n mut Vec<Node>,
    id: NodeId,
}

/// A scalar whose text the second reading fills in.
const UNREAD: Kind = Kind::Scalar(Scalar { raw: String::new(), text: None });

impl<'de> Visitor<'de> for GrowKind<'_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Kind, E> {
        Ok(UNREAD)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Kind, E> {
        Ok(UNREAD)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Kind, E> {
        Ok(UNREAD)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Kind, E> {
        Ok(UNREAD)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Kind, E> {
        Ok(UNREAD)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Kind, E> {
        Ok(UNREAD)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Kind, E> {
        Ok(UNREAD)
    }

    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let (nodes, parent) = (self.nodes, Some(self.id));
        let mut items = Vec::new();
        loop {
            let step = Step::Item(items.len());
            match access.next_element_seed(Grow { nodes: &mut *nodes, parent, step })? {
                Some(item) => items.push(item),
                None => return Ok(Kind::List(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let (nodes, parent) = (self.nodes, Some(self.id));
        let mut entries = Vec::new();
        loop {
            let key = Grow { nodes: &mut *nodes, parent, step: Step::Key };
            let Some(key) = access.next_key_seed(key)? else {
                return Ok(Kind::Map(entries));
            };
            let step = Step::Value(key);
            entries.push((key, access.next_value_seed(Grow { nodes: &mut *nodes, parent, step })?));
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Kind, A::Error> {
        let (IgnoredAny, content) = access.variant()?;
        content.newtype_variant::<IgnoredAny>()?;
        Ok(Kind::Tagged)
    }
}

/// A later reading, along the nodes of the first.
struct Walk<'n> {
    nodes: &'n [Node],
    next: usize,
    goal: Goal,
}

enum Goal {
    Read(Vec<(NodeId, String)>),
    Find(NodeId),
}

/// One node on a walk.
struct Along<'w, 'n>(&'w mut Walk<'n>);

impl<'de> DeserializeSeed<'de> for Along<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Walk { nodes, next, goal } = &mut *self.0;
        let id = NodeId(*next);
        let Some(node) = nodes.get(id.0) else {
            return Err(D::Error::custom("no such node"));
        };
        *next += 1;
        match (&node.kind, goal) {
            (_, Goal::Find(target)) if *target == id => {
                let Err(here) = Stop.deserialize(deserializer);
                Err(here)
            }
            (Kind::List(_) | Kind::Map(_), Goal::Find(target)) if node.end <= target.0 => {
                *next = node.end;
                IgnoredAny::deserialize(deserializer).map(drop)
            }
            (Kind::List(_) | Kind::Map(_), _) => deserializer.deserialize_any(self),
            (Kind::Scalar(_), Goal::Read(scalars)) => {
                scalars.push((id, String::deserialize(deserializer)?));
                Ok(())
            }
            _ => IgnoredAny::deserialize(deserializer).map(drop),
        }
    }
}

impl<'de> Visitor<'de> for Along<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or a mapping")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while access.next_element_seed(Along(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while access.next_key_seed(Along(&mut *self.0))?.is_some() {
            access.next_value_seed(Along(&mut *self.0))?;
        }
        Ok(())
    }
}

/// Fails where it stands, which makes serde_yaml say where that is.
struct Stop;

impl<'de> DeserializeSeed<'de> for Stop {
    type Value = Infallible;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Infallible, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Every `visit_` method is the default one, which is an error.
impl Visitor<'_> for Stop {
    type Value = Infallible;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

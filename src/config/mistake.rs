//! Mistakes: what is wrong, where, and what was probably meant.
//!
//! Knows nothing of the configuration's fields. No value of a secret ever gets here.

use std::fmt;
use std::path::{Path, PathBuf};

use super::object::Wrong;
use super::tree::{NodeId, Tree};

/// How many mistakes are told apart. Each costs a parse of the file to find its line; whoever has
/// made more than this is helped by the first hundred.
const MAX_MISTAKES: usize = 100;

/// Everything that is wrong with a file, by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    list: Vec<Mistake>,
    omitted: usize,
    unreadable: bool,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, as it was named.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Where in the document, such as `channels[0].timeouts.connect`; empty for the whole of it.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What was probably meant, as a clause: `did you mean "models"?`.
    pub suggestion: Option<String>,
}

impl Mistakes {
    /// The mistakes, by line and column.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.list.iter()
    }

    /// How many are listed; never 0.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether none is listed, which does not happen.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the file could not be read at all, so that nothing is known of its contents.
    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// A file that cannot be read.
    pub(super) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let mut mistakes = Self::single(file, (1, 1), format!("cannot be read: {error}"));
        mistakes.unreadable = true;
        mistakes
    }

    /// One mistake that makes looking for more pointless.
    pub(super) fn single(file: &Path, (line, column): (usize, usize), message: String) -> Self {
        let mistake = Mistake { file: file.to_owned(), line, column, path: String::new(), message, suggestion: None };
        Self { list: vec![mistake], omitted: 0, unreadable: false }
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = std::slice::Iter<'a, Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::error::Error for Mistakes {}

/// One line each, without a newline at the end.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        if let (Some(last), 1..) = (self.list.last(), self.omitted) {
            write!(f, "\n{}: and {} more", last.file.display(), self.omitted)?;
        }
        Ok(())
    }
}

/// `file:line:column: message; suggestion`
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a value, before it is known where it stands. Reads on from the field's name:
/// "must be a duration".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), suggestion: None }
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// Suggests the nearest of the known names, if one is near.
    pub(super) fn suggest_nearest<'n>(self, written: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        match nearest(written, known) {
            Some(name) => self.suggest(format!("did you mean \"{name}\"?")),
            None => self,
        }
    }
}

/// Collects what is found. Finding out the lines is put off to the end.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
    /// Mistakes in files that this one names.
    elsewhere: Vec<Mistakes>,
}

#[derive(Debug)]
struct Finding {
    at: NodeId,
    /// The node whose line belongs to the message: the first of two that are the same.
    first: Option<NodeId>,
    /// The field of the node that is not there.
    missing: Option<String>,
    complaint: Complaint,
}

impl Report {
    pub(super) fn is_empty(&self) -> bool {
        self.findings.is_empty() && self.elsewhere.is_empty()
    }

    /// A complete message about a node.
    pub(super) fn add(&mut self, at: NodeId, complaint: Complaint) {
        self.findings.push(Finding { at, first: None, missing: None, complaint });
    }

    /// A field that a mapping must have and has not.
    pub(super) fn add_missing(&mut self, at: NodeId, name: &str) {
        let complaint = Complaint::new(format!("`{name}` is missing"));
        self.findings.push(Finding { at, first: None, missing: Some(name.to_owned()), complaint });
    }

    /// The same thing said twice: `at` is the second, `first` the first.
    pub(super) fn add_repeated(&mut self, at: NodeId, first: NodeId, message: String) {
        let complaint = Complaint::new(message);
        self.findings.push(Finding { at, first: Some(first), missing: None, complaint });
    }

    /// What was found, by field, of a document that has no lines for people.
    pub(super) fn into_wrongs(mut self, tree: &Tree) -> Vec<Wrong> {
        self.findings.sort_by_key(|finding| finding.at);
        self.findings.truncate(MAX_MISTAKES);
        let wrong = |finding: Finding| {
            let mut field = tree.path(finding.at);
            if let Some(missing) = &finding.missing {
                field = if field.is_empty() { missing.clone() } else { format!("{field}.{missing}") };
            }
            let Complaint { message, suggestion } = finding.complaint;
            Wrong::new(field, suggestion.iter().fold(message, |message, clause| format!("{message}; {clause}")))
        };
        self.findings.into_iter().map(wrong).collect()
    }

    /// What is wrong with a file that this one names.
    pub(super) fn add_elsewhere(&mut self, mistakes: Mistakes) {
        self.elsewhere.push(mistakes);
    }

    /// Finds the lines and sorts by them; other files come last.
    pub(super) fn into_mistakes(mut self, file: &Path, tree: &Tree) -> Mistakes {
        // Nodes are numbered in document order, so this keeps the first ones of the file.
        self.findings.sort_by_key(|finding| finding.at);
        let mut omitted = self.findings.len().saturating_sub(MAX_MISTAKES);
        self.findings.truncate(MAX_MISTAKES);
        let mut list: Vec<Mistake> = self.findings.into_iter().map(|finding| finding.locate(file, tree)).collect();
        list.sort_by_key(|mistake| (mistake.line, mistake.column));
        for other in self.elsewhere {
            omitted += other.omitted;
            list.extend(other.list);
        }
        Mistakes { list, omitted, unreadable: false }
    }
}

impl Finding {
    fn locate(self, file: &Path, tree: &Tree) -> Mistake {
        let (line, column) = tree.locate(self.at);
        let Complaint { mut message, suggestion } = self.complaint;
        if let Some(first) = self.first {
            let (first, _) = tree.locate(first);
            message = format!("{message}, first on line {first}");
        }
        Mistake { file: file.to_owned(), line, column, path: tree.path(self.at), message, suggestion }
    }
}

/// Line and column of a byte offset, both from 1.
pub(super) fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// The known name that `written` was probably meant to be. A third of its letters may be wrong.
pub(super) fn nearest<'n>(written: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    /// No name of ours is longer; the distance costs the product of both lengths.
    const MAX_CHARS: usize = 64;
    let fold = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let from = fold(written);
    if from.is_empty() || from.len() > MAX_CHARS {
        return None;
    }
    known
        .into_iter()
        .map(|name| (name, fold(name)))
        .filter(|(_, to)| to.len() <= MAX_CHARS)
        .map(|(name, to)| (distance(&from, &to), to.len().max(from.len()), name))
        .filter(|(distance, longest, _)| *distance <= (longest / 3).max(1) && distance < longest)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., name)| name)
}

/// Edits from one to the other: insertions, deletions, substitutions, neighbours swapped
/// (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let width = to.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut above: Vec<usize> = (0..width).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; width];
        for j in 1..width {
            let same = from[i - 1] == to[j - 1];
            row[j] = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + usize::from(!same));
            let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            if swapped {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_if_near() {
        let known = ["models", "model_map", "name", "protocol", "base_url", "keys"];
        for (written, expected) in [
            ("modles", Some("models")),
            ("model", Some("models")),
            ("Models", Some("models")),
            ("base-url", Some("base_url")),
            ("baseurl", Some("base_url")),
            ("protcol", Some("protocol")),
            ("key", Some("keys")),
            ("weight", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), expected, "{written}");
        }
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("nmae"), &chars("name")), 1);
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
        assert_eq!(distance(&chars(""), &chars("abc")), 3);
    }
}

//! The walk of a document that lies whole in one slice, as an event's data and most short answers
//! do: the same findings as those of the walk in pieces, for a fifth of the instructions.
//!
//! It gives up where the document is not regular JSON, and has then found nothing; the walk in
//! pieces says what such bytes come to.

use super::bytes::{CLASSES, Class, skip};
use super::paths::Paths;
use super::{MAX_VALUE_BYTES, Mask};
use crate::text::{Text, quote_or_backslash};

/// Findings that are kept until the document's end is reached. One document has at most a report, a
/// model, a type, a reason and a mark or two.
const MAX_FINDS: usize = 16;

/// How deep containers that matter may nest: what bounds the recursion. Answers nest below ten.
const MAX_NESTING: usize = 32;

/// One finding: the place of what is wanted in its list, and where the value stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Find {
    pub(super) wanted: u8,
    pub(super) from: usize,
    pub(super) end: usize,
}

/// The walk, and what it came across.
pub(super) struct Whole<'a, W: 'static> {
    bytes: &'a [u8],
    paths: &'a Paths<W>,
    /// Whether strings are looked at for text.
    has_texts: bool,
    finds: [Find; MAX_FINDS],
    count: usize,
    pub(super) text: Text,
}

impl<'a, W: Copy> Whole<'a, W> {
    /// Walks `bytes`, if they are one object and nothing else, with or without regard to text.
    pub(super) fn walk(bytes: &'a [u8], paths: &'a Paths<W>, with_text: bool) -> Option<Self> {
        // Most pieces of a longer document end elsewhere: they are not tried.
        if bytes.first() != Some(&b'{') || bytes.trim_ascii_end().last() != Some(&b'}') {
            return None;
        }
        let has_texts = with_text && !paths.texts.is_empty();
        let finds = [Find::default(); MAX_FINDS];
        let mut whole = Whole { bytes, paths, has_texts, finds, count: 0, text: Text::default() };
        let end = whole.object(0, Mask::MAX, 0)?;
        (whole.space(end) == bytes.len()).then_some(whole)
    }

    /// What was found, in order.
    pub(super) fn finds(&self) -> &[Find] {
        &self.finds[..self.count]
    }

    /// A value of which `next` are the paths that lead to it; where it ends.
    #[inline]
    fn value(&mut self, at: usize, next: Mask, steps: usize, is_text: bool) -> Option<usize> {
        let (inner, captured) = if next == 0 { (0, None) } else { self.begins(at, next, steps)? };
        let byte = *self.bytes.get(at)?;
        let end = match CLASSES[usize::from(byte)] {
            Class::Quote => {
                let end = self.string(at)?;
                if is_text {
                    self.text.add(&self.bytes[at + 1..end - 1]);
                }
                end
            }
            Class::Open if inner == 0 && !self.has_texts => self.inert(at)?,
            Class::Open if steps > MAX_NESTING => return None,
            Class::Open if byte == b'{' => self.object(at, inner, steps)?,
            Class::Open => self.array(at, inner, steps)?,
            Class::Scalar => self.scalar(at),
            Class::Space | Class::Close | Class::Colon | Class::Comma => return None,
        };
        if let Some(wanted) = captured {
            // Of a longer one the beginning is handed out.
            if end - at > MAX_VALUE_BYTES {
                return None;
            }
            self.push(wanted, at, end)?;
        }
        Some(end)
    }

    /// Notes marks. Which paths lead on into the value, and which it is itself.
    fn begins(&mut self, at: usize, next: Mask, steps: usize) -> Option<(Mask, Option<u8>)> {
        let mut captured = None;
        let mut left = next;
        while left != 0 {
            let place = left.trailing_zeros();
            left &= left - 1;
            let wanted = &self.paths.wanted[place as usize];
            if wanted.path.len() != steps {
                continue;
            }
            let place = u8::try_from(place).ok()?;
            if wanted.mark {
                self.push(place, at, at + 1)?;
            } else {
                captured = captured.or(Some(place));
            }
        }
        Some((if captured.is_some() { 0 } else { next }, captured))
    }

    fn object(&mut self, at: usize, mask: Mask, steps: usize) -> Option<usize> {
        let mut at = self.space(at + 1);
        if self.bytes.get(at) == Some(&b'}') {
            return Some(at + 1);
        }
        loop {
            if self.bytes.get(at) != Some(&b'"') {
                return None;
            }
            let end = self.string(at)?;
            let key = &self.bytes[at + 1..end - 1];
            at = self.space(end);
            if self.bytes.get(at) != Some(&b':') {
                return None;
            }
            at = self.space(at + 1);
            let next = if mask == 0 { 0 } else { self.paths.next(mask, steps, key) };
            let is_text = self.has_texts && self.paths.is_text(key);
            at = self.value(at, next, steps + 1, is_text)?;
            at = self.space(at);
            match self.bytes.get(at)? {
                b',' => at = self.space(at + 1),
                b'}' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    fn array(&mut self, at: usize, mask: Mask, steps: usize) -> Option<usize> {
        let mut at = self.space(at + 1);
        let next = if mask == 0 { 0 } else { self.paths.first(mask, steps) };
        if next != 0 && self.bytes.get(at) != Some(&b']') {
            at = self.value(at, next, steps + 1, false)?;
        }
        // What follows can matter only by the text in it.
        loop {
            at += skip(&self.bytes[at..]);
            match self.bytes.get(at)? {
                b'"' => at = self.string(at)?,
                b'{' | b'[' => at = self.value(at, 0, steps + 1, false)?,
                b']' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    /// Passes over a container in which nothing can matter.
    fn inert(&self, from: usize) -> Option<usize> {
        /// So many bytes without a string or a container, and vector code is worth its call.
        const LONG: usize = 16;
        let (mut at, mut depth, mut plain) = (from, 0_usize, 0);
        loop {
            match CLASSES[usize::from(*self.bytes.get(at)?)] {
                Class::Quote => {
                    at = self.string(at)?;
                    plain = 0;
                    continue;
                }
                Class::Open => depth += 1,
                Class::Close => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                Class::Space | Class::Colon | Class::Comma | Class::Scalar if plain == LONG => {
                    at += skip(&self.bytes[at + 1..]);
                    plain = 0;
                }
                Class::Space | Class::Colon | Class::Comma | Class::Scalar => plain += 1,
            }
            at += 1;
        }
    }

    /// Just after the closing quote of the string that opens at `at`.
    #[inline]
    fn string(&self, at: usize) -> Option<usize> {
        let mut at = at + 1;
        loop {
            at += quote_or_backslash(self.bytes.get(at..)?)?;
            if self.bytes[at] == b'"' {
                return Some(at + 1);
            }
            at += 2;
        }
    }

    #[inline]
    fn scalar(&self, at: usize) -> usize {
        let rest = &self.bytes[at..];
        at + rest.iter().position(|&b| CLASSES[usize::from(b)] != Class::Scalar).unwrap_or(rest.len())
    }

    #[inline]
    fn space(&self, mut at: usize) -> usize {
        while self.bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    }

    fn push(&mut self, wanted: u8, from: usize, end: usize) -> Option<()> {
        *self.finds.get_mut(self.count)? = Find { wanted, from, end };
        self.count += 1;
        Some(())
    }
}

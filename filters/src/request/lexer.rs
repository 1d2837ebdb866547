//! JSON's grammar, a byte at a time and a string at a stroke.
//!
//! Owns: where the reading stands, the nesting, and which byte may come next (RFC 8259).
//! Refuses to know: which members matter; it tells a [`Visitor`] what begins and ends, and where.

use super::skim::skim;
use super::{BodyError, MAX_DEPTH};

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// What kind of value begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    Text,
    Number,
    True,
    False,
    Null,
}

/// Is told what the lexer passes. `depth` counts the containers around a key, value or comma; a value's
/// end is only known to be right when `value_ends` comes.
pub(super) trait Visitor {
    fn key_starts(&mut self, at: usize, depth: usize);
    /// `last` are the last raw bytes of the key.
    fn key_ends(&mut self, last: &[u8], depth: usize) -> Result<(), BodyError>;
    fn value_starts(&mut self, kind: Kind, at: usize, depth: usize) -> Result<(), BodyError>;
    /// `last` are the last raw bytes of a string.
    fn value_ends(&mut self, last: &[u8], end: usize, depth: usize) -> Result<(), BodyError>;
    fn comma(&mut self, at: usize, depth: usize);
    /// Raw bytes of the current key, string (without quotes) or number, in pieces; the last of a key or
    /// string come with its end, so that one that lies in one piece need not be kept.
    fn text(&mut self, raw: &[u8]);
}

/// The reading's state between two bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Lexer {
    offset: usize,
    state: State,
    nest: Nest,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum State {
    /// Nothing read.
    #[default]
    Start,
    /// So many bytes of the byte order mark read.
    Bom(u8),
    /// Before the object.
    Before,
    KeyOrEnd,
    Key,
    Colon,
    ValueOrEnd,
    Value,
    CommaOrEnd,
    /// Inside a string.
    Text(Role),
    /// After a backslash.
    Escape(Role),
    /// So many hexadecimal digits to come.
    Hex(Role, u8),
    /// So many letters of a word read.
    Word(Word, u8),
    Number(Number),
    /// After the object.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    Key,
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Word {
    True,
    False,
    Null,
}

impl Word {
    fn letters(self) -> &'static [u8] {
        match self {
            Word::True => b"true",
            Word::False => b"false",
            Word::Null => b"null",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Minus,
    Zero,
    Whole,
    Dot,
    Fraction,
    E,
    ESign,
    Exponent,
}

impl Lexer {
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the object was closed.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn feed(&mut self, chunk: &[u8], visitor: &mut impl Visitor) -> Result<(), BodyError> {
        let base = self.offset;
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            self.offset = base + at;
            if let State::Text(role) = self.state {
                at += self.string_run(role, &chunk[at..], visitor)?;
            } else {
                at += usize::from(self.step(byte, visitor)?);
            }
        }
        self.offset = base + chunk.len();
        Ok(())
    }

    /// Reads a string's bytes up to and with the next quote or backslash; says how many were read.
    #[inline]
    fn string_run(&mut self, role: Role, rest: &[u8], visitor: &mut impl Visitor) -> Result<usize, BodyError> {
        let end = skim(rest);
        let run = &rest[..end];
        let Some(&stop) = rest.get(end) else {
            visitor.text(run);
            return Ok(end);
        };
        self.offset += end;
        if stop < b' ' {
            return self.unexpected();
        }
        if stop == b'\\' {
            visitor.text(&rest[..=end]);
            self.state = State::Escape(role);
        } else if role == Role::Key {
            visitor.key_ends(run, self.nest.depth)?;
            self.state = State::Colon;
        } else {
            self.end_value(run, self.offset + 1, visitor)?;
        }
        Ok(end + 1)
    }

    /// Reads a byte outside of strings' runs; whether it was taken. If not, it is to be read again, as what
    /// follows in the new state.
    #[inline]
    fn step(&mut self, byte: u8, visitor: &mut impl Visitor) -> Result<bool, BodyError> {
        let depth = self.nest.depth;
        match (self.state, byte) {
            (State::Number(number), _) => return self.number(number, byte, visitor),
            (State::Word(word, read), _) => self.word(word, read, byte, visitor)?,
            (State::Escape(role), _) => {
                self.state = match byte {
                    b'u' => State::Hex(role, 4),
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::Text(role),
                    _ => return self.unexpected(),
                };
                visitor.text(&[byte]);
            }
            (State::Hex(role, left), _) => {
                if !byte.is_ascii_hexdigit() {
                    return self.unexpected();
                }
                self.state = if left > 1 { State::Hex(role, left - 1) } else { State::Text(role) };
                visitor.text(&[byte]);
            }
            (State::Start, _) if byte == BOM[0] => self.state = State::Bom(1),
            (State::Start, _) => {
                self.state = State::Before;
                return Ok(false);
            }
            (State::Bom(read), _) => {
                if byte != BOM[usize::from(read)] {
                    return self.unexpected();
                }
                self.state = if usize::from(read) + 1 == BOM.len() { State::Before } else { State::Bom(read + 1) };
            }
            (_, b' ' | b'\t' | b'\n' | b'\r') => {}
            (State::KeyOrEnd | State::Key, b'"') => {
                visitor.key_starts(self.offset, depth);
                self.state = State::Text(Role::Key);
            }
            (State::Colon, b':') => self.state = State::Value,
            (State::CommaOrEnd, b',') => {
                visitor.comma(self.offset, depth);
                self.state = if self.nest.in_object() { State::Key } else { State::Value };
            }
            (State::KeyOrEnd, b'}') | (State::ValueOrEnd, b']') => self.close(visitor)?,
            (State::CommaOrEnd, b'}') if self.nest.in_object() => self.close(visitor)?,
            (State::CommaOrEnd, b']') if !self.nest.in_object() => self.close(visitor)?,
            (State::Before, b'{') | (State::Value | State::ValueOrEnd, _) => self.start_value(byte, visitor)?,
            (State::Before, b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => return Err(BodyError::NotObject),
            _ => return self.unexpected(),
        }
        Ok(true)
    }

    fn start_value(&mut self, byte: u8, visitor: &mut impl Visitor) -> Result<(), BodyError> {
        let (kind, state) = match byte {
            b'{' => (Kind::Object, State::KeyOrEnd),
            b'[' => (Kind::Array, State::ValueOrEnd),
            b'"' => (Kind::Text, State::Text(Role::Value)),
            b't' => (Kind::True, State::Word(Word::True, 1)),
            b'f' => (Kind::False, State::Word(Word::False, 1)),
            b'n' => (Kind::Null, State::Word(Word::Null, 1)),
            b'-' => (Kind::Number, State::Number(Number::Minus)),
            b'0' => (Kind::Number, State::Number(Number::Zero)),
            b'1'..=b'9' => (Kind::Number, State::Number(Number::Whole)),
            _ => return self.unexpected(),
        };
        visitor.value_starts(kind, self.offset, self.nest.depth)?;
        match kind {
            Kind::Object | Kind::Array => self.nest.push(kind == Kind::Object)?,
            Kind::Number => visitor.text(&[byte]),
            _ => {}
        }
        self.state = state;
        Ok(())
    }

    fn close(&mut self, visitor: &mut impl Visitor) -> Result<(), BodyError> {
        self.nest.depth -= 1; // A bracket is only taken where one is open.
        self.end_value(b"", self.offset + 1, visitor)
    }

    fn end_value(&mut self, last: &[u8], end: usize, visitor: &mut impl Visitor) -> Result<(), BodyError> {
        self.state = if self.nest.depth == 0 { State::Done } else { State::CommaOrEnd };
        visitor.value_ends(last, end, self.nest.depth)
    }

    fn word(&mut self, word: Word, read: u8, byte: u8, visitor: &mut impl Visitor) -> Result<(), BodyError> {
        let letters = word.letters();
        if letters.get(usize::from(read)) != Some(&byte) {
            return self.unexpected();
        }
        self.state = State::Word(word, read + 1);
        if usize::from(read) + 1 == letters.len() { self.end_value(b"", self.offset + 1, visitor) } else { Ok(()) }
    }

    /// A number ends with the byte after it, which is not taken.
    fn number(&mut self, number: Number, byte: u8, visitor: &mut impl Visitor) -> Result<bool, BodyError> {
        let next = match (number, byte) {
            (Number::Minus, b'0') => Number::Zero,
            (Number::Minus, b'1'..=b'9') | (Number::Whole, b'0'..=b'9') => Number::Whole,
            (Number::Zero | Number::Whole, b'.') => Number::Dot,
            (Number::Dot | Number::Fraction, b'0'..=b'9') => Number::Fraction,
            (Number::Zero | Number::Whole | Number::Fraction, b'e' | b'E') => Number::E,
            (Number::E, b'+' | b'-') => Number::ESign,
            (Number::E | Number::ESign | Number::Exponent, b'0'..=b'9') => Number::Exponent,
            (Number::Zero | Number::Whole | Number::Fraction | Number::Exponent, _) => {
                self.end_value(b"", self.offset, visitor)?;
                return Ok(false);
            }
            _ => return self.unexpected(),
        };
        visitor.text(&[byte]);
        self.state = State::Number(next);
        Ok(true)
    }

    fn unexpected<T>(&self) -> Result<T, BodyError> {
        Err(BodyError::NotJson { offset: self.offset })
    }
}

/// The open containers: a bit each, set for an object.
#[derive(Debug, Clone, PartialEq, Default)]
struct Nest {
    objects: [u64; MAX_DEPTH / 64],
    depth: usize,
}

impl Nest {
    fn push(&mut self, object: bool) -> Result<(), BodyError> {
        let word = self.objects.get_mut(self.depth / 64).ok_or(BodyError::TooDeep)?;
        let bit = 1 << (self.depth % 64);
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        Ok(())
    }

    /// Whether the innermost container is an object.
    fn in_object(&self) -> bool {
        self.depth.checked_sub(1).is_some_and(|top| self.objects[top / 64] & (1 << (top % 64)) != 0)
    }
}

//! A value that cannot be printed.

use std::fmt;

/// A credential. It has no `Display`, its `Debug` shows nothing of it, and comparing it takes the
/// same time wherever the difference is.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a value; from here on only [`Secret::expose`] can read it.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself. Its callers put it on a wire or hash it, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it. An empty secret authenticates nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        assert_eq!(format!("{:?}", Secret::new("sk-canary")), "Secret(…)");
    }

    #[test]
    fn equality_is_of_the_whole_value() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("ab"));
    }
}

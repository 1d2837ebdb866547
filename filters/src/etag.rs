//! `If-Match`: whether what is to be changed is still what somebody has seen.
//! <https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1>
//!
//! Owns the form of entity tags and their strong comparison. Knows nothing of what a tag is made from.

/// What `If-Match` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: anything that is there.
    Any,
    /// One of these, each with its quotes.
    OneOf(Vec<String>),
}

/// A value that is no list of entity tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTags;

impl IfMatch {
    /// Reads the values of all lines of the header, in their order; `None` if there are none.
    ///
    /// # Errors
    /// Anything but `*` alone or a list of tags.
    pub fn read<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<Option<Self>, NoTags> {
        let (mut tags, mut any, mut lines) = (Vec::new(), false, 0);
        for value in values {
            lines += 1;
            match value.trim_ascii() {
                b"*" => any = true,
                list => read_list(list, &mut tags)?,
            }
        }
        match (lines, any, tags.is_empty()) {
            (0, ..) => Ok(None),
            (1, true, _) => Ok(Some(Self::Any)),
            (_, false, false) => Ok(Some(Self::OneOf(tags))),
            _ => Err(NoTags),
        }
    }

    /// Whether what has the strong tag `tag` now is what was meant.
    pub fn admits(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            // A weak tag is never strongly equal to any.
            Self::OneOf(tags) => tags.iter().any(|given| given == tag && !given.starts_with("W/")),
        }
    }
}

/// Reads `"a", W/"b"`. A comma may stand within the quotes, and members may be empty.
fn read_list(mut rest: &[u8], tags: &mut Vec<String>) -> Result<(), NoTags> {
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(());
        }
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        let opaque = rest.strip_prefix(b"W/").unwrap_or(rest);
        let inner = opaque.strip_prefix(b"\"").ok_or(NoTags)?;
        let length = inner.iter().position(|byte| *byte == b'"').ok_or(NoTags)?;
        if !inner[..length].iter().all(|byte| *byte == 0x21 || (0x23..=0x7e).contains(byte)) {
            return Err(NoTags);
        }
        let (tag, after) = rest.split_at(rest.len() - inner.len() + length + 1);
        tags.push(String::from_utf8_lossy(tag).into_owned());
        rest = after.trim_ascii_start();
        if !(rest.is_empty() || rest.starts_with(b",")) {
            return Err(NoTags);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&str]) -> Result<Option<IfMatch>, NoTags> {
        IfMatch::read(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn tags_are_read_in_every_form_of_a_list() {
        let one_of = |tags: &[&str]| Ok(Some(IfMatch::OneOf(tags.iter().map(|tag| (*tag).to_owned()).collect())));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["*"]), Ok(Some(IfMatch::Any)));
        assert_eq!(read(&[" *\t"]), Ok(Some(IfMatch::Any)));
        for (values, tags) in [
            (&[r#""a""#][..], &[r#""a""#][..]),
            (&[r#""a","b""#], &[r#""a""#, r#""b""#]),
            (&[r#" , "a" ,, W/"b" ,"#], &[r#""a""#, r#"W/"b""#]),
            (&[r#""a,b""#], &[r#""a,b""#]),
            (&[r#""""#], &[r#""""#]),
            (&[r#""a""#, r#""b""#], &[r#""a""#, r#""b""#]),
        ] {
            assert_eq!(read(values), one_of(tags), "{values:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for values in [
            &[""][..],
            &[","],
            &["a"],
            &[r#""a"#],
            &[r#""a" "b""#],
            &[r#""a"b"#],
            &[r#"w/"a""#],
            &[r#""a b""#],
            &["\"a\u{7f}\""],
            &["\"\u{e9}\""],
            &["*", "*"],
            &["*", r#""a""#],
            &[r#"*, "a""#],
        ] {
            assert_eq!(read(values), Err(NoTags), "{values:?}");
        }
    }

    proptest! {
        /// Whatever comes from the network is read or refused, and a tag that is read is found again.
        #[test]
        fn anything_is_read_or_refused(value in proptest::collection::vec(any::<u8>(), 0..64), tags in "[!#-~]{0,8}") {
            if let Ok(Some(IfMatch::OneOf(read))) = IfMatch::read([&value[..]]) {
                prop_assert!(read.iter().all(|tag| tag.ends_with('"') && tag.len() >= 2));
            }
            let tag = format!("\"{tags}\"");
            let list = format!(", W/\"x\" ,{tag}");
            prop_assert!(IfMatch::read([list.as_bytes()]).unwrap().unwrap().admits(&tag));
        }
    }

    #[test]
    fn only_the_very_tag_admits() {
        let given = read(&[r#""a", W/"b""#]).unwrap().unwrap();
        assert!(given.admits(r#""a""#));
        for tag in [r#""b""#, r#"W/"b""#, r#""A""#, "a", ""] {
            assert!(!given.admits(tag), "{tag}");
        }
        assert!(IfMatch::Any.admits(r#""b""#));
    }
}

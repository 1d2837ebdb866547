//! Variables: `${VAR}`, `${VAR:-default}`, and `$$` for one dollar sign.
//!
//! They are replaced in scalars after the YAML is parsed, so that a value can never change the
//! document's shape. References are covered up before it is parsed, so that one may stand unquoted
//! wherever a value may, `{ value: ${KEY} }` included. Knows nothing of what the values are for.

use super::mistake::Complaint;

/// Covers are ASCII characters moved to the private-use plane 15: one character for one character,
/// so that lines and columns stay true.
const COVER: u32 = 0xF_0000;

/// Whether a character is a cover. A file must hold none of its own.
pub(super) fn is_cover(c: char) -> bool {
    (COVER..COVER + 0x80).contains(&u32::from(c))
}

/// Covers up all ASCII of each well-formed reference but for its dollar sign, which makes it a plain
/// word to YAML. A reference ends on the line on which it begins.
pub(super) fn cover(text: &str) -> String {
    let mut covered = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        covered.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            covered.push('$');
            rest = after;
        } else if let Some(reference) = Reference::read(rest) {
            covered.extend(rest[..reference.len].chars().map(|c| match c {
                '\0'..='\x7f' => char::from_u32(COVER + u32::from(c)).unwrap_or(c),
                _ => c,
            }));
            rest = &rest[reference.len..];
        }
    }
    covered.push_str(rest);
    covered
}

/// The text as it was written.
pub(super) fn uncover(text: &str) -> String {
    let original = |c| {
        if is_cover(c) { char::from_u32(u32::from(c) - COVER).unwrap_or(c) } else { c }
    };
    text.chars().map(original).collect()
}

/// The text itself, where none is to be replaced: one that looks like a reference would be kept, and be taken for
/// what it stands for.
pub(super) fn as_it_is(text: &str) -> Result<String, Complaint> {
    if text.contains("${") {
        return Err(Complaint::new("variables are not replaced here").suggest("give the value itself"));
    }
    Ok(text.to_owned())
}

/// Replaces the references in a scalar. `None` from `env` is a variable that is not set.
pub(super) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Complaint> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(reference) = Reference::read(rest) {
            expanded.push_str(&reference.value(env)?);
            rest = &rest[reference.len..];
        } else if rest.starts_with('{') {
            return Err(Complaint::new("`${` begins no reference such as `${NAME}` or `${NAME:-default}`")
                .suggest("write `$${` for the characters themselves"));
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// What stands after a dollar sign: `{NAME}` or `{NAME:-default}`.
struct Reference<'t> {
    name: &'t str,
    default: Option<&'t str>,
    /// In bytes, braces included.
    len: usize,
}

impl<'t> Reference<'t> {
    /// The default is literal text up to the first closing brace.
    fn read(text: &'t str) -> Option<Self> {
        let inner = text.strip_prefix('{')?;
        let inner = &inner[..inner.find(['}', '\n', '\r']).filter(|&end| inner[end..].starts_with('}'))?];
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let nested = default.is_some_and(|default| default.contains("${"));
        (is_name && !nested).then_some(Self { name, default, len: inner.len() + 2 })
    }

    /// As in a shell, an empty variable takes the default; without one it stands as it is.
    fn value(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Complaint> {
        let Self { name, default, .. } = *self;
        match (env(name), default) {
            (Some(value), None) => Ok(value),
            (Some(value), Some(_)) if !value.is_empty() => Ok(value),
            (_, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(Complaint::new(format!("the variable `{name}` is not set"))
                .suggest(format!("set it, or write a default as in `${{{name}:-default}}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.com".into()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("${HOST}".into()),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced() {
        for (text, expected) in [
            ("${HOST}", "example.com"),
            ("https://${HOST}:1/${HOST}", "https://example.com:1/example.com"),
            ("${EMPTY}", ""),
            ("${UNSET:-}", ""),
            ("${UNSET:-a b: [c], #d}", "a b: [c], #d"),
            ("${EMPTY:-x}", "x"),
            ("${HOST:-x}", "example.com"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$example.com"),
            ("pa$word", "pa$word"),
            ("5$", "5$"),
            ("${DOLLAR}", "${HOST}"),
            ("${UNSET:-通义}", "通义"),
        ] {
            assert_eq!(expand(text, &env), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in ["${", "${}", "${1A}", "${A B}", "${A:=b}", "${HOST", "${A:-${HOST}}", "${A-b}"] {
            let complaint = expand(text, &env).expect_err(text);
            assert_eq!(complaint.message, "`${` begins no reference such as `${NAME}` or `${NAME:-default}`", "{text}");
        }
        assert_eq!(expand("a${UNSET}", &env).expect_err("not set").message, "the variable `UNSET` is not set");
    }

    #[test]
    fn covering_keeps_every_column_and_can_be_undone() {
        for text in ["{ value: ${KEY} }\n", "[${A:-x, y: \"}, $${B}, ${C\n}]", "no reference", "通义 ${A:-通义}"] {
            let covered = cover(text);
            assert_eq!(covered.chars().count(), text.chars().count(), "{text}");
            assert_eq!(uncover(&covered), text);
        }
        assert!(!cover("{ a: ${A} }")[5..].trim_end_matches(" }").contains(['{', '}']));
    }
}

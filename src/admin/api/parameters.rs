//! Query strings, read strictly.
//!
//! Owns that an unknown, a repeated or an empty parameter is a mistake: a misspelt one would otherwise be answered with
//! everything, and a form's field that was left empty with nothing. Knows nothing of what values mean.

use std::str::FromStr;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;
use http::StatusCode;

use super::answer;

/// A query string as a handler gets it.
pub(super) type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// A parameter, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    name: String,
    message: String,
}

impl Mistake {
    pub(super) fn new(name: &str, message: impl Into<String>) -> Self {
        Self { name: name.to_owned(), message: message.into() }
    }

    /// As an answer.
    pub(super) fn answer(&self) -> Response {
        answer::bad_parameter(&self.name, &self.message)
    }

    #[cfg(test)]
    pub(super) fn into_parts(self) -> (String, String) {
        (self.name, self.message)
    }
}

/// What `read` makes of a query string, or the answer to one that cannot be read.
pub(super) fn parsed<T>(
    parameters: Parameters,
    read: impl FnOnce(&[(String, String)]) -> Result<T, Mistake>,
) -> Result<T, Box<Response>> {
    let Ok(Query(parameters)) = parameters else {
        return Err(Box::new(answer::error(StatusCode::BAD_REQUEST, "the query string cannot be read")));
    };
    read(&parameters).map_err(|mistake| Box::new(mistake.answer()))
}

/// The values of the parameters of these names.
pub(super) fn values<'p, const N: usize>(
    parameters: &'p [(String, String)],
    names: [&str; N],
) -> Result<[Option<&'p str>; N], Mistake> {
    let mut values = [None; N];
    for (name, value) in parameters {
        let Some(at) = names.iter().position(|known| known == name) else {
            return Err(Mistake::new(name, format!("unknown parameter; there {}", listed(&names))));
        };
        if values[at].replace(value.as_str()).is_some() {
            return Err(Mistake::new(name, "given more than once"));
        }
        if value.is_empty() {
            return Err(Mistake::new(name, "is empty; leave it out to ask for all"));
        }
    }
    Ok(values)
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "are none".to_owned(),
        [only] => format!("is {only}"),
        [most @ .., last] => format!("are {} and {last}", most.join(", ")),
    }
}

/// A value, if there is one.
pub(super) fn value<T: FromStr>(name: &str, value: Option<&str>, message: &str) -> Result<Option<T>, Mistake> {
    value.map(|value| value.parse().map_err(|_| Mistake::new(name, message))).transpose()
}

/// A number of rows.
pub(super) fn limit(value: Option<&str>, most: usize) -> Result<Option<usize>, Mistake> {
    let message = format!("must be a number from 1 to {most}");
    let limit: Option<usize> = self::value("limit", value, &message)?;
    match limit {
        Some(limit) if !(1..=most).contains(&limit) => Err(Mistake::new("limit", message)),
        limit => Ok(limit),
    }
}

/// Where a page begins.
pub(super) fn cursor<T: FromStr>(value: Option<&str>) -> Result<Option<T>, Mistake> {
    self::value("cursor", value, "must be the `next` of an answer, as it was")
}

/// A word that is compared, of at most so many bytes.
pub(super) fn word(name: &str, value: Option<&str>, most: usize) -> Result<Option<String>, Mistake> {
    match value {
        Some(value) if value.len() > most => Err(Mistake::new(name, format!("has more than {most} bytes"))),
        value => Ok(value.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_by_its_name_and_once_is_named() {
        let given = |parameters: &[(&str, &str)]| -> Vec<(String, String)> {
            parameters.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect()
        };
        let parameters = given(&[("b", "2"), ("a", "1")]);
        assert_eq!(values(&parameters, ["a", "b", "c"]), Ok([Some("1"), Some("2"), None]));
        for (parameters, names, name, message) in [
            (&[("d", "1")][..], &["a", "b", "c"][..], "d", "unknown parameter; there are a, b and c"),
            (&[("A", "1")], &["a", "b"], "A", "unknown parameter; there are a and b"),
            (&[("b", "1")], &["a"], "b", "unknown parameter; there is a"),
            (&[("a", "1"), ("a", "1")], &["a"], "a", "given more than once"),
            (&[("a", "")], &["a"], "a", "is empty; leave it out to ask for all"),
        ] {
            let parameters = given(parameters);
            let read = match *names {
                [a] => values(&parameters, [a]).map(|_| ()),
                [a, b] => values(&parameters, [a, b]).map(|_| ()),
                [a, b, c] => values(&parameters, [a, b, c]).map(|_| ()),
                _ => unreachable!("no more are tried"),
            };
            assert_eq!(read, Err(Mistake::new(name, message)));
        }
    }

    #[test]
    fn limits_and_words_are_bounded() {
        assert_eq!((limit(None, 5), limit(Some("5"), 5)), (Ok(None), Ok(Some(5))));
        for text in ["0", "6", "-1", "x", "99999999999999999999"] {
            assert_eq!(limit(Some(text), 5), Err(Mistake::new("limit", "must be a number from 1 to 5")), "{text}");
        }
        assert_eq!(word("q", Some("ab"), 2), Ok(Some("ab".to_owned())));
        assert_eq!(word("q", Some("abc"), 2), Err(Mistake::new("q", "has more than 2 bytes")));
    }
}

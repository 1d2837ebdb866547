//! `GET /admin/api/usage`: what the counters say.
//!
//! Owns the meaning of the query string. Knows nothing of where counters are kept or how they are summed.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;
use weir_filters::moment::parse_ms;

use super::answer;
use crate::admin::server::{Failed, Shared};
use crate::ledger::{By, Step, UsageQuery};

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// The asker's mistake: 400.
    #[error("{message}")]
    Invalid {
        /// The parameter that is wrong.
        parameter: String,
        /// What is wrong with it.
        message: String,
    },
    /// The counters cannot be read now: 503.
    #[error("{0}")]
    Unavailable(String),
}

impl UsageError {
    fn invalid(parameter: &str, message: impl Into<String>) -> Self {
        Self::Invalid { parameter: parameter.into(), message: message.into() }
    }
}

/// Reads the parameters of a query string, decoded. Unknown and repeated ones are mistakes: a misspelt `from`
/// would otherwise be answered with everything.
///
/// # Errors
/// [`UsageError::Invalid`] for the first mistake.
pub fn parse(parameters: &[(String, String)]) -> Result<UsageQuery, UsageError> {
    let (mut by, mut from, mut to, mut step) = (None, None, None, None);
    for (name, value) in parameters {
        let slot = match name.as_str() {
            "by" => &mut by,
            "from" => &mut from,
            "to" => &mut to,
            "step" => &mut step,
            _ => {
                return Err(UsageError::invalid(name, "unknown parameter; there are by, from, to and step"));
            }
        };
        if slot.replace(value.as_str()).is_some() {
            return Err(UsageError::invalid(name, "given more than once"));
        }
    }
    let by = match by {
        None => return Err(UsageError::invalid("by", one_of(By::ALL.map(By::name)))),
        Some(value) => choose("by", value, By::ALL, By::name)?,
    };
    let step = step.map(|value| choose("step", value, Step::ALL, Step::name)).transpose()?;
    let (from, to) = (time("from", from)?, time("to", to)?);
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(UsageError::invalid("to", "is before from"));
    }
    Ok(UsageQuery { by, from, to, step, ..UsageQuery::default() })
}

/// Answers the request.
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let Ok(Query(parameters)) = parameters else {
        return answer::error(StatusCode::BAD_REQUEST, "the query string cannot be read");
    };
    let query = match parse(&parameters) {
        Ok(query) => query,
        Err(error) => return refused(&error),
    };
    match shared.query(move |state| state.usage(&query)).await {
        Ok(Ok(rows)) => answer::ok(&json!({ "rows": rows })),
        Ok(Err(error)) => refused(&error),
        Err(Failed) => answer::failed(),
    }
}

pub(super) fn refused(error: &UsageError) -> Response {
    match error {
        UsageError::Invalid { parameter, message } => answer::bad_parameter(parameter, message),
        UsageError::Unavailable(message) => answer::unavailable(message),
    }
}

fn choose<T: Copy, const N: usize>(
    parameter: &str,
    value: &str,
    all: [T; N],
    name: impl Fn(T) -> &'static str,
) -> Result<T, UsageError> {
    let found = all.into_iter().find(|&choice| name(choice) == value);
    found.ok_or_else(|| UsageError::invalid(parameter, one_of(all.map(name))))
}

fn one_of<const N: usize>(names: [&str; N]) -> String {
    format!("must be one of {}", names.join(", "))
}

fn time(parameter: &str, value: Option<&str>) -> Result<Option<u64>, UsageError> {
    let Some(value) = value else { return Ok(None) };
    let ms = parse_ms(value);
    ms.map(Some).ok_or_else(|| {
        UsageError::invalid(parameter, "must be a time such as 2026-11-21T08:00:00Z, or seconds since 1970")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parameters: &[(&str, &str)]) -> Result<UsageQuery, (String, String)> {
        let owned: Vec<_> = parameters.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        super::parse(&owned).map_err(|error| match error {
            UsageError::Invalid { parameter, message } => (parameter, message),
            UsageError::Unavailable(message) => panic!("{message}"),
        })
    }

    #[test]
    fn every_grouping_and_step_is_known_by_its_name() {
        for by in By::ALL {
            let query = UsageQuery { by, ..UsageQuery::default() };
            assert_eq!(parse(&[("by", by.name())]), Ok(query));
        }
        for step in Step::ALL {
            let query = UsageQuery { by: By::Key, step: Some(step), ..UsageQuery::default() };
            assert_eq!(parse(&[("step", step.name()), ("by", "key")]), Ok(query));
        }
    }

    #[test]
    fn times_are_read_in_both_forms() {
        let query = parse(&[("by", "model"), ("from", "1764633600"), ("to", "2025-12-03T00:00:00Z")]);
        let (from, to) = (Some(1_764_633_600_000), Some(1_764_720_000_000));
        assert_eq!(query, Ok(UsageQuery { by: By::Model, from, to, ..UsageQuery::default() }));
    }

    #[test]
    fn the_wrong_parameter_is_named() {
        let by = "must be one of key, user, model, channel, route, day";
        let step = "must be one of minute, hour, day, month";
        let time = "must be a time such as 2026-11-21T08:00:00Z, or seconds since 1970";
        for (parameters, parameter, message) in [
            (&[][..], "by", by),
            (&[("by", "")], "by", by),
            (&[("by", "Key")], "by", by),
            (&[("by", "key"), ("step", "year")], "step", step),
            (&[("by", "key"), ("from", "")], "from", time),
            (&[("by", "key"), ("to", "noon")], "to", time),
            (&[("by", "key"), ("from", "2"), ("to", "1")], "to", "is before from"),
            (&[("by", "key"), ("by", "user")], "by", "given more than once"),
            (&[("by", "key"), ("form", "1")], "form", "unknown parameter; there are by, from, to and step"),
        ] {
            assert_eq!(parse(parameters), Err((parameter.into(), message.into())), "{parameters:?}");
        }
    }
}

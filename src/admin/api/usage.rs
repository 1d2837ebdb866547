//! `GET /admin/api/usage`: what the counters say.
//!
//! Owns the meaning of the query string. Knows nothing of where counters are kept or how they are summed.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use weir_filters::moment::parse_ms;

use super::answer;
use super::document::schemas::{self, count, exactly, list, moment, or_null, text, word};
use super::table::{Endpoint, Parameter};
use crate::admin::AdminState;
use crate::admin::server::{Failed, Shared};
use crate::ledger::{By, Counters, MAX_ROWS, Step, Top, UsageQuery, UsageRow};

/// The most values that can be asked for by `top`.
const MAX_TOP: usize = 1000;

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

    /// The answer would have more rows than [`MAX_ROWS`].
    pub(crate) fn too_many(query: &UsageQuery) -> Self {
        let parameter = if query.step.is_some() { "step" } else { "top" };
        let message = format!(
            "there are more than {MAX_ROWS} rows; give a later `from`, a coarser `step`, or `top` for the dearest"
        );
        Self::invalid(parameter, message)
    }
}

/// Reads the parameters of a query string, decoded. Unknown and repeated ones are mistakes: a misspelt `from`
/// would otherwise be answered with everything.
///
/// # Errors
/// [`UsageError::Invalid`] for the first mistake.
pub fn parse(parameters: &[(String, String)]) -> Result<(UsageQuery, Option<usize>), UsageError> {
    let (mut by, mut from, mut to, mut step, mut top) = (None, None, None, None, None);
    let (mut key_id, mut user) = (None, None);
    for (name, value) in parameters {
        let slot = match name.as_str() {
            "by" => &mut by,
            "from" => &mut from,
            "to" => &mut to,
            "step" => &mut step,
            "top" => &mut top,
            "key_id" => &mut key_id,
            "user" => &mut user,
            _ => {
                let known = "unknown parameter; there are by, from, to, step, top, key_id and user";
                return Err(UsageError::invalid(name, known));
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
    let top = top.map(most).transpose()?;
    let only = |parameter: &str, value: Option<&str>| match value {
        Some("") => Err(UsageError::invalid(parameter, "is empty; leave it out for all")),
        value => Ok(value.map(str::to_owned)),
    };
    let (key_id, user) = (only("key_id", key_id)?, only("user", user)?);
    Ok((UsageQuery { by, from, to, step, key_id, user }, top))
}

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let by = "What rows are made by. `key` and `user` are names, `model` is the one that the client asked for.";
    let step = "A row for each step; without it one row in all. `by=day` has the step of a day.";
    let named = || json!({ "type": "string", "minLength": 1 });
    let top = "Only the values that cost most over the whole time, so many; without it all.";
    vec![
        Endpoint::admin(Method::GET, "/admin/api/usage", "usage", get)
            .about("What was used and what it cost; refused if there are more than 100000 rows.")
            .takes(Parameter::query("by", by, word(By::ALL.map(By::name))).required())
            .takes(Parameter::query("from", "The first moment.", moment()))
            .takes(Parameter::query("to", "The moment after the last.", moment()))
            .takes(Parameter::query("step", step, word(Step::ALL.map(Step::name))))
            .takes(Parameter::query("top", top, json!({ "type": "integer", "minimum": 1, "maximum": MAX_TOP })))
            .takes(Parameter::query("key_id", "Only the key with this id.", named()))
            .takes(Parameter::query("user", "Only the keys of this user.", named()))
            .gives(
                200,
                "The sums. `rest` has those of the values that `top` leaves out, and `values` says how many values there are.",
                exactly(json!({ "rows": list(row()), "rest": list(row()), "values": count() })),
            )
            .asks(),
    ]
}

/// The figures, and the one field that rows are made by.
fn row() -> Value {
    let figures = UsageRow { value: String::new(), time: None, counters: Counters::default() }.to_json(By::Key);
    let mut properties: Map<String, Value> =
        By::ALL.map(|by| (by.name().to_owned(), or_null(text()))).into_iter().collect();
    let figures: Vec<&String> =
        figures.as_object().into_iter().flatten().map(|(name, _)| name).filter(|name| *name != "key").collect();
    properties.extend(figures.iter().map(|name| ((*name).clone(), count())));
    properties.insert("time".to_owned(), or_null(schemas::time()));
    let one: Value = By::ALL.map(|by| json!({ "required": [by.name()] })).into_iter().collect();
    json!({
        "type": "object", "additionalProperties": false, "required": figures, "properties": properties, "oneOf": one,
    })
}

/// Answers the request.
async fn get(
    State(shared): State<Arc<Shared>>,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let Ok(Query(parameters)) = parameters else {
        return answer::error(StatusCode::BAD_REQUEST, "the query string cannot be read");
    };
    let (query, top) = match parse(&parameters) {
        Ok(asked) => asked,
        Err(error) => return refused(&error),
    };
    // Rows by the ten thousand are not made into text on the thread that serves everybody.
    let ask = move |state: &dyn AdminState| match state.usage(&query, top) {
        Ok(top) => answer::with(StatusCode::OK, "application/json", said(&top, query.by)),
        Err(error) => refused(&error),
    };
    shared.query(ask).await.unwrap_or_else(|Failed| answer::failed())
}

/// The answer's text, row after row: as values all of them at once would take thirty times the room.
fn said(top: &Top, by: By) -> String {
    let Top { rows, rest, values } = top;
    let mut text = String::from("{\"rest\":[");
    write(&mut text, rest, |row| {
        let mut row = row.to_json(by);
        row[by.name()] = Value::Null;
        row
    });
    text.push_str("],\"rows\":[");
    write(&mut text, rows, |row| row.to_json(by));
    text.push_str(&format!("],\"values\":{values}}}"));
    text
}

fn write(text: &mut String, rows: &[UsageRow], shown: impl Fn(&UsageRow) -> Value) {
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&shown(row).to_string());
    }
}

fn most(value: &str) -> Result<usize, UsageError> {
    let most = value.parse().ok().filter(|most| (1..=MAX_TOP).contains(most));
    most.ok_or_else(|| UsageError::invalid("top", format!("must be a whole number from 1 to {MAX_TOP}")))
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

    fn parse(parameters: &[(&str, &str)]) -> Result<(UsageQuery, Option<usize>), (String, String)> {
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
            assert_eq!(parse(&[("by", by.name())]), Ok((query, None)));
        }
        for step in Step::ALL {
            let query = UsageQuery { by: By::Key, step: Some(step), ..UsageQuery::default() };
            assert_eq!(parse(&[("step", step.name()), ("by", "key"), ("top", "9")]), Ok((query, Some(9))));
        }
    }

    #[test]
    fn times_are_read_in_both_forms() {
        let query = parse(&[("by", "model"), ("from", "1764633600"), ("to", "2025-12-03T00:00:00Z")]);
        let (from, to) = (Some(1_764_633_600_000), Some(1_764_720_000_000));
        assert_eq!(query, Ok((UsageQuery { by: By::Model, from, to, ..UsageQuery::default() }, None)));
    }

    #[test]
    fn one_key_or_one_user_can_be_asked_for() {
        let query = parse(&[("by", "day"), ("key_id", "0a"), ("user", "alice")]);
        let (key_id, user) = (Some("0a".to_owned()), Some("alice".to_owned()));
        assert_eq!(query, Ok((UsageQuery { by: By::Day, key_id, user, ..UsageQuery::default() }, None)));
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
            (&[("by", "key"), ("top", "0")], "top", "must be a whole number from 1 to 1000"),
            (&[("by", "key"), ("top", "ten")], "top", "must be a whole number from 1 to 1000"),
            (
                &[("by", "key"), ("form", "1")],
                "form",
                "unknown parameter; there are by, from, to, step, top, key_id and user",
            ),
            (&[("by", "day"), ("key_id", "")], "key_id", "is empty; leave it out for all"),
        ] {
            assert_eq!(parse(parameters), Err((parameter.into(), message.into())), "{parameters:?}");
        }
    }
}

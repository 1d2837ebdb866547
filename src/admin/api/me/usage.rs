//! `GET /api/usage/{summary,daily,monthly,stats,models}`: what was used, and what it cost whoever asks.
//!
//! Owns the questions. Figures are those that the ledger has booked: a cost in it is what the user is charged.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::response::Response;
use http::Method;
use serde_json::{Map, Value, json};
use weir_filters::calendar::{self, DAY_MS};
use weir_filters::moment::parse_ms;

use super::super::answer;
use super::super::catalog::refused as refused_command;
use super::super::document::schemas::{count, exactly, moment, of, or_null, rows as rows_of, text, time, word};
use super::super::parameters::{self, Mistake};
use super::super::problem;
use super::super::table::{Endpoint, Parameter};
use super::super::usage::{UsageError, refused};
use super::{Asker, ask};
use crate::admin::AdminState;
use crate::admin::server::{Failed, Shared};
use crate::catalog::{Own, Owner};
use crate::ledger::{By, Counters, Step, UsageQuery};

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let from = || Parameter::query("from", "The first moment.", moment());
    let to = || Parameter::query("to", "The moment after the last.", moment());
    let by = Parameter::query("by", "What rows are made by.", word(["model", "key"])).required();
    let with = |name: &str, schema: Value| {
        let mut fields: Map<String, Value> =
            Counters::default().figures().into_iter().map(|(name, _)| (name, count())).collect();
        if !name.is_empty() {
            fields.insert(name.to_owned(), schema);
        }
        exactly(fields.into())
    };
    let since = || with("", Value::Null);
    let summed = json!({
        "user": or_null(text()), "key": or_null(text()), "today": since(), "month": since(), "total": since(),
        "limits": of("OwnLimits"),
    });
    let stat = json!({ "anyOf": [with("model", text()), with("key", text())] });
    vec![
        Endpoint::own(Method::GET, "/api/usage/summary", "ownSummary", summary)
            .about("What was used today, this month and ever, and what of one's limits is.")
            .gives(200, "The sums.", exactly(summed))
            .refuses(&[problem::THROTTLED])
            .asks(),
        Endpoint::own(Method::GET, "/api/usage/daily", "ownDays", daily)
            .about("What was used each day of UTC.")
            .takes(from())
            .takes(to())
            .gives(200, "A row a day.", rows_of(with("time", time())))
            .refuses(&[problem::THROTTLED])
            .asks(),
        Endpoint::own(Method::GET, "/api/usage/monthly", "ownMonths", monthly)
            .about("What was used each month of UTC.")
            .takes(from())
            .takes(to())
            .gives(200, "A row a month.", rows_of(with("time", time())))
            .refuses(&[problem::THROTTLED])
            .asks(),
        Endpoint::own(Method::GET, "/api/usage/stats", "ownStats", stats)
            .about("What was used, by model or by key.")
            .takes(by)
            .takes(from())
            .takes(to())
            .gives(200, "A row each.", rows_of(stat))
            .refuses(&[problem::THROTTLED])
            .asks(),
        Endpoint::own(Method::GET, "/api/usage/models", "ownModels", models)
            .about("The models that one may use, and what they cost one.")
            .gives(200, "A row each.", rows_of(exactly(json!({ "model": text(), "prices": or_null(of("OwnPrice")) }))))
            .asks(),
    ]
}

async fn summary(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    if let Err(mistake) = parameters::values(&asker.parameters, []) {
        return mistake.answer();
    }
    if let Err(response) = take(&shared, &asker.owner) {
        return response;
    }
    let asked = shared.query_own(move |state| match summed(state, &asker.owner) {
        Ok(summed) => answer::ok(&summed),
        Err(response) => response,
    });
    asked.await.unwrap_or_else(|Failed| answer::failed())
}

#[expect(clippy::result_large_err, reason = "it is the answer, and passed on at once")]
fn summed(state: &dyn AdminState, owner: &Owner) -> Result<Value, Response> {
    let now_ms = now_ms();
    let since = |from: Option<u64>| sum(state, owner, from).map_err(|error| refused(&error));
    let (today, month) = (now_ms / DAY_MS * DAY_MS, calendar::month_start(now_ms));
    let (today, month, total) = (since(Some(today))?, since(Some(month))?, since(None)?);
    let limits = ask(state, owner, Own::Limits).map_err(|why| refused_command(&why))?;
    let (user, key) = match owner {
        Owner::User(name) => (Some(name), None),
        Owner::Key { name, user, .. } => (user.as_ref(), Some(name)),
    };
    Ok(json!({ "user": user, "key": key, "today": today, "month": month, "total": total, "limits": limits }))
}

async fn daily(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    over_time(&shared, asker, Step::Day).await
}

async fn monthly(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    over_time(&shared, asker, Step::Month).await
}

async fn over_time(shared: &Shared, asker: Asker, step: Step) -> Response {
    let read = parameters::values(&asker.parameters, ["from", "to"]).and_then(|[from, to]| range(from, to));
    let (from, to) = match read {
        Ok(range) => range,
        Err(mistake) => return mistake.answer(),
    };
    let query = UsageQuery { from, to, step: Some(step), ..own(&asker.owner) };
    rows(shared, &asker.owner, query, vec!["time"]).await
}

async fn stats(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    let read = parameters::values(&asker.parameters, ["by", "from", "to"]).and_then(|[by, from, to]| {
        let by = match by {
            Some("model") => By::Model,
            Some("key") => By::Key,
            _ => return Err(Mistake::new("by", "must be one of model, key")),
        };
        Ok((by, range(from, to)?))
    });
    match read {
        Ok((by, (from, to))) => {
            let query = UsageQuery { by, from, to, ..own(&asker.owner) };
            rows(&shared, &asker.owner, query, vec![by.name()]).await
        }
        Err(mistake) => mistake.answer(),
    }
}

async fn models(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    if let Err(mistake) = parameters::values(&asker.parameters, []) {
        return mistake.answer();
    }
    let asked = shared.query_own(move |state| match ask(state, &asker.owner, Own::Models) {
        Ok(rows) => answer::ok(&json!({ "rows": rows })),
        Err(why) => refused_command(&why),
    });
    asked.await.unwrap_or_else(|Failed| answer::failed())
}

async fn rows(shared: &Shared, owner: &Owner, query: UsageQuery, shown: Vec<&'static str>) -> Response {
    if let Err(response) = take(shared, owner) {
        return response;
    }
    let asked = shared.query_own(move |state| match state.usage(&query, None) {
        Ok(top) => {
            let rows: Vec<Value> = top.rows.iter().map(|row| only(row.to_json(query.by), &shown)).collect();
            answer::ok(&json!({ "rows": rows }))
        }
        Err(error) => refused(&error),
    });
    asked.await.unwrap_or_else(|Failed| answer::failed())
}

/// Takes one of the questions that an owner has for a while.
#[expect(clippy::result_large_err, reason = "it is the answer, and passed on at once")]
fn take(shared: &Shared, owner: &Owner) -> Result<(), Response> {
    let throttled = |retry_s| answer::throttled(retry_s, &format!("too many questions; ask again in {retry_s} s"));
    shared.paces().take(owner).map_err(throttled)
}

/// What is asked of one's own figures.
fn own(owner: &Owner) -> UsageQuery {
    match owner {
        Owner::User(name) => UsageQuery { by: By::User, user: Some(name.clone()), ..UsageQuery::default() },
        Owner::Key { id, .. } => UsageQuery { by: By::Key, key_id: Some(id.clone()), ..UsageQuery::default() },
    }
}

fn sum(state: &dyn AdminState, owner: &Owner, from: Option<u64>) -> Result<Value, UsageError> {
    let row = state.usage(&UsageQuery { from, ..own(owner) }, None)?.rows.into_iter().next();
    Ok(row.map(|row| row.counters).unwrap_or_default().figures().into())
}

/// A row's figures and, of what says what they are of, those that are shown.
fn only(row: Value, shown: &[&str]) -> Value {
    let Value::Object(fields) = row else { return Value::Null };
    let all = Counters::default().figures();
    fields
        .into_iter()
        .filter(|(field, _)| shown.contains(&field.as_str()) || all.contains_key(field))
        .collect::<Map<_, _>>()
        .into()
}

fn range(from: Option<&str>, to: Option<&str>) -> Result<(Option<u64>, Option<u64>), Mistake> {
    let time = |parameter: &str, value: Option<&str>| {
        let message = "must be a time such as 2026-11-21T08:00:00Z, or seconds since 1970";
        value.map(|value| parse_ms(value).ok_or(Mistake::new(parameter, message))).transpose()
    };
    let (from, to) = (time("from", from)?, time("to", to)?);
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err(Mistake::new("to", "is before from"));
    }
    Ok((from, to))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

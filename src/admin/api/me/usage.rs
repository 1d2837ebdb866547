//! `GET /api/usage/{summary,daily,monthly,stats,models}`: what was used, and what it cost whoever asks.
//!
//! Owns the questions. Figures are those that the ledger has booked: a cost in it is what the user is charged.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Map, Value, json};
use weir_filters::calendar::{self, DAY_MS};
use weir_filters::moment::parse_ms;

use super::super::catalog::refused as refused_command;
use super::super::usage::refused;
use super::super::{answer, usage::UsageError};
use super::{Asker, named};
use crate::admin::AdminState;
use crate::admin::server::{Failed, Shared};
use crate::catalog::{Command, Own, Owner};
use crate::ledger::{By, Counters, Step, UsageQuery, figures};

/// Every path, below `/api`.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/usage/summary", get(summary))
        .route("/usage/daily", get(daily))
        .route("/usage/monthly", get(monthly))
        .route("/usage/stats", get(stats))
        .route("/usage/models", get(models))
}

async fn summary(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    if let Err((parameter, message)) = named(&asker.parameters, []) {
        return answer::bad_parameter(&parameter, &message);
    }
    let owner = asker.owner;
    let asked = shared.query(move |state| {
        let now_ms = now_ms();
        let since = |from: Option<u64>| sum(state, &owner, from);
        let (today, month) = (now_ms / DAY_MS * DAY_MS, calendar::month_start(now_ms));
        let figures = (since(Some(today))?, since(Some(month))?, since(None)?);
        let limits = state.catalog(Command::Own(owner.clone(), Own::Limits));
        Ok::<_, UsageError>((owner, figures, limits))
    });
    match asked.await {
        Ok(Ok((owner, (today, month, total), Ok(limits)))) => {
            let (user, key) = match &owner {
                Owner::User(name) => (Some(name), None),
                Owner::Key { name, user, .. } => (user.as_ref(), Some(name)),
            };
            let figures = json!({
                "user": user, "key": key, "today": today, "month": month, "total": total, "limits": limits,
            });
            answer::ok(&figures)
        }
        Ok(Ok((.., Err(why)))) => refused_command(&why),
        Ok(Err(error)) => refused(&error),
        Err(Failed) => answer::failed(),
    }
}

async fn daily(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    over_time(&shared, asker, Step::Day).await
}

async fn monthly(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    over_time(&shared, asker, Step::Month).await
}

async fn over_time(shared: &Shared, asker: Asker, step: Step) -> Response {
    let (from, to) = match named(&asker.parameters, ["from", "to"]).and_then(|[from, to]| range(from, to)) {
        Ok(range) => range,
        Err((parameter, message)) => return answer::bad_parameter(&parameter, &message),
    };
    let query = UsageQuery { from, to, step: Some(step), ..own(&asker.owner) };
    rows(shared, query, vec!["time"]).await
}

async fn stats(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    let read = named(&asker.parameters, ["by", "from", "to"]).and_then(|[by, from, to]| {
        let by = match by.as_deref() {
            Some("model") => By::Model,
            Some("key") => By::Key,
            _ => return Err(("by".to_owned(), "must be one of model, key".to_owned())),
        };
        Ok((by, range(from, to)?))
    });
    match read {
        Ok((by, (from, to))) => {
            let query = UsageQuery { by, from, to, ..own(&asker.owner) };
            rows(&shared, query, vec![by.name()]).await
        }
        Err((parameter, message)) => answer::bad_parameter(&parameter, &message),
    }
}

async fn models(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    if let Err((parameter, message)) = named(&asker.parameters, []) {
        return answer::bad_parameter(&parameter, &message);
    }
    match shared.query(move |state| state.catalog(Command::Own(asker.owner, Own::Models))).await {
        Ok(Ok(rows)) => answer::ok(&json!({ "rows": rows })),
        Ok(Err(why)) => refused_command(&why),
        Err(Failed) => answer::failed(),
    }
}

async fn rows(shared: &Shared, query: UsageQuery, shown: Vec<&'static str>) -> Response {
    match shared.query(move |state| state.usage(&query)).await {
        Ok(Ok(rows)) => {
            let rows: Vec<Value> = rows.into_iter().map(|row| only(row, &shown)).collect();
            answer::ok(&json!({ "rows": rows }))
        }
        Ok(Err(error)) => refused(&error),
        Err(Failed) => answer::failed(),
    }
}

/// What is asked of one's own figures.
fn own(owner: &Owner) -> UsageQuery {
    match owner {
        Owner::User(name) => UsageQuery { by: By::User, user: Some(name.clone()), ..UsageQuery::default() },
        Owner::Key { id, .. } => UsageQuery { by: By::Key, key_id: Some(id.clone()), ..UsageQuery::default() },
    }
}

fn sum(state: &dyn AdminState, owner: &Owner, from: Option<u64>) -> Result<Value, UsageError> {
    let row = state.usage(&UsageQuery { from, ..own(owner) })?.into_iter().next();
    Ok(row.map_or_else(|| figures(&Counters::default()).into(), |row| only(row, &[])))
}

/// A row's figures and, of what says what they are of, those that are shown.
fn only(row: Value, shown: &[&str]) -> Value {
    let Value::Object(fields) = row else { return Value::Null };
    let all = figures(&Counters::default());
    fields
        .into_iter()
        .filter(|(field, _)| shown.contains(&field.as_str()) || all.contains_key(field))
        .collect::<Map<_, _>>()
        .into()
}

fn range(from: Option<String>, to: Option<String>) -> Result<(Option<u64>, Option<u64>), (String, String)> {
    let time = |parameter: &str, value: Option<String>| {
        let message = "must be a time such as 2026-11-21T08:00:00Z, or seconds since 1970";
        value.map(|value| parse_ms(&value).ok_or((parameter.to_owned(), message.to_owned()))).transpose()
    };
    let (from, to) = (time("from", from)?, time("to", to)?);
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err(("to".to_owned(), "is before from".to_owned()));
    }
    Ok((from, to))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

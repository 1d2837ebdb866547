//! What the admin listener asks, and who of all parts has the answer.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use weir_filters::calendar;
use weir_filters::credential::Credential;
use weir_filters::etag::IfMatch;
use weir_filters::refusal::Refusal;

use crate::admin::{AdminState, Console, NotReady, ProxyAsked, RequestsError, RunAsked, Trial, UsageError};
use crate::audit::{self, Event, Filter, Following};
use crate::catalog::{Command, Owner, Refused};
use crate::changes::{self, Actor, Change, Changes};
use crate::control::{Asker, Control, now_ms};
use crate::identity::{Identity, Stamp};
use crate::import::{self, Report, Words};
use crate::ledger::{TooManyRows, Top, UsageQuery};
use crate::monitor::{self, Monitor};
use crate::opening::Opening;
use crate::overview::Overview;
use crate::proxy::Shared;
use crate::trial::Trials;

use super::Reloader;

/// All that there is to ask.
pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) control: Arc<Control>,
    pub(super) changes: Arc<Changes>,
    pub(super) identity: Arc<Identity>,
    pub(super) reloader: Option<Reloader>,
    pub(super) opening: Opening,
    pub(super) words: Words,
    pub(super) overview: Overview,
    pub(super) trials: Trials,
    pub(super) monitor: Arc<Monitor>,
}

impl Console for State {
    fn overview(&self) -> serde_json::Value {
        let reasons = self.readiness();
        let reasons: Vec<_> = reasons.iter().map(|reason| (reason.part, &*reason.message)).collect();
        self.overview.show(&reasons, self.control.reloaded().as_ref())
    }

    fn config(&self) -> serde_json::Value {
        self.control.shown(self.reloader.as_ref().map(|reloader| &*reloader.path))
    }

    fn check_config(&self) -> serde_json::Value {
        self.control.check(self.reloader.as_ref().map(|reloader| &*reloader.path))
    }

    fn drain(&self, channel: &str, is_drained: bool, who: &Actor) -> Result<serde_json::Value, Refused> {
        self.control.drain(channel, is_drained, who)
    }

    fn run_channel(&self, channel: &str, asked: &RunAsked) -> Result<Trial, Refused> {
        let (run, audit) = (self.trials.run(channel, asked)?, self.shared.audit.clone());
        let channel = channel.to_owned();
        Ok(Box::pin(async move {
            let told = run.await;
            let mut event = told.clone();
            event["channel"] = channel.into();
            event["by"] = "hand".into();
            event["time"] = calendar::rfc3339(now_ms()).into();
            audit.publish(Event::run_completed(&event));
            told
        }))
    }

    fn test_proxy(&self, asked: ProxyAsked) -> Result<Trial, Refused> {
        Ok(Box::pin(self.trials.test(asked)?))
    }

    fn monitored(&self, asked: &monitor::Asked) -> monitor::Page {
        self.monitor.list(asked)
    }

    fn runs(&self, channel: &str, asked: &monitor::Asked) -> Result<monitor::Page, Refused> {
        self.monitor.runs(channel, asked)
    }

    fn monitor_now(&self, channel: &str) -> Result<String, Refused> {
        self.monitor.run(channel)
    }
}

impl AdminState for State {
    fn readiness(&self) -> Vec<NotReady> {
        // A store that is down delays figures, not requests: traffic is welcome all the same.
        let closed = self.opening.closed().into_iter();
        closed.map(|address| NotReady { part: "listen", message: format!("{address} is not open yet") }).collect()
    }

    fn metrics(&self) -> String {
        let (status, metrics) = (self.shared.ledger.status(), &self.shared.metrics);
        metrics.set_ledger(&status);
        metrics.set_sinks(&self.shared.audit.figures());
        metrics.set_connections(self.shared.census.connections());
        metrics.set_requests_in_flight(self.shared.in_flight.count());
        self.shared.live.load().show_health(Instant::now());
        metrics.set_tight_budgets(self.overview.tight_budgets());
        metrics.encode()
    }

    fn usage(&self, query: &UsageQuery, top: Option<usize>) -> Result<Top, UsageError> {
        self.shared.ledger.top(query, top).map_err(|TooManyRows| UsageError::too_many(query))
    }

    fn requests(&self, query: &audit::Query) -> Result<audit::Page, RequestsError> {
        let history = self.shared.audit.history().ok_or(RequestsError::Disabled)?;
        history.page(query).map_err(|e| RequestsError::Unavailable(e.to_string()))
    }

    fn request(&self, id: u128) -> Result<Option<String>, RequestsError> {
        let history = self.shared.audit.history().ok_or(RequestsError::Disabled)?;
        history.find(id).map_err(|e| RequestsError::Unavailable(e.to_string()))
    }

    fn follow(&self, filter: &Filter, after: Option<&str>) -> Option<Following> {
        self.shared.audit.follow(filter, after)
    }

    fn catalog(&self, command: Command, who: &Actor, expected: Option<&IfMatch>) -> Result<serde_json::Value, Refused> {
        self.control.command(command, Asker { who, expected })
    }

    fn change_password(&self, name: &str, new: &str, seen: Stamp, who: &Actor) -> Result<Stamp, Refused> {
        self.control.change_password(name, new, seen, who)
    }

    fn changes(&self, query: &changes::Query) -> io::Result<changes::Page> {
        self.changes.page(query)
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn client(&self, credential: &Credential<'_>) -> Result<Owner, Refusal> {
        let key = self.shared.live.load().holder(credential, now_ms())?;
        let user = (!key.user.is_empty()).then(|| key.user.to_string());
        Ok(Owner::Key { id: key.id.to_string(), name: key.name.to_string(), user })
    }

    fn import(&self, lines: &[u8], first_line: u64, who: &Actor) -> io::Result<Report> {
        let now_ms = now_ms();
        let (mut report, said) = import::count(&self.shared.ledger, lines, first_line, now_ms)?;
        let live = self.shared.live.load();
        report.statuses.applied = self.words.tell(live.channels(), &said, now_ms, Instant::now());
        // What was imported before counts no second time, so whoever is told that this failed sends it again.
        let after = json!({ "lines": report.lines, "imported": report.imported, "known": report.known });
        let after = after.as_object().cloned();
        let change = Change { action: "import", kind: "events", name: None, before: None, after };
        self.changes.note(who, now_ms, change)?;
        Ok(report)
    }

    fn reload(&self, who: &Actor) -> Result<u64, Vec<String>> {
        match &self.reloader {
            Some(reloader) => reloader.reload(who),
            None => Err(vec!["this gateway was not started from a configuration file".into()]),
        }
    }
}

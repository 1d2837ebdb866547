//! The gateway that runs: asked over the socket in its data directory, judged by its own figures.

use std::collections::HashMap;

use super::Finding;
use crate::admin;
use crate::admin::client::{Client, ClientError};
use crate::config::Config;

/// The fold is half a second behind in quiet times; so many records are seconds of a busy gateway.
const FAR_BEHIND: u64 = 1_000_000;
const WHAT: &str = "gateway";
/// How the names of the sinks' figures begin.
const SINKS: &str = "weir_sink_";

/// What a gateway said of itself.
pub(super) enum Running {
    /// It runs.
    Yes(Figures),
    /// None runs.
    No,
    /// One may run, and cannot be asked.
    Silent(String),
}

/// The figures of a gateway that have no labels, and those of its sinks, by name.
pub(super) struct Figures(HashMap<String, f64>);

/// Asks the gateway that runs with this data directory.
pub(super) fn ask(config: &Config) -> Running {
    let client = Client::new(config.data_dir.join(admin::SOCKET));
    match client.get_blocking("/metrics") {
        Ok(answer) if answer.status == 200 => Running::Yes(Figures::read(&String::from_utf8_lossy(&answer.body))),
        Ok(answer) => Running::Silent(format!("its answer was {}", answer.status)),
        Err(ClientError::NotRunning(_)) => Running::No,
        Err(e) => Running::Silent(e.to_string()),
    }
}

impl Running {
    /// Its figures, if it gave any.
    pub(super) fn figures(&self) -> Option<&Figures> {
        match self {
            Running::Yes(figures) => Some(figures),
            Running::No | Running::Silent(_) => None,
        }
    }

    /// Whether a gateway has the data directory, or may have it.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Running::No)
    }

    /// How it is doing.
    pub(super) fn findings(&self) -> Vec<Finding> {
        match self {
            Running::No => {
                vec![Finding::warning(WHAT, "none runs with this data_dir", "start it: `weir run`")]
            }
            Running::Silent(why) => {
                vec![Finding::problem(WHAT, why.as_str(), "run this as the gateway's user; else see the gateway's log")]
            }
            Running::Yes(figures) => vec![figures.configuration(), figures.ledger(), figures.store(), figures.sinks()],
        }
    }
}

impl Figures {
    /// Reads the text format of Prometheus. Lines that are something else are passed over.
    fn read(text: &str) -> Self {
        let figure = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            let is_wanted = !name.starts_with('#') && (!name.contains('{') || name.starts_with(SINKS));
            is_wanted.then_some((name.to_owned(), value.trim().parse().ok()?))
        };
        Self(text.lines().filter_map(figure).collect())
    }

    /// A figure, rounded; none below zero.
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        let value = *self.0.get(name)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast stops at both ends")]
        (value >= 0.0).then_some(value as u64)
    }

    fn at(&self, name: &str) -> u64 {
        self.get(name).unwrap_or(0)
    }

    fn configuration(&self) -> Finding {
        let found = format!("it runs with version {} of its configuration", self.at("weir_config_version"));
        if self.at("weir_config_last_reload_success") == 1 {
            return Finding::ok(WHAT, found);
        }
        let advice = "its log says why; `weir check` names the mistakes, `weir reload` tries again";
        Finding::warning(WHAT, format!("{found}; the last reload was refused"), advice)
    }

    fn ledger(&self) -> Finding {
        let what = "ledger";
        let [lag, waiting, dropped, corrupt] =
            ["fold_lag_records", "backlog_records", "dropped_total", "corrupt_total"]
                .map(|name| self.at(&format!("weir_ledger_{name}")));
        if dropped > 0 {
            let found = format!("{dropped} records were lost because the disk took none for too long");
            return Finding::problem(what, found, "make room on the disk; the figures stay too low by these");
        }
        if waiting > 0 {
            let found = format!("{waiting} records wait in memory: the disk takes none");
            return Finding::problem(what, found, "make room on the disk before the gateway ends: they end with it");
        }
        if self.at("weir_ledger_history_lost") > 0 {
            let advice = "restore the data directory from a copy; else the figures stay too low";
            return Finding::problem(what, "segments of the journal are gone that no totals cover", advice);
        }
        if corrupt > 0 {
            let found = format!("{corrupt} damaged parts of the journal were passed over; its log says which");
            return Finding::warning(what, found, "check the disk; what they held is not counted");
        }
        if lag > FAR_BEHIND {
            let found = format!("the totals are {lag} records behind the journal");
            return Finding::warning(what, found, "give the gateway a free core: figures are late, nothing is lost");
        }
        Finding::ok(what, format!("nothing lost, nothing damaged, {lag} records behind"))
    }

    fn store(&self) -> Finding {
        let what = "store";
        if self.at("weir_store_up") == 0 {
            let advice = "nothing is lost meanwhile; its log says why, mostly a full disk";
            return Finding::warning(what, "it takes no writes", advice);
        }
        if self.at("weir_ledger_store_set_aside") > 0 {
            let found = "it was damaged when the gateway started, and was rebuilt from the journal";
            let advice = "check the disk; `store.broken-…` in data_dir is the old one, and may be removed";
            return Finding::warning(what, found, advice);
        }
        Finding::ok(what, "it takes writes")
    }

    fn sinks(&self) -> Finding {
        let what = "records";
        let named = |name: &str| -> Vec<String> {
            let of = |(series, value): (&String, &f64)| {
                let sink = series.strip_prefix(name)?.split_once("sink=\"")?.1.split('"').next()?;
                let is_meant = *value > 0.0 && (!series.contains("result=") || series.contains("result=\"failed\""));
                is_meant.then(|| format!("{value} by {sink}"))
            };
            let mut all: Vec<String> = self.0.iter().filter_map(of).collect();
            all.sort();
            all
        };
        let dropped = named("weir_sink_dropped_total{");
        if !dropped.is_empty() {
            let found = format!("records of requests were lost: {}", dropped.join(", "));
            return Finding::warning(
                what,
                found,
                "its log says why: a full disk, or a server that is down or too slow",
            );
        }
        let failed = named("weir_sink_events_total{");
        if !failed.is_empty() {
            let found = format!("records of requests were refused: {}", failed.join(", "));
            return Finding::warning(what, found, "its log has what the server said; see `audit` in the configuration");
        }
        Finding::ok(what, "no sink has lost any")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const WELL: &str = "# TYPE weir_store_up gauge
weir_store_up 1
weir_config_version 3
weir_config_last_reload_success 1
weir_ledger_fold_lag_records 12
process_max_fds 1048576
weir_channel_up{channel=\"a b\"} 1
";

    fn findings(more: &str) -> Vec<(Level, String)> {
        let figures = Figures::read(&format!("{WELL}{more}"));
        Running::Yes(figures).findings().into_iter().map(|f| (f.level, f.found)).collect()
    }

    #[test]
    fn a_gateway_that_is_well_says_so() {
        let figures = Figures::read(WELL);
        assert_eq!((figures.get("process_max_fds"), figures.get("weir_channel_up")), (Some(1_048_576), None));
        let expected = [
            "it runs with version 3 of its configuration",
            "nothing lost, nothing damaged, 12 records behind",
            "it takes writes",
            "no sink has lost any",
        ];
        assert_eq!(findings(""), expected.map(|text| (Level::Ok, text.to_owned())));
    }

    #[test]
    fn each_trouble_has_its_level() {
        for (more, at, level) in [
            ("weir_config_last_reload_success 0\n", 0, Level::Warning),
            ("weir_ledger_dropped_total 1\n", 1, Level::Problem),
            ("weir_ledger_backlog_records 7\n", 1, Level::Problem),
            ("weir_ledger_history_lost 1\n", 1, Level::Problem),
            ("weir_ledger_corrupt_total 2\n", 1, Level::Warning),
            ("weir_ledger_fold_lag_records 2e6\n", 1, Level::Warning),
            ("weir_store_up 0\n", 2, Level::Warning),
            ("weir_ledger_store_set_aside 1\n", 2, Level::Warning),
            ("weir_sink_dropped_total{sink=\"loki\"} 3\n", 3, Level::Warning),
            ("weir_sink_events_total{result=\"failed\",sink=\"nsq\"} 1\n", 3, Level::Warning),
            ("weir_sink_events_total{result=\"delivered\",sink=\"nsq\"} 1\n", 3, Level::Ok),
        ] {
            let levels: Vec<Level> = findings(more).into_iter().map(|(level, _)| level).collect();
            let mut expected = vec![Level::Ok; 4];
            expected[at] = level;
            assert_eq!(levels, expected, "{more}");
        }
    }

    #[test]
    fn a_sink_that_lost_records_is_named() {
        let more = "weir_sink_dropped_total{sink=\"loki\"} 3\nweir_sink_dropped_total{sink=\"jsonl\"} 0\n";
        assert_eq!(findings(more)[3], (Level::Warning, "records of requests were lost: 3 by loki".to_owned()));
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        let figures = Figures::read("\u{0}\nname\nname  \nname NaN\n# a 1\nminus -1\nhuge 1e300\n");
        assert_eq!((figures.get("name"), figures.get("minus"), figures.get("huge")), (None, None, Some(u64::MAX)));
    }
}

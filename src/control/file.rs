//! The configuration file as people see it: what of it is in force, what it says now, and what is wrong with it.
//!
//! Owns that looking at the file takes nothing into force, and that no secret is in what is shown. How a configuration
//! reads is [`crate::config`]'s business.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use weir_filters::calendar;
use weir_filters::secret::Secret;

use crate::catalog::CatalogError;
use crate::config::{self, Config, FileText, Login, Mistake};

use super::running::running;
use super::{Control, State};

/// Something that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where it stands; `None`: in what was made over the admin API.
    place: Option<Place>,
    /// The field, as a path; empty: the whole.
    field: String,
    /// What is wrong, and what was probably meant.
    pub(crate) message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    file: PathBuf,
    line: usize,
    column: usize,
}

/// How the last reload went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// When it was, in milliseconds since 1970.
    pub(super) time_ms: u64,
    /// Why it was refused; none: it was taken.
    pub(crate) faults: Vec<Fault>,
}

/// The text of a file as it is shown.
pub(super) struct Masked {
    /// Of what is in force: what else is a secret depends on it.
    version: u64,
    /// Of the text before it was masked.
    digest: [u8; 32],
    text: Arc<str>,
}

impl Fault {
    fn of(mistake: &Mistake) -> Self {
        let Mistake { file, line, column, path, message, suggestion } = mistake;
        let message = suggestion.iter().fold(message.clone(), |message, clause| format!("{message}; {clause}"));
        Self { place: Some(Place { file: file.clone(), line: *line, column: *column }), field: path.clone(), message }
    }

    fn elsewhere(message: String) -> Self {
        Self { place: None, field: String::new(), message }
    }

    /// On one line, as `weir check` tells it.
    pub(super) fn line(&self) -> String {
        match &self.place {
            Some(Place { file, line, column }) => format!("{}:{line}:{column}: {}", file.display(), self.message),
            None => self.message.clone(),
        }
    }

    fn shown(&self) -> Value {
        let place = self.place.as_ref();
        json!({
            "file": place.map(|place| place.file.display().to_string()),
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
            "field": (!self.field.is_empty()).then_some(&self.field),
            "message": self.message,
        })
    }
}

fn all(faults: &[Fault]) -> Value {
    faults.iter().map(Fault::shown).collect()
}

impl State {
    /// What the file at `path` says, and that together with what was made over the API. Changes nothing.
    pub(super) fn read(&self, path: &Path) -> Result<(Config, Config), Vec<Fault>> {
        let loaded = config::load(path, &|name| std::env::var(name).ok());
        let file = loaded.map_err(|mistakes| mistakes.iter().map(Fault::of).collect::<Vec<_>>())?;
        match self.catalog.merge(&file) {
            Ok(merged) => Ok((file, merged)),
            Err(CatalogError::Misfit { misfits, .. }) => Err(misfits.into_iter().map(Fault::elsewhere).collect()),
            Err(e) => Err(vec![Fault::elsewhere(e.to_string())]),
        }
    }
}

impl Control {
    /// How the last reload went, if there was one.
    pub(crate) fn reloaded(&self) -> Option<Reloaded> {
        self.reloaded.load().as_deref().cloned()
    }

    /// What is wrong with the file at `path`: `{"valid","mistakes"}`. It is not taken.
    pub(crate) fn check(&self, path: Option<&Path>) -> Value {
        let faults = match path {
            Some(path) => self.lock().read(path).err().unwrap_or_default(),
            None => vec![Fault::elsewhere("this gateway was not started from a configuration file".to_owned())],
        };
        json!({ "valid": faults.is_empty(), "mistakes": all(&faults) })
    }

    /// What is in force, what the file at `path` says, and how the last reload went.
    pub(crate) fn shown(&self, path: Option<&Path>) -> Value {
        let (version, loaded_ms) = (self.shared.live.load().version(), self.loaded_ms.load(Ordering::Relaxed));
        let state = self.lock();
        let merged = state.catalog.merge(&state.file).unwrap_or_else(|_| state.file.clone());
        let is_current = state.file.read_from.is_current();
        let read = match path {
            Some(path) if !is_current => Some(state.read(path)),
            _ => None,
        };
        drop(state);
        let read_text = path.and_then(|path| FileText::read(path).ok());
        let text = read_text.map(|text| match &read {
            None => self.shown_before(version, &text, &merged),
            Some(Ok((file, _))) => Arc::from(text.redacted(&[secrets(&merged), secrets(file)].concat())),
            Some(Err(_)) => Arc::from(text.redacted(&secrets(&merged))),
        });
        let (word, faults) = match (&text, &read) {
            (None, _) => ("missing", Vec::new()),
            (Some(_), None) => ("same", Vec::new()),
            (Some(_), Some(Ok(_))) => ("changed", Vec::new()),
            (Some(_), Some(Err(faults))) => ("invalid", faults.clone()),
        };
        let last = self.reloaded().map(|Reloaded { time_ms, faults }| {
            json!({ "time": calendar::rfc3339(time_ms), "ok": faults.is_empty(), "mistakes": all(&faults) })
        });
        json!({
            "version": version,
            "loaded_at": calendar::rfc3339(loaded_ms),
            "path": path.map(|path| path.display().to_string()),
            "running": running(&merged),
            "file": { "state": word, "mistakes": all(&faults), "text": text.as_deref() },
            "last_reload": last,
        })
    }
}

impl Control {
    /// The text of the file that is in force, as it may be shown; masked once, for a file may have a hundred thousand lines.
    fn shown_before(&self, version: u64, text: &FileText, merged: &Config) -> Arc<str> {
        match &*self.masked.load() {
            Some(masked) if masked.version == version && masked.digest == text.digest => masked.text.clone(),
            _ => {
                let masked = Masked { version, digest: text.digest, text: Arc::from(text.redacted(&secrets(merged))) };
                let shown = masked.text.clone();
                self.masked.store(Some(Arc::new(masked)));
                shown
            }
        }
    }
}

/// Every secret of a configuration that is no digest.
fn secrets(config: &Config) -> Vec<Secret> {
    let of_channels = config.channels.iter().flat_map(|channel| channel.keys.iter().map(|key| key.value.clone()));
    let of_login = |login: &Option<Login>| match login {
        Some(Login::Basic { password, .. }) => Some(password.clone()),
        Some(Login::Bearer(token)) => Some(token.clone()),
        None => None,
    };
    let of_loki = config.audit.loki.as_ref().and_then(|loki| of_login(&loki.login));
    let of_nsq = config.audit.nsq.as_ref().and_then(|nsq| nsq.token.clone());
    let of_admin = config.admin.token.iter().chain(&config.admin.metrics_token).cloned();
    let of_headers = config.headers.set_request.iter().filter_map(|(_, value)| value.to_str().ok().map(Secret::new));
    of_channels.chain(of_headers).chain(of_loki).chain(of_nsq).chain(of_admin).collect()
}

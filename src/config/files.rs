//! The files that values name: certificates, keys, authorities, secrets.
//!
//! Knows what such a file must hold; knows nothing of the fields that name it.

use std::io;
use std::path::{Path, PathBuf};

use weir_filters::secret::Secret;

use super::mistake::Complaint;
use super::raw::RawSecret;
use super::section::At;
use super::tree::NodeId;
use super::validate::Check;

impl Check<'_, '_> {
    /// A PEM file that can be read and holds what it should.
    pub(super) fn pem(&mut self, path: Option<&At<PathBuf>>, wanted: Pem) -> Option<PathBuf> {
        let At { value, at } = path?;
        let text = self.file(value, *at)?;
        if !wanted.is_in(&text) {
            let mut complaint = Complaint::new(format!("names a file without {}", wanted.describe()));
            if wanted.other().is_in(&text) {
                complaint = complaint.suggest(format!("it holds {}", wanted.other().describe()));
            }
            self.r.complain(*at, complaint);
        }
        Some(self.folder.join(value))
    }

    /// A file's text. Its name is not repeated: a secret may have been written in its place.
    pub(super) fn file(&mut self, path: &Path, at: NodeId) -> Option<String> {
        let text = (self.sources.read)(&self.folder.join(path));
        text.map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::NotFound => "which does not exist".to_owned(),
                io::ErrorKind::InvalidData => "which is not text".to_owned(),
                _ => format!("which cannot be read: {error}"),
            };
            self.r.complain(at, Complaint::new(format!("names a file {why}")));
        })
        .ok()
    }

    /// A secret from one of its two fields: never empty, and fit to travel in a header.
    pub(super) fn secret(&mut self, raw: RawSecret) -> Option<Secret> {
        let field = raw.field;
        let (secret, at) = match (raw.value, raw.file) {
            (Some(value), Some(file)) => {
                let message = format!("`{field}` and `{field}_file` are both given");
                let complaint = Complaint::new(message).suggest("keep one of them");
                self.r.report.add(value.at.max(file.at), complaint);
                return None;
            }
            (Some(value), None) => (value.value, value.at),
            (None, Some(file)) => {
                let text = self.file(&file.value, file.at)?;
                (Secret::new(text.trim_end_matches(['\r', '\n'])), file.at)
            }
            (None, None) => {
                if raw.is_absent {
                    let message = format!("`{field}` or `{field}_file` is missing");
                    self.r.report.add(raw.section, Complaint::new(message));
                }
                return None;
            }
        };
        let text = secret.expose();
        let wrong = if text.trim().is_empty() {
            "must not be empty"
        } else if text.trim() != text {
            "must have no spaces around it"
        } else if !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            "must be printable ASCII, to travel in a header"
        } else {
            return Some(secret);
        };
        self.r.complain(at, Complaint::new(wrong));
        None
    }
}

/// What a PEM file may hold.
#[derive(Clone, Copy)]
pub(super) enum Pem {
    Certificate,
    PrivateKey,
}

impl Pem {
    fn describe(self) -> &'static str {
        match self {
            Pem::Certificate => "a PEM certificate",
            Pem::PrivateKey => "a PEM private key",
        }
    }

    fn other(self) -> Self {
        match self {
            Pem::Certificate => Pem::PrivateKey,
            Pem::PrivateKey => Pem::Certificate,
        }
    }

    /// Whether the text has such a block, begun and ended. <https://www.rfc-editor.org/rfc/rfc7468>
    fn is_in(self, text: &str) -> bool {
        let mut begun: Option<&str> = None;
        for line in text.lines().map(str::trim_end) {
            let boundary = |side| line.strip_prefix(side).and_then(|rest: &str| rest.strip_suffix("-----"));
            if let Some(label) = boundary("-----BEGIN ") {
                let fits = match self {
                    Pem::Certificate => label == "CERTIFICATE",
                    Pem::PrivateKey => {
                        matches!(label, "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY")
                    }
                };
                begun = fits.then_some(label);
            } else if begun.is_some() && boundary("-----END ") == begun {
                return true;
            }
        }
        false
    }
}

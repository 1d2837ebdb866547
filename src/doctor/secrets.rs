//! Files that hold secrets: who may read them. The secrets themselves are compared, never shown.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use weir_filters::secret::Secret;

use super::Finding;
use crate::config::Config;

/// How every PEM file with a private key says so.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// What a gateway writes below its data directory with secrets, or their digests, in it.
const MADE: [&str; 6] = [
    "admin-token.sha256",
    "catalog/channels.json",
    "catalog/keys.json",
    "catalog/logins.json",
    "catalog/users.json",
    "sessions.json",
];

/// A finding for each file that may be read or written by too many; one for all if there is none. `files` are
/// those that the configuration is read from.
pub(super) fn examine(config: &Config, files: &[PathBuf]) -> Vec<Finding> {
    let secrets = secrets(config);
    let mut kept: Vec<&PathBuf> = files.iter().filter(|file| holds(file, &secrets)).collect();
    kept.sort_unstable();
    kept.dedup();
    let made = MADE.map(|name| config.data_dir.join(name));
    let all: Vec<&Path> = kept.into_iter().chain(&made).map(PathBuf::as_path).collect();
    let findings: Vec<Finding> = all.iter().filter_map(|file| judge(file)).collect();
    if findings.is_empty() {
        let count = all.iter().filter(|file| file.exists()).count();
        return vec![Finding::ok("secrets", format!("{count} files hold some, and only their owners may read them"))];
    }
    findings
}

fn secrets(config: &Config) -> Vec<&Secret> {
    let keys = config.channels.iter().flat_map(|channel| &channel.keys).map(|key| &key.value);
    keys.chain(&config.admin.token).chain(&config.admin.metrics_token).filter(|secret| !secret.is_empty()).collect()
}

/// Whether one of the secrets stands in the file, or a private key.
fn holds(file: &Path, secrets: &[&Secret]) -> bool {
    let Ok(text) = fs::read_to_string(file) else { return false };
    text.contains(PRIVATE_KEY) || secrets.iter().any(|secret| text.contains(secret.expose()))
}

fn judge(file: &Path) -> Option<Finding> {
    let mode = fs::metadata(file).ok()?.mode() & 0o777;
    let danger = if mode & 0o022 != 0 {
        "others may change it"
    } else if mode & 0o004 != 0 {
        "everybody may read it"
    } else {
        return None;
    };
    let found = format!("{} holds some and has mode {mode:04o}: {danger}", file.display());
    Some(Finding::problem("secrets", found, format!("chmod 600 {}, and change the secrets in it", file.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::Level;
    use super::*;

    #[test]
    fn a_file_with_a_secret_is_known_by_it_and_judged_by_its_mode() {
        let home = tempfile::tempdir().unwrap();
        let (file, secret) = (home.path().join("key"), Secret::new("sk-canary"));
        fs::write(&file, "sk-canary\n").unwrap();
        assert!(holds(&file, &[&secret]) && !holds(&file, &[&Secret::new("sk-other")]));
        for (mode, fine) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let judged = judge(&file);
            assert_eq!(judged.is_none(), fine, "{mode:o}");
            let told = judged.map(|finding| (finding.level, format!("{finding:?}").contains("canary")));
            assert!(told.is_none_or(|(level, repeated)| level == Level::Problem && !repeated));
        }
        fs::write(&file, "-----BEGIN RSA PRIVATE KEY-----\n").unwrap();
        assert!(holds(&file, &[]));
        assert!(judge(&home.path().join("absent")).is_none());
    }
}

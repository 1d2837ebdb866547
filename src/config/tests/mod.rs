//! The configuration from its outside: text in, configuration or mistakes out.

mod files;
mod good;
mod loki;
mod mistakes;
mod nsq;
mod prices;
mod robust;
mod secrets;

use std::io;
use std::path::Path;

use super::{Config, Mistakes, Sources, parse_with};

/// A digest that is easy to write down.
const DIGEST: &str = "5e884898da28047151d0e56f8dc6292773603d0d6aabbd62a11ef721d1542d88";

/// One channel and nothing else: what most cases are appended to. Six lines.
const CHANNEL: &str = "\
channels:
  - name: miniai
    protocol: openai
    base_url: http://127.0.0.1:9001
    keys: [{ name: main, value: ${MINIAI_KEY} }]
    models: [\"gpt-*\"]
";

fn env(name: &str) -> Option<String> {
    match name {
        "MINIAI_KEY" => Some("sk-canary-upstream".to_owned()),
        "EMPTY" => Some(String::new()),
        "INJECT" => Some("a, evil: [b }".to_owned()),
        "SECRET" => Some("canary".to_owned()),
        "PORT" => Some("9002".to_owned()),
        "DIGEST" => Some(DIGEST.to_owned()),
        _ => None,
    }
}

fn read(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("etc/secret") => Ok("canary-secret\r\n".to_owned()),
        Some("etc/empty") => Ok("\n".to_owned()),
        Some("etc/two-lines") => Ok("canary\ncanary\n".to_owned()),
        Some("/etc/cert.pem" | "etc/cert.pem") => Ok(pem("CERTIFICATE")),
        Some("etc/key.pem") => Ok(pem("PRIVATE KEY")),
        Some("etc/cut.pem") => Ok("-----BEGIN CERTIFICATE-----\nMIIB\n".to_owned()),
        Some("etc/binary") => Err(io::ErrorKind::InvalidData.into()),
        Some("etc/locked") => Err(io::ErrorKind::PermissionDenied.into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn pem(label: &str) -> String {
    format!("-----BEGIN {label}-----\nMIIB\n-----END {label}-----\n")
}

fn parse(text: &str) -> Result<Config, Mistakes> {
    parse_with(text, Path::new("etc/weir.yaml"), &Sources { env: &env, read: &read, cores: 6 })
}

/// The configuration of a text without mistakes.
fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|mistakes| panic!("should be valid:\n{mistakes}"))
}

/// The mistakes of a text, as `line:column: message`.
fn wrong(text: &str) -> Vec<String> {
    let Err(mistakes) = parse(text) else { panic!("should be invalid:\n{text}") };
    let strip = |line: String| line.strip_prefix("etc/weir.yaml:").expect("names the file").to_owned();
    mistakes.iter().map(|mistake| strip(mistake.to_string())).collect()
}

/// Each case: what is appended to [`CHANNEL`], whose last line is the sixth, and all its mistakes.
fn appended(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        assert_eq!(wrong(&format!("{CHANNEL}{text}\n")), *expected, "{text}");
    }
}

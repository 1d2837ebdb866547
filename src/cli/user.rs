//! `weir user`: people who sign in at the running gateway, over the socket in its data directory.

use std::io::{self, BufRead};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};
use weir_filters::secret::Secret;

use crate::config::Role;
use crate::draw;

use super::usage::{client, said};
use super::{Running, fail};

#[derive(clap::Subcommand)]
pub(super) enum User {
    /// Make a user who can sign in; a password that is made is shown this once
    Add(Add),
    /// Give a user another password, or one at all, also one whom the configuration declares
    Password(Password),
}

#[derive(clap::Args)]
pub(super) struct Add {
    /// The name to sign in with
    name: String,
    /// What the user may do
    #[arg(long, default_value = Role::User.name(), value_parser = PossibleValuesParser::new(Role::ALL.map(Role::name)))]
    role: String,
    #[command(flatten)]
    given: Given,
}

#[derive(clap::Args)]
pub(super) struct Password {
    /// Whose
    name: String,
    #[command(flatten)]
    given: Given,
}

#[derive(clap::Args)]
struct Given {
    /// Read the password from the first line of standard input, instead of making one
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    running: Running,
}

pub(super) fn user(command: &User) -> ExitCode {
    let (name, given) = match command {
        User::Add(Add { name, given, .. }) | User::Password(Password { name, given }) => (name, given),
    };
    let data_dir = match given.running.data_dir() {
        Ok(directory) => directory,
        Err(code) => return code,
    };
    let password = match if given.password_stdin { from_stdin() } else { draw::password() } {
        Ok(password) => password,
        Err(e) => return fail(format_args!("no password: {e}")),
    };
    let client = client(&data_dir);
    let body = |fields: Value| fields.to_string().into();
    let (answer, done) = match command {
        User::Add(Add { role, .. }) => {
            let fields = json!({ "name": name, "role": role, "password": password.expose() });
            (
                client.post_body_blocking("/admin/api/users", body(fields)),
                format!("the {} {name} can sign in", word(role)),
            )
        }
        User::Password(_) => {
            let path = format!("/admin/api/users/{}", segment(name));
            let fields = json!({ "password": password.expose() });
            (
                client.patch_body_blocking(&path, body(fields)),
                format!("{name} has another password; sessions of before are over"),
            )
        }
    };
    match answer {
        Ok(answer) if answer.status.is_success() => {
            println!("{done}");
            if !given.password_stdin {
                println!("password, shown this once: {}", password.expose());
            }
            ExitCode::SUCCESS
        }
        Ok(answer) => fail(format_args!("{}", said(&answer.body))),
        Err(e) => fail(format_args!("{e}")),
    }
}

fn word(role: &str) -> &'static str {
    if role == Role::Admin.name() { "administrator" } else { "user" }
}

fn from_stdin() -> io::Result<Secret> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}

/// A name as a segment of a path.
fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("a.b-c"), "a.b-c");
        assert_eq!(segment("Älice B/?%"), "%C3%84lice%20B%2F%3F%25");
    }
}

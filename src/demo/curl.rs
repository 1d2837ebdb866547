//! A case as a line for a POSIX shell.
//!
//! Knows quoting and curl's options, not what is asked.

use std::net::SocketAddr;

use http::Method;

use super::cases::{Case, CaseBody};

/// The curl command that sends `case` to the gateway; it works as printed.
pub fn line(gateway: SocketAddr, key: &str, case: &Case) -> String {
    let mut line = String::from("curl -N ");
    let implied = if case.body == CaseBody::Empty { Method::GET } else { Method::POST };
    if case.method != implied {
        line.extend(["-X ", case.method.as_str(), " "]);
    }
    line.push_str(&quoted(&format!("http://{gateway}{}", case.target(key))));
    let is_form = matches!(case.body, CaseBody::Form(_));
    for (name, value) in case.header_fields(key) {
        // curl draws the boundary of a form itself.
        if !(is_form && name == "content-type") {
            line.extend([" -H ", &quoted(&format!("{name}: {value}"))]);
        }
    }
    match &case.body {
        CaseBody::Empty => {}
        CaseBody::Json(body) => line.extend([" -d ", &quoted(body)]),
        CaseBody::Form(fields) => {
            for field in fields {
                match field.file_name {
                    None => {
                        let pair = format!("{}={}", field.name, field.content);
                        line.extend([" --form-string ", &quoted(&pair)]);
                    }
                    Some(file_name) => {
                        let pair = format!("{}=@-;filename={file_name}", field.name);
                        line.extend([" -F ", &quoted(&pair)]);
                        line = format!("printf %s {} | {line}", quoted(field.content));
                    }
                }
            }
        }
    }
    line
}

/// `text` as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::demo::cases::{cases, samples};

    const GATEWAY: &str = "127.0.0.1:8514";

    #[test]
    fn a_line_reads_as_in_the_manual() {
        let samples = samples();
        let embeddings = samples.iter().find(|case| case.path == "/v1/embeddings").expect("it is a sample");
        let expected = "curl -N http://127.0.0.1:8514/v1/embeddings -H 'Authorization: Bearer KEY' \
            -H 'content-type: application/json' \
            -d '{\"input\":[\"a river\",\"a dam across it\"],\"model\":\"text-embedding-3-small\"}'";
        let shown = line(GATEWAY.parse().expect("an address"), "KEY", embeddings);
        // Members are in either order, as the JSON library was built.
        let other = expected.replace(
            "{\"input\":[\"a river\",\"a dam across it\"],\"model\":\"text-embedding-3-small\"}",
            "{\"model\":\"text-embedding-3-small\",\"input\":[\"a river\",\"a dam across it\"]}",
        );
        assert!(shown == expected || shown == other, "{shown}");
    }

    /// The shell itself says what it makes of each line: `curl` is replaced by a function that shows its words.
    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let gateway: SocketAddr = GATEWAY.parse().expect("an address");
        for case in cases() {
            let script =
                format!("curl() {{ printf '%s\\0' \"$@\"; cat; }}; {} </dev/null", line(gateway, "K'K", &case));
            let script = match &case.body {
                CaseBody::Form(_) => script.replace(" </dev/null", ""),
                _ => script,
            };
            let output = Command::new("sh").arg("-c").arg(&script).output().expect("a POSIX shell");
            assert!(output.status.success(), "{script}");
            let text = String::from_utf8(output.stdout).expect("the words are UTF-8");
            let words: Vec<&str> = text.split('\0').collect();
            assert!(words.contains(&format!("http://{GATEWAY}{}", case.target("K'K")).as_str()), "{script}");
            match &case.body {
                CaseBody::Empty => {}
                CaseBody::Json(body) => assert!(words.contains(&body.as_str()), "{script}"),
                CaseBody::Form(fields) => {
                    let file = fields.iter().find(|field| field.file_name.is_some()).expect("a file");
                    assert_eq!(words.last(), Some(&file.content), "{script}");
                }
            }
        }
    }

    #[test]
    fn quotes_are_quoted() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a/b:c"), "a/b:c");
        assert_eq!(quoted("a?b=c"), "'a?b=c'");
    }
}

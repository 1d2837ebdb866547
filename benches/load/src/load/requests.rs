//! The requests, built before the first is sent: one for each key, and a body that all share if it is large.

use std::fs;
use std::net::SocketAddrV4;

use crate::args::{Keys, LoadOptions};

/// Bodies up to this size stand behind each key's head, so that a request is one piece of memory.
const MAX_JOINED_BODY: usize = 4096;

/// As many heads as these are in memory; more keys than any benchmark has.
const MAX_KEYS: usize = 1_000_000;

/// Every request that is sent.
pub(super) struct Requests {
    /// Heads, with the body if that is small.
    firsts: Vec<Box<[u8]>>,
    /// The body, if it is large.
    second: Box<[u8]>,
    next: usize,
}

impl Requests {
    /// Reads the keys and builds the requests; an error is a mistake in the arguments.
    pub(super) fn build(options: &LoadOptions, target: SocketAddrV4) -> Result<Self, String> {
        let keys = match &options.keys {
            Keys::Direct => vec![crate::mock::UPSTREAM_KEY.to_owned()],
            Keys::File(file) => {
                let text =
                    fs::read_to_string(file).map_err(|error| format!("--keys-file {}: {error}", file.display()))?;
                text.lines().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect()
            }
        };
        if !(1..=MAX_KEYS).contains(&keys.len())
            || keys.iter().any(|key| !key.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err("--keys-file: it is one key a line, at least one, without spaces".into());
        }
        let body = body(options)?;
        let joined = body.len() <= MAX_JOINED_BODY;
        let first = |key: &String| {
            let mut first = head(options, target, key, body.len()).into_bytes();
            first.extend_from_slice(if joined { &body } else { &[] });
            first.into_boxed_slice()
        };
        let firsts = keys.iter().map(first).collect();
        Ok(Self { firsts, second: if joined { Box::default() } else { body.into_boxed_slice() }, next: 0 })
    }

    /// The key whose turn it is.
    pub(super) fn turn(&mut self) -> usize {
        let turn = self.next;
        self.next = (turn + 1) % self.firsts.len();
        turn
    }

    /// A request without its first bytes, as two pieces of which the second may be empty.
    pub(super) fn from(&self, key: usize, written: usize) -> (&[u8], &[u8]) {
        let first = &self.firsts[key];
        match written.checked_sub(first.len()) {
            None => (&first[written..], &self.second),
            Some(in_second) => (&self.second[in_second.min(self.second.len())..], &[]),
        }
    }
}

fn body(options: &LoadOptions) -> Result<Vec<u8>, String> {
    let usage = if options.include_usage { r#""stream_options":{"include_usage":true},"# } else { "" };
    let stream = options.bench.is_stream();
    let start = format!(r#"{{"model":"bench-model","stream":{stream},{usage}"messages":[{{"role":"user","content":""#);
    let end = r#""}]}"#;
    let least = start.len() + end.len() + 1;
    let padding = (options.body_bytes + 1).checked_sub(least).filter(|padding| *padding > 0);
    let padding = padding.ok_or_else(|| format!("--body-bytes {}: at least {least}", options.body_bytes))?;
    Ok([start.as_bytes(), &b"x".repeat(padding), end.as_bytes()].concat())
}

fn head(options: &LoadOptions, target: SocketAddrV4, key: &str, length: usize) -> String {
    let LoadOptions { path, bench_value, .. } = options;
    let foreign = match options.keys {
        Keys::File(_) => "cookie: a=b\r\nx-forwarded-for: 1.2.3.4\r\n",
        Keys::Direct => "",
    };
    let close = if options.reconnect { "connection: close\r\n" } else { "" };
    format!(
        "POST {path} HTTP/1.1\r\nhost: {target}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\naccept: */*\r\nuser-agent: weir-load\r\nx-bench: {bench_value}\r\n{foreign}{close}\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{self, Command};

    const TARGET: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 80);

    fn options(more: &str) -> LoadOptions {
        let line = format!("load --target {TARGET} --connections 1 --seconds 1 {more}");
        match args::parse(line.split_whitespace().map(str::to_owned)) {
            Ok(Command::Load(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    fn whole(requests: &Requests, key: usize) -> Vec<u8> {
        let (first, second) = requests.from(key, 0);
        [first, second].concat()
    }

    #[test]
    fn a_body_has_the_size_that_was_asked_for_and_is_json() {
        for (size, bench) in [(300, "json"), (4096, "sse;events=3"), (4097, "json"), (100_000, "sse;events=3")] {
            let requests =
                Requests::build(&options(&format!("--direct --bench {bench} --body-bytes {size}")), TARGET).unwrap();
            let request = whole(&requests, 0);
            let body = &request[request.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4..];
            assert_eq!(body.len(), size);
            let json: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert_eq!(json["stream"], bench != "json");
            for written in [0, 1, 299, request.len() - 1, request.len()] {
                let (first, second) = requests.from(0, written);
                assert!([first, second].concat() == request[written..], "{written} of {size}");
            }
        }
    }

    #[test]
    fn a_body_that_cannot_be_so_small_is_refused() {
        let refused = |more: &str| Requests::build(&options(more), TARGET).err();
        let least = "--body-bytes 1: at least 81";
        assert_eq!(refused("--direct --bench json --body-bytes 1").as_deref(), Some(least));
        assert_eq!(refused("--direct --bench json --body-bytes 80"), Some(least.replace("bytes 1", "bytes 80")));
        assert_eq!(refused("--direct --bench json --body-bytes 81"), None);
    }

    #[test]
    fn each_request_takes_the_next_key_and_what_a_proxy_must_remove() {
        let file = std::env::temp_dir().join(format!("weir-load-keys-{}", std::process::id()));
        fs::write(&file, "one\n\ntwo\n").unwrap();
        let requests =
            Requests::build(&options(&format!("--bench json --reconnect --keys-file {}", file.display())), TARGET);
        fs::remove_file(&file).unwrap();
        let mut requests = requests.unwrap();
        let turns = [requests.turn(), requests.turn(), requests.turn()];
        assert_eq!(turns, [0, 1, 0]);
        let expected = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:80\r\nauthorization: Bearer two\r\n\
            content-type: application/json\r\ncontent-length: 300\r\naccept: */*\r\nuser-agent: weir-load\r\n\
            x-bench: json\r\ncookie: a=b\r\nx-forwarded-for: 1.2.3.4\r\nconnection: close\r\n\r\n{\"model\":";
        assert!(whole(&requests, 1).starts_with(expected.as_bytes()));
    }

    #[test]
    fn a_file_without_keys_is_refused() {
        let error = Requests::build(&options("--bench json --keys-file /nowhere/keys"), TARGET).err().unwrap();
        assert!(error.starts_with("--keys-file /nowhere/keys: "), "{error}");
        let error = Requests::build(&options("--bench json --keys-file /dev/null"), TARGET).err().unwrap();
        assert_eq!(error, "--keys-file: it is one key a line, at least one, without spaces");
    }
}

//! Secrets stay secret: unique ones go through every path and every error, and are then looked for everywhere.

use std::path::Path;

use serde_json::json;

use crate::support::{Gateway, Http, answer, anthropic, gateway, gemini, key_named, mock, openai, secret_of, upstream};

const UPSTREAM: &str = crate::support::UPSTREAM_KEY;
const ECHOED: &str = "sk-canary-echoed-key-0f91";
const ADMIN: &str = "canary-admin-token-7730";
const METRICS: &str = "canary-metrics-token-18aa";
const STRANGER: &str = "sk-canary-stranger-55d1";
const SECOND: &str = "sk-canary-second-a7a7";
const MISPLACED: &str = "sk-canary-misplaced-3c3c";
/// Upstream keys that are given over the admin API, before and after a change.
const MADE: &str = "sk-canary-made-0b0b";
const CHANGED: &str = "sk-canary-changed-4e4e";
/// In a URL, where no password may be.
const PASSWORD: &str = "canary-password-6a21";

fn secrets() -> Vec<String> {
    let fixed = [UPSTREAM, ECHOED, ADMIN, METRICS, STRANGER, SECOND, MISPLACED, PASSWORD];
    let keys = ["canary", "canary-disabled", "canary-expired", "canary-limited"].map(secret_of);
    fixed.into_iter().map(str::to_owned).chain(keys).collect()
}

/// Everything that a gateway said and wrote.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((what.into(), bytes.into()));
    }

    fn answer(&mut self, what: &str, answer: &crate::support::Answer) {
        let mut bytes = answer.body.to_vec();
        for (name, value) in &answer.headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        self.add(what, bytes);
    }

    fn files(&mut self, directory: &Path) {
        for entry in std::fs::read_dir(directory).expect("a directory").map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                self.files(&path);
            } else if path.is_file() {
                self.add(path.display().to_string(), std::fs::read(&path).expect("a file"));
            }
        }
    }
}

async fn operations(gateway: &Gateway, seen: &mut Seen) {
    let messages = json!([{"role": "user", "content": "hello"}]);
    let contents = json!([{"parts": [{"text": "hello"}]}]);
    let secret = secret_of("canary");
    for http in Http::ALL {
        let client = gateway.over(http);
        for (path, body) in [
            ("/v1/chat/completions", json!({"model": "gpt-4o", "messages": messages})),
            ("/v1/chat/completions", json!({"model": "gpt-4o", "messages": messages, "stream": true})),
            ("/v1/chat/completions", json!({"model": "echo", "messages": messages})),
            ("/v1/chat/completions", json!({"model": "gone", "messages": messages})),
            ("/v1/chat/completions", json!({"model": "nobody", "messages": messages})),
            ("/v1/chat/completions", json!({"model": secret, "messages": messages, "stream": "x"})),
            ("/v1/completions", json!({"model": "gpt-4o", "prompt": "x", "stream": true})),
            ("/v1/embeddings", json!({"model": "gpt-4o", "input": "x"})),
            ("/v1/responses", json!({"model": "gpt-4o", "input": "x", "stream": true})),
            ("/v1/files", json!({})),
            ("/v1/messages", json!({"model": "claude-x", "messages": messages, "stream": true})),
            ("/v1/messages/count_tokens", json!({"model": "claude-x", "messages": messages})),
            ("/v1beta/models/gemini-2.5-flash:generateContent", json!({"contents": contents})),
            ("/v1beta/models/gemini-2.5-flash:streamGenerateContent", json!({"contents": contents})),
            ("/gemini/v1/chat", json!({"model": "gemini-2.5-flash", "contents": contents})),
            ("/v1/models", json!({})),
            ("/nothing", json!({})),
        ] {
            for trouble in ["x-none", "x-mock-status", "x-mock-cut-after"] {
                for (i, name) in ["authorization", "x-api-key", "x-goog-api-key"].into_iter().enumerate() {
                    let value = if i == 0 { format!("Bearer {secret}") } else { secret.clone() };
                    let request = client.post(path).header(name, value).json(&body).header(trouble, "500");
                    seen.answer(path, &request.send().await);
                }
                let request = client.post(&format!("{path}?a=1&key={secret}")).json(&body).header(trouble, "500");
                seen.answer(path, &request.send().await);
            }
        }
        for (name, path) in
            [("GET", "/v1/models"), ("GET", "/v1/files"), ("OPTIONS", "/v1/files"), ("PUT", "/v1/files")]
        {
            seen.answer(path, &client.request(name, &format!("{path}?key={secret}")).send().await);
        }
        let path = "/v1/chat/completions";
        for key in [
            STRANGER.to_owned(),
            secret_of("canary-disabled"),
            secret_of("canary-expired"),
            secret_of("canary-limited"),
        ] {
            let body = json!({"model": "gpt-4o"});
            seen.answer("refused", &client.post(path).header("x-api-key", &key).json(&body).send().await);
            seen.answer("refused", &client.post(&format!("{path}?key={key}")).json(&body).send().await);
        }
        let two = client.post(path).header("x-api-key", &secret).header("authorization", format!("Bearer {SECOND}"));
        seen.answer("two keys", &two.body("{}").send().await);
        let basic = client.post(path).header("authorization", format!("Basic {STRANGER}")).body("{}");
        seen.answer("another scheme", &basic.send().await);
        let large = client.post(path).header("x-api-key", &secret).body(vec![b' '; 200_000]);
        seen.answer("too large", &large.send().await);
    }
}

/// What no library would send.
async fn malformed(gateway: &Gateway, seen: &mut Seen) {
    let secret = secret_of("canary");
    for request in [
        format!("POST /v1/../v1?key={secret} HTTP/1.1\r\nhost: w\r\ncontent-length: 0\r\n\r\n"),
        format!("POST /v1//x/{secret}?key={secret} HTTP/1.1\r\nhost: w\r\ncontent-length: 0\r\n\r\n"),
        format!("GET /v1/models?key={secret} HTTP/1.1\r\nhost: w\r\nx-api-key: {secret}\x01\r\n\r\n"),
        format!("GET /v1/models HTTP/1.1\r\nauthorization {secret}\r\n\r\n"),
        format!("{secret} / HTTP/1.1\r\nhost: w\r\n\r\n"),
        format!("GET /v1/models HTTP/9.9\r\nx-api-key: {secret}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: w\r\ncontent-length: {secret}\r\n\r\n"),
        format!(
            "POST /v1/files HTTP/1.1\r\nhost: w\r\nx-api-key: {secret}\r\ntransfer-encoding: chunked\r\n\r\n{secret}\r\n"
        ),
        format!("POST /v1/files HTTP/1.1\r\nhost: w\r\nx-api-key: {secret}\r\ncontent-length: 100\r\n\r\nshort"),
        format!("CONNECT {secret}:443 HTTP/1.1\r\nhost: w\r\nx-api-key: {secret}\r\n\r\n"),
    ] {
        let mut client = gateway.connect().await;
        client.offer(&request).await;
        seen.add(format!("the answer to {request:.30}"), client.leave().await);
    }
}

/// Everything that is said and done over the admin API. Gives the keys that were made there: an answer that
/// shows one is looked through for all others.
async fn administration(gateway: &Gateway, seen: &mut Seen) -> Vec<String> {
    let channel = json!({
        "name": "made", "protocol": "openai", "base_url": "https://api.example.com", "models": ["made"],
        "keys": [{ "name": "main", "value": MADE }],
    });
    let mut made = Vec::new();
    let mut ask = async |method: &str, path: &str, body: Option<serde_json::Value>| {
        let request = gateway
            .admin_request(method, &format!("/admin/api/{path}"))
            .header("authorization", format!("Bearer {ADMIN}"));
        let answer = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = answer.send().await;
        let mut text = answer.text();
        let id = serde_json::from_str(&text).unwrap_or(serde_json::Value::Null);
        if let Some(key) = id["key"].as_str() {
            text = text.replace(key, "");
            made.push(key.to_owned());
        }
        seen.add(format!("{method} {path}"), text);
        id["id"].as_str().unwrap_or_default().to_owned()
    };
    let id = ask("POST", "keys", Some(json!({ "name": "made-key" }))).await;
    ask("POST", &format!("keys/{id}/rotate"), Some(json!({ "overlap": "1h" }))).await;
    ask("PATCH", &format!("keys/{id}"), Some(json!({ "name": MISPLACED, "nmae": MISPLACED }))).await;
    ask("POST", "users", Some(json!({ "name": "made-user", "passwrd": PASSWORD }))).await;
    ask("POST", "channels", Some(channel.clone())).await;
    ask("PATCH", "channels/made", Some(json!({ "keys": [{ "name": "main", "value": CHANGED }] }))).await;
    for wrong in [
        json!({ "keys": [{ "name": "main", "value": MISPLACED, "valeu": MISPLACED }] }),
        json!({ "keys": [{ "name": "main", "value": [MISPLACED] }] }),
        json!({ "base_url": format!("https://user:{PASSWORD}@api.example.com") }),
        json!({ "base_url": format!("https://api.example.com?key={MISPLACED}") }),
        json!({ MISPLACED: 1 }),
    ] {
        ask("PATCH", "channels/made", Some(wrong.clone())).await;
        ask("POST", "channels", Some(wrong)).await;
    }
    for path in
        ["keys", "users", "channels", "channels/made", "prices", "usage?by=channel", "usage?by=nothing", "nothing"]
    {
        ask("GET", path, None).await;
    }
    ask("DELETE", "channels/made", None).await;
    ask("POST", "channels", Some(channel)).await;
    let person = json!({ "name": "person", "password": PASSWORD });
    ask("POST", "users", Some(person)).await;
    for password in [PASSWORD, MISPLACED] {
        let credential = json!({ "username": "person", "password": password });
        let login = gateway.login(&credential).await;
        seen.add("login", login.text());
        if let Some((_, token)) = login.header("set-cookie").split(';').next().and_then(|cookie| cookie.split_once('='))
        {
            let session =
                gateway.admin_request("GET", "/admin/api/session").header("cookie", format!("weir_session={token}"));
            seen.answer("session", &session.send().await);
            made.push(token.to_owned());
        }
    }
    // People type passwords into the wrong field.
    seen.add("login", gateway.login(&json!({ "username": MISPLACED, "password": "x" })).await.text());
    made
}

/// The commands that a person runs beside the gateway, right and wrong.
fn commands(gateway: &Gateway, seen: &mut Seen) {
    for words in [&["check"][..], &["doctor"], &["usage", "--by", "channel", "--json"], &["reload"]] {
        let output = gateway.command(words);
        seen.add(format!("weir {}", words[0]), [output.stdout, output.stderr].concat());
    }
    let secret = secret_of("canary");
    let url = format!("http://w/v1/chat/completions?key={secret}");
    let bearer = format!("authorization: Bearer {secret}");
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    for curl in [
        &[&*url, "-d", body][..],
        &["http://w/v1/chat/completions", "-H", &bearer, "-d", body],
        &["http://w/v1/models", "-H", &bearer, "-H", &format!("x-api-key: {SECOND}")],
        &[&format!("http://user:{PASSWORD}@w/v1/models")],
        &["http://w/v1/models", "-u", &format!("user:{PASSWORD}")],
        &["http://w/v1/models", &format!("--oauth2-bearer={secret}")],
        &["http://w/v1/models", "-H", &secret],
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["explain", "-c"])
            .arg(gateway.config_file())
            .arg("--")
            .args(curl)
            .output()
            .expect("the command runs");
        seen.add("weir explain", [output.stdout, output.stderr].concat());
    }
}

#[tokio::test]
async fn no_secret_is_in_any_log_file_metric_or_error() {
    let mock = mock();
    let address = mock.address();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let echo = format!("Bearer {ECHOED}");
    let echo = upstream([answer(401, &[("www-authenticate", &echo), ("x-debug", &echo)], "no")]).await;
    let mut gateway = gateway()
        .channel(openai(address))
        .channel(openai(echo.address()).named("echo").models(&["echo"]).presents(ECHOED))
        .channel(openai(gone).named("gone").models(&["gone"]))
        .channel(anthropic(address))
        .channel(gemini(address))
        .key("canary")
        .key(key_named("canary-disabled").with("enabled", false))
        .key(key_named("canary-expired").with("expires", "2020-01-01T00:00:00Z"))
        .key(key_named("canary-limited").with("models", json!(["none"])))
        .with("admin.token", ADMIN)
        .with("admin.metrics_token", METRICS)
        .with("server.max_body", 100_000)
        .environment("WEIR_LOG", "trace")
        .tls(crate::support::Authority::new())
        .start()
        .await;
    let mut seen = Seen::default();
    operations(&gateway, &mut seen).await;
    malformed(&gateway, &mut seen).await;
    let mut secrets = secrets();
    secrets.extend(administration(&gateway, &mut seen).await);
    // A private key is told by its lines.
    let private = std::fs::read_to_string(gateway.config_file().with_file_name("server.key")).expect("a key");
    secrets.extend(private.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
    commands(&gateway, &mut seen);

    for token in [ADMIN, METRICS, STRANGER] {
        for (method, path) in [("GET", "/admin/api/usage?by=key"), ("GET", "/metrics"), ("POST", "/admin/api/reload")] {
            let request = gateway.admin_request(method, path).header("authorization", format!("Bearer {token}"));
            seen.answer(path, &request.send().await);
        }
    }
    for by in ["key", "user", "model", "channel", "route"] {
        let output = gateway.command(&["usage", "--by", by]);
        seen.add("usage", [output.stdout, output.stderr].concat());
    }
    for broken in [
        format!("channels: [{{ name: x, keys: [{{ name: main, value: {MISPLACED}, valeu: {MISPLACED} }}] }}]"),
        format!("channels: []\nadmin: {{ token: [{MISPLACED}] }}"),
        format!("channels: []\nkeys: [{{ name: x, sha256: {MISPLACED} }}]"),
        format!("channels: []\nadmin: {{ token: '{MISPLACED}' , }}}}"),
        format!(
            "channels: [{{ name: x, protocol: openai, base_url: 'https://u:{PASSWORD}@h', models: [a], keys: [{{ name: m, value: v }}] }}]"
        ),
    ] {
        gateway.write_text(&broken);
        let request =
            gateway.admin_request("POST", "/admin/api/reload").header("authorization", format!("Bearer {ADMIN}"));
        let answer = request.send().await;
        assert_eq!(answer.status, 422);
        seen.answer("a broken configuration", &answer);
        let output = gateway.command(&["check"]);
        seen.add("check", [output.stdout, output.stderr].concat());
    }
    gateway.rewrite(|_| ());
    seen.add("metrics", gateway.metrics().await);
    gateway.stop().await;

    seen.add("stdout", gateway.stdout());
    seen.add("stderr", gateway.stderr());
    assert!(gateway.stderr().contains("DEBUG"), "the log was to say everything");
    seen.files(&gateway.data_dir());
    // What the API was given to keep is kept in one document, which its owner alone may read.
    seen.0.retain(|(what, _)| !what.ends_with("catalog/channels.json"));
    // Elsewhere it must not be.
    secrets.extend([MADE, CHANGED].map(str::to_owned));
    let total: usize = seen.0.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(total > 100_000 && seen.0.len() > 800, "there was something to look through");
    let mut hits = Vec::new();
    for (what, bytes) in &seen.0 {
        for secret in &secrets {
            // One that the client itself sent as a model's name is its own text.
            if let Some(at) = bytes.windows(secret.len()).position(|window| window == secret.as_bytes()) {
                let line = &bytes[at.saturating_sub(150)..(at + secret.len() + 20).min(bytes.len())];
                hits.push(format!("{what}: …{}…", line.escape_ascii()));
            }
        }
    }
    println!(
        "trust: {} texts of {total} octets looked through for {} secrets, {} hits",
        seen.0.len(),
        secrets.len(),
        hits.len()
    );
    assert!(hits.is_empty(), "{} hits:\n{}", hits.len(), hits[..hits.len().min(10)].join("\n"));
}

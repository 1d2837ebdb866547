//! Signing in and out, and what a session may do.

use std::time::Instant;

use reqwest::RequestBuilder;

use super::*;
use crate::config::{Role, User};

const PASSWORD: &str = "correct horse";

/// A browser: it has a cookie, and a page that knows what to send along.
struct Browser {
    cookie: String,
    csrf: String,
}

impl Bench {
    /// With an administrator `root` and a user `alice`.
    async fn with_people() -> Self {
        let bench = Self::new();
        let gateway = bench.gateway.clone();
        tokio::task::spawn_blocking(move || {
            let user = |name: &str, role| User {
                name: name.into(),
                limits: weir_filters::limits::Limits::default(),
                price_rate: weir_filters::price::PriceRate::default(),
                max_keys: 1,
                role,
                password: Some(gateway.identity.hash(Secret::new(PASSWORD)).unwrap()),
            };
            gateway.identity.know(&[user("root", Role::Admin), user("alice", Role::User)]);
        })
        .await
        .unwrap();
        bench
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("http://{}{path}", self.handle.address()))
    }

    async fn login(&self, body: &Value) -> reqwest::Response {
        self.request("POST", "/admin/api/login").body(body.to_string()).send().await.unwrap()
    }

    async fn browser(&self, name: &str) -> Browser {
        let response = self.login(&json!({ "username": name, "password": PASSWORD })).await;
        assert_eq!(response.status().as_u16(), 200);
        let cookie = header(&response, "set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let said: Value = response.json().await.unwrap();
        Browser { cookie, csrf: said["csrf"].as_str().unwrap().to_owned() }
    }
}

async fn answered(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

async fn code(request: RequestBuilder) -> (u16, String) {
    let (status, said) = answered(request).await;
    (status, said["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn who_signs_in_gets_a_cookie_that_no_script_and_no_other_site_sees() {
    let bench = Bench::with_people().await;
    let response = bench.login(&json!({ "username": "alice", "password": PASSWORD })).await;
    let cookie = header(&response, "set-cookie").unwrap().to_owned();
    let (value, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!((value.len(), value.starts_with("weir_session=")), ("weir_session=".len() + 64, true));
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict; Max-Age=604800");
    let said: Value = response.json().await.unwrap();
    assert_eq!((&said["role"], &said["user"]), (&json!("user"), &json!("alice")));
    let (status, again) = answered(bench.request("GET", "/admin/api/session").header("cookie", value)).await;
    assert_eq!((status, again.as_object().unwrap().len()), (200, 4));
    assert_eq!((&again["role"], &again["user"], &again["csrf"]), (&said["role"], &said["user"], &said["csrf"]));
    assert!(again["expires"].as_str() >= said["expires"].as_str(), "a use puts the end off");

    let secure = bench.request("POST", "/admin/api/login").header("x-forwarded-proto", "https");
    let secure = secure.body(json!({ "token": TOKEN }).to_string()).send().await.unwrap();
    assert!(header(&secure, "set-cookie").unwrap().ends_with("; Max-Age=604800; Secure"));
    let said: Value = secure.json().await.unwrap();
    assert_eq!((&said["role"], &said["user"]), (&json!("admin"), &Value::Null));
    assert_eq!(code(bench.request("GET", "/admin/api/session")).await, (401, "unauthorized".into()));
}

#[tokio::test]
async fn what_is_not_right_is_told_in_the_same_words_and_never_repeated() {
    let bench = Bench::with_people().await;
    let message = "the name or the password, or the token, is not right";
    let expected = json!({ "error": { "code": "unauthorized", "message": message } });
    for wrong in [
        json!({ "username": "alice", "password": "canary-wrong" }),
        json!({ "username": "nobody", "password": PASSWORD }),
        json!({ "username": "", "password": "" }),
        json!({ "token": "canary-wrong" }),
    ] {
        let request = bench.request("POST", "/admin/api/login").body(wrong.to_string());
        assert_eq!(answered(request).await, (401, expected.clone()), "{wrong}");
    }
    for wrong in [
        json!({}),
        json!({ "username": "alice" }),
        json!({ "username": "alice", "password": ["canary"] }),
        json!({ "username": "alice", "password": PASSWORD, "canary": 1 }),
        json!({ "token": TOKEN, "username": "alice" }),
        json!([]),
    ] {
        let request = bench.request("POST", "/admin/api/login").body(wrong.to_string());
        let (status, said) = answered(request).await;
        assert_eq!((status, said.to_string().contains("canary")), (400, false), "{wrong}: {said}");
    }
}

#[tokio::test]
async fn too_many_wrong_passwords_are_429_with_a_time() {
    let bench = Bench::with_people().await;
    let wrong = json!({ "username": "alice", "password": "wrong" });
    for n in 0..10 {
        assert_eq!(bench.login(&wrong).await.status().as_u16(), 401, "{n}");
    }
    let right = json!({ "username": "alice", "password": PASSWORD });
    let response = bench.login(&right).await;
    let retry: u64 = header(&response, "retry-after").unwrap().parse().unwrap();
    assert!((1..=15).contains(&retry), "{retry}");
    assert_eq!(response.status().as_u16(), 429);
    let said: Value = response.json().await.unwrap();
    assert_eq!(said["error"]["code"], "throttled");
    assert_eq!(bench.login(&json!({ "username": "root", "password": PASSWORD })).await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_change_by_a_session_needs_a_page_of_ours() {
    let bench = Bench::with_people().await;
    let browser = bench.browser("root").await;
    let make = || bench.request("POST", "/admin/api/keys").header("cookie", &browser.cookie).body("{}");
    let shown = || make().header("x-weir-csrf", &browser.csrf);
    let host = bench.handle.address().to_string();
    for (request, status) in [
        (make(), 403),
        (make().header("x-weir-csrf", ""), 403),
        (make().header("x-weir-csrf", "0".repeat(64)), 403),
        (shown().header("x-weir-csrf", &browser.csrf), 403),
        (shown().header("sec-fetch-site", "cross-site"), 403),
        (shown().header("sec-fetch-site", "same-site"), 403),
        (shown().header("origin", "https://evil.example"), 403),
        (shown().header("origin", "null"), 403),
        (shown(), 201),
        (shown().header("sec-fetch-site", "same-origin"), 201),
        (shown().header("sec-fetch-site", "none"), 201),
        (shown().header("origin", format!("http://{host}")), 201),
    ] {
        let (found, said) = answered(request).await;
        assert_eq!((found, found == 403), (status, said["error"]["code"] == "csrf"), "{said}");
    }
    assert_eq!(bench.gateway.commands.lock().unwrap().len(), 4, "what was refused reached nobody");
    let of_other = bench.browser("root").await.csrf;
    assert_eq!(code(make().header("x-weir-csrf", of_other)).await.0, 403, "each session has its own");
    let get = bench.request("GET", "/admin/api/keys").header("cookie", &browser.cookie);
    assert_eq!(answered(get).await.0, 200, "nothing is changed by that");
    let by_token = bench.request("POST", "/admin/api/keys").bearer_auth(TOKEN).header("sec-fetch-site", "cross-site");
    assert_eq!(answered(by_token.body("{}")).await.0, 201, "no browser sends a token by itself");
    let login = bench.request("POST", "/admin/api/login").header("sec-fetch-site", "cross-site");
    assert_eq!(code(login.body(json!({ "token": TOKEN }).to_string())).await, (403, "csrf".into()));
}

#[tokio::test]
async fn a_user_may_do_nothing_of_what_administrators_do() {
    let bench = Bench::with_people().await;
    let browser = bench.browser("alice").await;
    for (method, path) in [
        ("GET", "keys"),
        ("POST", "keys"),
        ("GET", "keys/1"),
        ("PATCH", "keys/1"),
        ("DELETE", "keys/1"),
        ("POST", "keys/1/rotate"),
        ("GET", "users"),
        ("PATCH", "users/alice"),
        ("POST", "users/price-rate"),
        ("GET", "channels"),
        ("PUT", "channels/order"),
        ("GET", "prices"),
        ("PUT", "prices"),
        ("GET", "usage?by=user"),
        ("GET", "requests"),
        ("GET", "events"),
        ("POST", "events/import"),
        ("POST", "reload"),
        ("GET", "nothing"),
        ("PUT", "keys"),
    ] {
        let request = bench.request(method, &format!("/admin/api/{path}")).header("cookie", &browser.cookie);
        let request = request.header("x-weir-csrf", &browser.csrf).body("{}");
        assert_eq!(code(request).await, (403, "forbidden".into()), "{method} {path}");
    }
    assert!(bench.gateway.commands.lock().unwrap().is_empty());
    assert_eq!(*bench.gateway.asked.lock().unwrap(), None);
    let root = bench.browser("root").await;
    let request = bench.request("GET", "/admin/api/usage?by=key").header("cookie", &root.cookie);
    assert_eq!(answered(request).await.0, 200);
    let both = bench.request("GET", "/admin/api/usage?by=key").header("cookie", &root.cookie).bearer_auth("wrong");
    assert_eq!(code(both).await.0, 401, "who presents a token is judged by it");
    let proxy = bench.request("GET", "/admin/api/usage?by=key").header("authorization", "Basic cHJveHk6eA==");
    assert_eq!(answered(proxy.header("cookie", &root.cookie)).await.0, 200, "that is for a proxy on the way");
    let proxy = bench.request("GET", "/api/usage/stats?by=key").header("authorization", "Basic cHJveHk6eA==");
    assert_eq!(answered(proxy.header("cookie", &root.cookie)).await.0, 200);
    let two = format!("{}; {}", root.cookie, browser.cookie);
    assert_eq!(code(bench.request("GET", "/admin/api/session").header("cookie", two)).await.0, 401);
    let one = format!("weir_session=x; {}", root.cookie);
    assert_eq!(answered(bench.request("GET", "/admin/api/session").header("cookie", one)).await.0, 200);
}

#[tokio::test]
async fn who_signs_out_is_out() {
    let bench = Bench::with_people().await;
    let browser = bench.browser("alice").await;
    let out = || bench.request("POST", "/admin/api/logout").header("cookie", &browser.cookie);
    assert_eq!(code(out()).await, (403, "csrf".into()));
    let response = out().header("x-weir-csrf", &browser.csrf).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 204);
    assert_eq!(header(&response, "set-cookie"), Some("weir_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"));
    assert_eq!(code(out().header("x-weir-csrf", &browser.csrf)).await.0, 401);
    let session = bench.request("GET", "/admin/api/session").header("cookie", &browser.cookie);
    assert_eq!(code(session).await.0, 401);
}

#[tokio::test]
async fn what_is_followed_ends_with_the_session() {
    let bench = Bench::with_people().await;
    let browser = bench.browser("root").await;
    let mut events = bench.request("GET", "/admin/api/events").header("cookie", &browser.cookie).send().await.unwrap();
    assert!(events.chunk().await.unwrap().unwrap().starts_with(b": follows\n\n"));
    let tell = || bench.gateway.live.publish(audit::Event::ConfigReloaded(7));
    tell();
    assert!(events.chunk().await.unwrap().is_some());
    let out = bench.request("POST", "/admin/api/logout").header("cookie", &browser.cookie);
    assert_eq!(answered(out.header("x-weir-csrf", &browser.csrf)).await.0, 204);
    tell();
    assert_eq!(events.chunk().await.unwrap(), None, "what came after is not said");
}

#[tokio::test]
async fn few_wait_for_their_passwords_to_be_looked_at_and_nobody_else_waits_for_them() {
    let home = tempfile::tempdir().unwrap();
    let gateway = Gateway { identity: Identity::open(home.path()).unwrap(), ..Gateway::new() };
    let bench = Bench::with(gateway, None, Limits::DEFAULT);
    let logins = (0..60).map(|n| {
        let body = json!({ "username": format!("user-{n}"), "password": "wrong password" }).to_string();
        let request = bench.request("POST", "/admin/api/login").header("x-forwarded-for", format!("198.51.100.{n}"));
        async move { request.body(body).send().await.unwrap().status().as_u16() }
    });
    let logins = tokio::spawn(futures::future::join_all(logins.collect::<Vec<_>>()));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(bench.get("/healthz", None).await, (200, "ok".into()));
    assert!(!logins.is_finished(), "passwords take longer than that");
    let statuses = logins.await.unwrap();
    let with = |status| statuses.iter().filter(|found| **found == status).count();
    assert_eq!(with(401) + with(429), 60, "{statuses:?}");
    assert!(with(401) >= 16 && with(429) > 0, "{statuses:?}");
}

#[tokio::test]
async fn a_name_that_nobody_has_costs_a_hash_too() {
    let home = tempfile::tempdir().unwrap();
    let gateway = Gateway { identity: Identity::open(home.path()).unwrap(), ..Gateway::new() };
    let bench = Bench::with(gateway, None, Limits::DEFAULT);
    let gateway = bench.gateway.clone();
    tokio::task::spawn_blocking(move || {
        let password = gateway.identity.hash(Secret::new(PASSWORD)).unwrap();
        let (limits, price_rate) = Default::default();
        let (name, role) = ("alice".into(), Role::User);
        gateway.identity.know(&[User { name, limits, price_rate, max_keys: 1, role, password: Some(password) }]);
    })
    .await
    .unwrap();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (times, name) in times.iter_mut().zip(["alice", "nobody"]) {
            let begun = Instant::now();
            let status = bench.login(&json!({ "username": name, "password": "wrong password" })).await.status();
            assert_eq!(status.as_u16(), 401);
            times.push(begun.elapsed());
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort_unstable();
        times[2]
    });
    assert!(unknown > known / 2 && known > unknown / 2, "{known:?} for one that is there, {unknown:?} for none");
    assert!(known > Duration::from_millis(5), "a hash takes its time: {known:?}");
}

//! People who have signed in, as a browser shows them.

use serde_json::{Value, json};

use super::{Answer, Gateway};
use crate::support::client::Request;

/// A signed-in browser: a cookie, and a page that knows what to send along.
#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) cookie: String,
    pub(crate) csrf: String,
}

impl Gateway {
    /// Asks to be let in.
    pub(crate) async fn login(&self, credential: &Value) -> Answer {
        self.admin_request("POST", "/admin/api/login").json(credential).send().await
    }

    /// A browser in which the user of that name has signed in.
    pub(crate) async fn browser(&self, name: &str, password: &str) -> Browser {
        let answer = self.login(&json!({ "username": name, "password": password })).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let cookie = answer.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        Browser { cookie, csrf: answer.json()["csrf"].as_str().expect("a token").to_owned() }
    }
}

impl Browser {
    /// A request of the page.
    pub(crate) fn ask(&self, gateway: &Gateway, method: &str, path: &str) -> Request {
        let request = gateway.admin_request(method, path).header("cookie", &self.cookie);
        request.header("x-weir-csrf", &self.csrf).header("sec-fetch-site", "same-origin")
    }

    /// The status of its session.
    pub(crate) async fn status(&self, gateway: &Gateway) -> u16 {
        self.ask(gateway, "GET", "/admin/api/session").send().await.status
    }

    /// What a page gets; it must be there.
    pub(crate) async fn get(&self, gateway: &Gateway, path: &str) -> Value {
        let answer = self.ask(gateway, "GET", path).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// What is answered to a change.
    pub(crate) async fn change(&self, gateway: &Gateway, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.ask(gateway, method, path).json(body).send().await;
        (answer.status, if answer.body.is_empty() { Value::Null } else { answer.json() })
    }
}

//! The admin API as its users ask it: JSON there, JSON back.

use serde_json::Value;

use super::{Answer, Gateway};

/// A path of the admin API.
pub(crate) struct Asked<'g> {
    gateway: &'g Gateway,
    path: String,
}

impl Gateway {
    /// A path below `/admin/api`.
    pub(crate) fn api(&self, path: &str) -> Asked<'_> {
        Asked { gateway: self, path: format!("/admin/api/{path}") }
    }
}

impl Asked<'_> {
    pub(crate) async fn get(self) -> Value {
        self.send("GET", None).await.expect(200)
    }

    /// All rows of a list.
    pub(crate) async fn rows(self) -> Vec<Value> {
        self.get().await["rows"].as_array().expect("rows").clone()
    }

    pub(crate) async fn post(self, body: &Value) -> Said {
        self.send("POST", Some(body)).await
    }

    pub(crate) async fn put(self, body: &Value) -> Said {
        self.send("PUT", Some(body)).await
    }

    pub(crate) async fn patch(self, body: &Value) -> Said {
        self.send("PATCH", Some(body)).await
    }

    pub(crate) async fn delete(self) -> Said {
        self.send("DELETE", None).await
    }

    pub(crate) async fn send(self, method: &str, body: Option<&Value>) -> Said {
        let request = self.gateway.admin(method, &self.path);
        let request = if let Some(body) = body { request.json(body) } else { request };
        Said { asked: format!("{method} {}", self.path), answer: request.send().await }
    }
}

/// What was answered.
pub(crate) struct Said {
    asked: String,
    pub(crate) answer: Answer,
}

impl Said {
    /// The answer's JSON, which must come with this status; `null` if it has none.
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.answer.status, status, "{}: {}", self.asked, self.answer.text());
        if self.answer.body.is_empty() { Value::Null } else { self.answer.json() }
    }

    /// The code and the message of an error, which must come with this status.
    pub(crate) fn refused(self, status: u16) -> (String, String) {
        let json = self.expect(status);
        let text = |field: &str| json["error"][field].as_str().expect("text").to_owned();
        (text("code"), text("message"))
    }
}

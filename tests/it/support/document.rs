//! The OpenAPI document that a gateway gives of itself, and answers held against it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Answer, Gateway};

/// An answer as the document lists it: the operation, the status, and the code if it is an error.
pub(crate) type Case = (String, u16, Option<String>);

/// The document, and which of its answers were seen.
pub(crate) struct Document {
    document: Value,
    pub(crate) seen: BTreeSet<Case>,
}

/// A method and a path of the document.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) says: Value,
}

impl Operation {
    fn id(&self) -> String {
        self.says["operationId"].as_str().expect("an id").to_owned()
    }

    /// Whether it has a parameter of this name or in this place.
    pub(crate) fn takes(&self, what: &str) -> bool {
        let parameters = self.says["parameters"].as_array().expect("parameters");
        parameters.iter().any(|parameter| parameter["name"] == what || parameter["in"] == what)
    }

    /// Whether it is for administrators, or for anybody.
    pub(crate) fn is_for_no_user(&self) -> bool {
        let ways = self.says["security"].as_array().expect("ways");
        let by = |scheme: &str| ways.iter().any(|way| way.get(scheme).is_some());
        by("token") || !(by("session") || self.id() == "login")
    }

    /// Whether it takes a body of JSON.
    pub(crate) fn reads_json(&self) -> bool {
        self.says["requestBody"]["content"].get("application/json").is_some()
    }

    /// Whether it can be refused so.
    pub(crate) fn refuses(&self, code: &str) -> bool {
        self.cases().iter().any(|(_, _, refusal)| refusal.as_deref() == Some(code))
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (status, response) in self.says["responses"].as_object().expect("responses") {
            let status = status.parse().expect("a status");
            let schema = &response["content"]["application/json"]["schema"];
            match schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"].as_array() {
                Some(codes) => {
                    let code = |code: &Value| Some(code.as_str().expect("a code").to_owned());
                    cases.extend(codes.iter().map(|c| (self.id(), status, code(c))));
                }
                None => cases.push((self.id(), status, None)),
            }
        }
        cases
    }
}

impl Document {
    pub(crate) async fn of(gateway: &Gateway) -> Self {
        let answer = gateway.admin("GET", "/admin/api/openapi.json").send().await;
        assert_eq!(answer.status, 200);
        Self { document: answer.json(), seen: BTreeSet::new() }
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (path, methods) in self.document["paths"].as_object().expect("paths") {
            for (method, says) in methods.as_object().expect("operations") {
                let (method, path) = (method.to_uppercase(), path.clone());
                operations.push(Operation { method, path, says: says.clone() });
            }
        }
        operations
    }

    /// Every answer that it lists of those operations.
    pub(crate) fn cases(&self, of: impl Fn(&Operation) -> bool) -> BTreeSet<Case> {
        self.operations().iter().filter(|operation| of(operation)).flat_map(Operation::cases).collect()
    }

    fn operation(&self, method: &str, path: &str) -> Operation {
        let path = path.split('?').next().unwrap_or(path);
        let segments: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let parts: Vec<&str> = template.split('/').collect();
            parts.len() == segments.len()
                && parts.iter().zip(&segments).all(|(part, segment)| part.starts_with('{') || part == segment)
        };
        let mut found: Vec<Operation> =
            self.operations().into_iter().filter(|o| o.method == method && fits(&o.path)).collect();
        // What is written out goes before what stands for anything.
        found.sort_by_key(|operation| operation.path.matches('{').count());
        found.into_iter().next().unwrap_or_else(|| panic!("{method} {path} is not in the document"))
    }

    /// Panics if the document does not list such an answer.
    pub(crate) fn check(&mut self, method: &str, path: &str, answer: &Answer) {
        let operation = self.operation(method, path);
        let what = format!("{method} {path}: {} {}", answer.status, answer.text());
        let response = &operation.says["responses"][answer.status.to_string()];
        assert!(response.is_object(), "no such status: {what}");
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let value = answer.header(name);
            assert!(!value.is_empty(), "without {name}: {what}");
            self.validate(&header["schema"], &value.into(), &what);
        }
        let mut code = None;
        match response["content"].as_object() {
            None => assert!(answer.body.is_empty(), "a body: {what}"),
            Some(content) => {
                let (content_type, media) = content.iter().next().expect("a type");
                assert_eq!(answer.header("content-type"), content_type, "{what}");
                if content_type == "application/json" {
                    let body = answer.json();
                    self.validate(&media["schema"], &body, &what);
                    // What was tried out tells of errors in an answer that is none.
                    code = body["error"]["code"].as_str().filter(|_| answer.status >= 400).map(str::to_owned);
                }
            }
        }
        let case = (operation.id(), answer.status, code);
        assert!(operation.cases().contains(&case), "not listed: {what}");
        self.seen.insert(case);
    }

    fn validate(&self, schema: &Value, value: &Value, what: &str) {
        let mut whole = schema.clone();
        whole["components"] = self.document["components"].clone();
        let validator = jsonschema::draft202012::new(&whole).expect("a schema");
        let wrong: Vec<String> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{}\nin {what}", wrong.join("\n"));
    }
}

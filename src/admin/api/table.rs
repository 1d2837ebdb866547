//! The table of endpoints: what the router is made from, and the OpenAPI document too.
//!
//! Owns what a row says: method, path, who may come in, what is asked and every way it can be answered. A path without a
//! row is no path, so none goes without being documented. Knows nothing of what handlers do, nor of the document's form.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use serde_json::Value;

use super::problem::{self, Problem};
use crate::admin::server::Shared;

/// Below this everything but what is open needs a credential, paths that are not there included.
pub(super) const API: &str = "/admin/api";

/// Below this is what users see of themselves.
pub(super) const OWN: &str = "/api";

/// Who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody.
    Open,
    /// Whoever has the metrics token, or anybody if there is none.
    Metrics,
    /// An administrator.
    Admin,
    /// Whoever signs in, or has; the handler looks for themselves.
    Person,
    /// Whoever has signed in as a user, or has a client key; the handler looks for itself.
    Own,
}

/// A row.
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// What generated clients call it.
    pub(super) id: &'static str,
    pub(super) access: Access,
    /// A sentence.
    pub(super) summary: &'static str,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    pub(super) problems: Vec<Problem>,
    route: MethodRouter<Arc<Shared>>,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
}

/// What may be asked beside the body.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) is_required: bool,
    pub(super) about: &'static str,
    pub(super) schema: Value,
}

impl Parameter {
    /// A part of the path.
    pub(super) fn path(name: &'static str, about: &'static str, schema: Value) -> Self {
        Self { name, place: Place::Path, is_required: true, about, schema }
    }

    /// A parameter that may be left out.
    pub(super) fn query(name: &'static str, about: &'static str, schema: Value) -> Self {
        Self { name, place: Place::Query, is_required: false, about, schema }
    }

    /// A header that may be left out.
    pub(super) fn header(name: &'static str, about: &'static str, schema: Value) -> Self {
        Self { name, place: Place::Header, is_required: false, about, schema }
    }

    /// It must be given.
    pub(super) fn required(mut self) -> Self {
        self.is_required = true;
        self
    }
}

/// What a request's body is.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) content_type: &'static str,
    pub(super) schema: Value,
    pub(super) is_required: bool,
}

/// An answer that is no error.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) about: &'static str,
    /// Its type and schema, if it has a body.
    pub(super) content: Option<(&'static str, Value)>,
    pub(super) has_etag: bool,
}

impl Endpoint {
    fn new<H, T>(method: Method, path: &'static str, id: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<Shared>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a method that axum routes");
        Self {
            method,
            path,
            id,
            access,
            summary: "",
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: Vec::new(),
            route: on(filter, handler),
        }
    }

    /// What anybody may do.
    pub(super) fn open<H, T>(method: Method, path: &'static str, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Shared>>,
        T: 'static,
    {
        Self::new(method, path, id, Access::Open, handler)
    }

    /// What the metrics token is for.
    pub(super) fn metrics<H, T>(method: Method, path: &'static str, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Shared>>,
        T: 'static,
    {
        Self::new(method, path, id, Access::Metrics, handler).refuses(&[problem::UNAUTHORIZED])
    }

    /// What only administrators may do; its path is below [`API`].
    pub(super) fn admin<H, T>(method: Method, path: &'static str, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Shared>>,
        T: 'static,
    {
        assert!(path.strip_prefix(API).is_some_and(|rest| rest.starts_with('/')), "{path} is not below {API}");
        let is_read = method == Method::GET;
        let row =
            Self::new(method, path, id, Access::Admin, handler).refuses(&[problem::UNAUTHORIZED, problem::FORBIDDEN]);
        if is_read { row } else { row.refuses(&[problem::CSRF]) }
    }

    /// Signing in, and what concerns whoever has; its path is below [`API`].
    pub(super) fn person<H, T>(method: Method, path: &'static str, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Shared>>,
        T: 'static,
    {
        Self::new(method, path, id, Access::Person, handler).refuses(&[problem::UNAUTHORIZED])
    }

    /// What somebody sees of themselves; its path is below [`OWN`].
    pub(super) fn own<H, T>(method: Method, path: &'static str, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Shared>>,
        T: 'static,
    {
        Self::new(method, path, id, Access::Own, handler).refuses(&[
            problem::BAD_REQUEST,
            problem::UNAUTHORIZED,
            problem::FORBIDDEN,
        ])
    }

    /// Says what it does, in a sentence.
    pub(super) fn about(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    /// Takes a parameter. One of the query makes the query be read, strictly.
    pub(super) fn takes(mut self, parameter: Parameter) -> Self {
        if parameter.place == Place::Query {
            self = self.refuses(&[problem::BAD_REQUEST]);
        }
        self.parameters.push(parameter);
        self
    }

    /// Takes a body of JSON, of a few thousand bytes at most.
    pub(super) fn reads(self, schema: Value) -> Self {
        self.reads_as("application/json", schema, true).refuses(&[problem::BAD_REQUEST])
    }

    /// The same where nothing at all stands for an empty object.
    pub(super) fn may_read(self, schema: Value) -> Self {
        self.reads_as("application/json", schema, false).refuses(&[problem::BAD_REQUEST])
    }

    /// Takes a body of any type.
    pub(super) fn reads_as(mut self, content_type: &'static str, schema: Value, is_required: bool) -> Self {
        self.body = Some(Body { content_type, schema, is_required });
        self.refuses(&[problem::TOO_LARGE])
    }

    /// Takes bodies of up to so many bytes.
    pub(super) fn up_to(mut self, bytes: usize) -> Self {
        self.route = self.route.layer(DefaultBodyLimit::max(bytes));
        self
    }

    /// Its handler limits the body itself.
    pub(super) fn limits_itself(mut self) -> Self {
        self.route = self.route.layer(DefaultBodyLimit::disable());
        self
    }

    /// Is answered with JSON.
    pub(super) fn gives(self, status: u16, about: &'static str, schema: Value) -> Self {
        self.gives_as(status, about, Some(("application/json", schema)))
    }

    /// Is answered with JSON and the tag that `If-Match` asks for.
    pub(super) fn gives_tagged(self, status: u16, about: &'static str, schema: Value) -> Self {
        let mut row = self.gives(status, about, schema);
        row.answers.last_mut().expect("it was just given").has_etag = true;
        row
    }

    /// Is answered with something else, or with no body.
    pub(super) fn gives_as(mut self, status: u16, about: &'static str, content: Option<(&'static str, Value)>) -> Self {
        self.answers.push(Answer { status, about, content, has_etag: false });
        self
    }

    /// May be refused so.
    pub(super) fn refuses(mut self, problems: &[Problem]) -> Self {
        let new = problems.iter().filter(|new| !self.problems.contains(new)).copied().collect::<Vec<_>>();
        self.problems.extend(new);
        self
    }

    /// Asks the state, which may take its time or fail.
    pub(super) fn asks(self) -> Self {
        self.refuses(&[problem::FAILED, problem::UNAVAILABLE])
    }

    /// What the router has of it.
    pub(super) fn into_route(self) -> (&'static str, MethodRouter<Arc<Shared>>) {
        (self.path, self.route)
    }
}

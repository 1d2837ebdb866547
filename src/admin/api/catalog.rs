//! `/admin/api/{keys,users,channels,prices}`: what may be made, changed and removed while the gateway runs.
//!
//! Owns which request means which command, and the status of each answer. What a command does, and what an
//! object's fields are, it leaves to the state.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use weir_filters::etag::IfMatch;

use super::document::schemas::{count, cursor, decimal, etag, exactly, limit, list, of, or_null, text};
use super::expected::{self, Expected};
use super::parameters::{self, Mistake, Parameters};
use super::problem::{self, CHANGE, Problem};
use super::table::{Endpoint, Parameter};
use super::{answer, body};
use crate::admin::AdminState;
use crate::admin::server::{Failed, Shared};
use crate::catalog::{Command, Kind, MAX_LIMIT, Refused, Wanted};
use crate::changes::Actor;

/// Bytes of a price table: all models that LiteLLM lists are a tenth of it.
const MAX_PRICES: usize = 8 << 20;

/// Bytes that are searched for: a name has at most 128.
const MAX_WORD: usize = 256;

type Body = Result<Bytes, BytesRejection>;
type Handle = Result<Path<String>, PathRejection>;

/// What the rows of a kind say differently.
struct Words {
    kind: Kind,
    all: &'static str,
    one: &'static str,
    /// What generated clients call listing, making, showing, changing and removing.
    ids: [&'static str; 5],
    /// How one is found.
    handle: &'static str,
    schemas: [&'static str; 3],
    /// What may keep one from being made, changed or removed, beside what may keep any.
    problems: [&'static [Problem]; 3],
}

const WORDS: [Words; 3] = [
    Words {
        kind: Kind::Key,
        all: "/admin/api/keys",
        one: "/admin/api/keys/{id}",
        ids: ["listKeys", "createKey", "getKey", "updateKey", "deleteKey"],
        handle: "id",
        schemas: ["Key", "KeyNew", "KeyChange"],
        problems: [&[problem::NAME_TAKEN, problem::TOO_MANY_KEYS], &[problem::NAME_TAKEN, problem::TOO_MANY_KEYS], &[]],
    },
    Words {
        kind: Kind::User,
        all: "/admin/api/users",
        one: "/admin/api/users/{name}",
        ids: ["listUsers", "createUser", "getUser", "updateUser", "deleteUser"],
        handle: "name",
        schemas: ["User", "UserNew", "UserChange"],
        problems: [&[problem::NAME_TAKEN], &[], &[problem::IN_USE]],
    },
    Words {
        kind: Kind::Channel,
        all: "/admin/api/channels",
        one: "/admin/api/channels/{name}",
        ids: ["listChannels", "createChannel", "getChannel", "updateChannel", "deleteChannel"],
        handle: "name",
        schemas: ["Channel", "ChannelNew", "ChannelChange"],
        problems: [&[problem::NAME_TAKEN], &[], &[problem::IN_USE]],
    },
];

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let id = || Parameter::path("id", "The key's id.", handle());
    let overlap = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": { "overlap": or_null(json!({ "type": "string", "examples": ["24h"] })) },
    });
    let rates = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["price_rate"],
        "properties": {
            "users": or_null(json!({ "type": "array", "minItems": 1, "items": text() })),
            "price_rate": decimal(),
        },
    });
    let names = || list(json!({ "type": "string" }));
    let table = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["models"],
        "properties": { "models": { "type": "array", "minItems": 1, "items": of("Price") } },
    });
    let mut rows: Vec<Endpoint> = WORDS.into_iter().flat_map(of_kind).collect();
    rows.extend([
        Endpoint::admin(Method::POST, "/admin/api/keys/{id}/rotate", "rotateKey", rotate)
            .about("Gives a key another secret, which is shown this once; the old one counts for `overlap` longer, at most 30d.")
            .takes(id())
            .takes(expected::parameter())
            .may_read(overlap)
            .gives_tagged(200, "The key, with its new secret.", of("KeyMade"))
            .refuses(&[problem::INVALID, problem::NOT_FOUND, problem::DECLARED, problem::CHANGED])
            .refuses(&CHANGE)
            .asks(),
        Endpoint::admin(Method::POST, "/admin/api/users/price-rate", "setPriceRates", set_rates)
            .about("Sets the price rate of several users, or of all that were made here, or of none; those of more than a hundred are one change of the record.")
            .reads(rates)
            .gives(200, "Those whose rate was set.", exactly(json!({ "rows": list(of("User")) })))
            .refuses(&[problem::INVALID, problem::DECLARED])
            .refuses(&CHANGE)
            .asks(),
        Endpoint::admin(Method::GET, "/admin/api/channels/order", "getChannelOrder", show_order)
            .about("The channels that were made here, in the order in which they are asked.")
            .gives_tagged(200, "Their names.", exactly(json!({ "names": names(), "etag": etag() })))
            .asks(),
        Endpoint::admin(Method::PUT, "/admin/api/channels/order", "setChannelOrder", order)
            .about("Puts the channels that were made here in an order: each gets its place for a priority. All must be named.")
            .takes(expected::parameter())
            .reads(names())
            .gives_tagged(
                200,
                "The channels, with the tag of their order.",
                exactly(json!({ "rows": list(of("Channel")), "etag": etag() })),
            )
            .refuses(&[problem::INVALID, problem::DECLARED, problem::CHANGED])
            .refuses(&CHANGE)
            .asks(),
        Endpoint::admin(Method::GET, "/admin/api/prices", "getPrices", show_prices)
            .about("The price table in force, in its order: the first glob that matches counts.")
            .gives_tagged(200, "The table.", of("Prices"))
            .asks(),
        Endpoint::admin(Method::PUT, "/admin/api/prices", "setPrices", set_prices)
            .about("Puts a table in the place of the file's.")
            .takes(expected::parameter())
            .reads(table)
            .up_to(MAX_PRICES)
            .gives_tagged(200, "The table.", of("Prices"))
            .refuses(&[problem::INVALID, problem::CHANGED])
            .refuses(&CHANGE)
            .asks(),
        Endpoint::admin(Method::DELETE, "/admin/api/prices", "unsetPrices", unset_prices)
            .about("Goes back to the table of the file.")
            .takes(expected::parameter())
            .gives_as(204, "It is done.", None)
            .refuses(&[problem::BAD_REQUEST, problem::NOT_FOUND, problem::CHANGED, problem::NOT_KEPT, problem::UPGRADING])
            .asks(),
    ]);
    rows
}

fn of_kind(words: Words) -> [Endpoint; 5] {
    let Words { kind, all, one, ids, handle: name, schemas, problems } = words;
    let [shown, new, change] = schemas;
    let found = || Parameter::path(name, "What it is found by.", handle());
    let page = exactly(json!({ "rows": list(of(shown)), "next": or_null(cursor()), "total": count() }));
    let is_made = if kind == Kind::Key { of("KeyMade") } else { of(shown) };
    let q = "Only those of which this is a part of the name, the id or the user, in any case.";
    let [list_id, make_id, show_id, change_id, remove_id] = ids;
    let list = move |desk: Desk, parameters: Parameters| async move {
        match parameters::parsed(parameters, parse) {
            Ok(wanted) => desk.run(Command::List(kind, wanted), object).await,
            Err(answer) => *answer,
        }
    };
    let make = move |desk: Desk, body: Body| async move {
        match body::object(body) {
            Ok(fields) => desk.run(Command::Make(kind, fields), created).await,
            Err(unfit) => unfit.answer(),
        }
    };
    let show = move |desk: Desk, handle: Handle| async move {
        match handle {
            Ok(Path(handle)) => desk.run(Command::Show(kind, handle), tagged).await,
            Err(_) => answer::not_found().await,
        }
    };
    let patch = move |desk: Desk, expected: Expected, handle: Handle, body: Body| async move {
        match (handle, body::object(body)) {
            (Ok(Path(handle)), Ok(patch)) => {
                desk.expects(expected).run(Command::Change(kind, handle, patch), tagged).await
            }
            (Err(_), _) => answer::not_found().await,
            (_, Err(unfit)) => unfit.answer(),
        }
    };
    let remove = move |desk: Desk, expected: Expected, handle: Handle| async move {
        match handle {
            Ok(Path(handle)) => desk.expects(expected).run(Command::Remove(kind, handle), nothing).await,
            Err(_) => answer::not_found().await,
        }
    };
    [
        Endpoint::admin(Method::GET, all, list_id, list)
            .about("Those of the file first, then those that were made here, in the order in which they were.")
            .takes(Parameter::query("limit", "How many at most; all if nothing is said.", limit(MAX_LIMIT)))
            .takes(Parameter::query("cursor", "The `next` of the page before.", cursor()))
            .takes(Parameter::query("q", q, json!({ "type": "string", "minLength": 1, "maxLength": MAX_WORD })))
            .gives(200, "A page, and how many there are on all pages.", page)
            .asks(),
        Endpoint::admin(Method::POST, all, make_id, make)
            .about("Makes one.")
            .reads(of(new))
            .gives_tagged(201, "It is in force and on the disk.", is_made)
            .refuses(&[problem::INVALID])
            .refuses(problems[0])
            .refuses(&CHANGE)
            .asks(),
        Endpoint::admin(Method::GET, one, show_id, show)
            .about("Shows one.")
            .takes(found())
            .gives_tagged(200, "It.", of(shown))
            .refuses(&[problem::NOT_FOUND])
            .asks(),
        Endpoint::admin(Method::PATCH, one, change_id, patch)
            .about("Changes the fields that are given, and takes away those that are null (RFC 7396).")
            .takes(found())
            .takes(expected::parameter())
            .reads(of(change))
            .gives_tagged(200, "It, as it is now.", of(shown))
            .refuses(&[problem::INVALID, problem::NOT_FOUND, problem::DECLARED, problem::CHANGED])
            .refuses(problems[1])
            .refuses(&CHANGE)
            .asks(),
        Endpoint::admin(Method::DELETE, one, remove_id, remove)
            .about("Removes one.")
            .takes(found())
            .takes(expected::parameter())
            .gives_as(204, "It is gone.", None)
            .refuses(&[problem::BAD_REQUEST, problem::NOT_FOUND, problem::DECLARED, problem::CHANGED])
            .refuses(problems[2])
            .refuses(&[problem::NOT_KEPT, problem::UPGRADING])
            .asks(),
    ]
}

fn handle() -> Value {
    json!({ "type": "string", "minLength": 1, "pattern": "^[^/]+$" })
}

async fn rotate(desk: Desk, expected: Expected, handle: Handle, body: Body) -> Response {
    match (handle, body::object(body)) {
        (Ok(Path(id)), Ok(fields)) => desk.expects(expected).run(Command::Rotate(id, fields), tagged).await,
        (Err(_), _) => answer::not_found().await,
        (_, Err(unfit)) => unfit.answer(),
    }
}

async fn set_rates(desk: Desk, body: Body) -> Response {
    match body::object(body) {
        Ok(fields) => desk.run(Command::Rates(fields), object).await,
        Err(unfit) => unfit.answer(),
    }
}

async fn show_order(desk: Desk) -> Response {
    desk.run(Command::ShowOrder, tagged).await
}

async fn order(desk: Desk, expected: Expected, body: Body) -> Response {
    match body::names(body) {
        Ok(names) => desk.expects(expected).run(Command::Order(names), tagged).await,
        Err(unfit) => unfit.answer(),
    }
}

async fn show_prices(desk: Desk) -> Response {
    desk.run(Command::Prices, tagged).await
}

async fn set_prices(desk: Desk, expected: Expected, body: Body) -> Response {
    match body::object(body) {
        Ok(fields) => desk.expects(expected).run(Command::SetPrices(fields), tagged).await,
        Err(unfit) => unfit.answer(),
    }
}

async fn unset_prices(desk: Desk, expected: Expected) -> Response {
    desk.expects(expected).run(Command::UnsetPrices, nothing).await
}

/// Which objects of a list are wanted.
fn parse(parameters: &[(String, String)]) -> Result<Wanted, Mistake> {
    let [limit, cursor, q] = parameters::values(parameters, ["limit", "cursor", "q"])?;
    Ok(Wanted {
        limit: parameters::limit(limit, MAX_LIMIT)?,
        cursor: parameters::cursor(cursor)?,
        q: parameters::word("q", q, MAX_WORD)?,
    })
}

/// Where commands are handed in: by whom, and on what condition.
struct Desk {
    shared: Arc<Shared>,
    who: Actor,
    expected: Option<IfMatch>,
}

impl FromRequestParts<Arc<Shared>> for Desk {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Response> {
        // Every door behind which commands are says who comes in.
        let who = parts.extensions.get::<Actor>().cloned().ok_or_else(answer::failed)?;
        Ok(Self { shared: Arc::clone(shared), who, expected: None })
    }
}

impl Desk {
    /// The command is carried out only if what it changes is still the same.
    fn expects(self, Expected(expected): Expected) -> Self {
        Self { expected, ..self }
    }

    /// What is said is put into words where the command is carried out: a list may be of tens of thousands, and the
    /// thread that serves everybody waits for nothing.
    async fn run(self, command: Command, said: impl FnOnce(Value) -> Response + Send + 'static) -> Response {
        let Self { shared, who, expected } = self;
        let is_change = command.is_change();
        let run = move |state: &dyn AdminState| match state.catalog(command, &who, expected.as_ref()) {
            Ok(value) => said(value),
            Err(refused) => self::refused(&refused),
        };
        let answered = if is_change { shared.change(run).await } else { shared.query(run).await };
        answered.unwrap_or_else(|Failed| answer::failed())
    }
}

fn object(object: Value) -> Response {
    answer::ok(&object)
}

fn tagged(object: Value) -> Response {
    answer::tagged(StatusCode::OK, &object)
}

fn nothing(_: Value) -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn created(object: Value) -> Response {
    answer::tagged(StatusCode::CREATED, &object)
}

pub(super) fn refused(refused: &Refused) -> Response {
    match refused {
        Refused::Invalid(wrong) => answer::invalid(wrong.iter().map(|wrong| (&*wrong.field, &*wrong.message))),
        Refused::NotFound(kind) => answer::error(StatusCode::NOT_FOUND, &format!("there is no such {}", kind.name())),
        Refused::NoPrices => answer::error(StatusCode::NOT_FOUND, "no price table was made over the API"),
        Refused::Changed => {
            let message = "it was changed meanwhile; look at it again before you change it";
            answer::coded(StatusCode::PRECONDITION_FAILED, "changed", message)
        }
        Refused::Conflict { code, message } => answer::coded(StatusCode::CONFLICT, code, message),
        Refused::NotKept(message) => answer::coded(StatusCode::INTERNAL_SERVER_ERROR, "not_kept", message),
        Refused::NoRandomness => answer::failed(),
    }
}

//! What would become of a request that is not sent.
//!
//! Owns the account of the decisions. The decisions are those of the requests that are: the same routes, keys,
//! channels, plans and header policy. It does without what only a running gateway knows: what is used of limits,
//! and which channels cool down.

use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri};
use weir_filters::credential::{present, strip_query};
use weir_filters::key::{Admitted, KeyEntry};
use weir_filters::protocol::Protocol;
use weir_filters::refusal::Refusal;
use weir_filters::request::{BodyFacts, BodyScanner};
use weir_filters::route::{Match, Operation};

use crate::channels::{Channel, Wish};

use super::plan::plan;
use super::request::{check_model, dialect, dialect_of, facts, is_read};
use super::{Snapshot, attempt};

/// A request that is not sent.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Path and query; where it would be sent does not matter.
    pub uri: Uri,
    /// Its header lines.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// What would become of it, as far as it would come.
#[derive(Debug, Default)]
pub struct Explanation {
    /// The route's name and operation.
    pub route: Option<(Arc<str>, Operation)>,
    /// The key that was presented, whether it may or not.
    pub key: Option<Arc<KeyEntry>>,
    /// The model that the client asks for.
    pub model: Option<String>,
    /// The channels that may serve it, in the order in which they are asked.
    pub channels: Vec<Arc<Channel>>,
    /// What the first of them is asked.
    pub upstream: Option<Upstream>,
    /// Why it would not be sent.
    pub refusal: Option<Refusal>,
}

/// What an upstream would be asked.
#[derive(Debug)]
pub struct Upstream {
    /// Path and query.
    pub target: String,
    /// The model that it is asked for, if that is another one.
    pub model: Option<String>,
    /// Whether Weir asks for a report of usage that the client did not ask for.
    pub asks_for_usage: bool,
    /// The client's header lines that are left out.
    pub removed: Vec<HeaderName>,
    /// The lines that are set, in place of the client's if it had some. `None` for a value that is a secret.
    pub set: Vec<(HeaderName, Option<HeaderValue>)>,
}

impl Snapshot {
    /// Tells what would become of a request that arrives at `now_ms`, in milliseconds since 1970.
    pub fn explain(&self, asked: &Asked, now_ms: u64) -> Explanation {
        let mut explanation = Explanation::default();
        explanation.refusal = self.follow(asked, now_ms, &mut explanation).err();
        explanation
    }

    fn follow(&self, asked: &Asked, now_ms: u64, told: &mut Explanation) -> Result<(), Refusal> {
        let (path, query) = (asked.uri.path(), asked.uri.query());
        let route = self.routes.find(&asked.method, path)?;
        told.route = Some((self.route_names[route.index].clone(), route.operation));
        let protocol = dialect(&route, dialect_of(path), &asked.headers);
        let admitted = self.identify(asked, protocol, now_ms, told)?;
        if route.operation == Operation::Models {
            return Ok(());
        }
        let facts = self.read(asked, &route)?;
        let named = facts.as_ref().and_then(|facts| Some(&*facts.model.as_ref()?.value));
        let model = route.model.or(named);
        told.model = model.map(str::to_owned);
        check_model(&route, &admitted, model)?;

        let protocol = route.operation.protocol();
        let wish = Wish { protocol, model, among: route.channels, last: None, chance: 0, now: Instant::now() };
        let permits = |name: &str| admitted.permits_channel(name);
        told.channels = self.channels.permitted(&wish, permits).cloned().collect();
        told.channels.sort_by_key(|channel| model.is_some_and(|model| channel.is_failing(model)));
        let chosen = self.channels.choose(&wish, permits, |_| true);
        let chosen = chosen.map_err(|e| attempt::refusal(e, model))?.channel;
        if let Some(model) = model.filter(|model| self.refuses_unpriced(route.operation, &chosen, model)) {
            return Err(Refusal::ModelNotPriced { model: model.into() });
        }
        let query = query.map(strip_query);
        let plan = plan(&route, &chosen, path, query.as_deref(), model, facts.as_ref());
        let (removed, set) = self.headers_for(&chosen, &asked.headers);
        told.upstream = Some(Upstream {
            target: plan.target,
            model: model.and_then(|model| chosen.maps(model)).map(str::to_owned),
            asks_for_usage: plan.injected,
            removed,
            set,
        });
        Ok(())
    }

    fn identify(
        &self,
        asked: &Asked,
        protocol: Protocol,
        now_ms: u64,
        told: &mut Explanation,
    ) -> Result<Admitted, Refusal> {
        let credential = present(&asked.headers, asked.uri.query())?;
        match self.keys.admit(&credential, protocol, now_ms) {
            Ok(admitted) => {
                told.key = Some(admitted.key.clone());
                Ok(admitted)
            }
            Err((refusal, key)) => {
                told.key = key;
                Err(refusal)
            }
        }
    }

    fn read(&self, asked: &Asked, route: &Match<'_>) -> Result<Option<BodyFacts>, Refusal> {
        if asked.body.len() > self.max_body {
            return Err(Refusal::BodyTooLarge { limit: self.max_body });
        }
        let is_read = is_read(route, &asked.headers) && asked.method != Method::GET;
        // Without a body there is no model, which only matters where one must be named.
        if !is_read {
            return Ok(None);
        }
        let mut scanner = BodyScanner::new();
        scanner.feed(&asked.body);
        facts(&mut scanner, route)
    }

    fn headers_for(
        &self,
        channel: &Channel,
        client: &HeaderMap,
    ) -> (Vec<HeaderName>, Vec<(HeaderName, Option<HeaderValue>)>) {
        let mut passed = HeaderMap::new();
        self.headers.request(client, |name, value| {
            passed.append(name.clone(), value.clone());
        });
        let removed =
            client.keys().filter(|name| !passed.contains_key(*name) && **name != HOST && **name != CONTENT_LENGTH);
        let mut set = vec![(HOST, Some(channel.host_header().clone()))];
        set.push((http::header::ACCEPT_ENCODING, Some(HeaderValue::from_static("identity"))));
        let of_policy = self.headers.set_request.iter().map(|(name, value)| {
            let shown = (!value.is_sensitive()).then(|| value.clone());
            (name.clone(), shown)
        });
        set.extend(of_policy);
        set.extend(channel.credential(0).map(|(name, _)| (name.clone(), None)));
        let is_set = |name: &HeaderName| set.iter().any(|(set, _)| set == name);
        let removed = removed.filter(|name| !is_set(name)).cloned().collect();
        (removed, set)
    }
}

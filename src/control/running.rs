//! The configuration in force, as JSON in the words of the file.
//!
//! Owns what may be seen of it. As in [`crate::catalog::show`], every field is named: a new one asks here whether it is to
//! be seen. Keys and users are counted, because they have pages of their own and may be a hundred thousand.

use serde_json::{Value, json};

use crate::catalog::show::{self, duration};
use crate::config::{
    Admin, Audit, Bodies, Config, Delivery, Durability, Edge, Files, FullDisk, Headers, History, Ledger, Listen, Login,
    Loki, LokiFormat, Nsq, NsqFormat, Route, Server, Unpriced, WhenFull,
};

/// More channels than these are not listed: they have a page of their own too.
const MAX_CHANNELS: usize = 200;

/// What is in force, without secrets.
pub(super) fn running(config: &Config) -> Value {
    let Config {
        listen,
        server,
        admin,
        data_dir,
        headers,
        channels,
        routes,
        users,
        keys,
        ledger,
        estimates,
        sticky,
        prices,
        unpriced,
        audit,
        read_from: _,
    } = config;
    let sticky = sticky.as_ref().map(
        |sticky| json!({ "header": sticky.header.as_ref().map(http::HeaderName::as_str), "ttl": duration(sticky.ttl) }),
    );
    json!({
        "listen": listen.iter().map(of_listen).collect::<Vec<_>>(),
        "server": of_server(server),
        "admin": of_admin(admin),
        "data_dir": data_dir,
        "headers": of_headers(headers),
        "channels": channels.iter().take(MAX_CHANNELS).map(show::channel).collect::<Vec<_>>(),
        "routes": routes.iter().map(of_route).collect::<Vec<_>>(),
        "counts": { "channels": channels.len(), "users": users.len(), "keys": keys.len() },
        "ledger": of_ledger(ledger),
        "estimates": { "bytes_per_token": estimates.bytes_per_token, "output_tokens": estimates.output_tokens },
        "sticky": sticky,
        "prices": prices.as_ref().map(|table| json!({
            "version": format!("{:016x}", table.version()), "entries": table.len(),
        })),
        "unpriced": match unpriced {
            Unpriced::Allow => "allow",
            Unpriced::Refuse => "refuse",
        },
        "audit": of_audit(audit),
    })
}

fn of_listen(listen: &Listen) -> Value {
    let Listen { address, tls } = listen;
    let tls = tls.as_ref().map(|tls| json!({ "certificate": tls.certificate, "private_key": tls.private_key }));
    json!({ "address": address, "tls": tls })
}

fn of_server(server: &Server) -> Value {
    let Server { threads, max_body, grace_period, keepalive_timeout, edge, upstream_ca } = server;
    let Edge {
        header_timeout,
        max_header,
        connections_per_ip,
        max_connections,
        max_in_flight,
        write_timeout,
        min_drain_rate,
    } = edge;
    json!({
        "threads": threads,
        "max_body": max_body,
        "grace_period": duration(*grace_period),
        "keepalive_timeout": duration(*keepalive_timeout),
        "header_timeout": duration(*header_timeout),
        "max_header": max_header,
        "connections_per_ip": connections_per_ip,
        "max_connections": max_connections,
        "max_in_flight": max_in_flight,
        "write_timeout": duration(*write_timeout),
        "min_drain_rate": min_drain_rate,
        "upstream_ca": upstream_ca,
    })
}

fn of_admin(admin: &Admin) -> Value {
    let Admin { address, token, metrics_token, allow_private_upstreams, trusted_proxies } = admin;
    json!({
        "address": address,
        // Whether they are set: `false` is a token that was made at the first start, and open metrics.
        "has_token": token.is_some(),
        "has_metrics_token": metrics_token.is_some(),
        "allow_private_upstreams": allow_private_upstreams,
        "trusted_proxies": trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn of_headers(headers: &Headers) -> Value {
    let Headers { strip_request, strip_response, set_request } = headers;
    let names = |all: &[http::HeaderName]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "strip_request": names(strip_request),
        "strip_response": names(strip_response),
        // Their values may be credentials.
        "set_request": set_request.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
    })
}

fn of_route(route: &Route) -> Value {
    let Route { path, operation, channels, upstream_path, cors } = route;
    json!({
        "path": path,
        "operation": operation.to_string(),
        "channels": channels,
        "upstream_path": upstream_path,
        "cors": cors.as_ref().map(|cors| json!({ "origins": cors.origins })),
    })
}

fn of_ledger(ledger: &Ledger) -> Value {
    let Ledger { durability, when_full, keep_minutes, keep_hours } = ledger;
    json!({
        "durability": match durability {
            Durability::Relaxed => "relaxed",
            Durability::Strict => "strict",
        },
        "when_full": match when_full {
            WhenFull::Serve => "serve",
            WhenFull::Refuse => "refuse",
        },
        "keep_minutes": duration(*keep_minutes),
        "keep_hours": duration(*keep_hours),
    })
}

fn of_audit(audit: &Audit) -> Value {
    let Audit { node, headers, bodies, max_body, jsonl, access_log, history, loki, nsq } = audit;
    json!({
        "node": node,
        "headers": headers,
        "bodies": match bodies {
            Bodies::None => "none",
            Bodies::Truncated => "truncated",
            Bodies::Full => "full",
        },
        "max_body": max_body,
        "jsonl": jsonl.as_ref().map(of_files),
        "access_log": access_log.as_ref().map(of_files),
        "history": history.as_ref().map(|History { keep, max_total }| json!({
            "keep": duration(*keep), "max_total": max_total,
        })),
        "loki": loki.as_ref().map(of_loki),
        "nsq": nsq.as_ref().map(of_nsq),
    })
}

fn of_files(files: &Files) -> Value {
    let Files { directory, rotate, rotate_every, max_total, compress, when_full } = files;
    json!({
        "directory": directory,
        "rotate": rotate,
        "rotate_every": duration(*rotate_every),
        "max_total": max_total,
        "compress": compress,
        "when_full": match when_full {
            FullDisk::DropOldest => "drop_oldest",
            FullDisk::DropNew => "drop_new",
        },
    })
}

fn of_loki(loki: &Loki) -> Value {
    let Loki { url, labels, format, gzip, tenant, login, delivery, spool } = loki;
    let (username, has_token) = match login {
        Some(Login::Basic { username, password: _ }) => (Some(username), false),
        Some(Login::Bearer(_)) => (None, true),
        None => (None, false),
    };
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    with_delivery(
        json!({
            "url": show::url(url),
            "labels": labels,
            "format": match format {
                LokiFormat::Protobuf => "protobuf",
                LokiFormat::Json => "json",
            },
            "gzip": gzip,
            "tenant": tenant,
            "username": username,
            "has_token": has_token,
            "spool": spool,
        }),
        delivery,
    )
}

fn of_nsq(nsq: &Nsq) -> Value {
    let Nsq { url, topic, format, token, delivery } = nsq;
    with_delivery(
        json!({
            "url": show::url(url),
            "topic": topic,
            "format": match format {
                NsqFormat::Record => "record",
                NsqFormat::AiEvent => "ai_event",
            },
            "has_token": token.is_some(),
        }),
        delivery,
    )
}

fn with_delivery(mut shown: Value, delivery: &Delivery) -> Value {
    let Delivery { batch, batch_wait, timeout } = delivery;
    shown["batch"] = json!(batch);
    shown["batch_wait"] = duration(*batch_wait).into();
    shown["timeout"] = duration(*timeout).into();
    shown
}

//! The way to each channel's upstream, as far as it goes without a request: name, connection, TLS, certificate; and
//! the certificates that clients are shown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::upstreams::peer::{ALPN, HttpPeer};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use weir_filters::address::{Class, Reach};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Finding;
use crate::config::{BaseUrl, Config};

/// Upstreams that are looked at side by side: enough for a hundred that are dead, few enough for any limit on
/// descriptors.
const AT_ONCE: usize = 16;
/// For a name, and for each of connection and TLS: what takes longer is too slow to serve.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// A certificate that ends this soon has not been renewed in time.
const SOON: i64 = 14;
const DAY: i64 = 86_400;

/// Where channels go, by TLS and by whether they may go into the public network alone; those with one origin are
/// looked at once.
type Origins<'a> = BTreeMap<(&'a str, u16, bool, bool), Vec<&'a str>>;

/// A finding for each origin, and one for each certificate that clients are shown.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut origins = Origins::new();
    for channel in &config.channels {
        let BaseUrl { tls, host, port, .. } = &channel.base_url;
        let public = channel.reach == Reach::Public;
        origins.entry((host, *port, *tls, public)).or_default().push(&channel.name);
    }
    let mut findings: Vec<Finding> =
        config.listen.iter().filter_map(|l| l.tls.as_ref()).map(|tls| own(&tls.certificate)).collect();
    if origins.is_empty() {
        return findings;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            findings.push(Finding::problem("channels", e.to_string(), "raise the limits of this process"));
            return findings;
        }
    };
    let mut options = ConnectorOptions::new(1);
    options.ca_file = config.server.upstream_ca.as_ref().map(|path| path.to_string_lossy().into_owned());
    let needed = origins.keys().any(|(_, _, tls, _)| *tls);
    // What cannot be used as authorities ends a gateway in the same place, by a panic.
    let transport = needed.then(|| catch_unwind(AssertUnwindSafe(|| TransportConnector::new(Some(options)))));
    let Some(transport) = transport.transpose().ok() else {
        let advice = "correct `server.upstream_ca`, or the system's certificates; the gateway does not start like this";
        findings.push(Finding::problem("channels", "the authorities for TLS cannot be used", advice));
        return findings;
    };
    let look = |((host, port, tls, public), names): (&(&str, u16, bool, bool), &Vec<&str>)| {
        let what = format!("channel {}", names.join(", "));
        let reach = if *public { Reach::Public } else { Reach::Declared };
        look(what, (*host).to_owned(), *port, reach, transport.as_ref().filter(|_| *tls))
    };
    let looks = futures::stream::iter(origins.iter().map(look)).buffered(AT_ONCE);
    findings.extend(runtime.block_on(looks.collect::<Vec<Finding>>()));
    // A name server that does not answer is not waited for.
    runtime.shutdown_background();
    findings
}

async fn look(what: String, host: String, port: u16, reach: Reach, transport: Option<&TransportConnector>) -> Finding {
    let (begun, place) = (Instant::now(), format!("{host}:{port}"));
    let addresses: Vec<SocketAddr> = match timeout(PATIENCE, lookup_host((host.as_str(), port))).await {
        Ok(Ok(found)) => found.take(MAX_ADDRESSES).collect(),
        Ok(Err(e)) => {
            return Finding::problem(
                what,
                format!("{place}: no address: {e}"),
                "correct `base_url`, or the name server",
            );
        }
        Err(_) => return Finding::problem(what, format!("{place}: the name server does not answer"), "see to DNS"),
    };
    let named = begun.elapsed();
    // Nothing is connected to that a request would not be sent to.
    let mut classes = addresses.iter().map(|address| Class::of(address.ip()));
    if let Some(class) = classes.find(|class| !reach.permits(*class)) {
        let found = format!("{place} leads to {class}, which this channel may not reach");
        let advice =
            "correct `base_url`; `admin.allow_private_upstreams` lets channels of the API into private networks";
        return Finding::problem(what, found, advice);
    }
    let (mut refused, mut connected) = (Vec::new(), None);
    for address in &addresses {
        let begun = Instant::now();
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                connected = Some((*address, begun.elapsed()));
                break;
            }
            Ok(Err(e)) => refused.push(format!("{address}: {e}")),
            Err(_) => refused.push(format!("{address}: no answer within {} s", PATIENCE.as_secs())),
        }
    }
    let Some((address, took)) = connected else {
        let found = format!("{place}: {}", if refused.is_empty() { "no address".into() } else { refused.join("; ") });
        return Finding::problem(what, found, "see whether the upstream runs, and what stands in the way");
    };
    let mut found = format!("{place}: name in {}, connection in {}", shown(named), shown(took));
    if !refused.is_empty() {
        found.push_str(&format!("; but {}", refused.join("; ")));
    }
    if let Some(transport) = transport {
        let begun = Instant::now();
        let certificate = match handshake(transport, address, host).await {
            Ok(certificate) => certificate,
            Err(why) => {
                let advice = "renew the upstream's certificate, or give its authority in `server.upstream_ca`";
                return Finding::problem(what, format!("{found}; TLS fails: {why}"), advice);
            }
        };
        found.push_str(&format!("; TLS in {}", shown(begun.elapsed().saturating_sub(took))));
        let judged = certificate.as_deref().map(|der| judge(der, now()));
        if let Some((said, is_late)) = judged {
            found.push_str(&format!(", certificate {said}"));
            if is_late {
                return Finding::warning(what, found, "tell whoever runs the upstream to renew it");
            }
        }
    }
    if refused.is_empty() {
        Finding::ok(what, found)
    } else {
        Finding::warning(what, found, "new connections may lose time at that address: see to it")
    }
}

/// Connects as the gateway does, and gives the upstream's certificate.
async fn handshake(
    transport: &TransportConnector,
    address: SocketAddr,
    host: String,
) -> Result<Option<Vec<u8>>, String> {
    let mut peer = HttpPeer::new(address, true, host);
    peer.options.alpn = ALPN::H1;
    match timeout(PATIENCE, transport.new_stream(&peer)).await {
        Ok(Ok(stream)) => Ok(stream.get_ssl().and_then(|tls| tls.peer_certificate_der()).map(<[u8]>::to_vec)),
        Ok(Err(e)) => Err(e.to_string().trim().to_owned()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// The certificate that clients are shown.
fn own(certificate: &Path) -> Finding {
    let (what, place) = ("certificate", certificate.display());
    let read = std::fs::read(certificate).map_err(|e| e.to_string()).and_then(|text| {
        let first = Pem::iter_from_buffer(&text).find_map(|pem| pem.ok().filter(|pem| pem.label == "CERTIFICATE"));
        first.map(|pem| judge(&pem.contents, now())).ok_or_else(|| "there is no certificate in it".to_owned())
    });
    match read {
        Ok((said, false)) => Finding::ok(what, format!("{place} {said}")),
        Ok((said, true)) => Finding::problem(what, format!("{place} {said}"), "renew it, then `weir reload`"),
        Err(why) => Finding::problem(what, format!("{place}: {why}"), "give the certificate chain, leaf first"),
    }
}

/// Until when a certificate holds, in words, and whether that is soon or over.
fn judge(der: &[u8], now: i64) -> (String, bool) {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return ("cannot be read".into(), true) };
    let end = certificate.validity().not_after;
    let days = (end.timestamp() - now).div_euclid(DAY);
    let date = end.to_datetime().date();
    if days < 0 { (format!("ended on {date}"), true) } else { (format!("until {date}, {days} days"), days < SOON) }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::super::Level;
    use super::*;

    fn certificate() -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2030, 3, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_is_late_two_weeks_before_its_end() {
        let der = certificate();
        // 2030-03-01T00:00:00Z.
        let end = 1_898_553_600;
        let judge = |now| judge(der.der(), now);
        assert_eq!(judge(end - 20 * DAY), ("until 2030-03-01, 20 days".into(), false));
        assert_eq!(judge(end - 14 * DAY), ("until 2030-03-01, 14 days".into(), false));
        assert_eq!(judge(end - 14 * DAY + 1), ("until 2030-03-01, 13 days".into(), true));
        assert_eq!(judge(end + 1), ("ended on 2030-03-01".into(), true));
        assert_eq!(super::judge(b"garbage", end), ("cannot be read".into(), true));
    }

    #[test]
    fn the_certificate_for_clients_is_read_from_its_file() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("cert.pem");
        assert_eq!(own(&file).level, Level::Problem);
        std::fs::write(&file, "no certificate").unwrap();
        assert_eq!(own(&file).level, Level::Problem);
        std::fs::write(&file, certificate().pem()).unwrap();
        let finding = own(&file);
        assert!(finding.level == Level::Ok && finding.found.contains(" until 2030-03-01, "), "{finding:?}");
    }

    #[tokio::test]
    async fn an_address_that_no_request_goes_to_is_not_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for (host, reach, level) in [
            ("127.0.0.1", Reach::Declared, Level::Ok),
            ("127.0.0.1", Reach::Public, Level::Problem),
            ("169.254.169.254", Reach::Declared, Level::Problem),
        ] {
            let finding = look("channel c".into(), host.into(), port, reach, None).await;
            assert_eq!(finding.level, level, "{finding:?}");
            assert_eq!(finding.found.contains("may not reach"), level == Level::Problem, "{finding:?}");
        }
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok() && listener.accept().is_err(), "one connection, of the one that may");
    }
}

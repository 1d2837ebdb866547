//! Whether the gateway serves, asked as a client asks: a request through its own listener, its accept loop and a
//! thread that serves. A process that runs and no longer answers is what a watchdog is for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use pingora_core::connectors::TransportConnector;
use pingora_core::upstreams::peer::{ALPN, HttpPeer};
use pingora_core::{Error, ErrorType, OrErr, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::config::Listen;
use crate::systemd::Notify;

/// What is asked: it needs no key, asks no upstream and is in no ledger.
const REQUEST: &[u8] = b"HEAD / HTTP/1.1\r\nhost: localhost\r\nuser-agent: weir-watchdog\r\nconnection: close\r\n\r\n";

/// With what every answer begins. Any will do: a gateway that refuses for want of room is alive.
const ANSWER: &[u8] = b"HTTP/1.1 ";

/// Asks a listener of this process.
pub(crate) struct Loopback {
    listen: Listen,
    transport: TransportConnector,
}

impl Loopback {
    pub(crate) fn new(listen: Listen) -> Self {
        Self { listen, transport: TransportConnector::new(None) }
    }

    /// Asks once.
    ///
    /// # Errors
    /// No answer within `time`, or none that is HTTP.
    pub(crate) async fn ask(&self, time: Duration) -> Result<()> {
        let asked = timeout(time, self.exchange()).await;
        asked.unwrap_or_else(|_| Error::e_explain(ErrorType::ReadTimedout, "the gateway does not answer itself"))
    }

    async fn exchange(&self) -> Result<()> {
        let mut peer = HttpPeer::new(reachable(self.listen.address), self.listen.tls.is_some(), "localhost".to_owned());
        peer.options.alpn = ALPN::H1;
        // The certificate is for names that lead elsewhere, and who answers here is known.
        peer.options.verify_cert = false;
        peer.options.verify_hostname = false;
        let mut stream = self.transport.new_stream(&peer).await?;
        stream.write_all(REQUEST).await.or_err(ErrorType::WriteError, "asking itself")?;
        stream.flush().await.or_err(ErrorType::WriteError, "asking itself")?;
        let mut begin = [0; ANSWER.len()];
        stream.read_exact(&mut begin).await.or_err(ErrorType::ReadError, "hearing itself")?;
        if begin == ANSWER { Ok(()) } else { Error::e_explain(ErrorType::InvalidHTTPHeader, "no answer of HTTP/1.1") }
    }
}

/// Feeds the watchdog as long as the gateway answers, on a thread of its own, until `is_over`.
pub(crate) fn feed(
    listen: Listen,
    every: Duration,
    notify: Notify,
    is_over: impl Fn() -> bool + Send + 'static,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Twice within the time may go wrong before systemd acts.
    let every = every / 3;
    let watch = move || {
        runtime.block_on(async {
            let loopback = Loopback::new(listen);
            while !is_over() {
                let begun = Instant::now();
                match loopback.ask(every).await {
                    Ok(()) => notify.alive(),
                    Err(_) if is_over() => return,
                    Err(e) => log::error!("the watchdog is not fed: {e}"),
                }
                tokio::time::sleep(every.saturating_sub(begun.elapsed())).await;
            }
        });
    };
    std::thread::Builder::new().name("weir-watchdog".into()).spawn(watch).map(drop)
}

/// An address that leads to a listener at `bound`.
pub(crate) fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn answers(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; REQUEST.len()];
            stream.read_exact(&mut asked).await.unwrap();
            assert_eq!(asked, REQUEST);
            stream.write_all(answer).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
        });
        address
    }

    async fn ask(address: SocketAddr) -> Result<()> {
        Loopback::new(Listen { address, tls: None }).ask(Duration::from_millis(300)).await
    }

    #[tokio::test]
    async fn any_answer_is_a_sign_of_life_and_silence_is_none() {
        assert!(ask(answers(b"HTTP/1.1 200 OK\r\n\r\n").await).await.is_ok());
        assert!(ask(answers(b"HTTP/1.1 503 Busy\r\n\r\n").await).await.is_ok());
        assert!(ask(answers(b"").await).await.is_err());
        assert!(ask(answers(b"220 mail.example ESMTP\r\n").await).await.is_err());
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(ask(closed).await.is_err());
    }

    #[test]
    fn a_listener_of_every_address_is_asked_at_home() {
        let lead = |bound: &str| reachable(bound.parse().unwrap()).to_string();
        assert_eq!(lead("0.0.0.0:8514"), "127.0.0.1:8514");
        assert_eq!(lead("[::]:8514"), "[::1]:8514");
        assert_eq!(lead("192.0.2.7:443"), "192.0.2.7:443");
    }
}

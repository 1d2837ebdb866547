//! TLS and HTTP/2, towards clients and towards upstreams.

use serde_json::json;

use crate::support::{Authority, Gateway, Http, Script, Upstream, answer, chunked, gateway, mock, openai};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

#[tokio::test]
async fn each_listener_speaks_what_its_client_chose() {
    let mock = mock();
    let gateway = gateway().channel(openai(mock.address())).key("alice").tls(Authority::new()).start().await;
    for http in Http::ALL {
        let answer = gateway.over(http).post(CHAT).key("alice").body(BODY).send().await;
        let expected = if http.is_h2() { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
        assert_eq!((answer.status, answer.version), (200, expected), "{http:?}");
        assert_eq!(answer.headers.contains_key("connection"), !http.is_h2(), "HTTP/2 has no such header");
    }
}

#[tokio::test]
async fn many_streams_share_one_connection_of_http_2() {
    let mock = mock();
    let gateway = gateway().channel(openai(mock.address())).key("alice").tls(Authority::new()).start().await;
    for http in [Http::H2c, Http::TlsH2] {
        mock.forget();
        let client = gateway.over(http);
        let requests = (0..100).map(|i| {
            let messages = json!([{"role": "user", "content": format!("stream number {i} of a hundred")}]);
            let options = json!({"include_usage": true});
            let body = json!({"model": "gpt-4o", "stream": true, "stream_options": options, "messages": messages});
            client.post(CHAT).key("alice").json(&body).header("x-mock-delay-ms", "2").send()
        });
        let answers = futures::future::join_all(requests).await;
        let mut got: Vec<_> = answers.iter().map(|answer| (answer.status, answer.broken, answer.sha256())).collect();
        let mut sent: Vec<_> = mock.ledger().iter().map(|entry| (200, false, entry.response_sha256)).collect();
        got.sort_unstable();
        sent.sort_unstable();
        assert_eq!(got, sent, "{http:?}");
    }
    gateway.used("key", "alice", 200).await;
}

async fn gateway_to(upstream: &Upstream, host: &str, authority: Option<Authority>) -> Gateway {
    let url = format!("https://{host}:{}", upstream.address().port());
    let builder = gateway().channel(openai(upstream.address()).with("base_url", url)).key("alice");
    match authority {
        Some(authority) => builder.tls(authority).with("server.upstream_ca", "ca.pem").start().await,
        None => builder.start().await,
    }
}

#[tokio::test]
async fn an_upstream_with_a_certificate_of_a_private_authority_is_reached() {
    let events = ["data: {\"choices\":[{}]}\n\n", "data: [DONE]\n\n"];
    for host in ["localhost", "127.0.0.1"] {
        let authority = Authority::new();
        let stream = chunked(200, &[("content-type", "text/event-stream")]);
        let scripts = [
            answer(200, &[("content-type", "application/json")], "{}"),
            events.iter().fold(stream, Script::chunk).last_chunk(),
        ];
        let upstream = Upstream::over_tls(scripts, authority.acceptor()).await;
        let gateway = gateway_to(&upstream, host, Some(authority)).await;
        let plain = gateway.post(CHAT).key("alice").body(BODY).send().await;
        assert_eq!((plain.status, plain.text().as_str()), (200, "{}"), "{host}");
        // The connection goes back to the pool just after its answer has gone to the client.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let streamed = gateway.over(Http::TlsH2).post(CHAT).key("alice").body(BODY).send().await;
        assert_eq!((streamed.text(), streamed.broken), (events.concat(), false), "{host}");
        let received = upstream.received();
        assert_eq!(received[0].headers("host"), [format!("{host}:{}", upstream.address().port())]);
        assert_eq!(received[1].connection, 0, "the connection is kept");
    }
}

#[tokio::test]
async fn an_upstream_with_a_certificate_of_a_stranger_is_not_trusted() {
    for trusted in [None, Some(Authority::new())] {
        let upstream = Upstream::over_tls([answer(200, &[], "{}")], Authority::new().acceptor()).await;
        let gateway = gateway_to(&upstream, "localhost", trusted).await;
        let answer = gateway.post(CHAT).key("alice").body(BODY).send().await;
        assert_eq!(answer.status, 502);
        assert_eq!(upstream.heads(), 0, "no credential was sent");
    }
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls_is_502_and_one_that_never_says_hello_504() {
    let upstream = crate::support::upstream([answer(200, &[], "{}")]).await;
    let gateway = gateway_to(&upstream, "localhost", None).await;
    let silent = gateway.post(CHAT).key("alice").body(BODY).send().await;
    assert_eq!(silent.status, 504, "within the time to connect");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 mail.example ESMTP\r\n").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    });
    let channel = openai(upstream.address()).with("base_url", url);
    let gateway = crate::support::gateway().channel(channel).key("alice").start().await;
    assert_eq!(gateway.post(CHAT).key("alice").body(BODY).send().await.status, 502);
    server.await.unwrap();
    assert_eq!(upstream.heads(), 0);
}

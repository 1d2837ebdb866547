//! An upstream that answers each model in its own way, in whichever order it is asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a model is answered: a pause, a status, a type and a body.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) wait: Duration,
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

/// The upstream; dropping it stops it.
pub(crate) struct ByModel {
    address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    task: JoinHandle<()>,
}

impl ByModel {
    /// One that asks `reply` for what a model is answered; the name of a list of models is empty.
    pub(crate) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (asked, reply) = (Arc::new(Mutex::new(HashMap::new())), Arc::new(reply));
        let noted = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (noted, reply) = (Arc::clone(&noted), Arc::clone(&reply));
                tokio::spawn(async move {
                    let _ = serve(stream, &noted, &*reply).await;
                });
            }
        });
        Self { address, asked, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often each model was asked.
    pub(crate) fn asked(&self) -> HashMap<String, usize> {
        self.asked.lock().expect("no panic").clone()
    }

    /// How often all of them were.
    pub(crate) fn total(&self) -> usize {
        self.asked().values().sum()
    }
}

impl Drop for ByModel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    noted: &Mutex<HashMap<String, usize>>,
    reply: &(impl Fn(&str) -> Reply + Sync),
) -> std::io::Result<()> {
    let mut read = Vec::new();
    let (head, body) = loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await?;
        read.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse().expect("a length") {
                break (head.to_owned(), body.to_owned());
            }
        }
        if count == 0 {
            return Ok(());
        }
    };
    let path = head.split(' ').nth(1).expect("a path");
    let in_path = path.strip_prefix("/v1beta/models/").and_then(|rest| rest.split(':').next());
    let in_body = || serde_json::from_str::<serde_json::Value>(&body).ok()?["model"].as_str().map(str::to_owned);
    let model = in_path.map(str::to_owned).or_else(in_body).unwrap_or_default();
    *noted.lock().expect("no panic").entry(model.clone()).or_default() += 1;
    let Reply { wait, status, content_type, body } = reply(&model);
    tokio::time::sleep(wait).await;
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

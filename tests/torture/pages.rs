//! Asking a relay for one of its pages, as a load balancer or Prometheus would.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A relay answers from memory; one that is frozen does not answer at all.
const PATIENCE: Duration = Duration::from_secs(1);

/// Head and body of the page at `path`; `None` if the relay that listens on `port` does not answer in time.
pub(crate) async fn answer(port: u16, path: &str) -> Option<(String, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.to_owned(), body.to_owned()))
    };
    tokio::time::timeout(PATIENCE, exchange).await.ok()?
}

//! Asking a relay that runs on this machine for one of its pages.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody listens there, or the connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Somebody listens, and does not speak HTTP as one should.
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    /// The page is larger than any page of ours.
    #[error("no page of outbox-relay: it is too large, or breaks off")]
    Body,
    /// The address is none that a request can carry.
    #[error("no address for a request: {0}")]
    Request(#[from] hyper::http::Error),
    /// Another status than 200.
    #[error("no page of outbox-relay: it answers {0}")]
    Refused(StatusCode),
    /// It took too long.
    #[error("no answer within {}", humantime::format_duration(PATIENCE))]
    Timeout,
}

/// A relay answers from memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// The largest page is that of the metrics, with its 200 topics.
const LARGEST: usize = 1024 * 1024;

/// Gets the page at `path` from `address`, a `host:port`.
///
/// # Errors
/// If there is no answer with status 200 within 2 s.
pub async fn fetch(address: &str, path: &str) -> Result<String, FetchError> {
    tokio::time::timeout(PATIENCE, exchange(address, path)).await.map_err(|_| FetchError::Timeout)?
}

async fn exchange(address: &str, path: &str) -> Result<String, FetchError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(header::HOST, address).body(Body::empty())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Refused(response.status()));
        }
        let body = to_bytes(Body::new(response.into_body()), LARGEST).await.map_err(|_| FetchError::Body)?;
        String::from_utf8(body.into()).map_err(|_| FetchError::Body)
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        // It ends when the answer is there, or when there will be none; then it knows better why than the answer.
        ended = connection => answer.await.map_err(|error| ended.err().map_or(error, FetchError::Http)),
        answer = &mut answer => answer,
    }
}

/// Where a client on this machine reaches a server that listens on `listen`: every address includes the loopback.
#[must_use]
pub fn reachable(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0" | "", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_reached_on_the_loopback() {
        for (listen, address) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("localhost:9464", "localhost:9464"),
            ("10.0.0.7:1", "10.0.0.7:1"),
        ] {
            assert_eq!(reachable(listen), address);
        }
    }

    /// What `fetch` makes of a server that answers its request with `answer` and hangs up; or, of none, that says nothing.
    async fn fetched(answer: Option<&'static str>) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
        });
        let page = fetch(&address, "/status").await;
        server.abort();
        page.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn what_is_no_page_is_told() {
        let fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(fetched(Some(fine)).await.unwrap(), "{}");
        let why = async |answer| fetched(answer).await.unwrap_err();
        let refused = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        insta::assert_snapshot!(why(Some(refused)).await, @"no page of outbox-relay: it answers 404 Not Found");
        insta::assert_snapshot!(why(Some("SSH-2.0-OpenSSH_9.2\r\n")).await, @"no HTTP answer: invalid HTTP version parsed");
        let broken = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{";
        insta::assert_snapshot!(why(Some(broken)).await, @"no page of outbox-relay: it is too large, or breaks off");
        insta::assert_snapshot!(why(None).await, @"no answer within 2s");
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        insta::assert_snapshot!(fetch(&nobody.to_string(), "/").await.unwrap_err(), @"Connection refused (os error 111)");
    }
}

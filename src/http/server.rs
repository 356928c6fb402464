//! The HTTP server: few connections, and none that dawdles.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Pages;

/// A server that answers until the program ends.
pub struct Server {
    /// Where it listens; the port is the one the system chose if 0 was asked for.
    pub address: SocketAddr,
}

/// Connections at a time; further ones wait. Probes and a scraper need three.
const CONNECTIONS: usize = 64;

/// A client that has not sent its request's head by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Binds `listen` (`host:port`) and serves `pages` on a thread of its own.
///
/// # Errors
/// If the address cannot be bound.
pub fn serve(listen: &str, pages: Pages) -> std::io::Result<Server> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => accept(listener, pages).await,
                Err(error) => tracing::error!("HTTP server: {error}"),
            }
        });
    })?;
    Ok(Server { address })
}

async fn accept(listener: TcpListener, pages: Pages) {
    let router = pages.router();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    answer(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, for example: others may be given back.
                tracing::debug!("HTTP server: accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, router: axum::Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!("HTTP server: {error}");
    }
}

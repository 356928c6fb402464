//! A TCP port that leads to a server, and everything that can go wrong on the way: connections that are cut, frozen,
//! slow, answered by half, or not answered although the server has done what it was asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Not at all, and no connection ends.
    Frozen,
    /// At 64 KiB a second, with a delay.
    Slow,
    /// To the server; what it answers is thrown away.
    Deaf,
}

/// Who learns of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learns {
    Both,
    /// The server's side stays open: a firewall has forgotten the connection.
    ClientOnly,
}

/// The proxy, listening until the end of the process.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    listener: Option<TcpListener>,
    road: Road,
}

/// What all connections have in common.
#[derive(Clone)]
struct Road {
    way: watch::Sender<Way>,
    cut: watch::Sender<Learns>,
    /// Bytes of answers that get through before the next cut; negative: there is none to come.
    left: Arc<AtomicI64>,
}

/// Longer than what anything here waits for a connection that the server's side has forgotten.
const FORGOTTEN: Duration = Duration::from_secs(30);

impl Proxy {
    /// A port that accepts connections from now on, which lead nowhere before [`Proxy::lead_to`].
    pub(crate) async fn bind() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind a port for a proxy")?;
        let address = listener.local_addr()?;
        let road = Road {
            way: watch::Sender::new(Way::Open),
            cut: watch::Sender::new(Learns::Both),
            left: Arc::new(AtomicI64::new(-1)),
        };
        Ok(Self { address, listener: Some(listener), road })
    }

    /// Leads connections to `server`, a `host:port`.
    pub(crate) fn lead_to(&mut self, server: String) {
        let Some(listener) = self.listener.take() else { return };
        let road = self.road.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, road) = (server.clone(), road.clone());
                tokio::spawn(async move {
                    // A server that is down: the client's connection ends at once.
                    if let Ok(server) = TcpStream::connect(server).await {
                        road.connect(client, server).await;
                    }
                });
            }
        });
    }

    pub(crate) fn set(&self, way: Way) {
        self.road.way.send_replace(way);
    }

    /// Ends all connections that there are.
    pub(crate) fn cut(&self, learns: Learns) {
        self.road.cut.send_replace(learns);
    }

    /// Ends all connections when the answers had `bytes` more.
    pub(crate) fn cut_after(&self, bytes: i64) {
        self.road.left.store(bytes, Ordering::Relaxed);
    }
}

impl Road {
    async fn connect(self, client: TcpStream, server: TcpStream) {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let mut cut = self.cut.subscribe();
        cut.mark_unchanged();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let learns = tokio::select! {
            // First: nothing gets through once there was a cut.
            biased;
            Ok(()) = cut.changed() => *cut.borrow(),
            () = async {
                tokio::join!(
                    self.carry(&mut from_client, &mut to_server, false),
                    self.carry(&mut from_server, &mut to_client, true),
                );
            } => return,
        };
        drop((from_client, to_client));
        if learns == Learns::ClientOnly {
            tokio::time::sleep(FORGOTTEN).await;
        }
    }

    async fn carry(&self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, answers: bool) {
        let mut way = self.way.subscribe();
        let mut buffer = vec![0; 16 * 1024];
        // What comes after a gap means something else: a connection that lost an answer loses all further ones.
        let mut gap = false;
        loop {
            let room = if *way.borrow() == Way::Slow { 1024 } else { buffer.len() };
            let read = match from.read(buffer.get_mut(..room).unwrap_or_default()).await {
                Ok(read) if read > 0 => read,
                _ => break,
            };
            let _ = way.wait_for(|way| *way != Way::Frozen).await;
            let now = *way.borrow();
            if now == Way::Slow {
                tokio::time::sleep(Duration::from_millis(16)).await;
            }
            gap |= now == Way::Deaf && answers;
            if gap {
                continue;
            }
            let through = if answers { self.through(read) } else { read };
            if to.write_all(buffer.get(..through).unwrap_or_default()).await.is_err() {
                break;
            }
            if through < read {
                gap = true;
                self.cut.send_replace(Learns::Both);
            }
        }
        // The end of one direction is passed on like everything else.
        let _ = way.wait_for(|way| *way != Way::Frozen).await;
        let _ = to.shutdown().await;
    }

    /// How many of `read` bytes of an answer get through; fewer if a cut falls among them.
    fn through(&self, read: usize) -> usize {
        let left = self.left.load(Ordering::Relaxed);
        let Ok(left) = usize::try_from(left) else { return read };
        if left < read {
            self.left.store(-1, Ordering::Relaxed);
            return left;
        }
        self.left.store(i64::try_from(left - read).unwrap_or(0), Ordering::Relaxed);
        read
    }
}

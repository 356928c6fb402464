//! A TCP port that leads to a server, from the moment it is opened, except while it is frozen.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fixture::{Outbox, Relay};
use crate::servers::superuser_tcp;

/// A port that leads nowhere yet.
pub(crate) struct Closed {
    /// Nobody else gets the port while this is bound; it does not listen.
    socket: socket2::Socket,
    pub(crate) address: SocketAddr,
}

/// A port that leads somewhere, until this is dropped.
pub(crate) struct Proxy {
    task: JoinHandle<()>,
    frozen: watch::Sender<Frozen>,
    cut: watch::Sender<()>,
}

/// What does not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frozen {
    Nothing,
    Replication,
    Everything,
}

impl Closed {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { socket, address }
    }

    /// Opens it towards `server`, a `host:port`.
    pub(crate) fn open(self, server: String) -> Proxy {
        self.socket.listen(128).unwrap();
        self.socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(self.socket.into()).unwrap();
        let (frozen, cut) = (watch::Sender::new(Frozen::Nothing), watch::Sender::new(()));
        let (watched, cuts) = (frozen.subscribe(), cut.subscribe());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, watched, mut cut) = (server.clone(), watched.clone(), cuts.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let server = TcpStream::connect(server).await.unwrap();
                    let mut first = [0; 1024];
                    let len = client.peek(&mut first).await.unwrap_or(0);
                    let replication = first[..len].windows(11).any(|word| word == b"replication");
                    let ((mut from, mut to), (mut back, mut forth)) =
                        (client.into_split(), server.into_split());
                    // How a connection ends is the business of its two ends.
                    let both = async {
                        tokio::join!(
                            copy(&mut from, &mut forth, replication, watched.clone()),
                            copy(&mut back, &mut to, replication, watched)
                        )
                    };
                    tokio::select! {
                        _ = both => {}
                        Ok(()) = cut.changed() => {
                            drop((from, to));
                            std::future::pending::<()>().await;
                        }
                    }
                });
            }
        });
        Proxy { task, frozen, cut }
    }
}

impl Proxy {
    /// From now on nothing gets through, and no connection ends: as with a server that was stopped.
    pub(crate) fn freeze(&self) {
        self.frozen.send_replace(Frozen::Everything);
    }

    /// The same, but connections that are not for replication go on.
    pub(crate) fn freeze_replication(&self) {
        self.frozen.send_replace(Frozen::Replication);
    }

    /// Ends the connections that there are towards their clients. The server does not notice.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    /// Everything gets through again, also what was held up.
    pub(crate) fn thaw(&self) {
        self.frozen.send_replace(Frozen::Nothing);
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    replication: bool,
    mut frozen: watch::Receiver<Frozen>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        // The proxy itself may be gone; its connections stay.
        let may_pass = |frozen: &Frozen| match frozen {
            Frozen::Nothing => true,
            Frozen::Replication => !replication,
            Frozen::Everything => false,
        };
        let _ = frozen.wait_for(may_pass).await;
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// A relay whose PostgreSQL is behind a proxy that is open.
pub(crate) fn behind_proxy(outbox: &Outbox) -> (Relay, Proxy) {
    let port = Closed::new();
    let address = port.address;
    let proxy = port.open(format!("127.0.0.1:{}", superuser_tcp().hosts[0].port));
    let url = format!("postgres.url=postgres://outbox_relay@{address}/{}", outbox.database.name);
    (outbox.relay(&[&url]), proxy)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

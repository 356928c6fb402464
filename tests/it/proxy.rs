//! A TCP port that leads to a server, from the moment it is opened.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A port that leads nowhere yet.
pub(crate) struct Closed {
    /// Nobody else gets the port while this is bound; it does not listen.
    socket: socket2::Socket,
    pub(crate) address: SocketAddr,
}

/// A port that leads somewhere, until this is dropped.
pub(crate) struct Proxy(JoinHandle<()>);

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
        Proxy(tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // How a connection ends is the business of its two ends.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        }))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

//! LISTEN, on a connection that does nothing else: one that is in a transaction hears nothing until that ends, and holds up the
//! server's queue of notifications for everybody (PostgreSQL documentation, NOTIFY).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, NoTls};

use super::conninfo::ConnInfo;
use super::error::Error;
use super::sql::identifier;

/// Waits for notifications. What is notified while nobody waits is not lost: the next wait ends at once.
#[derive(Debug)]
pub struct Listener {
    woken: Arc<Notify>,
    task: JoinHandle<()>,
}

/// Pause before the connection is made again.
const RECONNECT: Duration = Duration::from_secs(1);

impl Listener {
    /// Listens to `channel` on `server` as long as it lives.
    #[must_use]
    pub fn start(server: ConnInfo, channel: String) -> Self {
        let woken = Arc::new(Notify::new());
        let heard = Arc::clone(&woken);
        let task = tokio::spawn(async move {
            let mut warned = false;
            loop {
                if let Err(error) = listen(&server, &channel, &heard, &mut warned).await {
                    if !warned {
                        tracing::warn!("rows are found by looking every poll.interval meanwhile: {error}");
                    }
                    warned = true;
                }
                tokio::time::sleep(RECONNECT).await;
            }
        });
        Self { woken, task }
    }

    /// Waits for the next notification.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens until the connection ends.
async fn listen(server: &ConnInfo, channel: &str, heard: &Notify, warned: &mut bool) -> Result<(), Error> {
    let action = "listen for notifications";
    let wrong = |error| Error::from_control(action, error);
    let (client, mut connection) = server.control_config().connect(NoTls).await.map_err(wrong)?;
    let sql = format!("LISTEN {}", identifier(channel));
    let mut listening = pin!(client.batch_execute(&sql));
    let mut listens = false;
    loop {
        tokio::select! {
            listening = &mut listening, if !listens => {
                listening.map_err(wrong)?;
                (listens, *warned) = (true, false);
                // Something may have been said before.
                heard.notify_one();
            }
            message = poll_fn(|context| connection.poll_message(context)) => match message {
                Some(Ok(AsyncMessage::Notification(_))) => heard.notify_one(),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(wrong(error)),
                None => return Err(Error::Closed { action: action.into() }),
            }
        }
    }
}

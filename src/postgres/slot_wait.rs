//! Making a slot, which takes as long as the longest transaction that is open.

use std::time::Duration;

use super::control::OpenTransaction;
use super::error::Error;

/// How long making a slot may take before the transactions it waits for are told, and then how often.
const PATIENCE: Duration = Duration::from_secs(3);
const REMINDER: Duration = Duration::from_secs(30);

/// Waits until the slot is `made`. The server first waits for every transaction that is writing; `open` asks which these
/// are, and `tell` gets the sentence. While it cannot be asked, the wait goes on in silence: to give it up would leave
/// the server making the slot for nobody.
pub async fn told<T>(
    made: impl Future<Output = T>,
    open: impl AsyncFn() -> Result<Vec<OpenTransaction>, Error>,
    mut tell: impl FnMut(&str),
) -> T {
    tokio::pin!(made);
    let mut patience = PATIENCE;
    loop {
        tokio::select! {
            made = &mut made => return made,
            () = tokio::time::sleep(patience) => {
                patience = REMINDER;
                let asked = tokio::select! {
                    made = &mut made => return made,
                    asked = open() => asked,
                };
                if let Ok(open) = asked && !open.is_empty() {
                    let open: Vec<_> = open.iter().map(ToString::to_string).collect();
                    tell(&format!("making the slot waits for open transactions: {}", open.join(", ")));
                }
            }
        }
    }
}

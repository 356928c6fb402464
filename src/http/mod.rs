//! The pages that tell how the relay is, on a thread and a runtime of their own: they answer whatever the session does.

mod front;
mod pages;
mod server;

pub use pages::{Page, Pages};
pub use server::{Server, serve};

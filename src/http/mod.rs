//! The pages that tell how the relay is, on a thread and a runtime of their own: they answer whatever the session does.

mod client;
mod front;
mod pages;
mod server;

pub use client::{FetchError, fetch, reachable};
pub use pages::{Page, Pages};
pub use server::{Server, serve};

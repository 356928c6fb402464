//! `/live`, `/ready` and `/metrics`, on a thread and a runtime of their own: they answer whatever the session does.

mod pages;
mod server;

pub use pages::Pages;
pub use server::{Server, serve};

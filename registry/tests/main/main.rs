//! Integration tests of the registry.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod client;
mod contexts;
mod deletes;
mod golden;
mod http;
mod properties;
mod scopes;
mod server;
mod state;

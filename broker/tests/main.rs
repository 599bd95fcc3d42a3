//! The broker over TCP, spoken to with the published protocol crate: what clients rely on, across restarts.

#![allow(clippy::unwrap_used, reason = "a test may panic; clippy.toml covers test functions only, not their helpers")]

mod client;
mod crash;
mod groups;
mod handle;
mod produce_fetch;
mod restart;
mod topics;
mod transactions;

//! The broker over TCP, spoken to with the published protocol crate: what clients rely on, across restarts.

mod client;
mod groups;
mod produce_fetch;
mod restart;
mod topics;

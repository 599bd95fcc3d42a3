//! Towline's schema registry: rules, state, HTTP server and HTTP client, compatible with
//! Confluent's. It does not know Kafka: its state is a [`SchemaLog`] that the runtime provides.
//!
//! - [`schema`]: the Avro model, references, metadata, GUIDs; [`compat`]: levels and rules
//! - [`record`]: bytes of the `_schemas` topic; [`state`]: what they add up to
//! - [`registry`]: the rules, and the handle that runs them; [`settings`]: config and mode
//! - [`http`]: the REST server; [`client`]: the only way a converter reaches any registry
//! - [`wire`]: the header in front of serialized values; [`memory`]: a log for tests

pub mod client;
pub mod compat;
mod error;
pub mod http;
mod log;
pub mod memory;
pub mod record;
pub mod registry;
pub mod schema;
pub mod settings;
pub mod state;
pub mod subject;
pub mod wire;

pub use error::Error;
pub use log::{LogError, SchemaLog};
pub use registry::{Options, Profile, Registry, WeakRegistry};

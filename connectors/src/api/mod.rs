//! The contract between the worker and a connector. The worker calls, the connector answers; no connector knows Kafka.

mod config;
mod error;
mod position;
mod record;
mod sink;
mod source;
mod transform;

pub use config::{
    Config, ConfigDef, ConfigError, ConfigKey, ConfigType, ConfigValue, Importance, Props, Validator, Width,
};
pub use error::{Error, ErrorKind, Result};
pub use position::Position;
pub use record::{
    Header, Headers, Origin, Record, Rows, SinkRecord, SourceBatch, SourceRecord, SourceRecords, TopicPartition,
};
pub use sink::{ConsumerGroup, MadeRecords, Rejected, SinkConnector, SinkContext, SinkRecords, SinkTask};
pub use source::{OffsetReader, SourceConnector, SourceContext, SourceTask};
pub use transform::{Predicate, PredicateSpec, Transform, TransformSpec};

use std::sync::{Arc, Mutex, PoisonError};

/// What the worker shows of a connector: its names, version and config keys.
#[derive(Debug)]
pub struct Spec {
    /// The Java class name that existing configs carry.
    pub class: &'static str,
    /// Other full class names that mean the same connector.
    pub aliases: &'static [&'static str],
    /// The version shown in `GET /connector-plugins`.
    pub version: &'static str,
    /// The connector's own config keys.
    pub config: fn() -> ConfigDef,
}

/// A registered connector.
#[derive(Clone, Copy)]
pub enum Connector {
    /// Reads from elsewhere into topics.
    Source(&'static dyn SourceConnector),
    /// Writes from topics to elsewhere.
    Sink(&'static dyn SinkConnector),
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connector").field(&self.spec().class).finish()
    }
}

impl Connector {
    /// What the worker shows of it.
    pub fn spec(&self) -> &'static Spec {
        match self {
            Self::Source(source) => source.spec(),
            Self::Sink(sink) => sink.spec(),
        }
    }

    /// Checks that need no connection, across keys; errors of single keys are found by the [`ConfigDef`].
    pub fn validate(&self, props: &Props) -> Vec<ConfigError> {
        match self {
            Self::Source(source) => source.validate(props),
            Self::Sink(sink) => sink.validate(props),
        }
    }
}

/// What a connector or task tells of itself while it runs: shown in the status, never a reason to fail.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<Option<String>>>);

impl Health {
    /// Says that the task waits for something outside (a database that is down) and retries.
    pub fn degraded(&self, message: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.into());
    }

    /// Says that all is well again.
    pub fn recovered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What was last said, if it still holds.
    pub fn message(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

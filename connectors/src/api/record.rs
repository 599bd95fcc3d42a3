//! Records as they travel between a connector and the worker.

use std::sync::Arc;

use bytestring::ByteString;

use super::Position;
use crate::data::Datum;

/// A header: a key, which may repeat, and a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The header's key.
    pub key: ByteString,
    /// The header's value with its schema.
    pub value: Datum,
}

/// Headers in their order.
pub type Headers = Vec<Header>;

/// The part of a record that transforms see and change.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The topic; transforms may route to another.
    pub topic: Arc<str>,
    /// The partition, if the connector chose one.
    pub partition: Option<i32>,
    /// The key.
    pub key: Datum,
    /// The value.
    pub value: Datum,
    /// Milliseconds since the epoch, if known.
    pub timestamp: Option<i64>,
    /// The headers; no allocation when there are none.
    pub headers: Headers,
}

impl Record {
    /// A record without key, partition, timestamp and headers.
    pub fn of_value(topic: Arc<str>, value: Datum) -> Self {
        Self { topic, partition: None, key: Datum::default(), value, timestamp: None, headers: Headers::new() }
    }
}

/// A record that a source task hands over, with where it stands in the source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRecord {
    /// What goes to the topic.
    pub record: Record,
    /// Which part of the source it comes from (Kafka Connect's source partition), shared by many records.
    pub partition: Arc<Position>,
    /// Where to resume once this record *and all before it* are in the log; `None` if only a later record says that,
    /// so that a batch needs one offset, not one a row.
    pub offset: Option<Position>,
}

/// A topic and a partition number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: i32,
}

/// Where a consumed record stood in the log, before any transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The topic as consumed.
    pub topic: Arc<str>,
    /// The partition as consumed.
    pub partition: i32,
    /// The offset as consumed.
    pub offset: i64,
}

/// A record that a sink task is to write.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkRecord {
    /// What transforms made of it.
    pub record: Record,
    /// Where it came from: offsets are tracked by this.
    pub origin: Origin,
}

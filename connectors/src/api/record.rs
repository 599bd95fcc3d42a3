//! Records as they travel between a connector and the worker.

use std::sync::Arc;

use bytestring::ByteString;

use super::{Position, Result};
use crate::data::{Datum, Schema, Value};

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

/// Records that a source task hands over: they share what would otherwise be repeated, and counted, for each of them.
/// A batch without any says that records of its topic are about to come, so that the worker prepares many topics at once.
#[derive(Debug)]
pub struct SourceBatch {
    /// The topic.
    pub topic: Arc<str>,
    /// The schema of all keys.
    pub key_schema: Option<Arc<Schema>>,
    /// The schema of all values.
    pub value_schema: Option<Arc<Schema>>,
    /// The records in their order.
    pub records: SourceRecords,
    /// Which part of the source they come from (Kafka Connect's source partition).
    pub source_partition: Arc<Position>,
    /// Where to resume once the batch *and all before it* are in the log (Kafka Connect's source offset); `None` if only
    /// a later batch says that.
    pub source_offset: Option<Position>,
}

/// The records of a [`SourceBatch`].
#[derive(Debug)]
pub enum SourceRecords {
    /// Records that are at hand.
    Made(Vec<SourceRecord>),
    /// Rows, whose values are made where they are used.
    Rows(Box<dyn Rows>),
}

/// Rows in the form in which the source gave them: each becomes the values of a struct when it is its turn. They have no
/// key, partition, timestamp and headers.
pub trait Rows: Send + Sync + std::fmt::Debug {
    /// Adds the values of the next row, one a field of the schema; false after the last row.
    ///
    /// # Errors
    /// A value that has no form, which ends the task.
    fn next(&mut self, values: &mut Vec<Value>) -> Result<bool>;

    /// Called after an error of [`Self::next`]: where to resume behind the rows before it, if an offset can say that.
    fn reached(&self) -> Option<Position> {
        None
    }
}

/// One record of a [`SourceBatch`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceRecord {
    /// The topic's partition, if the connector chose one.
    pub partition: Option<i32>,
    /// The key.
    pub key: Value,
    /// The value.
    pub value: Value,
    /// Milliseconds since the epoch, if known.
    pub timestamp: Option<i64>,
    /// The headers; no allocation when there are none.
    pub headers: Headers,
}

impl SourceRecord {
    /// A record without key, partition, timestamp and headers.
    pub fn of_value(value: Value) -> Self {
        Self { value, ..Self::default() }
    }
}

impl SourceRecords {
    /// The records, each by itself.
    ///
    /// # Errors
    /// As [`Rows::next`].
    pub fn into_made(self) -> Result<Vec<SourceRecord>> {
        let mut rows = match self {
            Self::Made(records) => return Ok(records),
            Self::Rows(rows) => rows,
        };
        let mut records = Vec::new();
        loop {
            let mut values = Vec::new();
            if !rows.next(&mut values)? {
                return Ok(records);
            }
            records.push(SourceRecord::of_value(Value::Struct(values)));
        }
    }
}

impl SourceBatch {
    /// Whether it only says that records are about to come.
    pub fn is_announcement(&self) -> bool {
        self.source_offset.is_none() && matches!(&self.records, SourceRecords::Made(records) if records.is_empty())
    }

    /// One of the batch's records by itself, as transforms see it.
    pub fn record(&self, record: SourceRecord) -> Record {
        Record {
            topic: Arc::clone(&self.topic),
            partition: record.partition,
            key: Datum { schema: self.key_schema.clone(), value: record.key },
            value: Datum { schema: self.value_schema.clone(), value: record.value },
            timestamp: record.timestamp,
            headers: record.headers,
        }
    }
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

impl Origin {
    /// Makes this the origin of another record.
    #[inline]
    pub fn set(&mut self, topic: &Arc<str>, partition: i32, offset: i64) {
        if !Arc::ptr_eq(&self.topic, topic) {
            self.topic = Arc::clone(topic);
        }
        (self.partition, self.offset) = (partition, offset);
    }
}

/// A record that a sink task is to write.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkRecord {
    /// What transforms made of it.
    pub record: Record,
    /// Where it came from: offsets are tracked by this.
    pub origin: Origin,
}

//! The converters of a task, for keys, values and headers. The record loop calls them without waiting; only when one
//! has to ask the registry does the loop wait, and then converts the same record again.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use towline_connectors::api::{Error, ErrorKind, Header, Record, Result};
use towline_connectors::data::{Schema, Value};

use super::tolerance::{Failed, Stage};
use super::{Backoff, TaskContext};
use crate::convert::{self, Converter, Failure, HeaderConverter};
use crate::kafka::{IncomingBatch, IncomingRecord, OutgoingRecord};

/// Both converters and the one for headers, with the names of their classes.
pub(super) struct Converters {
    key: Box<dyn Converter>,
    value: Box<dyn Converter>,
    header: Box<dyn HeaderConverter>,
    classes: [String; 3],
}

/// A record to encode, wherever its parts are kept.
pub(super) struct Parts<'a> {
    pub(super) topic: &'a Arc<str>,
    pub(super) partition: Option<i32>,
    pub(super) key: (Option<&'a Arc<Schema>>, &'a Value),
    pub(super) value: (Option<&'a Arc<Schema>>, &'a Value),
    pub(super) timestamp: Option<i64>,
    pub(super) headers: &'a [Header],
}

/// Which part of a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Key,
    Value,
    Header,
}

/// A record that was not converted.
#[derive(Debug)]
pub(super) struct Trouble {
    side: Side,
    failure: Failure,
}

impl Side {
    fn failed(self, failure: impl Into<Failure>) -> Trouble {
        Trouble { side: self, failure: failure.into() }
    }

    fn stage(self) -> Stage {
        match self {
            Self::Key => Stage::KeyConverter,
            Self::Value => Stage::ValueConverter,
            Self::Header => Stage::HeaderConverter,
        }
    }
}

impl Converters {
    /// Those that the connector's config and the worker name.
    pub(super) fn open(context: &TaskContext) -> Result<Self> {
        let converter = |side: &str| context.worker.converter(side, &context.connector_props);
        let (key, value, header) = (converter("key"), converter("value"), converter("header"));
        Ok(Self {
            key: convert::build(&key.class, true, &key.props)?,
            value: convert::build(&value.class, false, &value.props)?,
            header: convert::build_header(&header.class, &header.props)?,
            classes: [key.class, value.class, header.class],
        })
    }

    /// Appends a record's bytes to a buffer, of which the answer names the ranges. After a failure the caller truncates.
    pub(super) fn encode(&mut self, parts: &Parts<'_>, buffer: &mut BytesMut) -> Result<OutgoingRecord, Trouble> {
        let topic = parts.topic;
        let mut headers = Vec::new();
        for header in parts.headers {
            let mut bytes = BytesMut::new();
            let some = self.header.encode(topic, &header.key, &header.value, &mut bytes);
            let some = some.map_err(|error| Side::Header.failed(error))?;
            headers.push((header.key.clone(), some.then(|| Bytes::from(bytes))));
        }
        let start = buffer.len();
        let some = self.key.encode(topic, parts.key.0, parts.key.1, buffer);
        let key = some.map_err(|failure| Side::Key.failed(failure))?.then(|| start..buffer.len());
        let start = buffer.len();
        let some = self.value.encode(topic, parts.value.0, parts.value.1, buffer);
        let value = some.map_err(|failure| Side::Value.failed(failure))?.then(|| start..buffer.len());
        let timestamp = match parts.timestamp {
            Some(timestamp) if timestamp < -1 => {
                return Err(Side::Value.failed(Error::fatal(format!("Invalid record timestamp {timestamp}"))));
            }
            timestamp => timestamp.filter(|t| *t >= 0),
        };
        Ok(OutgoingRecord { partition: parts.partition, timestamp, key, value, headers })
    }

    /// Reads a consumed record into one whose memory is used again; after a failure that holds anything.
    pub(super) fn decode_into(
        &mut self,
        batch: &IncomingBatch,
        raw: &IncomingRecord,
        record: &mut Record,
    ) -> Result<(), Trouble> {
        let topic = &batch.topic;
        let key = self.key.decode_into(topic, batch.slice(raw.key.as_ref()).as_ref(), &mut record.key);
        key.map_err(|failure| Side::Key.failed(failure))?;
        let value = self.value.decode_into(topic, batch.slice(raw.value.as_ref()).as_ref(), &mut record.value);
        value.map_err(|failure| Side::Value.failed(failure))?;
        record.headers.clear();
        for (name, bytes) in &raw.headers {
            let decoded = self.header.decode(topic, name, bytes.as_ref());
            let value = decoded.map_err(|error| Side::Header.failed(error))?;
            record.headers.push(Header { key: name.clone(), value });
        }
        if !Arc::ptr_eq(&record.topic, topic) {
            record.topic = Arc::clone(topic);
        }
        record.partition = Some(batch.partition);
        record.timestamp = raw.timestamp;
        Ok(())
    }

    /// After a failure: asks the registry for what was missing, so that the same record can be converted again.
    ///
    /// # Errors
    /// The record is at fault, or the registry refused; retriable if it does not answer.
    pub(super) async fn clear(&mut self, trouble: Trouble) -> Result<(), Failed> {
        let Trouble { side, failure } = trouble;
        let converter = if side == Side::Key { &mut self.key } else { &mut self.value };
        let cleared = match failure {
            Failure::Record(error) => Err(error),
            Failure::Miss(miss) => converter.resolve(miss).await,
        };
        cleared.map_err(|error| Failed { stage: side.stage(), class: self.classes[side as usize].clone(), error })
    }

    /// As [`Self::clear`], but waits while the registry does not answer: the caller, converting the same record again,
    /// then comes back.
    ///
    /// # Errors
    /// As [`Self::clear`], retriable only if the task is to stop.
    pub(super) async fn clear_patiently(
        &mut self,
        context: &TaskContext,
        trouble: Trouble,
        backoff: &mut Backoff,
    ) -> Result<(), Failed> {
        match self.clear(trouble).await {
            Ok(()) => {
                if backoff.used() {
                    context.health.recovered();
                }
                Ok(())
            }
            Err(Failed { error, .. }) if error.kind() == ErrorKind::Retriable && !context.stop.is_cancelled() => {
                let wait = backoff.next();
                tracing::warn!(connector = %context.connector, task = context.task, %error, ?wait, "schema registry failed, retrying");
                context
                    .health
                    .degraded(format!("the schema registry does not answer, retrying: {}", error.with_causes()));
                tokio::select! {
                    () = context.stop.cancelled() => {}
                    () = tokio::time::sleep(wait) => {}
                }
                Ok(())
            }
            failed => failed,
        }
    }
}

//! The dead letter queue of a sink (KIP-298): records that could not be processed, as they were consumed, with the
//! reason in their headers.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::join_all;
use towline_connectors::api::{Error, ErrorKind, Props, Result};

use super::TaskContext;
use super::tolerance::Failed;
use crate::kafka::{Ack, Incoming, NewTopic, Outgoing, OutgoingRecord, Producer};

/// Where a sink's bad records go.
pub(super) struct DeadLetters {
    topic: Arc<str>,
    context_headers: bool,
    producer: Box<dyn Producer>,
    sent: Vec<Ack>,
}

impl DeadLetters {
    /// Opens the queue that the config names, creating its topic if it is missing.
    pub(super) async fn open(context: &TaskContext) -> Result<Option<Self>> {
        let props: &Props = &context.connector_props;
        let text = |key: &str| props.get(key).map(|text| text.trim()).unwrap_or_default();
        let topic = text("errors.deadletterqueue.topic.name");
        if topic.is_empty() {
            return Ok(None);
        }
        let unusable = |error: Error| match error.kind() {
            ErrorKind::Retriable => error,
            _ => Error::fatal(format!("Could not initialize dead letter queue with topic={topic}")).caused_by(error),
        };
        if context.kafka.partitions(topic).await.map_err(unusable)?.is_none() {
            let new = NewTopic {
                name: topic.to_owned(),
                partitions: 1,
                replication_factor: text("errors.deadletterqueue.topic.replication.factor").parse().unwrap_or(3),
                configs: Vec::new(),
            };
            context.kafka.create_topic(&new).await.map_err(unusable)?;
        }
        let mut settings = context.client("producer", &[]);
        settings
            .insert("client.id".to_owned(), format!("connector-dlq-producer-{}-{}", context.connector, context.task));
        Ok(Some(Self {
            topic: Arc::from(topic),
            context_headers: text("errors.deadletterqueue.context.headers.enable").eq_ignore_ascii_case("true"),
            producer: context.kafka.producer(&settings)?,
            sent: Vec::new(),
        }))
    }

    /// Sends a record as it was consumed.
    pub(super) async fn send(&mut self, context: &TaskContext, record: &Incoming, failed: &Failed) -> Result<()> {
        let mut batch = Outgoing::new(self.topic.clone());
        let key = record.key.as_deref().map(|bytes| batch.put(bytes));
        let value = record.value.as_deref().map(|bytes| batch.put(bytes));
        let mut headers = record.headers.clone();
        if self.context_headers {
            headers.extend(context_headers(context, record, failed));
        }
        batch.records.push(OutgoingRecord { partition: None, timestamp: record.timestamp, key, value, headers });
        let ack = self.producer.send(batch).await?;
        self.sent.push(ack);
        Ok(())
    }

    /// Waits until all that was sent is in the log: before offsets are committed, so that no crash loses one.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let sent = std::mem::take(&mut self.sent);
        match join_all(sent).await.into_iter().find_map(Result::err) {
            Some(error) => {
                Err(Error::fatal(format!("cannot write to dead letter queue {}", self.topic)).caused_by(error))
            }
            None => Ok(()),
        }
    }
}

/// The ten context headers, in Connect's order.
fn context_headers(
    context: &TaskContext,
    record: &Incoming,
    failed: &Failed,
) -> impl Iterator<Item = (ByteString, Option<Bytes>)> + use<> {
    [
        ("topic", record.topic.to_string()),
        ("partition", record.partition.to_string()),
        ("offset", record.offset.to_string()),
        ("connector.name", context.connector.to_string()),
        ("task.id", context.task.to_string()),
        ("stage", failed.stage.name().to_owned()),
        ("class.name", failed.class.clone()),
        ("exception.class.name", failed.error.class().to_owned()),
        ("exception.message", failed.error.to_string()),
        ("exception.stacktrace", failed.error.trace()),
    ]
    .into_iter()
    .map(|(name, text)| (ByteString::from(format!("__connect.errors.{name}")), Some(Bytes::from(text))))
}

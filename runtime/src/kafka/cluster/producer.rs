//! Producing through librdkafka: no future per record; delivery reports are counted per batch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;
use towline_connectors::api::{Error, Result};

use super::{ClientSettings, client_config, failed, refused};
use crate::kafka::{Ack, Outgoing, OutgoingRecord, Producer};

/// A producer with its own delivery thread.
pub(super) struct ClusterProducer(ThreadedProducer<Reports>);

impl ClusterProducer {
    pub(super) fn open(common: &ClientSettings, settings: &ClientSettings) -> Result<Self> {
        let mut all = ClientSettings::from(
            [
                ("acks", "all"),
                ("enable.idempotence", "true"),
                // As Kafka 4.
                ("linger.ms", "5"),
                ("batch.size", "1000000"),
                ("batch.num.messages", "50000"),
                ("queue.buffering.max.messages", "500000"),
                ("queue.buffering.max.kbytes", "65536"),
                ("message.max.bytes", "104857600"),
                ("message.timeout.ms", "0"),
                ("partitioner", "murmur2_random"),
                ("sticky.partitioning.linger.ms", "10"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        all.extend(settings.clone());
        if settings.contains_key("delivery.timeout.ms") {
            all.remove("message.timeout.ms");
        }
        // Without acks from all replicas there is no idempotence; the user's word on acks wins.
        if all.get("acks").is_some_and(|acks| acks != "all" && acks != "-1") {
            all.insert("enable.idempotence".to_owned(), "false".to_owned());
        }
        client_config(common, &all)
            .create_with_context(Reports)
            .map(Self)
            .map_err(|error| refused("cannot open a producer", error))
    }

    /// Queues one record, giving the record back if the queue is full.
    fn queue(&self, batch: &Outgoing, record: &OutgoingRecord, opaque: Arc<InFlight>) -> Queued {
        let mut message: BaseRecord<'_, [u8], [u8], Arc<InFlight>> = BaseRecord::with_opaque_to(&batch.topic, opaque);
        message.partition = record.partition;
        message.timestamp = record.timestamp;
        message.key = record.key.clone().and_then(|range| batch.buffer.get(range));
        message.payload = record.value.clone().and_then(|range| batch.buffer.get(range));
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: value.as_deref() });
            }
            message.headers = Some(headers);
        }
        match self.0.send(message) {
            Ok(()) => Queued::Yes,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Queued::Full,
            Err((error, _)) => Queued::Refused(error),
        }
    }
}

enum Queued {
    Yes,
    Full,
    Refused(KafkaError),
}

#[async_trait]
impl Producer for ClusterProducer {
    async fn send(&self, batch: Outgoing) -> Result<Ack> {
        let (done, outcome) = oneshot::channel();
        let in_flight = Arc::new(InFlight {
            left: AtomicUsize::new(batch.records.len().max(1)),
            outcome: Mutex::new(Outcome { ends: Vec::new(), error: None, done: Some(done) }),
        });
        if batch.records.is_empty() {
            in_flight.finish_one();
        }
        for record in &batch.records {
            loop {
                match self.queue(&batch, record, in_flight.clone()) {
                    Queued::Yes => break,
                    Queued::Full => tokio::time::sleep(Duration::from_millis(1)).await,
                    Queued::Refused(error) => {
                        in_flight.refuse(error);
                        break;
                    }
                }
            }
        }
        let topic = batch.topic;
        Ok(Box::pin(async move {
            match outcome.await {
                Ok(Ok(ends)) => Ok(ends),
                Ok(Err(error)) => Err(production_error(&topic, error)),
                Err(_) => {
                    Err(Error::fatal(format!("the producer was closed before its records reached topic {topic}")))
                }
            }
        }))
    }
}

impl Drop for ClusterProducer {
    fn drop(&mut self) {
        // What was not acknowledged is produced again by the next run; waiting here would hold up a stop.
        self.0.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}

fn production_error(topic: &str, error: KafkaError) -> Error {
    let what = format!("cannot write to topic {topic}");
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => Error::data(format!(
            "{what}: the record is larger than the broker accepts; raise the topic's max.message.bytes and the \
             producer.override.max.request.size of the connector"
        ))
        .with_class("org.apache.kafka.common.errors.RecordTooLargeException")
        .caused_by(error),
        _ => failed(what, error),
    }
}

/// A batch whose records are not all answered yet.
#[derive(Debug)]
pub(super) struct InFlight {
    left: AtomicUsize,
    outcome: Mutex<Outcome>,
}

/// The last offset of each partition of a batch, or what went wrong.
type Delivered = std::result::Result<Vec<(i32, i64)>, KafkaError>;

#[derive(Debug)]
struct Outcome {
    ends: Vec<(i32, i64)>,
    error: Option<KafkaError>,
    done: Option<oneshot::Sender<Delivered>>,
}

impl InFlight {
    fn delivered(&self, partition: i32, offset: i64) {
        {
            let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome.ends.iter_mut().find(|(p, _)| *p == partition) {
                Some((_, end)) => *end = offset.max(*end),
                None => outcome.ends.push((partition, offset)),
            }
        }
        self.finish_one();
    }

    fn refuse(&self, error: KafkaError) {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).error.get_or_insert(error);
        self.finish_one();
    }

    fn finish_one(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match outcome.error.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut outcome.ends)),
        };
        if let Some(done) = outcome.done.take() {
            let _ = done.send(result);
        }
    }
}

/// Receives delivery reports on the producer's thread.
#[derive(Debug, Clone)]
pub(super) struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<InFlight>;

    fn delivery(&self, report: &DeliveryResult<'_>, in_flight: Self::DeliveryOpaque) {
        match report {
            Ok(message) => in_flight.delivered(message.partition(), message.offset()),
            Err((error, _)) => in_flight.refuse(error.clone()),
        }
    }
}

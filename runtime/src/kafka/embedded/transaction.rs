//! Producing in transactions into the broker of this process.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use towline_broker::{Handle, ResponseError};
use towline_connectors::api::{Error, Result};

use super::failed;
use super::producer::{Appender, Stamps};
use crate::kafka::{ClientSettings, Outgoing, TransactionalProducer};

/// The pause before the next attempt while a predecessor's transaction ends.
const RETRY: Duration = Duration::from_millis(20);
/// `transaction.timeout.ms` of Kafka's producers.
const TIMEOUT_MS: i32 = 60_000;

pub(super) struct EmbeddedTransactionalProducer {
    handle: Handle,
    id: String,
    appender: Appender,
    stamps: Stamps,
    open: bool,
}

impl EmbeddedTransactionalProducer {
    pub(super) async fn open(handle: Handle, id: &str, settings: &ClientSettings) -> Result<Self> {
        let appender = Appender::open(handle.clone(), settings)?.in_transactions();
        let timeout = settings.get("transaction.timeout.ms").map(|text| text.trim().parse::<i32>());
        let timeout = timeout.unwrap_or(Ok(TIMEOUT_MS)).map_err(|_| {
            Error::config("cannot open a producer: transaction.timeout.ms is not a number of milliseconds")
        })?;
        let producer = loop {
            match handle.init_transactional_producer(id, timeout).await {
                Err(ResponseError::ConcurrentTransactions) => tokio::time::sleep(RETRY).await,
                outcome => {
                    break outcome
                        .map_err(|error| failed(&format!("cannot open transactional producer {id}"), error))?;
                }
            }
        };
        let stamps = Stamps { producer, sequences: HashMap::new() };
        Ok(Self { handle, id: id.to_owned(), appender, stamps, open: false })
    }

    fn refused(&self, what: &str, error: ResponseError) -> Error {
        match error {
            ResponseError::ProducerFenced | ResponseError::InvalidProducerEpoch => Error::fatal(format!(
                "cannot {what} of producer {}: another task with the same id has taken over",
                self.id
            )),
            error => failed(&format!("cannot {what} of producer {}", self.id), error),
        }
    }
}

#[async_trait]
impl TransactionalProducer for EmbeddedTransactionalProducer {
    async fn send(&mut self, batch: Outgoing) -> Result<()> {
        if batch.records.is_empty() {
            return Ok(());
        }
        let parts = self.appender.by_partition(&batch, self.appender.partitions(&batch.topic).await?);
        let (id, epoch) = self.stamps.producer;
        let places = parts.iter().map(|(partition, _)| (&*batch.topic, *partition));
        let added = self.handle.add_partitions_to_transaction(&self.id, id, epoch, places);
        added.map_err(|error| self.refused("go on with the transaction", error))?;
        self.open = true;
        let sent = self.appender.append_all(&batch, &parts, Some(&mut self.stamps)).await;
        sent.refused.map_or(Ok(()), Err)
    }

    async fn commit(&mut self) -> Result<()> {
        if !self.open {
            return Ok(());
        }
        let (id, epoch) = self.stamps.producer;
        let ended = self.handle.end_transaction(&self.id, id, epoch, true).await;
        ended.map_err(|error| self.refused("commit the transaction", error))?;
        self.open = false;
        Ok(())
    }
}

impl Drop for EmbeddedTransactionalProducer {
    fn drop(&mut self) {
        // Readers of committed records wait for an open transaction: it is aborted now, not by its timeout.
        if self.open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (handle, transactional_id, (id, epoch)) = (self.handle.clone(), self.id.clone(), self.stamps.producer);
            runtime.spawn(async move {
                // A successor may have aborted it already.
                let _ = handle.end_transaction(&transactional_id, id, epoch, false).await;
            });
        }
    }
}

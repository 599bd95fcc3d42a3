//! Producing in transactions into the broker of this process.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use towline_broker::{Handle, ResponseError};
use towline_connectors::api::{Error, Result};

use super::failed;
use super::producer::{Appender, Stamps};
use crate::kafka::{ClientSettings, Outgoing, TransactionalProducer};

/// The pause before the next attempt while a transaction ends, or the coordinator cannot write.
const RETRY: Duration = Duration::from_millis(20);
/// `transaction.timeout.ms` of Kafka's producers.
pub(super) const TIMEOUT_MS: i32 = 60_000;

pub(super) struct EmbeddedTransactionalProducer {
    handle: Handle,
    id: String,
    timeout: i32,
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
        let stamps = register(&handle, id, timeout).await?;
        Ok(Self { handle, id: id.to_owned(), timeout, appender, stamps, open: false })
    }

    /// Adds partitions to the transaction, beginning one if none is open.
    async fn add(&mut self, topic: &str, partitions: &[i32]) -> Result<()> {
        let mut again = false;
        loop {
            let (id, epoch) = self.stamps.producer;
            let places = partitions.iter().map(|partition| (topic, *partition));
            match self.handle.add_partitions_to_transaction(&self.id, id, epoch, places) {
                Ok(()) => return Ok(()),
                Err(error) if passes(error) => tokio::time::sleep(RETRY).await,
                // An id that was not used for a week is forgotten; nobody has taken it over.
                Err(ResponseError::InvalidProducerIdMapping)
                    if !self.open && !again && self.handle.describe_transaction(&self.id).is_none() =>
                {
                    self.stamps = register(&self.handle, &self.id, self.timeout).await?;
                    again = true;
                }
                Err(error) => return Err(self.refused("go on with the transaction", error)),
            }
        }
    }

    fn refused(&self, what: &str, error: ResponseError) -> Error {
        match error {
            ResponseError::ProducerFenced | ResponseError::InvalidProducerEpoch => Error::fatal(format!(
                "cannot {what} of producer {}: another task with the same id has taken over, or the transaction was open \
                 for longer than transaction.timeout.ms={}",
                self.id, self.timeout
            )),
            error => failed(&format!("cannot {what} of producer {}", self.id), error),
        }
    }
}

/// Whether the coordinator could do it later: a transaction is ending, or its disk is full for a while.
fn passes(error: ResponseError) -> bool {
    matches!(error, ResponseError::ConcurrentTransactions | ResponseError::CoordinatorNotAvailable)
}

/// Registers the producer, which fences its predecessor and ends what that left open.
async fn register(handle: &Handle, id: &str, timeout: i32) -> Result<Stamps> {
    loop {
        match handle.init_transactional_producer(id, timeout).await {
            Err(error) if passes(error) => tokio::time::sleep(RETRY).await,
            outcome => {
                let producer =
                    outcome.map_err(|error| failed(&format!("cannot open transactional producer {id}"), error))?;
                return Ok(Stamps { producer, sequences: HashMap::new() });
            }
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
        let partitions: Vec<i32> = parts.iter().map(|(partition, _)| *partition).collect();
        self.add(&batch.topic, &partitions).await?;
        self.open = true;
        let sent = self.appender.append_all(&batch, &parts, Some(&mut self.stamps)).await;
        sent.refused.map_or(Ok(()), Err)
    }

    async fn commit(&mut self) -> Result<()> {
        if !self.open {
            return Ok(());
        }
        let (id, epoch) = self.stamps.producer;
        loop {
            match self.handle.end_transaction(&self.id, id, epoch, true).await {
                Ok(()) => break,
                Err(error) if passes(error) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(self.refused("commit the transaction", error)),
            }
        }
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

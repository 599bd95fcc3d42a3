//! The broker's functions on decoded values: request handlers call them after decoding, and so may code in the
//! same process. Nothing here knows of sockets or frames.

mod append;
mod fetch;
mod groups;
mod offsets;
mod topics;
mod transactions;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use kafka_protocol::ResponseError;

pub use append::{Acks, AppendError, AppendOutcome, PendingAppend};
pub use fetch::{FetchFrom, FetchLimits, Fetched};
pub use offsets::{FoundOffset, LogOffsets, OffsetSpec};
pub use topics::{ConfigSource, ConfigSynonym, TopicConfigEntry};

pub(crate) use fetch::FetchPlace;
pub(crate) use topics::internal_topic;

use crate::cluster::{Cluster, Refusal};
use crate::config::BrokerConfig;
use crate::group::Coordinator;
use crate::lock::DirLock;
use crate::log::Syncer;
use crate::transaction;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) transactions: Arc<transaction::Coordinator>,
    pub(crate) syncer: Arc<Syncer>,
    pub(crate) cluster_id: String,
    pub(crate) stopping: AtomicBool,
    /// The directory's lock, which work on files outside of the logs must hold.
    pub(crate) lock: Weak<DirLock>,
}

/// The broker's functions; cheap to clone, usable as long as the broker runs.
#[derive(Debug, Clone)]
pub struct Handle(pub(crate) Arc<Inner>);

impl Handle {
    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.0.cluster_id
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// Runs what blocks on the disk where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let stopped = || Err((ResponseError::NotController, "The broker has stopped.".to_owned()));
        let inner = self.0.clone();
        let Some(lock) = inner.lock.upgrade() else { return stopped() };
        let work = move || {
            let result = work(&inner);
            drop(lock);
            result
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| stopped())
    }

    /// Like [`Handle::blocking`] for what fails with a bare code.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ResponseError> + Send + 'static,
    ) -> Result<T, ResponseError> {
        let result = self.blocking(move |inner| work(inner).map_err(|error| (error, String::new()))).await;
        result.map_err(|(error, _)| error)
    }
}

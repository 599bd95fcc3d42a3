//! Running tasks: the two loops between a connector and the log, and what they share.

mod acks;
mod chain;
mod consumed;
mod converters;
mod dead_letters;
mod delivery;
mod rejects;
mod sink;
mod source;
mod tolerance;
mod topics;

pub use chain::Chain;
pub(crate) use chain::{entries, find_transform, sub_props};
pub use sink::group_of;
pub use topics::TopicRules;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use towline_connectors::api::{Connector, ErrorKind, Health, Props, Result};

use crate::config::WorkerConfig;
use crate::kafka::{ClientSettings, Kafka};
use crate::store::{State, Status, Stores};

/// Everything that a task needs of its worker.
#[derive(Debug, Clone)]
pub struct TaskContext {
    /// The connector's name.
    pub connector: Arc<str>,
    /// The task's number, from 0.
    pub task: usize,
    /// The task's own config.
    pub props: Props,
    /// The connector's config, placeholders resolved: converters, transforms, overrides.
    pub connector_props: Props,
    /// The worker's settings.
    pub worker: Arc<WorkerConfig>,
    /// The worker's id, `host:port`.
    pub worker_id: Arc<str>,
    /// The cluster's id.
    pub cluster_id: Arc<str>,
    /// The log.
    pub kafka: Arc<dyn Kafka>,
    /// The worker's state.
    pub stores: Stores,
    /// Cancelled when the task is to stop.
    pub stop: CancellationToken,
    /// Whether the task is to pause.
    pub paused: watch::Receiver<bool>,
    /// What the status shows while the task retries.
    pub health: Health,
}

impl TaskContext {
    /// Runs the task until it is stopped.
    ///
    /// # Errors
    /// What makes the task FAILED.
    pub async fn run(self, connector: Connector) -> Result<()> {
        match connector {
            Connector::Source(source) => source::run(self, source).await,
            Connector::Sink(sink) => sink::run(self, sink).await,
        }
    }

    /// Writes the task's state.
    async fn report(&self, state: State) -> Result<()> {
        let status = Status { state, trace: None, worker_id: self.worker_id.to_string() };
        self.stores.status.put_task(&self.connector, self.task, Some(&status)).await
    }

    /// Settings of one of the task's clients: the defaults of the framework, the worker's, then the connector's.
    fn client(&self, kind: &str, defaults: &[(&str, &str)]) -> ClientSettings {
        let mut settings: ClientSettings = defaults.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        settings.insert("client.id".to_owned(), format!("connector-{kind}-{}-{}", self.connector, self.task));
        settings.extend(self.worker.with_prefix(&format!("{kind}.")));
        let prefix = format!("{kind}.override.");
        settings.extend(
            self.connector_props.iter().filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone()))),
        );
        settings
    }

    /// Opens something outside, retrying passing failures with backoff until it works or the task is stopped.
    async fn open_with_retries<T, F>(&self, what: &str, mut open: impl FnMut() -> F) -> Result<Option<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let mut backoff = Backoff::default();
        loop {
            if backoff.used() && backoff.0 == 1 {
                // The task runs, though it waits: its status says both.
                self.report(if *self.paused.borrow() { State::Paused } else { State::Running }).await?;
            }
            let opened = tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                opened = open() => opened,
            };
            match opened {
                Ok(value) => {
                    self.health.recovered();
                    return Ok(Some(value));
                }
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    let wait = backoff.next();
                    tracing::warn!(connector = %self.connector, task = self.task, %error, ?wait, "{what} failed, retrying");
                    self.health.degraded(format!("{what} failed, retrying: {}", error.with_causes()));
                    tokio::select! {
                        () = self.stop.cancelled() => return Ok(None),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Growing pauses between attempts.
#[derive(Debug, Default)]
struct Backoff(u32);

impl Backoff {
    /// The next pause: 100 ms, doubling to 5 s.
    fn next(&mut self) -> Duration {
        let wait = Duration::from_millis(100 << self.0.min(6)).min(Duration::from_secs(5));
        self.0 = self.0.saturating_add(1);
        wait
    }

    /// Whether there was an attempt that failed.
    fn used(&self) -> bool {
        self.0 > 0
    }

    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

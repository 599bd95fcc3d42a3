//! A topic as a map: the one primitive under the worker's configs, offsets and statuses and the registry's schemas.
//!
//! Every record that anyone wrote is handed to the topic's [`LogState`] in order; an append resolves once its record is
//! durable *and* has come back through the state, so that whoever wrote it reads what it wrote (Kafka's
//! `KafkaBasedLog`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use towline_connectors::api::{Error, Result, TopicPartition};

use super::{ClientSettings, Incoming, IncomingBatch, Kafka, LogReader, NewTopic, Outgoing, Producer, REQUEST_TIMEOUT};

/// Receives the records of one topic, in order. Must be quick: it runs on the reading task.
pub trait LogState: Send + Sync {
    /// Takes a record in; a null value is a tombstone.
    fn apply(&self, record: &Incoming);
}

/// A compacted topic and who keeps its content.
pub struct LogSpec {
    /// How to create the topic if it is missing; `cleanup.policy=compact` is added.
    pub topic: NewTopic,
    /// The worker key that names the topic, for messages.
    pub named_by: &'static str,
    /// Who keeps its content.
    pub state: Arc<dyn LogState>,
}

impl std::fmt::Debug for LogSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogSpec").field(&self.topic).finish()
    }
}

/// Several compacted topics behind one reader and one producer.
pub struct CompactedLogs {
    producer: Box<dyn Producer>,
    progress: Arc<Progress>,
}

impl std::fmt::Debug for CompactedLogs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompactedLogs").finish_non_exhaustive()
    }
}

/// How far each partition has been applied.
#[derive(Default)]
struct Progress {
    applied: Mutex<HashMap<TopicPartition, i64>>,
    moved: Notify,
    ended: CancellationToken,
}

impl Progress {
    fn reached(&self, targets: &[(TopicPartition, i64)]) -> bool {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        targets.iter().all(|(at, end)| *end <= 0 || applied.get(at).is_some_and(|next| next >= end))
    }

    /// Waits until everything before these offsets has been applied.
    async fn wait(&self, targets: &[(TopicPartition, i64)]) -> Result<()> {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.reached(targets) {
                return Ok(());
            }
            tokio::select! {
                () = moved => {}
                () = self.ended.cancelled() => return Err(Error::retriable("the log is being closed")),
            }
        }
    }
}

impl CompactedLogs {
    /// Creates missing topics, reads all to their end, and goes on reading until `stop`.
    ///
    /// # Errors
    /// Fatal if a topic that exists is not compacted; retriable if the cluster does not answer.
    pub async fn open(
        kafka: &dyn Kafka,
        specs: Vec<LogSpec>,
        client_id: &str,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self> {
        for spec in &specs {
            ensure_compacted(kafka, spec).await?;
        }
        let topics: Vec<String> = specs.iter().map(|spec| spec.topic.name.clone()).collect();
        let settings = ClientSettings::from([
            ("client.id".to_owned(), client_id.to_owned()),
            ("linger.ms".to_owned(), "0".to_owned()),
        ]);
        let producer = kafka.producer(&settings)?;
        let mut reader = kafka.log_reader(&topics).await?;
        let progress = Arc::new(Progress { ended: stop.child_token(), ..Progress::default() });
        let states: HashMap<String, Arc<dyn LogState>> =
            specs.into_iter().map(|spec| (spec.topic.name, spec.state)).collect();
        replay(reader.as_mut(), &states, &progress).await?;
        tracker.spawn(tail(reader, states, progress.clone(), stop.clone()));
        Ok(Self { producer, progress })
    }

    /// Writes a record and waits until it is durable and applied; where it stands.
    ///
    /// # Errors
    /// Retriable if the cluster did not take it.
    pub async fn append(&self, topic: &Arc<str>, key: &[u8], value: Option<&[u8]>) -> Result<(i32, i64)> {
        let ends = self.write(Outgoing::of_one(topic.clone(), Some(key), value)).await?;
        ends.first().copied().ok_or_else(|| Error::fatal(format!("the broker gave no offset for a record of {topic}")))
    }

    /// Hands several records over in their order and waits until all are durable and applied.
    ///
    /// # Errors
    /// Retriable if the cluster did not take them; some may have been taken.
    pub async fn append_all(&self, batch: Outgoing) -> Result<()> {
        self.write(batch).await.map(|_| ())
    }

    /// Waits until everything before these offsets has been applied, within bounds.
    ///
    /// # Errors
    /// Retriable if it takes too long.
    pub async fn reached(&self, ends: &[(TopicPartition, i64)]) -> Result<()> {
        match tokio::time::timeout(REQUEST_TIMEOUT, self.progress.wait(ends)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::retriable(format!("the log was not read to its end within {REQUEST_TIMEOUT:?}"))),
        }
    }

    /// Sends a batch and waits until it is durable and applied, within bounds: a caller must never hang on a cluster
    /// that is away. A write that is given up may still reach the log later.
    async fn write(&self, batch: Outgoing) -> Result<Vec<(i32, i64)>> {
        let topic = batch.topic.clone();
        let written = async {
            let ends = self.producer.send(batch).await?.await?;
            let place = |(partition, offset): &(i32, i64)| {
                (TopicPartition { topic: topic.clone(), partition: *partition }, offset + 1)
            };
            self.progress.wait(&ends.iter().map(place).collect::<Vec<_>>()).await?;
            Ok(ends)
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, written).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::retriable(format!(
                "a write to topic {topic} was not read back within {REQUEST_TIMEOUT:?}; it may be retried"
            ))),
        }
    }
}

async fn ensure_compacted(kafka: &dyn Kafka, spec: &LogSpec) -> Result<()> {
    let mut topic = spec.topic.clone();
    topic.configs.push(("cleanup.policy".to_owned(), "compact".to_owned()));
    if kafka.partitions(&topic.name).await?.is_none() && kafka.create_topic(&topic).await? {
        tracing::info!(topic = %topic.name, partitions = topic.partitions, "created compacted topic");
        return Ok(());
    }
    match kafka.topic_config(&topic.name, "cleanup.policy").await {
        Ok(Some(policy)) if policy != "compact" => Err(Error::config(format!(
            "Topic '{}' supplied via the '{}' property is required to have 'cleanup.policy=compact' to guarantee \
             consistency and durability of its content, but found the topic currently has 'cleanup.policy={policy}'. \
             Continuing would likely result in eventually losing it. Change the topic's config, or name another topic.",
            topic.name, spec.named_by
        ))),
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(topic = %topic.name, %error, "cannot check that the topic is compacted");
            Ok(())
        }
    }
}

/// How long a log may be quiet while it is read to its end.
const QUIET: Duration = Duration::from_secs(15);

/// Reads until every partition's end of now has been applied.
async fn replay(
    reader: &mut dyn LogReader,
    states: &HashMap<String, Arc<dyn LogState>>,
    progress: &Progress,
) -> Result<()> {
    let ends = reader.ends().to_vec();
    // A partition whose tail was compacted or aborted away never shows its last offset: a long silence says that there
    // is nothing left, but only if every partition that should hold something has shown something.
    while !progress.reached(&ends) {
        match tokio::time::timeout(QUIET, reader.next()).await {
            Ok(Some(records)) => apply(&records, states, progress),
            Ok(None) => return Err(Error::retriable("the log reader ended while reading the log")),
            Err(_) => {
                let applied = progress.applied.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((at, end)) = ends.iter().find(|(at, end)| *end > 0 && !applied.contains_key(at)) {
                    let message =
                        format!("nothing of {}-{} could be read, though it ends at {end}", at.topic, at.partition);
                    return Err(Error::retriable(message));
                }
                tracing::warn!("the log was quiet for {QUIET:?} before its end: the rest is taken as compacted away");
                break;
            }
        }
    }
    let mut applied = progress.applied.lock().unwrap_or_else(PoisonError::into_inner);
    for (at, end) in ends {
        let next = applied.entry(at).or_insert(end);
        *next = end.max(*next);
    }
    Ok(())
}

async fn tail(
    mut reader: Box<dyn LogReader>,
    states: HashMap<String, Arc<dyn LogState>>,
    progress: Arc<Progress>,
    stop: CancellationToken,
) {
    loop {
        // Both are cancel-safe.
        tokio::select! {
            () = stop.cancelled() => return,
            records = reader.next() => match records {
                Some(records) => apply(&records, &states, &progress),
                None => {
                    progress.ended.cancel();
                    return;
                }
            },
        }
    }
}

fn apply(batches: &[IncomingBatch], states: &HashMap<String, Arc<dyn LogState>>, progress: &Progress) {
    for batch in batches {
        if let Some(state) = states.get(&*batch.topic) {
            batch.iter().for_each(|record| state.apply(&record));
        }
    }
    let mut applied = progress.applied.lock().unwrap_or_else(PoisonError::into_inner);
    for batch in batches {
        applied.insert(batch.place(), batch.next_offset);
    }
    drop(applied);
    progress.moved.notify_waiters();
}

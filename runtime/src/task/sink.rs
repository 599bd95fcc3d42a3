//! The loop of a sink task (Kafka Connect's `WorkerSinkTask`): consume, convert, transform, put; commit what the target
//! has, never ahead of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use towline_connectors::api::{
    ConsumerGroup, Error, ErrorKind, Origin, Rejected, Result, SinkConnector, SinkContext, SinkTask, TopicPartition,
};

use super::chain::entries;
use super::dead_letters::DeadLetters;
use super::decoder::{Decoded, Decoder};
use super::tolerance::{Failed, Stage, Tolerance};
use super::{Backoff, TaskContext};
use crate::kafka::{GroupConsumer, GroupEvent, Incoming, Subscription};
use crate::store::State;

/// Offsets are committed to the group at least this often while records flow, or as the worker's
/// `offset.flush.interval.ms` says if that is shorter.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// The consumer group of a sink connector.
pub fn group_of(connector: &str, props: &towline_connectors::api::Props) -> String {
    let own = props.get("consumer.override.group.id").map(|group| group.trim().to_owned());
    own.unwrap_or_else(|| format!("connect-{connector}"))
}

/// Runs a sink task until it is stopped.
pub(super) async fn run(context: TaskContext, connector: &'static dyn SinkConnector) -> Result<()> {
    let decoder = Decoder::start(&context)?;
    let group = group_of(&context.connector, &context.connector_props);
    let Some(dead_letters) =
        context.open_with_retries("opening the dead letter queue", || DeadLetters::open(&context)).await?
    else {
        return Ok(());
    };
    let opened = context
        .open_with_retries("opening the sink", || {
            connector.open(
                &context.props,
                SinkContext {
                    connector: context.connector.clone(),
                    task: context.task,
                    group: ConsumerGroup { cluster: context.cluster_id.clone(), name: group.as_str().into() },
                    stop: context.stop.clone(),
                    health: context.health.clone(),
                },
            )
        })
        .await?;
    let Some(task) = opened else { return Ok(()) };
    let mut settings = context.client("consumer", &[]);
    settings.insert("group.id".to_owned(), group);
    let consumer = context.kafka.group_consumer(&subscription(&context)?, &settings)?;
    let every = context.worker.millis("offset.flush.interval.ms").min(COMMIT_EVERY);
    let mut run = SinkRun {
        task,
        consumer,
        dead_letters,
        decoder,
        tolerance: Tolerance::new(&context.connector, context.task, &context.connector_props),
        consumed: BTreeMap::new(),
        dirty: false,
        committed_at: Instant::now(),
        commit_every: every,
        context: &context,
    };
    let mut outcome = run.drive().await;
    if outcome.is_ok() {
        outcome = run.commit().await;
    }
    let SinkRun { task, consumer, .. } = run;
    consumer.close().await;
    task.close().await;
    outcome
}

fn subscription(context: &TaskContext) -> Result<Subscription> {
    let topics: Vec<String> = entries(context.connector_props.get("topics")).map(str::to_owned).collect();
    if !topics.is_empty() {
        return Ok(Subscription::Topics(topics));
    }
    match context.connector_props.get("topics.regex").map(|pattern| pattern.trim()) {
        Some(pattern) if !pattern.is_empty() => Ok(Subscription::Pattern(pattern.to_owned())),
        _ => Err(Error::config("Must configure one of topics or topics.regex")),
    }
}

struct SinkRun<'a> {
    task: Box<dyn SinkTask>,
    consumer: Box<dyn GroupConsumer>,
    dead_letters: Option<DeadLetters>,
    decoder: Decoder,
    tolerance: Tolerance,
    /// The next offset to read of each assigned partition.
    consumed: BTreeMap<TopicPartition, i64>,
    /// Whether anything was consumed since the last commit.
    dirty: bool,
    committed_at: Instant,
    commit_every: Duration,
    context: &'a TaskContext,
}

impl SinkRun<'_> {
    async fn drive(&mut self) -> Result<()> {
        let context = self.context;
        let mut paused = context.paused.clone();
        let mut held = *paused.borrow_and_update();
        context.report(if held { State::Paused } else { State::Running }).await?;
        loop {
            let wait = if self.dirty { self.commit_every } else { Duration::from_secs(1) };
            let room = self.decoder.has_room();
            let consumer = &mut self.consumer;
            // Every branch is cancel-safe. What is held stays in the decoder.
            let event = tokio::select! {
                biased;
                () = context.stop.cancelled() => return Ok(()),
                changed = paused.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    held = *paused.borrow_and_update();
                    self.consumer.set_paused(held);
                    self.commit().await?;
                    context.report(if held { State::Paused } else { State::Running }).await?;
                    continue;
                }
                event = async { if room { consumer.next().await } else { consumer.next_control().await } } => event,
                decoded = self.decoder.next(), if !held => {
                    self.write(decoded?).await?;
                    self.commit_if_due().await?;
                    continue;
                }
                () = tokio::time::sleep(wait) => {
                    // An empty put now and then lets a task flush by time.
                    self.put(&Decoded::default()).await?;
                    self.commit_if_due().await?;
                    continue;
                }
            };
            match event {
                None => return Ok(()),
                Some(GroupEvent::Records(records)) => self.decoder.push(records)?,
                Some(other) => self.rebalance(other, held).await?,
            }
        }
    }

    /// Answers a rebalance.
    async fn rebalance(&mut self, event: GroupEvent, held: bool) -> Result<()> {
        match event {
            GroupEvent::Records(_) => Ok(()),
            GroupEvent::Failed(error) if error.kind() == ErrorKind::Retriable => {
                tracing::debug!(connector = %self.context.connector, task = self.context.task, %error, "consumer");
                Ok(())
            }
            GroupEvent::Failed(error) => Err(error),
            GroupEvent::Assigned(partitions, reply) => {
                let start = self.assigned(&partitions).await?;
                for (at, offset) in &start {
                    self.consumed.insert(at.clone(), *offset);
                }
                let _ = reply.send(start);
                if held {
                    self.consumer.set_paused(true);
                }
                Ok(())
            }
            GroupEvent::Revoked(partitions, reply) => {
                let committed = self.commit().await;
                self.task.revoked(&partitions).await;
                self.decoder.forget(&partitions);
                self.consumed.retain(|at, _| !partitions.contains(at));
                let _ = reply.send(());
                match committed {
                    Err(error) if error.kind() == ErrorKind::Retriable => {
                        tracing::warn!(connector = %self.context.connector, task = self.context.task, %error, "offsets not committed before a rebalance");
                        Ok(())
                    }
                    committed => committed,
                }
            }
        }
    }

    async fn assigned(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<Vec<(TopicPartition, i64)>> {
        let mut backoff = Backoff::default();
        loop {
            match self.task.assigned(partitions).await {
                Err(error) if error.kind() == ErrorKind::Retriable && !self.context.stop.is_cancelled() => {
                    if self.wait_after("taking over partitions", &error, &mut backoff).await? {
                        return Ok(Vec::new());
                    }
                }
                answer => {
                    if backoff.used() {
                        self.context.health.recovered();
                    }
                    return answer;
                }
            }
        }
    }

    async fn write(&mut self, mut decoded: Decoded) -> Result<()> {
        for (failed, raw) in std::mem::take(&mut decoded.failed) {
            self.reject(failed, raw).await?;
        }
        // The target may store the offset of this batch with its rows: dead letters must be safe before that.
        self.flush_dead_letters().await?;
        if !decoded.records.is_empty() && !self.put(&decoded).await? {
            // Partitions were lost meanwhile: whoever has them now starts at the committed offsets.
            return Ok(());
        }
        for batch in &decoded.batches {
            self.consumed.insert(batch.place(), batch.next_offset);
            self.dirty = true;
        }
        Ok(())
    }

    /// Puts records, again and again while the target is away; false if the partitions were lost meanwhile.
    async fn put(&mut self, decoded: &Decoded) -> Result<bool> {
        let records = &decoded.records;
        let mut backoff = Backoff::default();
        loop {
            match self.task.put(records).await {
                Ok(rejected) => {
                    if backoff.used() {
                        self.context.health.recovered();
                    }
                    let any = !rejected.is_empty();
                    for Rejected { index, error } in rejected {
                        let class = "org.apache.kafka.connect.sink.SinkTask".to_owned();
                        let failed = Failed { stage: Stage::TaskPut, class, error };
                        match decoded.raw(index) {
                            Some(raw) => self.reject(failed, raw).await?,
                            None => {
                                return Err(Error::fatal(format!(
                                    "the sink rejected record {index} of {}",
                                    records.len()
                                )));
                            }
                        }
                    }
                    if any {
                        self.flush_dead_letters().await?;
                    }
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    if self.context.stop.is_cancelled() {
                        return Ok(false);
                    }
                    if self.wait_after("writing to the target", &error, &mut backoff).await? {
                        return Ok(false);
                    }
                }
                Err(error) => {
                    return Err(Error::fatal("Exiting WorkerSinkTask due to unrecoverable exception.").caused_by(error));
                }
            }
        }
    }

    /// Waits before the next attempt, serving rebalances meanwhile; true if partitions were lost.
    async fn wait_after(&mut self, what: &str, error: &Error, backoff: &mut Backoff) -> Result<bool> {
        let wait = backoff.next();
        let context = self.context;
        tracing::warn!(connector = %context.connector, task = context.task, %error, ?wait, "{what} failed, retrying");
        context.health.degraded(format!("{what} failed, retrying: {}", error.with_causes()));
        let until = Instant::now() + wait;
        loop {
            let event = tokio::select! {
                () = context.stop.cancelled() => return Ok(false),
                () = tokio::time::sleep_until(until) => return Ok(false),
                event = self.consumer.next_control() => event,
            };
            match event {
                None => return Err(Error::fatal("the consumer has ended")),
                Some(GroupEvent::Records(_)) => {}
                // Nothing of the failed batch was written; the new owner starts at the committed offsets.
                Some(GroupEvent::Revoked(partitions, reply)) => {
                    self.task.revoked(&partitions).await;
                    self.consumed.retain(|at, _| !partitions.contains(at));
                    self.decoder.forget(&partitions);
                    let _ = reply.send(());
                    return Ok(true);
                }
                Some(GroupEvent::Assigned(_, reply)) => {
                    let _ = reply.send(Vec::new());
                }
                Some(GroupEvent::Failed(error)) if error.kind() == ErrorKind::Retriable => {}
                Some(GroupEvent::Failed(error)) => return Err(error),
            }
        }
    }

    /// Applies the error policy to one record, sending it to the dead letter queue if there is one.
    async fn reject(&mut self, failed: Failed, raw: Incoming) -> Result<()> {
        if failed.error.kind() == ErrorKind::Retriable {
            return Err(failed.error);
        }
        if let Some(dead_letters) = &mut self.dead_letters {
            dead_letters.send(self.context, &raw, &failed).await?;
            if !self.tolerance.skips() {
                dead_letters.flush().await?;
            }
        }
        let origin = Origin { topic: raw.topic, partition: raw.partition, offset: raw.offset };
        self.tolerance.judge(failed, Some(&origin))
    }

    async fn flush_dead_letters(&mut self) -> Result<()> {
        match &mut self.dead_letters {
            Some(dead_letters) => dead_letters.flush().await,
            None => Ok(()),
        }
    }

    async fn commit_if_due(&mut self) -> Result<()> {
        if self.dirty && self.committed_at.elapsed() >= self.commit_every { self.commit().await } else { Ok(()) }
    }

    /// Flushes the target, then commits the group's offsets. A commit that fails is tried again later.
    async fn commit(&mut self) -> Result<()> {
        if !self.dirty {
            return Ok(());
        }
        self.flush_dead_letters().await?;
        self.task.flush().await?;
        let offsets: Vec<_> = self.consumed.iter().map(|(at, offset)| (at.clone(), *offset)).collect();
        match self.consumer.commit(&offsets).await {
            Ok(()) => self.dirty = false,
            Err(error) => {
                tracing::warn!(connector = %self.context.connector, task = self.context.task, %error, "offsets not committed, trying again");
            }
        }
        self.committed_at = Instant::now();
        Ok(())
    }
}

//! The loop of a sink task (Kafka Connect's `WorkerSinkTask`): consume, convert, transform, put; commit what the target
//! has, never ahead of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use towline_connectors::api::{
    ConsumerGroup, Error, ErrorKind, Rejected, Result, SinkConnector, SinkContext, SinkTask, TopicPartition,
};

use super::chain::entries;
use super::consumed::{Consumed, Maker};
use super::dead_letters::DeadLetters;
use super::tolerance::{Failed, Stage};
use super::{Backoff, TaskContext};
use crate::kafka::{GroupConsumer, GroupEvent, IncomingBatch, Subscription};
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
    let group = group_of(&context.connector, &context.connector_props);
    let Some(dead_letters) =
        context.open_with_retries("opening the dead letter queue", || DeadLetters::open(&context)).await?
    else {
        return Ok(());
    };
    let maker = Maker::new(&context, dead_letters)?;
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
        maker,
        next_offsets: BTreeMap::new(),
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
    maker: Maker,
    /// The next offset to read of each assigned partition.
    next_offsets: BTreeMap<TopicPartition, i64>,
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
            let consumer = &mut self.consumer;
            // Every branch is cancel-safe.
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
                event = async { if held { consumer.next_control().await } else { consumer.next().await } } => event,
                () = tokio::time::sleep(wait) => {
                    // An empty put now and then lets a task flush by time.
                    self.put(&[]).await?;
                    self.maker.rest();
                    self.commit_if_due().await?;
                    continue;
                }
            };
            match event {
                None => return Ok(()),
                Some(GroupEvent::Records(batches)) => {
                    self.write(&batches).await?;
                    self.commit_if_due().await?;
                }
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
                    self.next_offsets.insert(at.clone(), *offset);
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
                self.next_offsets.retain(|at, _| !partitions.contains(at));
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

    async fn write(&mut self, batches: &[IncomingBatch]) -> Result<()> {
        if !self.put(batches).await? {
            // Partitions were lost meanwhile: whoever has them now starts at the committed offsets.
            return Ok(());
        }
        for batch in batches {
            self.next_offsets.insert(batch.place(), batch.next_offset);
            self.dirty = true;
        }
        Ok(())
    }

    /// Puts records, again and again while the target is away; false if the partitions were lost meanwhile.
    async fn put(&mut self, batches: &[IncomingBatch]) -> Result<bool> {
        let mut backoff = Backoff::default();
        let mut judged = (0, 0);
        loop {
            let mut records = Consumed::new(&mut self.maker, batches, judged);
            let put = self.task.put(&mut records).await;
            if let Some(failure) = records.failure {
                // While the task stops nothing is waited for.
                let stopping = failure.kind() == ErrorKind::Retriable && self.context.stop.is_cancelled();
                return if stopping { Ok(false) } else { Err(failure) };
            }
            let what = if records.held_up { "reading the records" } else { "writing to the target" };
            judged = records.judged;
            match put {
                Ok(rejected) => {
                    if backoff.used() {
                        self.context.health.recovered();
                    }
                    let of_raw = |Rejected { index, error }: Rejected| {
                        let class = "org.apache.kafka.connect.sink.SinkTask".to_owned();
                        let failed = Failed { stage: Stage::TaskPut, class, error };
                        let unknown =
                            || Error::fatal(format!("the sink rejected record {index}, which it was not given"));
                        Ok((failed, records.raw(index).ok_or_else(unknown)?))
                    };
                    let rejected: Vec<_> = rejected.into_iter().map(of_raw).collect::<Result<_>>()?;
                    let any = !rejected.is_empty();
                    for (failed, raw) in rejected {
                        self.maker.rejects.reject(self.context, failed, raw).await?;
                    }
                    if any {
                        self.maker.rejects.flush().await?;
                    }
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    if self.context.stop.is_cancelled() {
                        return Ok(false);
                    }
                    if self.wait_after(what, &error, &mut backoff).await? {
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
                    self.next_offsets.retain(|at, _| !partitions.contains(at));
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

    async fn commit_if_due(&mut self) -> Result<()> {
        if self.dirty && self.committed_at.elapsed() >= self.commit_every { self.commit().await } else { Ok(()) }
    }

    /// Flushes the target, then commits the group's offsets. A commit that fails is tried again later.
    async fn commit(&mut self) -> Result<()> {
        if !self.dirty {
            return Ok(());
        }
        self.maker.rejects.flush().await?;
        self.task.flush().await?;
        let offsets: Vec<_> = self.next_offsets.iter().map(|(at, offset)| (at.clone(), *offset)).collect();
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

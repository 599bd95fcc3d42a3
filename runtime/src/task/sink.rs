//! The loop of a sink task (Kafka Connect's `WorkerSinkTask`): consume, convert, transform, put; commit what the target
//! has, never ahead of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use towline_connectors::api::{
    ConsumerGroup, Error, ErrorKind, Origin, Record, Rejected, Result, SinkConnector, SinkContext, SinkRecord,
    SinkTask, TopicPartition,
};

use super::chain::{Chain, entries};
use super::converters::{Converters, Trouble};
use super::dead_letters::DeadLetters;
use super::tolerance::{Failed, Stage, Tolerance};
use super::topics::{TopicRules, Topics};
use super::{Backoff, TaskContext};
use crate::kafka::{GroupConsumer, GroupEvent, Incoming, IncomingBatch, IncomingRecord, Subscription};
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
    let mut pipe = Pipe::open(&context)?;
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
        backlog: VecDeque::new(),
        consumed: BTreeMap::new(),
        dirty: false,
        committed_at: Instant::now(),
        commit_every: every,
        pipe: &mut pipe,
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

/// Everything between the log and a sink record.
struct Pipe {
    converters: Converters,
    chain: Chain,
    tolerance: Tolerance,
    topics: Topics,
}

impl Pipe {
    fn open(context: &TaskContext) -> Result<Self> {
        Ok(Self {
            converters: Converters::open(context)?,
            chain: Chain::build(&context.connector_props)?,
            tolerance: Tolerance::new(&context.connector, context.task, &context.connector_props),
            topics: Topics::new(TopicRules::default()),
        })
    }

    /// After a failure: asks the registry for what was missing and converts again.
    #[cold]
    async fn recover(
        &mut self,
        context: &TaskContext,
        batch: &IncomingBatch,
        raw: &IncomingRecord,
        mut trouble: Trouble,
    ) -> Result<Record, Failed> {
        let mut backoff = Backoff::default();
        loop {
            self.converters.clear(context, trouble, &mut backoff).await?;
            match self.converters.decode(batch, raw) {
                Ok(record) => return Ok(record),
                Err(again) => trouble = again,
            }
        }
    }

    /// The transformed record; `None` if a transform dropped it.
    fn transform(&mut self, record: Record) -> Result<Option<Record>, Failed> {
        if self.chain.is_empty() {
            return Ok(Some(record));
        }
        self.chain.apply(record).map_err(|failed| Failed {
            stage: Stage::Transformation,
            class: failed.class.to_owned(),
            error: failed.error,
        })
    }
}

/// A record among those consumed: its batch, and its place there.
type Place = (usize, usize);

struct SinkRun<'a> {
    task: Box<dyn SinkTask>,
    consumer: Box<dyn GroupConsumer>,
    dead_letters: Option<DeadLetters>,
    /// Records that arrived although the task is paused: what was on its way.
    backlog: VecDeque<Vec<IncomingBatch>>,
    /// The next offset to read of each assigned partition.
    consumed: BTreeMap<TopicPartition, i64>,
    /// Whether anything was consumed since the last commit.
    dirty: bool,
    committed_at: Instant,
    commit_every: Duration,
    pipe: &'a mut Pipe,
    context: &'a TaskContext,
}

impl SinkRun<'_> {
    async fn drive(&mut self) -> Result<()> {
        let context = self.context;
        let mut paused = context.paused.clone();
        let mut held = *paused.borrow_and_update();
        context.report(if held { State::Paused } else { State::Running }).await?;
        loop {
            if !held && let Some(records) = self.backlog.pop_front() {
                self.consume(records).await?;
                self.commit_if_due().await?;
                continue;
            }
            let wait = if self.dirty { self.commit_every } else { Duration::from_secs(1) };
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
                event = self.consumer.next() => event,
                () = tokio::time::sleep(wait) => {
                    // An empty put now and then lets a task flush by time.
                    self.put(&[], &|_| None).await?;
                    self.commit_if_due().await?;
                    continue;
                }
            };
            match event {
                None => return Ok(()),
                Some(GroupEvent::Records(records)) if held => {
                    // The assignment may have come after the pause: pause what is assigned now, keep what slipped by.
                    self.consumer.set_paused(true);
                    self.backlog.push_back(records);
                }
                Some(GroupEvent::Records(records)) => {
                    self.consume(records).await?;
                    self.commit_if_due().await?;
                }
                Some(other) => {
                    self.rebalance(other, held).await?;
                }
            }
        }
    }

    /// Answers a rebalance. Whether partitions were lost.
    async fn rebalance(&mut self, event: GroupEvent, held: bool) -> Result<bool> {
        match event {
            GroupEvent::Records(_) => Ok(false),
            GroupEvent::Failed(error) if error.kind() == ErrorKind::Retriable => {
                tracing::debug!(connector = %self.context.connector, task = self.context.task, %error, "consumer");
                Ok(false)
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
                Ok(false)
            }
            GroupEvent::Revoked(partitions, reply) => {
                let committed = self.commit().await;
                self.task.revoked(&partitions).await;
                for batches in &mut self.backlog {
                    batches.retain(|batch| !partitions.contains(&batch.place()));
                }
                self.consumed.retain(|at, _| !partitions.contains(at));
                let _ = reply.send(());
                match committed {
                    Err(error) if error.kind() == ErrorKind::Retriable => {
                        tracing::warn!(connector = %self.context.connector, task = self.context.task, %error, "offsets not committed before a rebalance");
                        Ok(true)
                    }
                    committed => committed.map(|()| true),
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

    async fn consume(&mut self, incoming: Vec<IncomingBatch>) -> Result<()> {
        let count = incoming.iter().map(|batch| batch.records.len()).sum();
        let mut records = Vec::with_capacity(count);
        let mut sources: Vec<Place> = Vec::with_capacity(count);
        for (at, batch) in incoming.iter().enumerate() {
            if !self.pipe.topics.is_known(&batch.topic) {
                self.pipe.topics.ensure(self.context, &batch.topic).await?;
            }
            for (index, raw) in batch.records.iter().enumerate() {
                let converted = match self.pipe.converters.decode(batch, raw) {
                    Ok(record) => Ok(record),
                    Err(trouble) => self.pipe.recover(self.context, batch, raw, trouble).await,
                };
                match converted.and_then(|record| self.pipe.transform(record)) {
                    Ok(Some(record)) => {
                        let origin =
                            Origin { topic: batch.topic.clone(), partition: batch.partition, offset: raw.offset };
                        records.push(SinkRecord { record, origin });
                        sources.push((at, index));
                    }
                    Ok(None) => {}
                    Err(_) if self.context.stop.is_cancelled() => return Ok(()),
                    Err(failed) => self.reject(failed, batch.record(raw)).await?,
                }
            }
        }
        // The target may store the offset of this batch with its rows: dead letters must be safe before that.
        self.flush_dead_letters().await?;
        let raw =
            |index: usize| sources.get(index).map(|(at, index)| incoming[*at].record(&incoming[*at].records[*index]));
        if !records.is_empty() && !self.put(&records, &raw).await? {
            // Partitions were lost meanwhile: whoever has them now starts at the committed offsets.
            return Ok(());
        }
        for batch in &incoming {
            self.consumed.insert(batch.place(), batch.next_offset);
        }
        self.dirty = true;
        Ok(())
    }

    /// Puts records, again and again while the target is away; false if the partitions were lost meanwhile.
    async fn put(&mut self, records: &[SinkRecord], raw: &(dyn Fn(usize) -> Option<Incoming> + Sync)) -> Result<bool> {
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
                        match raw(index) {
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
                None => return Ok(false),
                Some(GroupEvent::Records(_)) => {}
                // Nothing of the failed batch was written; the new owner starts at the committed offsets.
                Some(GroupEvent::Revoked(partitions, reply)) => {
                    self.task.revoked(&partitions).await;
                    self.consumed.retain(|at, _| !partitions.contains(at));
                    self.backlog.clear();
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
            if !self.pipe.tolerance.skips() {
                dead_letters.flush().await?;
            }
        }
        let origin = Origin { topic: raw.topic, partition: raw.partition, offset: raw.offset };
        self.pipe.tolerance.judge(failed, Some(&origin))
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

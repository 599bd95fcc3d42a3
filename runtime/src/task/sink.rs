//! The loop of a sink task (Kafka Connect's `WorkerSinkTask`): consume, convert, transform, put; commit what the target
//! has, never ahead of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use towline_connectors::api::{
    ConsumerGroup, Error, ErrorKind, Header, Origin, Record, Rejected, Result, SinkConnector, SinkContext, SinkRecord,
    SinkTask, TopicPartition,
};
use towline_connectors::data::Datum;

use super::chain::{Chain, entries};
use super::dead_letters::DeadLetters;
use super::source::resolve;
use super::tolerance::{Failed, Stage, Tolerance};
use super::topics::{TopicRules, Topics};
use super::{Backoff, TaskContext};
use crate::convert::{self, Converter, HeaderConverter};
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
    key: Box<dyn Converter>,
    value: Box<dyn Converter>,
    header: Box<dyn HeaderConverter>,
    classes: [String; 3],
    chain: Chain,
    tolerance: Tolerance,
    topics: Topics,
}

impl Pipe {
    fn open(context: &TaskContext) -> Result<Self> {
        let converter = |side: &str| context.worker.converter(side, &context.connector_props);
        let (key, value, header) = (converter("key"), converter("value"), converter("header"));
        Ok(Self {
            key: convert::build(&key.class, true, &key.props)?,
            value: convert::build(&value.class, false, &value.props)?,
            header: convert::build_header(&header.class, &header.props)?,
            classes: [key.class, value.class, header.class],
            chain: Chain::build(&context.connector_props)?,
            tolerance: Tolerance::new(&context.connector, context.task, &context.connector_props),
            topics: Topics::new(TopicRules::default()),
        })
    }

    /// Converts and transforms one record; `None` if a transform dropped it.
    async fn decode(&mut self, context: &TaskContext, incoming: &Incoming) -> Result<Option<Record>, Failed> {
        let topic = &incoming.topic;
        let side = async |converter: &mut dyn Converter, stage, class: &String, bytes| -> Result<Datum, Failed> {
            let mut backoff = Backoff::default();
            loop {
                let failure = match converter.decode(topic, bytes) {
                    Ok(datum) => return Ok(datum),
                    Err(failure) => failure,
                };
                let resolved = resolve(context, converter, failure, &mut backoff).await;
                resolved.map_err(|error| Failed { stage, class: class.clone(), error })?;
            }
        };
        let key = side(self.key.as_mut(), Stage::KeyConverter, &self.classes[0], incoming.key.as_ref()).await?;
        let value = side(self.value.as_mut(), Stage::ValueConverter, &self.classes[1], incoming.value.as_ref()).await?;
        let mut headers = Vec::with_capacity(incoming.headers.len());
        for (name, bytes) in &incoming.headers {
            let value = self.header.decode(topic, name, bytes.as_ref()).map_err(|error| Failed {
                stage: Stage::HeaderConverter,
                class: self.classes[2].clone(),
                error,
            })?;
            headers.push(Header { key: name.clone(), value });
        }
        let record = Record {
            topic: topic.clone(),
            partition: Some(incoming.partition),
            key,
            value,
            timestamp: incoming.timestamp,
            headers,
        };
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

struct SinkRun<'a> {
    task: Box<dyn SinkTask>,
    consumer: Box<dyn GroupConsumer>,
    dead_letters: Option<DeadLetters>,
    /// Records that arrived although the task is paused: what was on its way.
    backlog: VecDeque<Vec<Incoming>>,
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
                    self.put(&[], &[]).await?;
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
                let gone =
                    |raw: &Incoming| partitions.iter().any(|p| p.topic == raw.topic && p.partition == raw.partition);
                for records in &mut self.backlog {
                    records.retain(|raw| !gone(raw));
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

    async fn consume(&mut self, incoming: Vec<Incoming>) -> Result<()> {
        let mut records = Vec::with_capacity(incoming.len());
        let mut sources = Vec::with_capacity(incoming.len());
        let mut topic: Option<&Arc<str>> = None;
        for (index, raw) in incoming.iter().enumerate() {
            if !topic.is_some_and(|last| Arc::ptr_eq(last, &raw.topic)) && !self.pipe.topics.is_known(&raw.topic) {
                self.pipe.topics.ensure(self.context, &raw.topic).await?;
            }
            topic = Some(&raw.topic);
            match self.pipe.decode(self.context, raw).await {
                Ok(Some(record)) => {
                    records.push(SinkRecord { record, origin: origin_of(raw) });
                    sources.push(index);
                }
                Ok(None) => {}
                Err(_) if self.context.stop.is_cancelled() => return Ok(()),
                Err(failed) => self.reject(failed, raw).await?,
            }
        }
        let raws: Vec<&Incoming> = sources.iter().map(|index| &incoming[*index]).collect();
        // The target may store the offset of this batch with its rows: dead letters must be safe before that.
        self.flush_dead_letters().await?;
        if !records.is_empty() && !self.put(&records, &raws).await? {
            // Partitions were lost meanwhile: whoever has them now starts at the committed offsets.
            return Ok(());
        }
        let same = |a: &Incoming, b: &Incoming| a.partition == b.partition && a.topic == b.topic;
        for run in incoming.chunk_by(same) {
            if let Some(last) = run.last() {
                let at = TopicPartition { topic: last.topic.clone(), partition: last.partition };
                self.consumed.insert(at, last.offset + 1);
            }
        }
        self.dirty = true;
        Ok(())
    }

    /// Puts records, again and again while the target is away; false if the partitions were lost meanwhile.
    async fn put(&mut self, records: &[SinkRecord], raws: &[&Incoming]) -> Result<bool> {
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
                        match raws.get(index) {
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
    async fn reject(&mut self, failed: Failed, raw: &Incoming) -> Result<()> {
        if failed.error.kind() == ErrorKind::Retriable {
            return Err(failed.error);
        }
        if let Some(dead_letters) = &mut self.dead_letters {
            dead_letters.send(self.context, raw, &failed).await?;
            if !self.pipe.tolerance.skips() {
                dead_letters.flush().await?;
            }
        }
        self.pipe.tolerance.judge(failed, Some(&origin_of(raw)))
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

fn origin_of(raw: &Incoming) -> Origin {
    Origin { topic: raw.topic.clone(), partition: raw.partition, offset: raw.offset }
}

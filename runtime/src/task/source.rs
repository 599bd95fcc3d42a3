//! The loop of a source task (Kafka Connect's `WorkerSourceTask`): poll, transform, convert, send; commit the source
//! offsets of what is acknowledged, continuously and never ahead of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use towline_connectors::api::{
    Error, ErrorKind, Position, Result, SourceBatch, SourceConnector, SourceContext, SourceTask,
};

use super::acks::{Acks, Checkpoints, merge};
use super::chain::Chain;
use super::converters::{Converters, Parts, Trouble};
use super::tolerance::{Failed, Stage, Tolerance};
use super::topics::{TopicRules, Topics};
use super::{Backoff, TaskContext};
use crate::kafka::{Outgoing, Producer};
use crate::store::State;

/// A chunk is sent when it has this many records,
const CHUNK_RECORDS: usize = 2_000;
/// or about this many bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// The source is not polled while more than this is unacknowledged.
const IN_FLIGHT_BYTES: usize = 32 << 20;
/// Offsets are committed at most this often while records flow.
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// Runs a source task until it is stopped.
pub(super) async fn run(context: TaskContext, connector: &'static dyn SourceConnector) -> Result<()> {
    let mut pipe = Pipe::open(&context)?;
    let opened = context
        .open_with_retries("opening the source", || {
            connector.open(
                &context.props,
                SourceContext {
                    connector: context.connector.clone(),
                    task: context.task,
                    offsets: context.stores.offsets.reader(&context.connector),
                    stop: context.stop.clone(),
                    health: context.health.clone(),
                },
            )
        })
        .await?;
    let Some(mut task) = opened else { return Ok(()) };
    let mut progress = Progress::default();
    let mut outcome = drive(&context, task.as_mut(), &mut pipe, &mut progress).await;
    let finished = finish(&context, &mut progress, &mut pipe).await;
    if outcome.is_ok() {
        outcome = finished;
    }
    task.close().await;
    outcome
}

/// Everything between a source record and the log.
struct Pipe {
    chain: Chain,
    converters: Converters,
    tolerance: Tolerance,
    topics: Topics,
    producer: Box<dyn Producer>,
}

impl Pipe {
    fn open(context: &TaskContext) -> Result<Self> {
        let rules = if context.worker.boolean("topic.creation.enable") {
            TopicRules::read(&context.connector_props)?
        } else {
            TopicRules::default()
        };
        Ok(Self {
            chain: Chain::build(&context.connector_props)?,
            converters: Converters::open(context)?,
            tolerance: Tolerance::new(&context.connector, context.task, &context.connector_props),
            topics: Topics::new(rules),
            producer: context.kafka.producer(&context.client("producer", &[]))?,
        })
    }
}

/// What is in flight, and what may be committed.
#[derive(Default)]
struct Progress {
    acks: Acks,
    committable: Checkpoints,
    /// Source offsets of records that were dropped, waiting for the chunk before them.
    loose: Checkpoints,
}

async fn drive(
    context: &TaskContext,
    task: &mut dyn SourceTask,
    pipe: &mut Pipe,
    progress: &mut Progress,
) -> Result<()> {
    let mut paused = context.paused.clone();
    let mut backoff = Backoff::default();
    let mut last_commit = Instant::now();
    context.report(if *paused.borrow() { State::Paused } else { State::Running }).await?;
    loop {
        if *paused.borrow_and_update() {
            context.report(State::Paused).await?;
            while *paused.borrow_and_update() {
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    changed = paused.changed() => if changed.is_err() { return Ok(()) },
                    Some(answered) = progress.acks.next() => settle(progress, &pipe.tolerance, answered)?,
                    () = tokio::time::sleep(COMMIT_EVERY), if !progress.committable.is_empty() => commit(context, task, progress).await?,
                }
            }
            context.report(State::Running).await?;
        }
        let polled = {
            let poll = task.poll();
            tokio::pin!(poll);
            loop {
                // Polling is never dropped but at the end; everything else here is cancel-safe.
                tokio::select! {
                    biased;
                    () = context.stop.cancelled() => return Ok(()),
                    Some(answered) = progress.acks.next(), if !progress.acks.is_empty() => settle(progress, &pipe.tolerance, answered)?,
                    polled = &mut poll, if progress.acks.bytes() < IN_FLIGHT_BYTES => break polled,
                    () = tokio::time::sleep_until(last_commit + COMMIT_EVERY), if !progress.committable.is_empty() => {
                        put_offsets(context, progress).await?;
                        last_commit = Instant::now();
                    }
                }
            }
        };
        match polled {
            Ok(records) => {
                if backoff.used() {
                    context.health.recovered();
                    backoff.reset();
                }
                send(context, pipe, progress, records).await?;
            }
            Err(error) if error.kind() == ErrorKind::Retriable => {
                let wait = backoff.next();
                tracing::warn!(connector = %context.connector, task = context.task, %error, ?wait, "poll failed, retrying");
                context.health.degraded(format!("reading the source failed, retrying: {}", error.with_causes()));
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(wait) => {}
                }
            }
            Err(error) => return Err(error),
        }
        if !progress.committable.is_empty() && last_commit.elapsed() >= COMMIT_EVERY {
            commit(context, task, progress).await?;
            last_commit = Instant::now();
        }
    }
}

/// Takes in the answer to the oldest chunk.
fn settle(progress: &mut Progress, tolerance: &Tolerance, answered: super::acks::Answered) -> Result<()> {
    if let Err(error) = answered.outcome {
        let verdict = if error.kind() == ErrorKind::Data {
            let failed = Failed { stage: Stage::KafkaProduce, class: "KafkaProducer".to_owned(), error };
            tolerance.judge(failed, None)
        } else {
            Err(Error::fatal("Unrecoverable exception from producer send callback").caused_by(error))
        };
        if verdict.is_err() {
            // Chunks behind the failed one may be in the log, but their offsets would skip its records for ever.
            progress.acks = Acks::default();
            return verdict;
        }
    }
    merge(&mut progress.committable, answered.checkpoints);
    Ok(())
}

/// Writes the committable offsets and tells the task.
async fn commit(context: &TaskContext, task: &mut dyn SourceTask, progress: &mut Progress) -> Result<()> {
    let offsets = progress.committable.clone();
    put_offsets(context, progress).await?;
    task.committed(&offsets).await;
    Ok(())
}

async fn put_offsets(context: &TaskContext, progress: &mut Progress) -> Result<()> {
    let offsets: Vec<(Position, Option<Position>)> =
        progress.committable.iter().map(|(p, o)| ((**p).clone(), Some(o.clone()))).collect();
    match context.stores.offsets.put(&context.connector, &offsets).await {
        Ok(()) => progress.committable.clear(),
        Err(error) if error.kind() == ErrorKind::Retriable => {
            tracing::warn!(connector = %context.connector, task = context.task, %error, "offsets not committed yet");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Waits for outstanding records, within bounds, and commits their offsets.
async fn finish(context: &TaskContext, progress: &mut Progress, pipe: &mut Pipe) -> Result<()> {
    let deadline = Instant::now() + context.worker.millis("offset.flush.timeout.ms");
    while !progress.acks.is_empty() {
        match tokio::time::timeout_at(deadline, progress.acks.next()).await {
            Ok(Some(answered)) => settle(progress, &pipe.tolerance, answered)?,
            Ok(None) => break,
            Err(_) => {
                tracing::warn!(
                    connector = %context.connector, task = context.task, bytes = progress.acks.bytes(),
                    "stopped before all records were acknowledged; they are read again by the next run"
                );
                break;
            }
        }
    }
    if progress.committable.is_empty() { Ok(()) } else { put_offsets(context, progress).await }
}

/// A chunk under construction: one batch per topic.
#[derive(Default)]
struct Chunk {
    batches: Vec<Outgoing>,
    records: usize,
    bytes: usize,
    checkpoints: Checkpoints,
}

impl Chunk {
    /// The batch of a topic.
    fn batch(&mut self, topic: &Arc<str>) -> &mut Outgoing {
        let same = |batch: &Outgoing| Arc::ptr_eq(&batch.topic, topic) || batch.topic == *topic;
        let index = self.batches.iter().position(same).unwrap_or_else(|| {
            self.batches.push(Outgoing::new(topic.clone()));
            self.batches.len() - 1
        });
        &mut self.batches[index]
    }

    fn is_full(&self) -> bool {
        self.records >= CHUNK_RECORDS || self.bytes >= CHUNK_BYTES
    }
}

async fn send(
    context: &TaskContext,
    pipe: &mut Pipe,
    progress: &mut Progress,
    batches: Vec<SourceBatch>,
) -> Result<()> {
    let mut chunk = Chunk { checkpoints: std::mem::take(&mut progress.loose), ..Chunk::default() };
    for batch in batches {
        let source = batch.source_offset.clone().map(|offset| (batch.source_partition.clone(), offset));
        if pipe.chain.is_empty() {
            pipe.know(context, &batch.topic).await?;
            for record in &batch.records {
                let parts = Parts {
                    topic: &batch.topic,
                    partition: record.partition,
                    key: (batch.key_schema.as_ref(), &record.key),
                    value: (batch.value_schema.as_ref(), &record.value),
                    timestamp: record.timestamp,
                    headers: &record.headers,
                };
                if let Err(trouble) = pipe.encode(&parts, &mut chunk) {
                    pipe.recover(context, &parts, &mut chunk, trouble).await?;
                }
                if chunk.is_full() {
                    dispatch(pipe.producer.as_ref(), progress, std::mem::take(&mut chunk)).await?;
                }
            }
        } else {
            send_transformed(context, pipe, progress, &mut chunk, batch).await?;
        }
        merge(&mut chunk.checkpoints, source.into_iter().collect());
    }
    dispatch(pipe.producer.as_ref(), progress, chunk).await
}

async fn send_transformed(
    context: &TaskContext,
    pipe: &mut Pipe,
    progress: &mut Progress,
    chunk: &mut Chunk,
    mut batch: SourceBatch,
) -> Result<()> {
    for record in std::mem::take(&mut batch.records) {
        let record = match pipe.chain.apply(batch.record(record)) {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(failed) => {
                let class = failed.class.to_owned();
                let failed = Failed { stage: Stage::Transformation, class, error: failed.error };
                pipe.tolerance.judge(failed, None)?;
                continue;
            }
        };
        pipe.know(context, &record.topic).await?;
        let parts = Parts {
            topic: &record.topic,
            partition: record.partition,
            key: (record.key.schema.as_ref(), &record.key.value),
            value: (record.value.schema.as_ref(), &record.value.value),
            timestamp: record.timestamp,
            headers: &record.headers,
        };
        if let Err(trouble) = pipe.encode(&parts, chunk) {
            pipe.recover(context, &parts, chunk, trouble).await?;
        }
        if chunk.is_full() {
            dispatch(pipe.producer.as_ref(), progress, std::mem::take(chunk)).await?;
        }
    }
    Ok(())
}

async fn dispatch(producer: &dyn Producer, progress: &mut Progress, chunk: Chunk) -> Result<()> {
    if chunk.records == 0 && chunk.checkpoints.is_empty() {
        return Ok(());
    }
    let mut acks = Vec::with_capacity(chunk.batches.len());
    for batch in chunk.batches {
        if !batch.records.is_empty() {
            acks.push(producer.send(batch).await?);
        }
    }
    // A chunk whose records were all dropped still moves the offsets, in its turn.
    progress.acks.push(acks, chunk.bytes, chunk.checkpoints);
    Ok(())
}

impl Pipe {
    /// Sees to it that the topic is there; once per topic.
    async fn know(&mut self, context: &TaskContext, topic: &Arc<str>) -> Result<()> {
        if self.topics.is_known(topic) {
            return Ok(());
        }
        if topic.is_empty() {
            return Err(Error::fatal(
                "a record has no topic; check topic.prefix and the transforms that set the topic",
            ));
        }
        let mut topics = std::mem::take(&mut self.topics);
        let mut backoff = Backoff::default();
        while let Err(error) = topics.ensure(context, topic).await {
            if error.kind() != ErrorKind::Retriable || context.stop.is_cancelled() {
                return Err(error);
            }
            tokio::time::sleep(backoff.next()).await;
        }
        self.topics = topics;
        Ok(())
    }

    /// Converts one record into its batch of the chunk; on an error nothing is left of it there.
    fn encode(&mut self, parts: &Parts<'_>, chunk: &mut Chunk) -> Result<(), Trouble> {
        let batch = chunk.batch(parts.topic);
        let start = batch.buffer.len();
        match self.converters.encode(parts, &mut batch.buffer) {
            Ok(record) => {
                let size = batch.buffer.len() - start;
                batch.records.push(record);
                chunk.bytes += size;
                chunk.records += 1;
                Ok(())
            }
            Err(trouble) => {
                batch.buffer.truncate(start);
                Err(trouble)
            }
        }
    }

    /// After a failure: asks the registry for what was missing and encodes again, or lets the policy judge.
    #[cold]
    async fn recover(
        &mut self,
        context: &TaskContext,
        parts: &Parts<'_>,
        chunk: &mut Chunk,
        mut trouble: Trouble,
    ) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            if let Err(failed) = self.converters.clear(context, trouble, &mut backoff).await {
                return self.tolerance.judge(failed, None);
            }
            match self.encode(parts, chunk) {
                Ok(()) => return Ok(()),
                Err(again) => trouble = again,
            }
        }
    }
}

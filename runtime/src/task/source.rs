//! The loop of a source task (Kafka Connect's `WorkerSourceTask`): poll, transform, convert, send; commit the source
//! offsets of what is acknowledged, continuously and never ahead of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use towline_connectors::api::{
    Error, ErrorKind, Position, Record, Result, SourceConnector, SourceContext, SourceRecord, SourceTask,
};

use super::acks::{Acks, Checkpoints, merge};
use super::chain::Chain;
use super::tolerance::{Failed, Stage, Tolerance};
use super::topics::{TopicRules, Topics};
use super::{Backoff, TaskContext};
use crate::convert::{self, Converter, Failure, HeaderConverter};
use crate::kafka::{Outgoing, OutgoingRecord, Producer};
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
    key: Box<dyn Converter>,
    value: Box<dyn Converter>,
    header: Box<dyn HeaderConverter>,
    classes: [String; 3],
    tolerance: Tolerance,
    topics: Topics,
    producer: Box<dyn Producer>,
}

impl Pipe {
    fn open(context: &TaskContext) -> Result<Self> {
        let converter = |side: &str| context.worker.converter(side, &context.connector_props);
        let (key, value, header) = (converter("key"), converter("value"), converter("header"));
        let rules = if context.worker.boolean("topic.creation.enable") {
            TopicRules::read(&context.connector_props)?
        } else {
            TopicRules::default()
        };
        Ok(Self {
            chain: Chain::build(&context.connector_props)?,
            key: convert::build(&key.class, true, &key.props)?,
            value: convert::build(&value.class, false, &value.props)?,
            header: convert::build_header(&header.class, &header.props)?,
            classes: [key.class, value.class, header.class],
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

async fn send(
    context: &TaskContext,
    pipe: &mut Pipe,
    progress: &mut Progress,
    records: Vec<SourceRecord>,
) -> Result<()> {
    let mut chunk = Chunk { checkpoints: std::mem::take(&mut progress.loose), ..Chunk::default() };
    for SourceRecord { record, partition, offset } in records {
        encode(context, pipe, &mut chunk, record).await?;
        if let Some(offset) = offset {
            match chunk.checkpoints.last_mut() {
                Some((last, known)) if Arc::ptr_eq(last, &partition) => *known = offset,
                _ => merge(&mut chunk.checkpoints, vec![(partition, offset)]),
            }
        }
        if chunk.records >= CHUNK_RECORDS || chunk.bytes >= CHUNK_BYTES {
            dispatch(pipe.producer.as_ref(), progress, std::mem::take(&mut chunk)).await?;
        }
    }
    dispatch(pipe.producer.as_ref(), progress, chunk).await
}

async fn dispatch(producer: &dyn Producer, progress: &mut Progress, chunk: Chunk) -> Result<()> {
    if chunk.records == 0 && chunk.checkpoints.is_empty() {
        return Ok(());
    }
    let mut acks = Vec::with_capacity(chunk.batches.len());
    for batch in chunk.batches {
        acks.push(producer.send(batch).await?);
    }
    // A chunk whose records were all dropped still moves the offsets, in its turn.
    progress.acks.push(acks, chunk.bytes, chunk.checkpoints);
    Ok(())
}

/// Transforms and converts one record into the chunk, or skips it if the policy says so.
async fn encode(context: &TaskContext, pipe: &mut Pipe, chunk: &mut Chunk, record: Record) -> Result<()> {
    let record = if pipe.chain.is_empty() {
        record
    } else {
        match pipe.chain.apply(record) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(()),
            Err(failed) => {
                let failed =
                    Failed { stage: Stage::Transformation, class: failed.class.to_owned(), error: failed.error };
                return pipe.tolerance.judge(failed, None);
            }
        }
    };
    if record.topic.is_empty() {
        return Err(Error::fatal("a record has no topic; check topic.prefix and the transforms that set the topic"));
    }
    if let Some(timestamp) = record.timestamp.filter(|t| *t < -1) {
        return Err(Error::fatal(format!("Invalid record timestamp {timestamp}")));
    }
    let same_topic = chunk.batches.last().is_some_and(|batch| Arc::ptr_eq(&batch.topic, &record.topic));
    if !same_topic && !pipe.topics.is_known(&record.topic) {
        let mut topics = std::mem::take(&mut pipe.topics);
        let mut backoff = Backoff::default();
        while let Err(error) = topics.ensure(context, &record.topic).await {
            if error.kind() != ErrorKind::Retriable || context.stop.is_cancelled() {
                return Err(error);
            }
            tokio::time::sleep(backoff.next()).await;
        }
        pipe.topics = topics;
    }
    let index = match chunk.batches.iter().position(|b| Arc::ptr_eq(&b.topic, &record.topic) || b.topic == record.topic)
    {
        Some(index) => index,
        None => {
            chunk.batches.push(Outgoing::new(record.topic.clone()));
            chunk.batches.len() - 1
        }
    };
    let start = chunk.batches[index].buffer.len();
    match convert_record(context, pipe, &record, &mut chunk.batches[index].buffer).await {
        Ok(converted) => {
            chunk.bytes += chunk.batches[index].buffer.len() - start;
            chunk.records += 1;
            chunk.batches[index].records.push(converted);
            Ok(())
        }
        Err(failed) => {
            chunk.batches[index].buffer.truncate(start);
            pipe.tolerance.judge(failed, None)
        }
    }
}

async fn convert_record(
    context: &TaskContext,
    pipe: &mut Pipe,
    record: &Record,
    buffer: &mut BytesMut,
) -> Result<OutgoingRecord, Failed> {
    let mut headers = Vec::new();
    for header in &record.headers {
        let mut bytes = BytesMut::new();
        let some = pipe
            .header
            .encode(&record.topic, &header.key, &header.value, &mut bytes)
            .map_err(|error| Failed { stage: Stage::HeaderConverter, class: pipe.classes[2].clone(), error })?;
        headers.push((header.key.clone(), some.then(|| Bytes::from(bytes))));
    }
    let mut side = async |converter: &mut dyn Converter, stage, class: &String, datum| {
        let start = buffer.len();
        let mut backoff = Backoff::default();
        loop {
            let failure = match converter.encode(&record.topic, datum, buffer) {
                Ok(some) => return Ok(some.then(|| start..buffer.len())),
                Err(failure) => failure,
            };
            buffer.truncate(start);
            resolve(context, converter, failure, &mut backoff).await.map_err(|error| Failed {
                stage,
                class: class.clone(),
                error,
            })?;
        }
    };
    let key = side(pipe.key.as_mut(), Stage::KeyConverter, &pipe.classes[0], &record.key).await?;
    let value = side(pipe.value.as_mut(), Stage::ValueConverter, &pipe.classes[1], &record.value).await?;
    let timestamp = record.timestamp.filter(|t| *t >= 0);
    Ok(OutgoingRecord { partition: record.partition, timestamp, key, value, headers })
}

/// Asks the registry for what a converter missed; after a passing failure it only waits, and the caller, converting
/// the same record again, comes back.
pub(super) async fn resolve(
    context: &TaskContext,
    converter: &mut dyn Converter,
    failure: Failure,
    backoff: &mut Backoff,
) -> Result<()> {
    let miss = match failure {
        Failure::Record(error) => return Err(error),
        Failure::Miss(miss) => miss,
    };
    match converter.resolve(miss).await {
        Ok(()) => {
            if backoff.used() {
                context.health.recovered();
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::Retriable && !context.stop.is_cancelled() => {
            let wait = backoff.next();
            tracing::warn!(connector = %context.connector, task = context.task, %error, ?wait, "schema registry failed, retrying");
            context.health.degraded(format!("the schema registry does not answer, retrying: {}", error.with_causes()));
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

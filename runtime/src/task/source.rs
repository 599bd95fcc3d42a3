//! The loop of a source task (Kafka Connect's `WorkerSourceTask`): poll, transform, convert, send; commit the source
//! offsets of what is acknowledged, continuously and never ahead of it.

use std::sync::Arc;

use towline_connectors::api::{
    Error, ErrorKind, Position, Result, SourceBatch, SourceConnector, SourceContext, SourceRecord, SourceRecords,
    SourceTask,
};
use towline_connectors::data::Value;

use super::acks::{Checkpoints, merge};
use super::chain::Chain;
use super::converters::{Converters, Parts, Trouble};
use super::delivery::Delivery;
use super::tolerance::{Failed, Stage, Tolerance};
use super::topics::{TopicRules, Topics};
use super::{Backoff, TaskContext};
use crate::kafka::Outgoing;
use crate::store::State;

/// A chunk is sent when it has this many records,
const CHUNK_RECORDS: usize = 2_000;
/// or about this many bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Runs a source task until it is stopped.
pub(super) async fn run(context: TaskContext, connector: &'static dyn SourceConnector) -> Result<()> {
    let opening = context.open_with_retries("opening the producer", || Delivery::open(&context));
    let Some(delivery) = opening.await? else { return Ok(()) };
    let mut pipe = Pipe::open(&context, delivery)?;
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
    let mut outcome = drive(&context, task.as_mut(), &mut pipe).await;
    let finished = pipe.delivery.finish(&context, &pipe.tolerance, outcome.is_ok()).await;
    if outcome.is_ok() {
        outcome = finished;
    }
    // Readers wait for a transaction that is open: it is given up before the source is closed, which may take long.
    drop(pipe);
    task.close().await;
    outcome
}

/// Everything between a source record and the log.
struct Pipe {
    chain: Chain,
    converters: Converters,
    tolerance: Tolerance,
    topics: Topics,
    delivery: Delivery,
}

impl Pipe {
    fn open(context: &TaskContext, delivery: Delivery) -> Result<Self> {
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
            delivery,
        })
    }
}

async fn drive(context: &TaskContext, task: &mut dyn SourceTask, pipe: &mut Pipe) -> Result<()> {
    let mut paused = context.paused.clone();
    let mut backoff = Backoff::default();
    context.report(if *paused.borrow() { State::Paused } else { State::Running }).await?;
    loop {
        if *paused.borrow_and_update() {
            commit(context, task, pipe).await?;
            context.report(State::Paused).await?;
            while *paused.borrow_and_update() {
                let due = due(&pipe.delivery);
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    changed = paused.changed() => if changed.is_err() { return Ok(()) },
                    settled = pipe.delivery.settle(&pipe.tolerance) => settled?,
                    () = due => commit(context, task, pipe).await?,
                }
            }
            context.report(State::Running).await?;
        }
        let polled = {
            let poll = task.poll();
            tokio::pin!(poll);
            loop {
                let (due, room) = (due(&pipe.delivery), pipe.delivery.has_room());
                // Polling is never dropped but at the end; everything else here is cancel-safe.
                tokio::select! {
                    biased;
                    () = context.stop.cancelled() => return Ok(()),
                    settled = pipe.delivery.settle(&pipe.tolerance) => settled?,
                    polled = &mut poll, if room => break polled,
                    () = due => drop(pipe.delivery.commit(context).await?),
                }
            }
        };
        match polled {
            Ok(records) => {
                if backoff.used() {
                    context.health.recovered();
                    backoff.reset();
                }
                send(context, pipe, records).await?;
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
            Err(error) => {
                // Polls before this one are whole: only what lies behind the error is missing.
                pipe.finish(context).await;
                return Err(error);
            }
        }
        if pipe.delivery.is_due() {
            commit(context, task, pipe).await?;
        }
    }
}

/// Sleeps until offsets are to be committed; for ever if there are none.
fn due(delivery: &Delivery) -> impl Future<Output = ()> + use<> {
    let due = delivery.due();
    async move {
        match due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

/// Commits offsets and tells the task.
async fn commit(context: &TaskContext, task: &mut dyn SourceTask, pipe: &mut Pipe) -> Result<()> {
    let committed = pipe.delivery.commit(context).await?;
    if !committed.is_empty() {
        task.committed(&committed).await;
    }
    Ok(())
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

async fn send(context: &TaskContext, pipe: &mut Pipe, batches: Vec<SourceBatch>) -> Result<()> {
    let mut chunk = Chunk::default();
    if pipe.chain.is_empty() {
        pipe.topics.create_together(context, batches.iter().map(|batch| &batch.topic), pipe.delivery.here).await;
    }
    for mut batch in batches {
        if batch.is_announcement() {
            continue;
        }
        let source = batch.source_offset.take().map(|offset| (batch.source_partition.clone(), offset));
        let records = std::mem::replace(&mut batch.records, SourceRecords::Made(Vec::new()));
        let plain = pipe.chain.is_empty();
        if plain {
            pipe.know(context, &batch.topic).await?;
        }
        match records {
            SourceRecords::Made(records) if plain => {
                for record in &records {
                    pipe.put(context, &parts_of(&batch, record), &mut chunk).await?;
                }
            }
            SourceRecords::Made(records) => {
                for record in records {
                    send_transformed(context, pipe, &mut chunk, &batch, record).await?;
                }
            }
            SourceRecords::Rows(mut rows) => {
                // One record for all rows, one after the other.
                let mut record = SourceRecord::default();
                let mut values = Vec::new();
                loop {
                    match rows.next(&mut values) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) => {
                            let reached = rows.reached().map(|reached| (batch.source_partition.clone(), reached));
                            return pipe.end_before(context, chunk, reached, error).await;
                        }
                    }
                    if !plain {
                        let made = SourceRecord::of_value(Value::Struct(std::mem::take(&mut values)));
                        send_transformed(context, pipe, &mut chunk, &batch, made).await?;
                        continue;
                    }
                    record.value = Value::Struct(values);
                    pipe.put(context, &parts_of(&batch, &record), &mut chunk).await?;
                    values = match std::mem::take(&mut record.value) {
                        Value::Struct(values) => values,
                        _ => Vec::new(),
                    };
                    values.clear();
                }
            }
        }
        merge(&mut chunk.checkpoints, source.into_iter().collect());
    }
    pipe.dispatch(chunk).await
}

/// A record of a batch, to encode.
fn parts_of<'a>(batch: &'a SourceBatch, record: &'a SourceRecord) -> Parts<'a> {
    Parts {
        topic: &batch.topic,
        partition: record.partition,
        key: (batch.key_schema.as_ref(), &record.key),
        value: (batch.value_schema.as_ref(), &record.value),
        timestamp: record.timestamp,
        headers: &record.headers,
    }
}

async fn send_transformed(
    context: &TaskContext,
    pipe: &mut Pipe,
    chunk: &mut Chunk,
    batch: &SourceBatch,
    record: SourceRecord,
) -> Result<()> {
    let record = match pipe.chain.apply(batch.record(record)) {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(()),
        Err(failed) => {
            let class = failed.class.to_owned();
            let failed = Failed { stage: Stage::Transformation, class, error: failed.error };
            return pipe.tolerance.judge(failed, None);
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
    pipe.put(context, &parts, chunk).await
}

impl Pipe {
    /// Ends the task before a row that has no form. The rows before it are delivered, if an offset says where they end.
    #[cold]
    async fn end_before(
        &mut self,
        context: &TaskContext,
        mut chunk: Chunk,
        reached: Option<(Arc<Position>, Position)>,
        error: Error,
    ) -> Result<()> {
        if reached.is_some() {
            merge(&mut chunk.checkpoints, reached.into_iter().collect());
            self.dispatch(chunk).await?;
            self.finish(context).await;
        }
        Err(error)
    }

    /// Delivers what is whole before the task ends with an error of its source.
    #[cold]
    async fn finish(&mut self, context: &TaskContext) {
        if let Err(error) = self.delivery.finish(context, &self.tolerance, true).await {
            tracing::warn!(
                connector = %context.connector, task = context.task, %error,
                "what was read before an error is not committed, and will be read again"
            );
        }
    }

    async fn dispatch(&mut self, chunk: Chunk) -> Result<()> {
        if chunk.records == 0 && chunk.checkpoints.is_empty() {
            return Ok(());
        }
        self.delivery.send(chunk.batches, chunk.bytes, chunk.checkpoints).await
    }

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

    /// Converts one record and sends the chunk that it fills.
    #[inline]
    async fn put(&mut self, context: &TaskContext, parts: &Parts<'_>, chunk: &mut Chunk) -> Result<()> {
        if let Err(trouble) = self.encode(parts, chunk) {
            self.recover(context, parts, chunk, trouble).await?;
        }
        if chunk.is_full() {
            self.dispatch(std::mem::take(chunk)).await?;
        }
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
            if let Err(failed) = self.converters.clear_patiently(context, trouble, &mut backoff).await {
                return self.tolerance.judge(failed, None);
            }
            match self.encode(parts, chunk) {
                Ok(()) => return Ok(()),
                Err(again) => trouble = again,
            }
        }
    }
}

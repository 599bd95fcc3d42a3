//! The stage before a sink: converts and transforms consumed batches on a task of its own, while the sink writes the ones
//! before them.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use towline_connectors::api::{Error, ErrorKind, Origin, Record, Result, SinkRecord, TopicPartition};

use super::chain::Chain;
use super::converters::{Converters, Trouble};
use super::tolerance::{Failed, Stage};
use super::topics::{TopicRules, Topics};
use super::{Backoff, TaskContext};
use crate::kafka::{Incoming, IncomingBatch, IncomingRecord};

/// Batches that may be under way: one that is decoded while the one before it is written.
const UNDER_WAY: usize = 2;

/// Consumed batches, decoded.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// What the sink is to write.
    pub(super) records: Vec<SinkRecord>,
    /// What could not be decoded or transformed.
    pub(super) failed: Vec<(Failed, Incoming)>,
    /// What was consumed.
    pub(super) batches: Vec<IncomingBatch>,
    /// For each record to write, its batch and its place there.
    sources: Vec<(usize, usize)>,
}

impl Decoded {
    /// A record to write as it was consumed.
    pub(super) fn raw(&self, index: usize) -> Option<Incoming> {
        let (batch, record) = self.sources.get(index)?;
        let batch = self.batches.get(*batch)?;
        Some(batch.record(batch.records.get(*record)?))
    }

    /// Removes what came from some partitions.
    fn forget(&mut self, partitions: &[TopicPartition]) {
        let gone: Vec<bool> = self.batches.iter().map(|batch| partitions.contains(&batch.place())).collect();
        let mut kept = self.sources.iter().map(|(batch, _)| !gone[*batch]);
        self.records.retain(|_| kept.next().unwrap_or(false));
        let before = |batch: usize| gone[..batch].iter().filter(|gone| !**gone).count();
        let numbers: Vec<usize> = (0..gone.len()).map(before).collect();
        self.sources.retain(|(batch, _)| !gone[*batch]);
        self.sources.iter_mut().for_each(|(batch, _)| *batch = numbers[*batch]);
        let mut gone = gone.into_iter();
        self.batches.retain(|_| !gone.next().unwrap_or(false));
        self.failed.retain(|(_, raw)| !partitions.iter().any(|p| p.partition == raw.partition && p.topic == raw.topic));
    }
}

/// The stage, as the loop of the sink sees it.
pub(super) struct Decoder {
    input: mpsc::Sender<Vec<IncomingBatch>>,
    output: mpsc::Receiver<Result<Decoded>>,
    /// For each batch under way, the partitions that were lost since.
    under_way: VecDeque<Vec<TopicPartition>>,
    _task: AbortOnDropHandle<()>,
}

impl Decoder {
    /// Starts the stage.
    ///
    /// # Errors
    /// A config error of a converter or transform.
    pub(super) fn start(context: &TaskContext) -> Result<Self> {
        let stage = Work {
            converters: Converters::open(context)?,
            chain: Chain::build(&context.connector_props)?,
            topics: Topics::new(TopicRules::default()),
            context: context.clone(),
        };
        let (input, jobs) = mpsc::channel(UNDER_WAY);
        let (results, output) = mpsc::channel(UNDER_WAY);
        let task = AbortOnDropHandle::new(tokio::spawn(stage.run(jobs, results)));
        Ok(Self { input, output, under_way: VecDeque::new(), _task: task })
    }

    /// Whether another batch may come.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < UNDER_WAY
    }

    /// Takes a batch; only while there is room.
    ///
    /// # Errors
    /// The stage has ended.
    pub(super) fn push(&mut self, batches: Vec<IncomingBatch>) -> Result<()> {
        let taken = self.input.try_send(batches);
        taken.map_err(|_| Error::fatal("the task's decoding stage has ended"))?;
        self.under_way.push_back(Vec::new());
        Ok(())
    }

    /// The oldest batch under way, once it is decoded; for ever pending if there is none. Cancel-safe.
    ///
    /// # Errors
    /// What ends the task.
    pub(super) async fn next(&mut self) -> Result<Decoded> {
        if self.under_way.is_empty() {
            return std::future::pending().await;
        }
        let decoded = self.output.recv().await;
        let Some(decoded) = decoded else { return Err(Error::fatal("the task's decoding stage has ended")) };
        let lost = self.under_way.pop_front().unwrap_or_default();
        let mut decoded = decoded?;
        if !lost.is_empty() {
            decoded.forget(&lost);
        }
        Ok(decoded)
    }

    /// Partitions were lost: what is under way of them is not to be written.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        self.under_way.iter_mut().for_each(|lost| lost.extend_from_slice(partitions));
    }
}

/// What the stage works with.
struct Work {
    converters: Converters,
    chain: Chain,
    topics: Topics,
    context: TaskContext,
}

impl Work {
    async fn run(mut self, mut jobs: mpsc::Receiver<Vec<IncomingBatch>>, results: mpsc::Sender<Result<Decoded>>) {
        while let Some(batches) = jobs.recv().await {
            let decoded = self.decode(batches).await;
            if self.context.stop.is_cancelled() || results.send(decoded).await.is_err() {
                return;
            }
        }
    }

    async fn decode(&mut self, batches: Vec<IncomingBatch>) -> Result<Decoded> {
        let count = batches.iter().map(|batch| batch.records.len()).sum();
        let mut decoded =
            Decoded { records: Vec::with_capacity(count), sources: Vec::with_capacity(count), ..Decoded::default() };
        for (at, batch) in batches.iter().enumerate() {
            self.know(batch).await?;
            for (index, raw) in batch.records.iter().enumerate() {
                let converted = match self.converters.decode(batch, raw) {
                    Ok(record) => Ok(record),
                    Err(trouble) => self.recover(batch, raw, trouble).await,
                };
                match converted.and_then(|record| self.transform(record)) {
                    Ok(Some(record)) => {
                        let (topic, partition) = (batch.topic.clone(), batch.partition);
                        decoded
                            .records
                            .push(SinkRecord { record, origin: Origin { topic, partition, offset: raw.offset } });
                        decoded.sources.push((at, index));
                    }
                    Ok(None) => {}
                    Err(failed) => decoded.failed.push((failed, batch.record(raw))),
                }
            }
        }
        decoded.batches = batches;
        Ok(decoded)
    }

    /// Notes the use of a topic, once.
    async fn know(&mut self, batch: &IncomingBatch) -> Result<()> {
        let mut backoff = Backoff::default();
        while !self.topics.is_known(&batch.topic) {
            match self.topics.ensure(&self.context, &batch.topic).await {
                Err(error) if error.kind() == ErrorKind::Retriable && !self.context.stop.is_cancelled() => {
                    tokio::time::sleep(backoff.next()).await;
                }
                outcome => return outcome,
            }
        }
        Ok(())
    }

    /// After a failure: asks the registry for what was missing and converts again.
    #[cold]
    async fn recover(
        &mut self,
        batch: &IncomingBatch,
        raw: &IncomingRecord,
        mut trouble: Trouble,
    ) -> Result<Record, Failed> {
        let mut backoff = Backoff::default();
        loop {
            self.converters.clear(&self.context, trouble, &mut backoff).await?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use towline_connectors::data::Datum;

    use super::*;

    #[test]
    fn lost_partitions_take_their_records_with_them() {
        let topic: Arc<str> = Arc::from("t");
        let raw = |offset| IncomingRecord { offset, timestamp: None, key: None, value: None, headers: Vec::new() };
        let batch = |partition, offsets: &[i64]| IncomingBatch {
            topic: topic.clone(),
            partition,
            buffer: Bytes::new(),
            records: offsets.iter().copied().map(raw).collect(),
            next_offset: 9,
        };
        let record = |partition, offset| SinkRecord {
            record: Record::of_value(topic.clone(), Datum::default()),
            origin: Origin { topic: topic.clone(), partition, offset },
        };
        let mut decoded = Decoded {
            records: vec![record(0, 1), record(1, 2), record(0, 4), record(2, 5)],
            sources: vec![(0, 0), (1, 0), (2, 1), (3, 0)],
            batches: vec![batch(0, &[1]), batch(1, &[2]), batch(0, &[3, 4]), batch(2, &[5])],
            failed: Vec::new(),
        };
        decoded.forget(&[TopicPartition { topic: topic.clone(), partition: 1 }]);
        let places: Vec<_> = decoded.records.iter().map(|r| (r.origin.partition, r.origin.offset)).collect();
        assert_eq!(places, [(0, 1), (0, 4), (2, 5)]);
        for (index, place) in places.iter().enumerate() {
            let raw = decoded.raw(index).unwrap();
            assert_eq!((raw.partition, raw.offset), *place);
        }
        assert_eq!(decoded.batches.len(), 3);
    }
}

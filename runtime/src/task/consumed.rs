//! The records of a put, made from consumed batches: converted and transformed when the sink asks for them, a piece at a
//! time in the same memory. So a put may be large, and what was read from the log is all that waits.

use async_trait::async_trait;
use towline_connectors::api::{Error, ErrorKind, Origin, Record, Result, SinkRecord, SinkRecords, TopicPartition};
use towline_connectors::data::Datum;

use super::TaskContext;
use super::chain::Chain;
use super::converters::{Converters, Trouble};
use super::dead_letters::DeadLetters;
use super::rejects::Rejects;
use super::tolerance::{Failed, Stage};
use super::topics::{TopicRules, Topics};
use crate::kafka::{Incoming, IncomingBatch, IncomingRecord};

/// Records of a piece: what is made of them is used while it is near.
const PIECE: usize = 256;

/// What records are made with.
pub(super) struct Maker {
    converters: Converters,
    chain: Chain,
    topics: Topics,
    pub(super) rejects: Rejects,
    context: TaskContext,
    /// Records of pieces, whose memory is used again.
    slots: Vec<SinkRecord>,
}

/// A record's place: its batch, and its number there.
type Place = (usize, usize);

/// Consumed batches as the sink sees them.
pub(super) struct Consumed<'a> {
    maker: &'a mut Maker,
    batches: &'a [IncomingBatch],
    ends: Vec<(TopicPartition, i64)>,
    next: Place,
    /// Slots that hold the piece.
    made: usize,
    /// Where each record was made from.
    places: Vec<Place>,
    /// Failures before this place were dealt with in an earlier attempt.
    pub(super) judged: Place,
    /// What has ended the put and the task, if it was not the sink.
    pub(super) failure: Option<Error>,
    /// Whether the put has to come again because of something else than the target: the registry is away.
    pub(super) held_up: bool,
}

impl Maker {
    /// For one task.
    ///
    /// # Errors
    /// A config error of a converter or transform.
    pub(super) fn new(context: &TaskContext, dead_letters: Option<DeadLetters>) -> Result<Self> {
        Ok(Self {
            converters: Converters::open(context)?,
            chain: Chain::build(&context.connector_props)?,
            topics: Topics::new(TopicRules::default()),
            rejects: Rejects::new(context, dead_letters),
            context: context.clone(),
            slots: Vec::new(),
        })
    }

    /// Lets go of what the last piece was made from; to be called when nothing comes.
    pub(super) fn rest(&mut self) {
        self.slots.clear();
    }

    /// Makes a record in a slot; false if a transform dropped it.
    fn make(&mut self, batch: &IncomingBatch, raw: &IncomingRecord, slot: usize) -> Result<bool, Made> {
        let slot = &mut self.slots[slot];
        self.converters.decode_into(batch, raw, &mut slot.record).map_err(Made::Trouble)?;
        slot.origin.set(&batch.topic, batch.partition, raw.offset);
        if self.chain.is_empty() {
            return Ok(true);
        }
        let empty = Record::of_value(batch.topic.clone(), Datum::default());
        match self.chain.apply(std::mem::replace(&mut slot.record, empty)) {
            Ok(Some(record)) => {
                slot.record = record;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(failed) => Err(Made::Failed(Failed {
                stage: Stage::Transformation,
                class: failed.class.to_owned(),
                error: failed.error,
            })),
        }
    }

    /// After a failure: asks the registry for what was missing and makes the record again. Nothing is waited for: a
    /// transaction of the target may be open.
    #[cold]
    async fn recover(
        &mut self,
        batch: &IncomingBatch,
        raw: &IncomingRecord,
        slot: usize,
        mut made: Made,
    ) -> Result<bool, Failed> {
        loop {
            match made {
                Made::Failed(failed) => return Err(failed),
                Made::Trouble(trouble) => self.converters.clear(trouble).await?,
            }
            match self.make(batch, raw, slot) {
                Ok(kept) => return Ok(kept),
                Err(again) => made = again,
            }
        }
    }
}

/// Why a record was not made.
enum Made {
    Trouble(Trouble),
    Failed(Failed),
}

impl<'a> Consumed<'a> {
    /// The records of batches, of which failures before a place were dealt with.
    pub(super) fn new(maker: &'a mut Maker, batches: &'a [IncomingBatch], judged: Place) -> Self {
        let mut ends: Vec<(TopicPartition, i64)> = Vec::new();
        for batch in batches.iter().filter(|batch| !batch.records.is_empty()) {
            let place = batch.place();
            match ends.iter_mut().find(|(known, _)| *known == place) {
                Some((_, end)) => *end = batch.next_offset.max(*end),
                None => ends.push((place, batch.next_offset)),
            }
        }
        Self { maker, batches, ends, next: (0, 0), made: 0, places: Vec::new(), judged, failure: None, held_up: false }
    }

    /// A record as it was consumed, by its place among all that were given.
    pub(super) fn raw(&self, index: usize) -> Option<Incoming> {
        let (batch, record) = self.places.get(index)?;
        let batch = self.batches.get(*batch)?;
        Some(batch.record(batch.records.get(*record)?))
    }

    async fn fill(&mut self) -> Result<()> {
        let maker = &mut *self.maker;
        while self.made < PIECE
            && let Some(batch) = self.batches.get(self.next.0)
        {
            if self.next.1 == 0 {
                maker.topics.ensure(&maker.context, &batch.topic).await?;
            }
            for (index, raw) in batch.records.iter().enumerate().skip(self.next.1) {
                if self.made == PIECE {
                    return Ok(());
                }
                if self.made == maker.slots.len() {
                    maker.slots.push(slot(batch));
                }
                let place = (self.next.0, index);
                let kept = match maker.make(batch, raw, self.made) {
                    Ok(kept) => Ok(kept),
                    Err(made) => maker.recover(batch, raw, self.made, made).await,
                };
                match kept {
                    Ok(true) => {
                        self.places.push(place);
                        self.made += 1;
                    }
                    Ok(false) => {}
                    Err(failed) if failed.error.kind() == ErrorKind::Retriable => return Err(failed.error),
                    Err(failed) => {
                        if place >= self.judged {
                            maker.rejects.reject(&maker.context, failed, batch.record(raw)).await?;
                            self.judged = (place.0, place.1 + 1);
                        }
                    }
                }
                self.next.1 = index + 1;
            }
            self.next = (self.next.0 + 1, 0);
        }
        if self.made == 0 {
            // The target may store the offsets with the rows: dead letters must be safe before that.
            maker.rejects.flush().await?;
        }
        Ok(())
    }
}

fn slot(batch: &IncomingBatch) -> SinkRecord {
    SinkRecord {
        record: Record::of_value(batch.topic.clone(), Datum::default()),
        origin: Origin { topic: batch.topic.clone(), partition: batch.partition, offset: 0 },
    }
}

#[async_trait]
impl SinkRecords for Consumed<'_> {
    fn ends(&self) -> &[(TopicPartition, i64)] {
        &self.ends
    }

    async fn advance(&mut self) -> Result<bool> {
        self.made = 0;
        match self.fill().await {
            Ok(()) => Ok(self.made > 0),
            Err(error) => {
                self.made = 0;
                if error.kind() == ErrorKind::Retriable {
                    self.held_up = true;
                    return Err(error);
                }
                let told = Error::new(error.kind(), error.class(), "a record cannot be read");
                self.failure = Some(error);
                Err(told)
            }
        }
    }

    fn piece(&self) -> &[SinkRecord] {
        &self.maker.slots[..self.made]
    }

    fn take_piece(&mut self) -> Vec<SinkRecord> {
        self.maker.slots.drain(..std::mem::take(&mut self.made)).collect()
    }

    fn rewind(&mut self) {
        self.next = (0, 0);
        self.made = 0;
        self.places.clear();
    }
}

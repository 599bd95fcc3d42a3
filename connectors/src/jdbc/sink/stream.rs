//! The straight way of plain inserts: rows are copied into the table while the records are made, one COPY for all that
//! follow each other with one plan. What is out of the ordinary ends it, and the put is written from its start as a
//! whole (`attempt.rs`).

use std::sync::Arc;

use super::batch;
use super::config::{Dialect, InsertMode, SinkConfig};
use super::offsets::NextOffsets;
use super::plan::WritePlan;
use super::put_error::PutError;
use super::write::error_of;
use crate::api::{Rejected, SinkRecord, SinkRecords};
use crate::data::Schema;
use crate::postgres::connection::{Session, within};
use crate::postgres::copy_encode::{put_header, put_trailer};

/// Bytes of a COPY message.
const CHUNK: usize = 64 * 1024;
/// Records whose schemas change more often in a put are better sorted first,
const MOST_COPIES: usize = 16;
/// unless so many records share a COPY on average, as those of many tables do.
const WORTH_A_COPY: usize = 100;

impl SinkConfig {
    /// Whether plain rows may go the straight way.
    pub(super) fn streams(&self) -> bool {
        self.insert_mode == InsertMode::Insert && self.dialect == Dialect::Confluent
    }
}

/// A record that is not for the straight way.
#[derive(Debug)]
pub(super) struct Unfit;

/// A walk over the records of a put.
pub(super) struct Walk<'a> {
    records: &'a mut dyn SinkRecords,
    /// The next record's place in its piece,
    at: usize,
    /// and among all.
    index: usize,
    /// What the target has consumed already of the partition that records come from.
    below: Below,
    stored: NextOffsets,
    copies: usize,
    /// What was refused so far.
    pub(super) rejected: Vec<Rejected>,
    /// Records that the target had already.
    pub(super) skipped: u64,
}

/// Records of a partition below an offset are in the target.
#[derive(Default)]
struct Below(Option<(Arc<str>, i32, i64)>);

/// Why filling a COPY message ended.
enum Filled {
    /// The message is large enough.
    Full,
    /// All records of the piece are in it.
    Piece,
    /// The next record needs another plan.
    Other,
    /// The next record is no plain row.
    Odd,
}

impl<'a> Walk<'a> {
    /// Over records whose first piece was made, in a target that has consumed the partitions up to these offsets.
    pub(super) fn new(records: &'a mut dyn SinkRecords, stored: NextOffsets) -> Self {
        let below = Below::default();
        Self { records, at: 0, index: 0, below, stored, copies: 0, rejected: Vec::new(), skipped: 0 }
    }

    /// The next record that the target has not consumed yet.
    pub(super) async fn next(&mut self) -> Result<Option<&SinkRecord>, PutError> {
        loop {
            while let Some(record) = self.records.piece().get(self.at) {
                if record.origin.offset >= self.below.of(record, &self.stored) {
                    // Looked up again for the borrow's sake.
                    return Ok(self.records.piece().get(self.at));
                }
                self.skipped += 1;
                self.at += 1;
                self.index += 1;
            }
            if !self.advance().await? {
                return Ok(None);
            }
        }
    }

    async fn advance(&mut self) -> Result<bool, PutError> {
        self.at = 0;
        Ok(self.records.advance().await?)
    }

    /// Copies the next record and those that follow it and are like it. However it ends, the server is not waiting for
    /// more: a COPY that must not count is ended as one that does, and its transaction rolled back.
    pub(super) async fn copy(
        &mut self,
        session: &mut Session,
        plan: &WritePlan,
        alike: &Alike,
        buffer: &mut Vec<u8>,
    ) -> Result<Result<(), Unfit>, PutError> {
        self.copies += 1;
        let many = self.copies > MOST_COPIES && self.index < self.copies * WORTH_A_COPY;
        if many || !plan.direct {
            return Ok(Err(Unfit));
        }
        let patience = session.patience;
        let mut copy = within(patience, session.connection.copy_in_raw(&plan.copy())).await?;
        buffer.clear();
        put_header(buffer);
        let ended = loop {
            match self.fill(plan, alike, buffer) {
                Filled::Full => {
                    within(patience, copy.send(buffer.as_slice())).await?;
                    buffer.clear();
                }
                Filled::Piece => match self.advance().await {
                    Ok(true) => {}
                    Ok(false) => break Ok(Ok(())),
                    Err(error) => break Err(error),
                },
                Filled::Other => break Ok(Ok(())),
                Filled::Odd => break Ok(Err(Unfit)),
            }
        };
        put_trailer(buffer);
        within(patience, copy.send(buffer.as_slice())).await?;
        within(patience, copy.finish()).await?;
        ended
    }

    fn fill(&mut self, plan: &WritePlan, alike: &Alike, buffer: &mut Vec<u8>) -> Filled {
        let piece = self.records.piece();
        while let Some(record) = piece.get(self.at) {
            if buffer.len() >= CHUNK {
                return Filled::Full;
            }
            if record.origin.offset < self.below.of(record, &self.stored) {
                self.skipped += 1;
            } else {
                if alike.is_odd(record) {
                    return Filled::Odd;
                }
                if !alike.is_like(record) {
                    return Filled::Other;
                }
                if let Err((column, error)) = plan.encode(record, None, buffer) {
                    let why = format!("{}: {error}", plan.describe(column));
                    self.rejected.push(Rejected { index: self.index, error: error_of(record, &plan.table, &why) });
                }
            }
            self.at += 1;
            self.index += 1;
        }
        Filled::Piece
    }
}

impl Below {
    /// The offset for a record's partition.
    #[inline]
    fn of(&mut self, record: &SinkRecord, stored: &NextOffsets) -> i64 {
        let origin = &record.origin;
        match &self.0 {
            Some((topic, partition, start)) if *partition == origin.partition && Arc::ptr_eq(topic, &origin.topic) => {
                *start
            }
            _ => {
                let start = stored.get(&batch::partition_of(record)).copied().unwrap_or(-1);
                self.0 = Some((Arc::clone(&origin.topic), origin.partition, start));
                start
            }
        }
    }
}

/// What the records of one COPY have in common.
pub(super) struct Alike {
    topic: Arc<str>,
    key: Option<Arc<Schema>>,
    value: Option<Arc<Schema>>,
    /// Whether each needs a key.
    keyed: bool,
}

impl Alike {
    /// What records must share with this one, which is a plain row.
    pub(super) fn of(config: &SinkConfig, record: &SinkRecord) -> Result<Self, Unfit> {
        let record = &record.record;
        let alike = Self {
            topic: Arc::clone(&record.topic),
            key: record.key.schema.clone(),
            value: record.value.schema.clone(),
            keyed: config.pk_mode.needs_key(),
        };
        if alike.value.is_none() || (alike.keyed && alike.key.is_none()) { Err(Unfit) } else { Ok(alike) }
    }

    /// Whether a record is no plain row.
    #[inline]
    pub(super) fn is_odd(&self, record: &SinkRecord) -> bool {
        record.record.value.value.is_null() || (self.keyed && record.record.key.value.is_null())
    }

    #[inline]
    fn is_like(&self, record: &SinkRecord) -> bool {
        let record = &record.record;
        (Arc::ptr_eq(&self.topic, &record.topic) || self.topic == record.topic)
            && batch::same(self.value.as_ref(), record.value.schema.as_ref())
            && batch::same(self.key.as_ref(), record.key.schema.as_ref())
    }
}

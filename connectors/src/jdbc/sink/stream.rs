//! The straight way of plain rows: they are copied into the table, or into its stage, while the records are made, one COPY
//! for all that follow each other with one plan. What is out of the ordinary ends it, and the put is written from its
//! start as a whole (`attempt.rs`).

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use super::batch;
use super::config::{Dialect, InsertMode, SinkConfig};
use super::offsets::NextOffsets;
use super::plan::{Within, WritePlan};
use super::put_error::PutError;
use super::write::{STAGED_ROWS, error_of};
use crate::api::{Rejected, SinkRecord, SinkRecords};
use crate::data::Schema;
use crate::postgres::connection::{Session, within};
use crate::postgres::copy_encode::{put_header, put_trailer};

/// Bytes of a COPY message.
const CHUNK: usize = 64 * 1024;
/// Bytes that are staged at once: so much is made while the server writes as much.
const STAGED_BYTES: usize = 4 * 1024 * 1024;
/// Records whose schemas change, or whose keys come again, more often in a put are better sorted first,
const MOST_COPIES: usize = 16;
/// unless so many records share a COPY on average, as those of many tables do.
const WORTH_A_COPY: usize = 100;

impl SinkConfig {
    /// Whether plain rows may go the straight way.
    pub(super) fn streams(&self) -> bool {
        self.dialect == Dialect::Confluent
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
    /// Staging tables that hold rows of this transaction.
    used: Vec<String>,
    /// What was refused so far.
    pub(super) rejected: Vec<Rejected>,
    /// Records that the target had already.
    pub(super) skipped: u64,
}

/// Records of a partition below an offset are in the target.
#[derive(Default)]
struct Below(Option<(Arc<str>, i32, i64)>);

/// Rows on their way, as a stream of COPY.
struct Load {
    bytes: Vec<u8>,
    rows: usize,
    most_bytes: usize,
    most_rows: usize,
    /// The keys of the rows, if no two may share one: by their hashes, which takes a few others for the same.
    keys: Option<(HashSet<u64>, RandomState)>,
}

/// Why filling a load ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// It is large enough.
    Full,
    /// All records of the piece are in it.
    Piece,
    /// The next record's key is in it.
    Again,
    /// The next record needs another plan.
    Other,
    /// The next record is no plain row.
    Odd,
}

impl<'a> Walk<'a> {
    /// Over records whose first piece was made, in a target that has consumed the partitions up to these offsets.
    pub(super) fn new(records: &'a mut dyn SinkRecords, stored: NextOffsets) -> Self {
        let below = Below::default();
        Self { records, at: 0, index: 0, below, stored, copies: 0, used: Vec::new(), rejected: Vec::new(), skipped: 0 }
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
        if self.is_torn() {
            return Ok(Err(Unfit));
        }
        let patience = session.patience;
        let mut copy = within(patience, session.connection.copy_in_raw(&plan.copy())).await?;
        let mut load = Load::new(std::mem::take(buffer), CHUNK, usize::MAX, None);
        let ended = loop {
            match self.fill(plan, alike, &mut load) {
                Filled::Full | Filled::Again => {
                    within(patience, copy.send(load.bytes.as_slice())).await?;
                    load.bytes.clear();
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
        put_trailer(&mut load.bytes);
        within(patience, copy.send(load.bytes.as_slice())).await?;
        within(patience, copy.finish()).await?;
        *buffer = load.bytes;
        ended
    }

    /// Whether the records are better sorted.
    fn is_torn(&self) -> bool {
        self.copies > MOST_COPIES && self.index < self.copies * WORTH_A_COPY
    }

    /// As [`Self::copy`], but by the stage: while the server writes what is staged, the next rows are made.
    pub(super) async fn stage(
        &mut self,
        session: &mut Session,
        plan: &WritePlan,
        alike: &Alike,
        config: &SinkConfig,
    ) -> Result<Result<(), Unfit>, PutError> {
        let keys = || (config.insert_mode != InsertMode::Insert).then(RandomState::new);
        let most_rows = config.batch_rows.unwrap_or(STAGED_ROWS);
        let mut load = Load::new(Vec::new(), STAGED_BYTES, most_rows, keys());
        let mut next = Load::new(Vec::new(), STAGED_BYTES, most_rows, keys());
        let mut used = self.used.contains(&plan.stage);
        self.copies += 1;
        let mut filled = self.fill_up(plan, alike, &mut load).await?;
        loop {
            self.copies += usize::from(filled == Filled::Again);
            if filled == Filled::Odd || self.is_torn() {
                return Ok(Err(Unfit));
            }
            let staged = load.rows > 0;
            let written = load.write(session, plan, config.insert_mode, used);
            if staged && !used {
                used = true;
                self.used.push(plan.stage.clone());
            }
            if !matches!(filled, Filled::Full | Filled::Again) {
                written.await?;
                return Ok(Ok(()));
            }
            let (written, refilled) = tokio::join!(written, self.fill_up(plan, alike, &mut next));
            written?;
            filled = refilled?;
            std::mem::swap(&mut load, &mut next);
            next.clear();
        }
    }

    /// Fills a load from as many pieces as it takes; ends with `Piece` after the last one.
    async fn fill_up(&mut self, plan: &WritePlan, alike: &Alike, load: &mut Load) -> Result<Filled, PutError> {
        loop {
            match self.fill(plan, alike, load) {
                Filled::Piece if self.advance().await? => {}
                filled => return Ok(filled),
            }
        }
    }

    fn fill(&mut self, plan: &WritePlan, alike: &Alike, load: &mut Load) -> Filled {
        let piece = self.records.piece();
        while let Some(record) = piece.get(self.at) {
            if load.bytes.len() >= load.most_bytes || load.rows >= load.most_rows {
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
                if !load.is_new(plan, record) {
                    return Filled::Again;
                }
                match plan.encode(record, None, &mut load.bytes) {
                    Ok(()) => load.rows += 1,
                    Err((column, error)) => {
                        let why = format!("{}: {error}", plan.describe(column));
                        self.rejected.push(Rejected { index: self.index, error: error_of(record, &plan.table, &why) });
                    }
                }
            }
            self.at += 1;
            self.index += 1;
        }
        Filled::Piece
    }
}

impl Load {
    fn new(bytes: Vec<u8>, most_bytes: usize, most_rows: usize, keys: Option<RandomState>) -> Self {
        let mut load = Self { bytes, rows: 0, most_bytes, most_rows, keys: keys.map(|by| (HashSet::new(), by)) };
        load.clear();
        load
    }

    fn clear(&mut self) {
        self.bytes.clear();
        put_header(&mut self.bytes);
        self.rows = 0;
        if let Some((keys, _)) = &mut self.keys {
            keys.clear();
        }
    }

    /// Whether the record's key is none of those in here; it is from now on.
    #[inline]
    fn is_new(&mut self, plan: &WritePlan, record: &SinkRecord) -> bool {
        let Some((keys, by)) = &mut self.keys else { return true };
        let end = self.bytes.len();
        // A key that does not fit its column keeps the row from being written too.
        let whole = plan.encode_key(record, &mut self.bytes) == Ok(true);
        let known = whole && !keys.insert(by.hash_one(&self.bytes[end..]));
        self.bytes.truncate(end);
        !known
    }

    /// Stages the rows, in a staging table that is `used` if it may hold others, and writes what is staged.
    async fn write(
        &mut self,
        session: &mut Session,
        plan: &WritePlan,
        mode: InsertMode,
        used: bool,
    ) -> Result<(), sqlx::Error> {
        if self.rows == 0 {
            return Ok(());
        }
        put_trailer(&mut self.bytes);
        let patience = session.patience;
        session.run(if used { format!("TRUNCATE {}", plan.stage) } else { plan.create_stage() }).await?;
        let mut copy = within(patience, session.connection.copy_in_raw(&plan.copy_stage(false))).await?;
        for part in self.bytes.chunks(CHUNK) {
            within(patience, copy.send(part)).await?;
        }
        within(patience, copy.finish()).await?;
        session.run(plan.apply(mode, Within::ALL)).await?;
        Ok(())
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

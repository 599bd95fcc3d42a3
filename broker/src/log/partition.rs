//! A partition and its log: the one owner of its segments, offsets, producers and waiting readers.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use base64_id::encode as encode_id;
use kafka_protocol::ResponseError;
use tokio::sync::Notify;
use uuid::Uuid;

use super::epochs::Epochs;
use super::fs::Fs;
use super::producer_state::{Producer, Producers};
use super::segment::{Segment, segment_path};
use crate::config::TopicConfig;

/// A parked fetch: woken when enough bytes came, or when something else it should see happened.
#[derive(Debug)]
pub(crate) struct FetchWaiter {
    missing: AtomicI64,
    notify: Notify,
}

impl FetchWaiter {
    /// Waits for this many bytes.
    pub(crate) fn new(missing: i64) -> Arc<Self> {
        Arc::new(FetchWaiter { missing: AtomicI64::new(missing), notify: Notify::new() })
    }
    /// Resolves once woken; a wake-up before the call counts.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }
    /// Counts bytes; true if that was enough.
    fn arrived(&self, bytes: i64) -> bool {
        let enough = self.missing.fetch_sub(bytes, Ordering::Relaxed) <= bytes;
        if enough {
            self.notify.notify_one();
        }
        enough
    }
}

/// Whether appends are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// An append failed and its remains must be cut off before the next.
    Torn,
    /// A sync failed: what the kernel holds is unknown until a restart.
    Failed,
    /// The topic is gone.
    Deleted,
    /// The broker is gone; another may own the files.
    Closed,
}

/// Which part of a log was written so recently that reading it will not wait for the disk.
#[derive(Debug, Default)]
pub(super) struct Warm {
    from: i64,
    next: i64,
    bytes: u64,
}

impl Warm {
    /// Bytes that count as warm: between once and twice as many.
    const BYTES: u64 = 32 << 20;

    /// Nothing before `end` is warm.
    pub(super) fn starting(end: i64) -> Self {
        Warm { from: end, next: end, bytes: 0 }
    }
    /// First offset that is warm.
    pub(super) fn from(&self) -> i64 {
        self.from
    }
    /// Notes a batch that was written.
    pub(super) fn note(&mut self, base_offset: i64, bytes: u64) {
        self.bytes += bytes;
        if self.bytes > Self::BYTES {
            (self.from, self.next, self.bytes) = (self.next, base_offset, bytes);
        }
    }
}

/// What a log is opened with.
#[derive(Debug)]
pub(crate) struct LogSetup {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) topic_id: Uuid,
    pub(crate) config: Arc<TopicConfig>,
    pub(crate) leader_epoch: i32,
    /// Smallest offset that clients may see (DeleteRecords).
    pub(crate) log_start: i64,
    /// Everything before is on disk; none after a clean stop, when all is.
    pub(crate) recovery_point: Option<i64>,
    /// Readers see only what is on disk.
    pub(crate) synced_reads: bool,
}

/// The log of one partition.
#[derive(Debug)]
pub(crate) struct Log {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: PathBuf,
    pub(super) topic_id: Uuid,
    pub(super) config: Arc<TopicConfig>,
    /// Sorted by base; the last is active; never empty.
    pub(super) segments: Vec<Segment>,
    pub(super) log_start: i64,
    pub(super) end: i64,
    pub(super) synced_end: i64,
    synced_reads: bool,
    /// Bytes that readers do not see yet.
    pub(super) unseen_bytes: i64,
    /// Markers that readers do not see yet: their offsets, and where their transactions began.
    pub(super) unseen_ends: Vec<(i64, i64)>,
    pub(super) leader_epoch: i32,
    pub(super) epochs: Epochs,
    pub(super) producers: Producers,
    pub(super) waiters: Vec<Weak<FetchWaiter>>,
    pub(super) warm: Warm,
    pub(super) health: Health,
    pub(super) exists: bool,
    pub(super) new_files: bool,
    /// Where the part that compaction has not seen begins.
    pub(super) first_dirty: i64,
    /// Replaced or retired segments: when their files may go.
    pub(super) changes: u64,
}

mod base64_id {
    //! Kafka's text form of a UUID: URL-safe base64 without padding.

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    /// Encodes the 16 bytes as 22 characters.
    pub(crate) fn encode(id: &uuid::Uuid) -> String {
        let bits = id.as_u128();
        (0..22)
            .map(|i| {
                let shift = 122 - 6 * i;
                let six = if shift >= 0 { bits >> shift } else { bits << -shift } & 63;
                char::from(ALPHABET[six as usize])
            })
            .collect()
    }
}

pub(crate) use base64_id::encode as uuid_text;

impl Log {
    /// An empty log at `log_start`, whose directory does not exist yet.
    pub(super) fn empty(setup: LogSetup) -> Self {
        Log {
            fs: setup.fs,
            dir: setup.dir,
            topic_id: setup.topic_id,
            config: setup.config,
            segments: vec![Segment::empty(setup.log_start)],
            log_start: setup.log_start,
            end: setup.log_start,
            synced_end: setup.log_start,
            synced_reads: setup.synced_reads,
            unseen_bytes: 0,
            unseen_ends: Vec::new(),
            leader_epoch: setup.leader_epoch,
            epochs: Epochs::default(),
            producers: Producers::default(),
            waiters: Vec::new(),
            warm: Warm::starting(setup.log_start),
            health: Health::Good,
            exists: false,
            new_files: false,
            first_dirty: 0,
            changes: 0,
        }
    }

    /// First offset that clients may read.
    pub(crate) fn log_start(&self) -> i64 {
        self.log_start
    }
    /// Offset of the next record.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }
    /// High watermark: readers see what is before. Under group commit that is what is on disk, so that no reader is
    /// ahead of the log after a power cut.
    pub(crate) fn visible_end(&self) -> i64 {
        if self.synced_reads { self.synced_end } else { self.end }
    }
    /// Everything before is known to be on disk.
    pub(crate) fn synced_end(&self) -> i64 {
        self.synced_end
    }
    /// Current leader epoch.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }
    /// End offset of an epoch, as OffsetForLeaderEpoch answers.
    pub(crate) fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        if epoch == self.leader_epoch { (epoch, self.end) } else { self.epochs.end_of(epoch, self.end) }
    }
    /// Epoch under which the record at `offset` was written.
    pub(crate) fn epoch_at(&self, offset: i64) -> i32 {
        if offset >= self.end { self.leader_epoch } else { self.epochs.of(offset) }
    }
    /// Bytes in all segments.
    pub(crate) fn size(&self) -> u64 {
        self.segments.iter().map(|s| s.size).sum()
    }
    /// First offset that compaction has not seen.
    pub(crate) fn first_dirty(&self) -> i64 {
        self.first_dirty
    }
    /// Sets what the checkpoint remembered.
    pub(crate) fn set_first_dirty(&mut self, offset: i64) {
        self.first_dirty = offset;
    }
    /// Whether anything was ever written.
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }
    /// New settings, used from the next append on.
    pub(crate) fn set_config(&mut self, config: Arc<TopicConfig>) {
        self.config = config;
    }
    /// Producers by id.
    pub(crate) fn producers(&self) -> Vec<(i64, Producer)> {
        self.producers.iter().map(|(id, producer)| (id, producer.clone())).collect()
    }
    /// Forgets silent producers.
    pub(crate) fn expire_producers(&mut self, before: i64) {
        self.producers.expire(before);
    }

    pub(super) fn active(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a log always has an active segment")
    }

    pub(super) fn interval(&self) -> u64 {
        self.config.index_interval_bytes
    }

    /// Index of the segment that holds `offset`.
    pub(super) fn segment_of(&self, offset: i64) -> usize {
        self.segments.partition_point(|s| s.base <= offset).saturating_sub(1)
    }

    /// Registers a parked fetch.
    pub(crate) fn register(&mut self, waiter: &Arc<FetchWaiter>) {
        if self.waiters.len() >= 16 {
            self.waiters.retain(|w| w.strong_count() > 0);
        }
        self.waiters.push(Arc::downgrade(waiter));
    }

    /// Wakes readers for bytes that were appended, now or once they are on disk.
    pub(super) fn grew(&mut self, bytes: i64) {
        if self.synced_reads {
            self.unseen_bytes = self.unseen_bytes.saturating_add(bytes);
        } else {
            self.wake(bytes);
        }
    }

    /// Notes that all before `end` is on disk, and shows it to readers.
    pub(super) fn note_synced(&mut self, end: i64, bytes: i64) {
        self.synced_end = self.synced_end.max(end);
        let visible = self.visible_end();
        self.unseen_ends.retain(|(marker, _)| *marker >= visible);
        if self.synced_reads {
            self.wake(bytes);
        }
    }

    pub(super) fn wake(&mut self, bytes: i64) {
        self.waiters.retain(|w| w.upgrade().is_some_and(|w| !w.arrived(bytes)));
    }

    /// Creates the directory with `partition.metadata`, on the first append.
    pub(super) fn create(&mut self) -> io::Result<()> {
        self.fs.create_dir(&self.dir)?;
        let metadata = format!("version: 0\ntopic_id: {}", encode_id(&self.topic_id));
        self.fs.write(&self.dir.join("partition.metadata"), metadata.as_bytes())?;
        self.exists = true;
        self.new_files = true;
        Ok(())
    }

    pub(super) fn save_epochs(&self) -> io::Result<()> {
        self.fs.write(&self.dir.join("leader-epoch-checkpoint"), self.epochs.encode().as_bytes())
    }

    /// Snapshot of the producers at the end of the log; older ones that no segment needs are removed.
    pub(super) fn snapshot(&mut self) -> io::Result<()> {
        let bytes = self.producers.encode();
        self.fs.write(&segment_path(&self.dir, self.end, "snapshot"), &bytes)
    }

    /// Writes all that makes the next start fast. The data itself must have been synced.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        if !self.exists || matches!(self.health, Health::Deleted | Health::Closed) {
            return Ok(());
        }
        self.heal()?;
        self.snapshot()?;
        self.save_epochs()?;
        let (fs, dir) = (self.fs.clone(), self.dir.clone());
        self.active().rewrite_aborted(fs.as_ref(), &dir)?;
        self.active().write_index(fs.as_ref(), &dir)
    }

    /// Closes files that nobody used since the last call.
    pub(crate) fn close_idle_files(&mut self) {
        let active = self.segments.len() - 1;
        for (i, segment) in self.segments.iter_mut().enumerate() {
            segment.close_if_idle(i != active);
        }
    }

    /// Ends the log's life; all later calls fail, and parked readers wake to see it.
    pub(crate) fn mark_deleted(&mut self) {
        self.health = Health::Deleted;
        self.wake(i64::MAX / 2);
    }

    /// Ends the log's life with the broker's: what was not begun yet does not touch the files any more.
    pub(crate) fn mark_closed(&mut self) {
        if self.health != Health::Deleted {
            self.health = Health::Closed;
        }
        self.wake(i64::MAX / 2);
    }

    pub(super) fn check_alive(&self) -> Result<(), ResponseError> {
        match self.health {
            Health::Deleted => Err(ResponseError::UnknownTopicOrPartition),
            Health::Closed => Err(ResponseError::NotLeaderOrFollower),
            Health::Failed => Err(ResponseError::KafkaStorageError),
            Health::Good | Health::Torn => Ok(()),
        }
    }
}

/// A partition of a topic.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    log: Mutex<Log>,
}

impl Partition {
    /// Wraps an opened log.
    pub(crate) fn new(index: i32, log: Log) -> Arc<Self> {
        Arc::new(Partition { index, log: Mutex::new(log) })
    }

    /// The log, locked; hold it for short work only and never across an await.
    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

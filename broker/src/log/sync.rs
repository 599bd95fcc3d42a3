//! Group commit: a few threads make appended batches durable; what arrives for a partition while it is being
//! synced shares its next round, and partitions do not wait for each other. What nobody waits for is synced at
//! once too, but between rounds that nobody waits for appends are gathered for a moment.
//!
//! A failed sync is never repeated (the kernel may have dropped the pages): the partition refuses all further
//! appends until a restart has read back what is really on disk.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use tokio::sync::oneshot;

use super::partition::{Health, Log, Partition};
use super::segment::{Segment, segment_path};

/// Partitions that are synced at the same time; each thread only waits for the disk.
const THREADS: usize = 8;

/// How long appends that nobody waits for are gathered.
const GATHERED: Duration = Duration::from_millis(2);

/// What of a segment is to be synced.
struct Unsynced {
    base: i64,
    size: u64,
    files: Vec<Arc<dyn super::fs::LogFile>>,
}
type Done = oneshot::Sender<Result<(), ResponseError>>;

/// How soon a partition is to be synced that nobody is working on.
#[derive(Debug, Clone, Copy)]
enum Urgency {
    /// Now: somebody waits.
    Waits,
    /// Now, unless it gathers.
    Soon,
    /// After it has gathered.
    Gathers,
}

/// What is asked for one partition.
#[derive(Debug, Default)]
struct Asked {
    waiting: Vec<Done>,
    /// Something was asked since a thread began to work on it.
    again: bool,
    /// It is gathering, and nobody waits.
    gathering: bool,
}

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Arc<Partition>>,
    /// Partitions that gather, and until when; those that somebody came to wait for are in `ready` as well.
    gathering: VecDeque<(Instant, Arc<Partition>)>,
    /// By address of a partition that gathers, is ready or is being worked on.
    asked: HashMap<usize, Asked>,
    closed: bool,
}

/// Handle of the sync threads.
#[derive(Debug, Default)]
pub(crate) struct Syncer {
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Syncer {
    /// Starts the threads; they end after [`Syncer::close`], when the queue is empty.
    pub(crate) fn start() -> io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let syncer = Arc::new(Syncer::default());
        let thread = |i| {
            let worker = syncer.clone();
            std::thread::Builder::new().name(format!("towline-sync-{i}")).spawn(move || worker.run())
        };
        let threads = (0..THREADS).map(thread).collect::<io::Result<Vec<_>>>();
        if threads.is_err() {
            syncer.close();
        }
        Ok((syncer, threads?))
    }

    /// Resolves when all that was appended before the call is on disk.
    pub(crate) fn sync(&self, partition: &Arc<Partition>) -> oneshot::Receiver<Result<(), ResponseError>> {
        let (done, receiver) = oneshot::channel();
        self.push(partition, Some(done), Urgency::Waits);
        receiver
    }

    /// Like [`Syncer::sync`] when nobody waits.
    pub(crate) fn sync_later(&self, partition: &Arc<Partition>) {
        self.push(partition, None, Urgency::Soon);
    }

    /// Like [`Syncer::sync_later`] when somebody will probably come to wait: first gathers what else there is.
    pub(crate) fn sync_gathered(&self, partition: &Arc<Partition>) {
        self.push(partition, None, Urgency::Gathers);
    }

    /// Lets the threads end after what is queued.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, partition: &Arc<Partition>, done: Option<Done>, urgency: Urgency) {
        let mut queue = self.lock();
        if queue.closed {
            // Dropping the sender tells the waiter that durability is not known.
            return;
        }
        let mut fresh = false;
        let asked = queue.asked.entry(address(partition)).or_insert_with(|| {
            fresh = true;
            Asked::default()
        });
        asked.waiting.extend(done);
        asked.again = true;
        match urgency {
            Urgency::Waits if fresh || asked.gathering => {
                asked.gathering = false;
                queue.ready.push_back(partition.clone());
            }
            Urgency::Soon if fresh => queue.ready.push_back(partition.clone()),
            Urgency::Gathers if fresh => queue.gather(partition.clone()),
            _ => return,
        }
        self.wake.notify_one();
    }

    fn run(&self) {
        while let Some((partition, waiting)) = self.begin() {
            let result = partition.sync_now();
            for done in waiting {
                let _ = done.send(result);
            }
            self.end(partition);
        }
    }

    /// The next partition, with those that wait for it; none when closed.
    fn begin(&self) -> Option<(Arc<Partition>, Vec<Done>)> {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            if let Some(partition) = queue.next(now) {
                if !queue.gathering.is_empty() {
                    // Another must look after the time meanwhile.
                    self.wake.notify_one();
                }
                let asked = queue.asked.entry(address(&partition)).or_default();
                asked.again = false;
                let waiting = std::mem::take(&mut asked.waiting);
                return Some((partition, waiting));
            }
            if queue.closed {
                return None;
            }
            queue = match queue.gathering.front() {
                None => self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some((until, _)) => {
                    let left = until.saturating_duration_since(now);
                    self.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Queues the partition again if more was asked for meanwhile.
    fn end(&self, partition: Arc<Partition>) {
        let mut queue = self.lock();
        let key = address(&partition);
        match queue.asked.get(&key) {
            Some(asked) if asked.again && asked.waiting.is_empty() => queue.gather(partition),
            Some(asked) if asked.again => queue.ready.push_back(partition),
            _ => {
                queue.asked.remove(&key);
            }
        }
    }
}

impl Queue {
    fn gather(&mut self, partition: Arc<Partition>) {
        self.asked.entry(address(&partition)).or_default().gathering = true;
        self.gathering.push_back((Instant::now() + GATHERED, partition));
    }

    /// The next partition to work on.
    fn next(&mut self, now: Instant) -> Option<Arc<Partition>> {
        while let Some((until, _)) = self.gathering.front()
            && (*until <= now || self.closed)
        {
            let (_, partition) = self.gathering.pop_front()?;
            let asked = self.asked.get_mut(&address(&partition));
            if asked.is_some_and(|asked| std::mem::take(&mut asked.gathering)) {
                self.ready.push_back(partition);
            }
        }
        self.ready.pop_front()
    }
}

fn address(partition: &Arc<Partition>) -> usize {
    Arc::as_ptr(partition).addr()
}

impl Partition {
    /// Makes all that was appended so far durable.
    pub(crate) fn sync_now(&self) -> Result<(), ResponseError> {
        let (segments, end, bytes, new_files, fs, dir) = {
            let mut log = self.log();
            match log.health {
                Health::Failed => return Err(ResponseError::KafkaStorageError),
                // What cannot be read any more need not be durable.
                Health::Deleted => return Ok(()),
                // Whoever waits for an append that was made before the broker was dropped may still get its answer.
                Health::Good | Health::Torn | Health::Closed => {}
            }
            if log.synced_end >= log.end {
                return Ok(());
            }
            let bytes = std::mem::take(&mut log.unseen_bytes);
            match log.unsynced() {
                Ok(all) => (all, log.end, bytes, std::mem::take(&mut log.new_files), log.fs.clone(), log.dir.clone()),
                Err(error) => return Err(log.fail(&error)),
            }
        };
        let synced = (|| {
            for file in segments.iter().flat_map(|segment| &segment.files) {
                file.sync()?;
            }
            if new_files {
                fs.sync_dir(&dir)?;
                if let Some(parent) = dir.parent() {
                    fs.sync_dir(parent)?;
                }
            }
            Ok(())
        })();
        let mut log = self.log();
        if let Err(error) = synced {
            return Err(log.fail(&error));
        }
        for Unsynced { base, size, files } in segments {
            if let Some(segment) = log.segments.iter_mut().find(|s| s.base == base) {
                segment.synced = segment.synced.max(size).min(segment.size);
                segment.aborted_unsynced &= files.len() < 2;
            }
        }
        log.note_synced(end, bytes);
        Ok(())
    }
}

impl Log {
    fn unsynced(&mut self) -> io::Result<Vec<Unsynced>> {
        let (fs, dir) = (self.fs.clone(), self.dir.clone());
        let unsynced = |s: &mut Segment| {
            let mut files = vec![s.file(fs.as_ref(), &dir, false)?];
            if s.aborted_unsynced {
                files.push(fs.open(&segment_path(&dir, s.base, "txnindex"), false)?);
            }
            Ok(Unsynced { base: s.base, size: s.size, files })
        };
        self.segments.iter_mut().filter(|s| s.synced < s.size || s.aborted_unsynced).map(unsynced).collect()
    }

    fn fail(&mut self, error: &io::Error) -> ResponseError {
        if !matches!(self.health, Health::Deleted | Health::Closed) {
            self.health = Health::Failed;
            tracing::error!(
                dir = %self.dir.display(),
                error = error as &dyn std::error::Error,
                "cannot sync the log; the partition refuses records until the broker is restarted"
            );
        }
        ResponseError::KafkaStorageError
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::TopicConfig;
    use crate::log::faulty::FaultyFs;
    use crate::log::{Batch, LogSetup};
    use crate::wire::batch::BatchHeader;
    use crate::wire::records::BatchBuilder;

    fn open(fs: &Arc<FaultyFs>, dir: &std::path::Path, recovery_point: Option<i64>) -> Arc<Partition> {
        let config = Arc::new(TopicConfig::resolve(&BTreeMap::new(), &BTreeMap::new()));
        let setup = LogSetup {
            fs: fs.clone(),
            dir: dir.join("t-0"),
            topic_id: uuid::Uuid::nil(),
            config,
            leader_epoch: 0,
            log_start: 0,
            recovery_point,
            synced_reads: true,
        };
        Partition::new(0, Log::open(setup).unwrap())
    }

    fn append(partition: &Partition, value: &[u8]) -> Result<i64, ResponseError> {
        let mut builder = BatchBuilder::new(1);
        builder.push(1, None, Some(value));
        let bytes = builder.build();
        let header = BatchHeader::parse(&bytes).unwrap();
        partition.log().append(Batch { header, bytes }, 1).map(|a| a.base_offset)
    }

    #[test]
    fn what_was_synced_survives_a_power_cut_and_the_rest_is_cut_cleanly() {
        let (fs, dir) = (FaultyFs::new(), tempfile::tempdir().unwrap());
        let partition = open(&fs, dir.path(), Some(0));
        for i in 0..5 {
            assert_eq!(append(&partition, b"synced"), Ok(i));
        }
        partition.sync_now().unwrap();
        append(&partition, b"lost").unwrap();
        fs.lose_unsynced();
        let partition = open(&fs, dir.path(), Some(0));
        assert_eq!(partition.log().end(), 5);
        assert_eq!(append(&partition, b"next"), Ok(5));
    }

    #[test]
    fn a_full_disk_refuses_records_and_the_log_goes_on_when_there_is_room() {
        let (fs, dir) = (FaultyFs::new(), tempfile::tempdir().unwrap());
        let partition = open(&fs, dir.path(), Some(0));
        append(&partition, b"first").unwrap();
        fs.set_room(10);
        for _ in 0..3 {
            assert_eq!(append(&partition, b"no room"), Err(ResponseError::KafkaStorageError));
        }
        fs.set_room(i64::MAX);
        assert_eq!(append(&partition, b"second"), Ok(1));
        let seen = || crate::wire::batch::batches(&partition.read(0, 1 << 20, true).unwrap().1).count();
        assert_eq!(seen(), 0, "readers see what is on disk");
        partition.sync_now().unwrap();
        assert_eq!(seen(), 2);
        assert_eq!(open(&fs, dir.path(), Some(0)).log().end(), 2);
    }

    #[test]
    fn a_clean_stop_is_trusted() {
        let (fs, dir) = (FaultyFs::new(), tempfile::tempdir().unwrap());
        let partition = open(&fs, dir.path(), Some(0));
        append(&partition, b"a").unwrap();
        partition.sync_now().unwrap();
        partition.log().close().unwrap();
        let again = open(&fs, dir.path(), None);
        assert_eq!(again.log().end(), 1);
        assert_eq!(append(&again, b"b"), Ok(1));
    }

    #[tokio::test]
    async fn a_failed_sync_is_an_error_for_all_who_wait_and_loses_nothing_acknowledged() {
        let (fs, dir) = (FaultyFs::new(), tempfile::tempdir().unwrap());
        let partition = open(&fs, dir.path(), Some(0));
        let (syncer, threads) = Syncer::start().unwrap();
        for i in 0..3 {
            append(&partition, b"acknowledged").unwrap();
            assert_eq!((syncer.sync(&partition).await.unwrap(), i), (Ok(()), i));
        }
        fs.fail_syncs(true);
        append(&partition, b"doubtful").unwrap();
        let waiting = [syncer.sync(&partition), syncer.sync(&partition)];
        for waits in waiting {
            assert_eq!(waits.await.unwrap(), Err(ResponseError::KafkaStorageError));
        }
        // Even if the disk says that it is well again, what it dropped is not known.
        fs.fail_syncs(false);
        assert_eq!(append(&partition, b"later"), Err(ResponseError::KafkaStorageError));
        assert_eq!(syncer.sync(&partition).await.unwrap(), Err(ResponseError::KafkaStorageError));
        syncer.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        fs.lose_unsynced();
        let again = open(&fs, dir.path(), Some(0));
        assert_eq!(again.log().end(), 3);
        assert_eq!(append(&again, b"goes on"), Ok(3));
    }

    #[tokio::test]
    async fn what_is_asked_while_a_partition_is_synced_shares_the_next_round() {
        let (fs, dir) = (FaultyFs::new(), tempfile::tempdir().unwrap());
        let (syncer, threads) = Syncer::start().unwrap();
        let partitions: Vec<_> = (0..20).map(|i| open(&fs, &dir.path().join(i.to_string()), Some(0))).collect();
        let mut waiting = Vec::new();
        for round in 0..20 {
            for partition in &partitions {
                assert_eq!(append(partition, b"value"), Ok(round));
                waiting.push((partition, round, syncer.sync(partition)));
            }
        }
        for (partition, round, waits) in waiting {
            assert_eq!(waits.await.unwrap(), Ok(()));
            assert!(partition.log().synced_end() > round);
        }
        syncer.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(syncer.sync(&partitions[0]).await.is_err(), "nothing is promised after the end");
    }
}

//! Compaction: of each key only the latest record stays; tombstones go after `delete.retention.ms`.
//!
//! Sealed segments are copied without what is superseded, into `.cleaned`, renamed to `.swap` once durable, then
//! put in place of the originals. Offsets never change. The last batch of a group always stays, emptied if need
//! be, so that the swapped file tells which originals it replaces.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::cleaned_transactions::CleanedTransactions;
use super::fs::{Fs, LogFile};
use super::partition::{Health, Log, Partition};
use super::segment::{Scanner, Segment, segment_path};
use super::transactions::Aborted;
use crate::config::TopicConfig;
use crate::wire::batch::{BatchHeader, verify};
use crate::wire::marker::EndMarker;
use crate::wire::records::{self, Record};

/// Keys that one round can hold (about 32 bytes each).
const MAX_KEYS: usize = 4 << 20;

#[derive(Debug)]
struct Source {
    base: i64,
    size: u64,
    file: Arc<dyn LogFile>,
}

/// What a round works on, taken under the lock.
#[derive(Debug)]
struct Plan {
    sources: Vec<Source>,
    first_dirty: i64,
    end: i64,
    /// Transactions that were aborted in the part that is worked on.
    aborted: Vec<Aborted>,
    changes: u64,
    config: Arc<TopicConfig>,
    fs: Arc<dyn Fs>,
    dir: PathBuf,
}

/// One walk through all that is cleaned.
#[derive(Debug)]
struct Round<'a> {
    plan: &'a Plan,
    /// Up to where `latest` is complete.
    end: i64,
    latest: Latest,
    transactions: CleanedTransactions,
    now: i64,
}

/// 128-bit hash of a key -> offset of its latest record. The hash is keyed anew in each round.
#[derive(Debug, Default)]
struct Latest {
    hashers: (RandomState, RandomState),
    offsets: HashMap<(u64, u64), i64>,
}

impl Latest {
    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key))
    }
    fn note(&mut self, key: &[u8], offset: i64) {
        let hash = self.hash(key);
        self.offsets.insert(hash, offset);
    }
    fn is_superseded(&self, key: &[u8], offset: i64) -> bool {
        self.offsets.get(&self.hash(key)).is_some_and(|latest| *latest > offset)
    }
}

impl Log {
    fn plan(&mut self, now: i64) -> io::Result<Option<Plan>> {
        let config = self.config.clone();
        if !config.compact || self.health != Health::Good || self.segments.len() < 2 {
            return Ok(None);
        }
        let (fs, dir, interval) = (self.fs.clone(), self.dir.clone(), self.interval());
        let sealed = self.segments.len() - 1;
        // How a transaction that is open will end is not known.
        let stable = self.last_stable();
        let (mut clean, mut dirty, mut end, mut oldest) = (0u64, 0u64, self.segments[0].base, None);
        let mut count = 0;
        for i in 0..sealed {
            let next = self.segments[i + 1].base;
            let segment = &mut self.segments[i];
            if segment.synced < segment.size || next > stable {
                // What a power cut may take must not have displaced what is safe.
                break;
            }
            if next <= self.first_dirty {
                clean += segment.size;
            } else {
                let largest = segment.largest(fs.as_ref(), &dir, interval)?.map_or(0, |(time, _)| time);
                if config.min_compaction_lag_ms > 0 && now.saturating_sub(largest) < config.min_compaction_lag_ms {
                    break;
                }
                oldest = oldest.or(Some(segment.first_timestamp.unwrap_or(largest)));
                dirty += segment.size;
            }
            end = next;
            count = i + 1;
        }
        let ratio = dirty as f64 / ((clean + dirty).max(1)) as f64;
        let overdue = oldest.is_some_and(|t| now.saturating_sub(t) > config.max_compaction_lag_ms);
        if dirty == 0 || !(ratio > config.min_cleanable_dirty_ratio || overdue) {
            return Ok(None);
        }
        let sources = self.segments[..count]
            .iter_mut()
            .map(|s| Ok(Source { base: s.base, size: s.size, file: s.file(fs.as_ref(), &dir, false)? }))
            .collect::<io::Result<Vec<_>>>()?;
        let mut aborted = Vec::new();
        for segment in &mut self.segments[..count] {
            aborted.extend_from_slice(segment.aborted(fs.as_ref(), &dir)?);
        }
        let (first_dirty, changes) = (self.first_dirty, self.changes);
        Ok(Some(Plan { sources, first_dirty, end, aborted, changes, config, fs, dir }))
    }
}

impl Partition {
    /// Compacts if enough is dirty; answers the bytes saved. Runs without the lock but for plan and swap.
    pub(crate) fn compact(&self, now: i64) -> io::Result<Option<u64>> {
        let Some(plan) = self.log().plan(now)? else { return Ok(None) };
        let mut latest = Latest::default();
        let end = plan.collect_keys(&mut latest)?;
        let mut saved = 0;
        let mut round = Round { plan: &plan, end, latest, transactions: CleanedTransactions::new(&plan.aborted), now };
        for group in plan.groups(end) {
            let Some(cleaned) = self.clean_group(&mut round, group)? else { continue };
            let before: u64 = group.iter().map(|s| s.size).sum();
            saved += before.saturating_sub(cleaned.size);
            if !self.swap(&plan, group, cleaned)? {
                return Ok(Some(saved));
            }
        }
        let mut log = self.log();
        log.first_dirty = log.first_dirty.max(end);
        Ok(Some(saved))
    }

    fn clean_group(&self, round: &mut Round<'_>, group: &[Source]) -> io::Result<Option<Segment>> {
        let plan = round.plan;
        let path = segment_path(&plan.dir, group[0].base, "log.cleaned");
        let _ = plan.fs.remove(&path);
        let out = plan.fs.open(&path, true)?;
        let mut segment = Segment::empty(group[0].base);
        let mut held: Option<(BatchHeader, Bytes)> = None;
        for source in group {
            let mut scanner = Scanner::new(source.file.clone(), 0, source.size);
            while let Some((position, header)) = scanner.next()? {
                // A dropped last batch stays as an empty one, so the last of all is held back.
                if let Some((header, bytes)) = held.take()
                    && (header.record_count > 0 || self.needs(&header))
                {
                    out.append([&bytes, &[]])?;
                    segment.note(&header, plan.config.index_interval_bytes);
                }
                let bytes = scanner.batch(position, &header)?;
                let (cleaned, bytes) = round.clean_batch(&header, bytes)?;
                if cleaned.is_control() && cleaned.record_count > 0 {
                    let ended = |entry: &&Aborted| entry.last_offset == cleaned.last_offset();
                    plan.aborted.iter().filter(ended).for_each(|entry| segment.note_aborted(*entry));
                }
                held = Some((cleaned, bytes));
            }
        }
        if let Some((header, bytes)) = held {
            out.append([&bytes, &[]])?;
            segment.note(&header, plan.config.index_interval_bytes);
        }
        out.sync()?;
        segment.synced = segment.size;
        Ok((segment.size > 0).then_some(segment))
    }

    fn needs(&self, header: &BatchHeader) -> bool {
        header.has_producer() && self.log().producers.is_last_of(header.producer_id, header.last_offset())
    }

    /// Puts a cleaned segment in place; false if the log changed meanwhile and the work is void.
    fn swap(&self, plan: &Plan, group: &[Source], mut cleaned: Segment) -> io::Result<bool> {
        let mut log = self.log();
        let base = cleaned.base;
        let path = |suffix| segment_path(&plan.dir, base, suffix);
        let at = log.segments.iter().position(|s| s.base == base);
        let same = |log: &Log, at: usize| {
            log.segments[at..].iter().zip(group).filter(|(s, g)| s.base == g.base && s.size == g.size).count()
                == group.len()
        };
        let Some(at) = at.filter(|at| log.changes == plan.changes && log.health == Health::Good && same(&log, *at))
        else {
            plan.fs.remove(&path("log.cleaned"))?;
            return Ok(false);
        };
        let (from, to) = (base, group.last().map_or(base, |last| last.base));
        if log.segments.iter_mut().any(|s| (from..=to).contains(&s.base) && s.may_have_aborted()) {
            plan.fs.replace(&path("txnindex.swap"), &cleaned.encoded_aborted())?;
        }
        plan.fs.rename(&path("log.cleaned"), &path("log.swap"))?;
        let placed = plan.fs.sync_dir(&plan.dir).and_then(|()| finish_swap(plan.fs.as_ref(), &plan.dir, base));
        if let Err(error) = placed {
            // Which files there are is not known any more; a restart finishes the swap.
            log.health = Health::Failed;
            let (dir, cause) = (plan.dir.display(), &error as &dyn std::error::Error);
            tracing::error!(%dir, error = cause, "cannot put a compacted segment in place; the partition is unavailable until the broker is restarted");
            log.wake(i64::MAX / 2);
            return Err(error);
        }
        let index = cleaned.write_index(plan.fs.as_ref(), &plan.dir);
        log.segments.splice(at..at + group.len(), [cleaned]);
        if let Err(error) = index {
            // It is in memory, and is rebuilt when it is missing.
            for suffix in ["index", "timeindex"] {
                let _ = plan.fs.remove(&path(suffix));
            }
            let (dir, error) = (plan.dir.display(), &error as &dyn std::error::Error);
            tracing::warn!(%dir, error, "cannot write the index of a compacted segment");
        }
        Ok(true)
    }
}

impl Plan {
    /// Fills the map from the dirty part; answers up to which offset it is complete.
    fn collect_keys(&self, latest: &mut Latest) -> io::Result<i64> {
        let mut transactions = CleanedTransactions::new(&self.aborted);
        for source in self.sources.iter() {
            let mut scanner = Scanner::new(source.file.clone(), 0, source.size);
            while let Some((position, header)) = scanner.next()? {
                if header.is_control() {
                    let bytes = scanner.batch(position, &header)?;
                    EndMarker::parse(&header, &bytes).map(|marker| transactions.pass_marker(&header, &marker));
                    continue;
                }
                if transactions.pass_data(&header) || header.last_offset() < self.first_dirty {
                    continue;
                }
                if latest.offsets.len() + header.record_count as usize > MAX_KEYS && !latest.offsets.is_empty() {
                    return Ok(header.base_offset);
                }
                let bytes = scanner.batch(position, &header)?;
                for record in unpacked(&header, &bytes)?.records() {
                    let record = record.map_err(io::Error::other)?;
                    if let Some(key) = record.key {
                        latest.note(key, record.offset);
                    }
                }
            }
        }
        Ok(self.end)
    }

    /// Neighbouring segments that together fit into one.
    fn groups(&self, end: i64) -> Vec<&[Source]> {
        let mut groups = Vec::new();
        let mut rest = &self.sources[..self.sources.partition_point(|s| s.base < end)];
        while let Some(first) = rest.first() {
            let mut size = 0;
            let fits = |s: &&Source| {
                size += s.size;
                size <= self.config.segment_bytes && s.base - first.base < i64::from(i32::MAX) / 2
            };
            let (group, tail) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            groups.push(group);
            rest = tail;
        }
        groups
    }
}

fn unpacked<'a>(header: &BatchHeader, bytes: &'a [u8]) -> io::Result<records::Unpacked<'a>> {
    verify(bytes, header).and_then(|()| records::decode(header, bytes)).map_err(io::Error::other)
}

impl Round<'_> {
    /// The batch without what is superseded: untouched if all stays, with no records if nothing does.
    fn clean_batch(&mut self, header: &BatchHeader, bytes: Vec<u8>) -> io::Result<(BatchHeader, Bytes)> {
        if header.is_control() {
            return self.clean_marker(header, bytes);
        }
        let aborted = self.transactions.pass_data(header);
        if header.record_count == 0 {
            return Ok((*header, Bytes::from(bytes)));
        }
        if aborted {
            return self.rebuilt(*header, &[], false);
        }
        let unpacked = unpacked(header, &bytes)?;
        let horizon = header.delete_horizon();
        let mut kept: Vec<Record<'_>> = Vec::new();
        let mut tombstones = false;
        for record in unpacked.records() {
            let record = record.map_err(io::Error::other)?;
            let stays = record.offset >= self.end
                || record.key.is_some_and(|key| {
                    !self.latest.is_superseded(key, record.offset)
                        && (record.value.is_some() || horizon.is_none_or(|horizon| self.now < horizon))
                });
            if stays {
                tombstones |= record.value.is_none() && record.offset < self.end;
                kept.push(record);
            }
        }
        let mark = tombstones && horizon.is_none();
        if kept.len() == header.record_count as usize && !mark {
            drop(kept);
            drop(unpacked);
            return Ok((*header, Bytes::from(bytes)));
        }
        self.rebuilt(*header, &kept, mark)
    }

    /// A marker whose transaction has no data left goes after `delete.retention.ms`.
    fn clean_marker(&mut self, header: &BatchHeader, bytes: Vec<u8>) -> io::Result<(BatchHeader, Bytes)> {
        let gone = EndMarker::parse(header, &bytes).is_some_and(|m| self.transactions.pass_marker(header, &m));
        let horizon = header.delete_horizon();
        if !gone || horizon.is_some_and(|horizon| self.now < horizon) {
            return Ok((*header, Bytes::from(bytes)));
        }
        let unpacked = unpacked(header, &bytes)?;
        let records = unpacked.records().collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        match horizon {
            None => self.rebuilt(*header, &records, true),
            Some(_) => self.rebuilt(*header, &[], false),
        }
    }

    fn rebuilt(&self, mut header: BatchHeader, kept: &[Record<'_>], mark: bool) -> io::Result<(BatchHeader, Bytes)> {
        if mark {
            header.set_delete_horizon(self.now.saturating_add(self.plan.config.delete_retention_ms));
        }
        let rebuilt = records::rebuild(header, kept).map_err(io::Error::other)?;
        let header = BatchHeader::parse(&rebuilt).map_err(io::Error::other)?;
        Ok((header, rebuilt))
    }
}

/// Removes the originals that `<base>.log.swap` replaces and gives it its name. Repeatable after a crash.
pub(super) fn finish_swap(fs: &dyn Fs, dir: &Path, base: i64) -> io::Result<()> {
    let swap = segment_path(dir, base, "log.swap");
    let (size, _) = fs.stat(&swap)?;
    let mut scanner = Scanner::new(fs.open(&swap, false)?, 0, size);
    let mut last = base;
    while let Some((_, header)) = scanner.next()? {
        last = header.last_offset();
    }
    let names = fs.list(dir)?;
    for name in &names {
        let replaced =
            name.strip_suffix(".log").and_then(|b| b.parse::<i64>().ok()).filter(|b| (base..=last).contains(b));
        if let Some(replaced) = replaced {
            for suffix in ["index", "timeindex"] {
                let _ = fs.remove(&segment_path(dir, replaced, suffix));
            }
            if replaced != base {
                let _ = fs.remove(&segment_path(dir, replaced, "txnindex"));
                fs.remove(&segment_path(dir, replaced, "log"))?;
            }
        }
    }
    let aborted = segment_path(dir, base, "txnindex.swap");
    if names.iter().any(|name| aborted.ends_with(name)) {
        fs.rename(&aborted, &segment_path(dir, base, "txnindex"))?;
    }
    fs.rename(&swap, &segment_path(dir, base, "log"))?;
    fs.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::log::faulty::FaultyFs;
    use crate::log::{Batch, LogSetup};
    use crate::wire::batch::batches;
    use crate::wire::records::BatchBuilder;

    fn open(fs: &Arc<FaultyFs>, dir: &Path) -> Arc<Partition> {
        let settings = [("cleanup.policy", "compact"), ("segment.bytes", "400"), ("min.cleanable.dirty.ratio", "0.01")];
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let setup = LogSetup {
            fs: fs.clone(),
            dir: dir.join("t-0"),
            topic_id: uuid::Uuid::nil(),
            config: Arc::new(TopicConfig::resolve(&settings, &BTreeMap::new())),
            leader_epoch: 0,
            log_start: 0,
            recovery_point: Some(0),
            synced_reads: false,
        };
        Partition::new(0, Log::open(setup).unwrap())
    }

    fn append(partition: &Partition, key: &str, value: &str) -> i64 {
        let mut builder = BatchBuilder::new(1);
        builder.push(1, Some(key.as_bytes()), Some(value.as_bytes()));
        let bytes = builder.build();
        let header = BatchHeader::parse(&bytes).unwrap();
        partition.log().append(Batch { header, bytes }, 1).unwrap().base_offset
    }

    /// Latest value and offset of each key.
    fn latest(partition: &Partition) -> BTreeMap<String, (String, i64)> {
        let (mut offset, end) = {
            let log = partition.log();
            (log.log_start(), log.end())
        };
        let mut found = BTreeMap::new();
        while offset < end {
            let (_, bytes) = partition.read(offset, 1 << 20, true).unwrap();
            assert!(!bytes.is_empty(), "nothing to read at {offset} of {end}");
            for (header, batch) in batches(&bytes) {
                for record in records::decode(&header, batch).unwrap().records().map(Result::unwrap) {
                    let text = |b: Option<&[u8]>| String::from_utf8(b.unwrap().to_vec()).unwrap();
                    found.insert(text(record.key), (text(record.value), record.offset));
                }
                offset = header.last_offset() + 1;
            }
        }
        found
    }

    #[test]
    fn a_crash_at_any_step_of_a_compaction_loses_no_latest_value() {
        let mut steps = 0;
        loop {
            let (fs, dir) = (FaultyFs::new(), tempfile::tempdir().unwrap());
            let partition = open(&fs, dir.path());
            let mut end = 0;
            for i in 0..40 {
                end = append(&partition, &format!("key{}", i % 7), &format!("value {i}")) + 1;
            }
            partition.sync_now().unwrap();
            let before = latest(&partition);
            fs.die_after(steps);
            let done = partition.compact(2).is_ok();
            fs.die_after(i64::MAX);
            fs.lose_unsynced();
            let again = open(&fs, dir.path());
            let recovered = again.log().end();
            assert_eq!((recovered, latest(&again)), (end, before.clone()), "after {steps} steps");
            assert_eq!(append(&again, "key0", "next"), end);
            again.compact(3).unwrap();
            assert_eq!(latest(&again).len(), before.len());
            if done {
                break;
            }
            steps += 1;
        }
        assert!(steps > 5, "the compaction made only {steps} steps");
    }
}

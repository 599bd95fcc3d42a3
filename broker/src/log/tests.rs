//! What retention and compaction must not do to a log, whatever goes wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::partition::Health;
use super::*;
use crate::config::TopicConfig;
use crate::wire::batch::{BatchHeader, batches};
use crate::wire::committed::committed_only;
use crate::wire::marker::EndMarker;
use crate::wire::records::{BatchBuilder, decode};

fn open(dir: &Path, settings: &[(&str, &str)]) -> Arc<Partition> {
    open_on(Arc::new(StdFs), dir, settings)
}

fn open_on(fs: Arc<dyn Fs>, dir: &Path, settings: &[(&str, &str)]) -> Arc<Partition> {
    let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let setup = LogSetup {
        fs,
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

fn append(partition: &Partition, key: &str) -> Result<i64, ResponseError> {
    let mut builder = BatchBuilder::new(1);
    builder.push(1, Some(key.as_bytes()), Some(&[0; 100]));
    let bytes = builder.build();
    let header = BatchHeader::parse(&bytes).unwrap();
    partition.log().append(Batch { header, bytes }, 1).map(|a| a.base_offset)
}

#[test]
fn offsets_go_on_after_the_whole_log_expired_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("retention.ms", "10")];
    let partition = open(dir.path(), &settings);
    for i in 0..5 {
        assert_eq!(append(&partition, "k"), Ok(i));
    }
    assert_eq!(partition.log().retire(1_000).unwrap(), 1);
    drop(partition);
    let again = open(dir.path(), &settings);
    assert_eq!(again.log().log_start(), 5);
    assert_eq!(append(&again, "k"), Ok(5));
}

const COMPACTED: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.bytes", "400"), ("min.cleanable.dirty.ratio", "0.01")];

/// A compacted log of several segments with one key.
fn compacted(dir: &Path) -> Arc<Partition> {
    let partition = open(dir, &COMPACTED);
    for i in 0..12 {
        assert_eq!(append(&partition, "k"), Ok(i));
    }
    partition
}

/// The path of the nth segment with another ending.
fn path(dir: &Path, partition: &Partition, n: usize, suffix: &str) -> PathBuf {
    segment::segment_path(&dir.join("t-0"), partition.log().segments[n].base, suffix)
}

#[test]
fn what_a_power_cut_may_take_displaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let partition = compacted(dir.path());
    assert_eq!(partition.compact(2).unwrap(), None);
    partition.sync_now().unwrap();
    assert!(partition.compact(2).unwrap().unwrap() > 0);
}

#[test]
fn a_compaction_whose_index_cannot_be_written_is_done_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let partition = compacted(dir.path());
    partition.sync_now().unwrap();
    let index = path(dir.path(), &partition, 0, "index");
    std::fs::remove_file(&index).unwrap();
    std::fs::create_dir(&index).unwrap();
    let before = partition.log().size();
    let saved = partition.compact(2).unwrap().unwrap();
    assert_eq!(partition.log().size(), before - saved);
    let (_, bytes) = partition.read(0, 1 << 20, true).unwrap();
    assert!(!bytes.is_empty());
    assert_eq!(append(&partition, "k"), Ok(12));
}

#[test]
fn a_compaction_that_broke_off_half_way_ends_the_partition_until_a_restart_finishes_it() {
    let dir = tempfile::tempdir().unwrap();
    let partition = compacted(dir.path());
    partition.sync_now().unwrap();
    // Emptied batches of several segments fit into one; the second's file cannot be removed.
    assert_eq!(partition.log().segments[1].base, 2);
    let blocked = path(dir.path(), &partition, 1, "log");
    std::fs::remove_file(&blocked).unwrap();
    std::fs::create_dir(&blocked).unwrap();
    partition.compact(2).unwrap_err();
    assert_eq!(partition.log().health, Health::Failed);
    assert_eq!(append(&partition, "k"), Err(ResponseError::KafkaStorageError));
    assert!(partition.read(0, 1 << 20, true).is_err());
    std::fs::remove_dir(&blocked).unwrap();
    let again = open(dir.path(), &COMPACTED);
    assert_eq!(append(&again, "k"), Ok(12));
}

/// Appends a record to the transaction of a producer.
fn append_to(partition: &Partition, producer: i64, sequence: i32, key: &str) {
    let mut builder = BatchBuilder::new(1).producer(producer, 0, sequence).transactional();
    builder.push(1, Some(key.as_bytes()), Some(&[0; 100]));
    let bytes = builder.build();
    let header = BatchHeader::parse(&bytes).unwrap();
    partition.log().append(Batch { header, bytes }, 1).unwrap();
}

fn end(partition: &Partition, producer_id: i64, commit: bool) {
    let marker = EndMarker { producer_id, epoch: 0, commit, coordinator_epoch: 0, timestamp: 1 };
    assert!(partition.log().end_transaction(&marker, 1).unwrap().is_some());
}

/// Latest offset of each committed key.
fn committed(partition: &Partition) -> BTreeMap<Vec<u8>, i64> {
    let (mut offset, mut found) = (partition.log().log_start(), BTreeMap::new());
    loop {
        let read = partition.read_isolated(offset, 1 << 20, true, Isolation::ReadCommitted).unwrap();
        if read.next == offset {
            return found;
        }
        offset = read.next;
        for (header, batch) in batches(&committed_only(&read.records, read.aborted)) {
            let unpacked = decode(&header, batch).unwrap();
            found.extend(unpacked.records().map(|r| r.map(|r| (r.key.unwrap().to_vec(), r.offset)).unwrap()));
        }
    }
}

/// All that is in the log: batches with records, markers among them, entries of the abort index.
fn contents(partition: &Partition) -> (usize, usize, usize) {
    let (mut offset, mut data, mut markers) = (0, 0, 0);
    while offset < partition.log().end() {
        let read = partition.read_isolated(offset, 1 << 20, true, Isolation::ReadUncommitted).unwrap();
        for (header, _) in batches(&read.records).filter(|(header, _)| header.record_count > 0) {
            *(if header.is_control() { &mut markers } else { &mut data }) += 1;
        }
        offset = read.next;
    }
    let aborted = partition.log().aborted_between(0, i64::MAX).unwrap().len();
    (data, markers, aborted)
}

fn fill(partition: &Partition, count: usize) {
    for i in 0..count {
        append(partition, &format!("filler {}", i % 2)).unwrap();
    }
    partition.sync_now().unwrap();
}

/// Two transactions with the same keys, of which the later was aborted, and records of nobody's.
fn with_transactions(partition: &Partition) {
    for key in ["x", "y", "z"] {
        append_to(partition, 1, ["x", "y", "z"].iter().position(|k| *k == key).unwrap() as i32, key);
    }
    end(partition, 1, true);
    for (sequence, key) in ["x", "y", "new"].iter().enumerate() {
        append_to(partition, 2, sequence as i32, key);
    }
    end(partition, 2, false);
    fill(partition, 12);
}

#[test]
fn compaction_drops_aborted_records_and_then_their_marker() {
    let settings = [COMPACTED.as_slice(), &[("delete.retention.ms", "0")]].concat();
    let dir = tempfile::tempdir().unwrap();
    let mut partition = open(dir.path(), &settings);
    with_transactions(&partition);
    let (before, (data, ..)) = (committed(&partition), contents(&partition));
    assert_eq!(before.len(), 5);
    assert_eq!(before[b"x".as_slice()], 0, "the aborted one does not count");
    let mut left = Vec::new();
    for round in 2..7 {
        // For its last sequence the last batch of a producer would stay, emptied, and with it the marker.
        partition.log().expire_producers(i64::MAX);
        partition.compact(round).unwrap().unwrap();
        let filled = |keys: &BTreeMap<Vec<u8>, i64>| keys.iter().filter(|(k, _)| k.len() < 3).count();
        assert_eq!(filled(&committed(&partition)), 3);
        left.push(contents(&partition));
        drop(partition);
        partition = open(dir.path(), &settings);
        // A recovery need not index an aborted transaction of which no record is left.
        let ((data, markers, _), (data_before, markers_before, _)) = (contents(&partition), left[left.len() - 1]);
        assert_eq!((data, markers), (data_before, markers_before), "as before the restart");
        fill(&partition, 8);
    }
    assert!(left[0].0 < data, "aborted and superseded records are gone: {left:?}");
    assert_eq!((left[0].1, left[0].2), (2, 1), "the markers stay while readers may need them");
    // The committed transaction has records, its marker stays; the aborted one's goes with its index entry.
    assert_eq!((left[4].1, left[4].2), (1, 0), "{left:?}");
}

#[test]
fn an_open_transaction_stops_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), &COMPACTED);
    append_to(&partition, 1, 0, "x");
    fill(&partition, 12);
    assert_eq!(partition.compact(2).unwrap(), None);
    end(&partition, 1, true);
    partition.sync_now().unwrap();
    assert!(partition.compact(2).unwrap().is_some());
    assert_eq!(committed(&partition).len(), 3);
}

#[test]
fn a_power_cut_at_any_step_of_a_compaction_shows_no_aborted_record() {
    let mut steps = 0;
    loop {
        let (fs, dir) = (faulty::FaultyFs::new(), tempfile::tempdir().unwrap());
        let partition = open_on(fs.clone(), dir.path(), &COMPACTED);
        with_transactions(&partition);
        let before = committed(&partition);
        fs.die_after(steps);
        let done = partition.compact(2).is_ok();
        fs.die_after(i64::MAX);
        fs.lose_unsynced();
        let again = open_on(fs.clone(), dir.path(), &COMPACTED);
        assert_eq!(committed(&again), before, "after {steps} steps");
        again.compact(3).unwrap();
        assert_eq!(committed(&again), before, "after {steps} steps and another compaction");
        if done {
            break;
        }
        steps += 1;
    }
    assert!(steps > 5, "the compaction made only {steps} steps");
}

#[test]
fn the_abort_index_survives_a_power_cut_wherever_the_recovery_begins() {
    for recovery_point in [0, 3, 7, 12, i64::MAX] {
        let (fs, dir) = (faulty::FaultyFs::new(), tempfile::tempdir().unwrap());
        let settings = [("segment.bytes", "400")];
        let partition = open_on(fs.clone(), dir.path(), &settings);
        for round in 0..4 {
            append_to(&partition, 1, round, "committed");
            append_to(&partition, 2, round, "aborted");
            append(&partition, "plain").unwrap();
            end(&partition, 2, false);
            end(&partition, 1, true);
        }
        partition.sync_now().unwrap();
        append_to(&partition, 2, 4, "open");
        partition.sync_now().unwrap();
        let before = (committed(&partition), contents(&partition), partition.log().last_stable());
        assert_eq!((before.0.len(), before.1.2, before.2), (2, 4, 20));
        drop(partition);
        fs.lose_unsynced();
        let setup = LogSetup {
            fs,
            dir: dir.path().join("t-0"),
            topic_id: uuid::Uuid::nil(),
            config: open(&dir.path().join("other"), &settings).log().config.clone(),
            leader_epoch: 0,
            log_start: 0,
            recovery_point: Some(recovery_point),
            synced_reads: false,
        };
        let again = Partition::new(0, Log::open(setup).unwrap());
        let after = (committed(&again), contents(&again), again.log().last_stable());
        assert_eq!(after, before, "recovered from {recovery_point}");
    }
}

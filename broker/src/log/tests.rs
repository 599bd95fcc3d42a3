//! What retention and compaction must not do to a log, whatever goes wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::partition::Health;
use super::*;
use crate::config::TopicConfig;
use crate::wire::batch::BatchHeader;
use crate::wire::records::BatchBuilder;

fn open(dir: &Path, settings: &[(&str, &str)]) -> Arc<Partition> {
    let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let setup = LogSetup {
        fs: Arc::new(StdFs),
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

//! The broker without sockets, as an adapter in the same process uses it.

use std::collections::BTreeMap;
use std::time::Duration;

use towline_broker::{
    Acks, CommitRequest, ConfigSource, FetchFrom, FetchLimits, GroupPhase, LogOffsets, NewTopic, OffsetCommit,
    ResponseError,
};

use crate::client::{batch, start};

fn topic(name: &str) -> NewTopic {
    NewTopic { name: name.to_owned(), partitions: 1, replication_factor: 1, ..NewTopic::default() }
}

#[tokio::test]
async fn topics_grow_and_their_settings_change() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[("log.retention.ms", "5000")]).await;
    let handle = broker.handle();
    handle.create_topic(topic("t"), false).await.unwrap();
    handle.create_partitions("t", 3, true).await.unwrap();
    assert!(handle.topics().contains(&("t".to_owned(), 1)));
    handle.create_partitions("t", 3, false).await.unwrap();
    assert!(handle.topics().contains(&("t".to_owned(), 3)));
    assert_eq!(handle.create_partitions("t", 2, false).await.unwrap_err().0, ResponseError::InvalidPartitions);
    let retention = || {
        let all = handle.describe_topic_configs("t").unwrap();
        let found = all.into_iter().find(|e| e.name == "retention.ms").unwrap();
        (found.value, found.source, found.synonyms.len())
    };
    assert_eq!(retention(), ("5000".to_owned(), ConfigSource::StaticBroker, 2));
    let set = |value: Option<&str>| BTreeMap::from([("retention.ms".to_owned(), value.map(str::to_owned))]);
    handle.alter_topic_configs("t", set(Some("7000")), false).await.unwrap();
    assert_eq!(retention(), ("7000".to_owned(), ConfigSource::Topic, 3));
    let refused = handle.alter_topic_configs("t", set(Some("long")), false).await.unwrap_err();
    assert_eq!(refused.0, ResponseError::InvalidConfig);
    handle.alter_topic_configs("t", set(None), false).await.unwrap();
    assert_eq!(retention().0, "5000");
    assert_eq!(handle.describe_topic_configs("none").unwrap_err(), ResponseError::UnknownTopicOrPartition);
}

#[tokio::test]
async fn records_go_in_and_out_as_batches() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let handle = broker.handle();
    handle.create_topic(topic("t"), false).await.unwrap();
    let sent = batch(&["a", "b"]);
    let stored = handle.append("t", 0, sent.clone(), Acks::All).unwrap().done().await.unwrap();
    assert_eq!((stored.base_offset, stored.last_offset), (0, 1));
    assert_eq!(handle.log_offsets("t", 0), Ok(LogOffsets { start: 0, end: 2, last_stable: 2, durable: 2 }));
    assert_eq!(handle.log_offsets("t", 1).unwrap_err(), ResponseError::UnknownTopicOrPartition);
    let from = FetchFrom { topic: "t".to_owned(), partition: 0, offset: 0, max_bytes: 1 << 20 };
    let limits = FetchLimits { max_bytes: 1 << 20, min_bytes: 1, max_wait: Duration::ZERO };
    let fetched = handle.fetch(&[from], limits).await.remove(0).unwrap();
    assert_eq!(fetched.records[16..], sent[16..], "all but offset and epoch are the producer's bytes");
    let (first, second) = (handle.init_producer_id().await.unwrap(), handle.init_producer_id().await.unwrap());
    assert!(second > first);
    let handle = handle.clone();
    broker.shutdown().await.unwrap();
    assert!(handle.append("t", 0, sent, Acks::All).is_err());
    assert!(handle.create_topic(topic("late"), false).await.is_err());
}

#[tokio::test]
async fn readers_see_what_is_on_disk_and_wake_when_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let handle = broker.handle();
    handle.create_topic(topic("t"), false).await.unwrap();
    let fetch = async |offset, wait| {
        let from = FetchFrom { topic: "t".to_owned(), partition: 0, offset, max_bytes: 1 << 20 };
        let limits = FetchLimits { max_bytes: 1 << 20, min_bytes: 1, max_wait: Duration::from_millis(wait) };
        handle.fetch(&[from], limits).await.remove(0)
    };
    for (i, acks) in [Acks::None, Acks::Leader, Acks::All].into_iter().enumerate() {
        let offset = i as i64;
        let reader = fetch(offset, 60_000);
        let (read, _) = tokio::join!(reader, async {
            let stored = handle.append("t", 0, batch(&["value"]), acks).unwrap();
            let at_the_end = fetch(offset + 1, 0).await.unwrap();
            assert!(at_the_end.records.is_empty() && at_the_end.high_watermark <= offset + 1);
            stored.done().await.unwrap()
        });
        let read = read.unwrap();
        assert_eq!((read.records.is_empty(), read.next_offset, read.high_watermark), (false, offset + 1, offset + 1));
        assert!(handle.log_offsets("t", 0).unwrap().durable > offset);
    }
    assert_eq!(fetch(4, 0).await.unwrap_err(), ResponseError::OffsetOutOfRange);
}

#[tokio::test]
async fn groups_are_shown_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let handle = broker.handle();
    handle.create_topic(NewTopic { partitions: 2, ..topic("t") }, false).await.unwrap();
    let commit = |partition| OffsetCommit {
        topic: "t".to_owned(),
        partition,
        offset: 5,
        leader_epoch: -1,
        metadata: String::new(),
        error: None,
    };
    let offsets = vec![commit(0), commit(1)];
    let request = CommitRequest { group_id: "g".to_owned(), generation: -1, offsets, ..CommitRequest::default() };
    assert!(handle.commit_offsets(request).await.offsets.iter().all(|o| o.error.is_none()));
    let listed: Vec<_> = handle.list_groups().into_iter().map(|g| (g.id, g.phase)).collect();
    assert_eq!(listed, [("g".to_owned(), GroupPhase::Empty)]);
    assert!(handle.describe_group("g").unwrap().members.is_empty() && handle.describe_group("none").is_none());
    let places = [("t".to_owned(), 0), ("none".to_owned(), 0)];
    let deleted = handle.delete_group_offsets("g", &places).await.unwrap();
    assert_eq!(deleted, [Ok(()), Err(ResponseError::UnknownTopicOrPartition)]);
    assert_eq!(handle.committed_offsets("g").into_keys().collect::<Vec<_>>(), [("t".to_owned(), 1)]);
    handle.delete_group("g").await.unwrap();
    assert_eq!(handle.delete_group("g").await, Err(ResponseError::GroupIdNotFound));
    assert!(handle.list_groups().is_empty() && handle.committed_offsets("g").is_empty());
}

//! What the data directory must survive: crashes, torn and damaged tails, a second process, another cluster.

use std::fs::OpenOptions;
use std::io::Write;

use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{DeleteTopicsRequest, OffsetForLeaderEpochRequest};
use towline_broker::{Broker, BrokerConfig, Error};

use crate::client::{Client, name, start};

#[tokio::test]
async fn a_torn_tail_is_cut_and_the_epoch_tells() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    client.produce_values("t", &["a", "b"]).await;
    client.produce_values("t", &["c"]).await;
    drop(broker);
    let log = dir.path().join("t-0/00000000000000000000.log");
    let whole = std::fs::read(&log).unwrap();
    OpenOptions::new().append(true).open(&log).unwrap().write_all(&whole[..40]).unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(std::fs::metadata(&log).unwrap().len(), whole.len() as u64);
    assert_eq!(client.read("t", 0).await.len(), 3);
    assert_eq!(client.produce_values("t", &["d"]).await, 3);
    let asked = OffsetForLeaderPartition::default().with_leader_epoch(0).with_current_leader_epoch(-1);
    let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![asked]);
    let answer = client.call(OffsetForLeaderEpochRequest::default().with_topics(vec![topic]), 4).await;
    let found = &answer.topics[0].partitions[0];
    assert_eq!((found.error_code, found.leader_epoch, found.end_offset), (0, 0, 3));
}

#[tokio::test]
async fn a_damaged_batch_ends_the_log_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    client.produce_values("t", &["a"]).await;
    client.produce_values("t", &["b"]).await;
    client.produce_values("t", &["c"]).await;
    drop(broker);
    let log = dir.path().join("t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&log, bytes).unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.read("t", 0).await.len(), 1);
    assert_eq!(client.produce_values("t", &["again"]).await, 1);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn many_segments_survive_a_clean_stop_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[("segment.bytes", "1000"), ("index.interval.bytes", "0")]).await;
    let value = "x".repeat(200);
    for i in 0..40 {
        assert_eq!(client.produce_values("t", &[&value, &i.to_string()]).await, i * 2);
    }
    for clean in [true, false, true] {
        if clean {
            broker.shutdown().await.unwrap();
        } else {
            drop(broker);
        }
        broker = start(dir.path(), &[]).await;
        client = Client::connect(&broker).await;
        for from in [0, 1, 39, 79] {
            let read = client.read("t", from).await;
            assert_eq!((read.len() as i64, read[0].0), (80 - from, from));
        }
    }
    let logs = std::fs::read_dir(dir.path().join("t-0"))
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "log"));
    assert!(logs.count() > 8);
}

#[tokio::test]
async fn a_topic_made_anew_does_not_inherit_the_offsets_of_the_deleted_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    client.produce_values("t", &["a", "b", "c"]).await;
    broker.handle().delete_records("t", 0, 3).await.unwrap();
    // A clean stop writes the checkpoints.
    broker.shutdown().await.unwrap();
    broker = start(dir.path(), &[]).await;
    client = Client::connect(&broker).await;
    assert!(client.read("t", 3).await.is_empty());
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![name("t")]).with_timeout_ms(1000);
    assert_eq!(client.call(delete, 5).await.responses[0].error_code, 0);
    client.create("t", 1, &[]).await;
    assert_eq!(client.produce_values("t", &["new"]).await, 0);
    drop(broker);
    broker = start(dir.path(), &[]).await;
    client = Client::connect(&broker).await;
    assert_eq!(client.read("t", 0).await.len(), 1);
    assert_eq!(client.produce_values("t", &["next"]).await, 1);
}

#[tokio::test]
async fn a_topic_made_anew_does_not_open_the_folder_that_a_crash_in_its_deletion_left() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    client.produce_values("t", &["stale"]).await;
    broker.shutdown().await.unwrap();
    // The deletion is committed first, and the folder renamed after that.
    let file = dir.path().join("towline-metadata.json");
    let mut metadata: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    metadata["topics"].as_object_mut().unwrap().remove("t").unwrap();
    std::fs::write(&file, metadata.to_string()).unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    assert!(client.read("t", 0).await.is_empty());
    assert_eq!(client.produce_values("t", &["new"]).await, 0);
    drop(broker);
    let broker = start(dir.path(), &[]).await;
    assert_eq!(Client::connect(&broker).await.read("t", 0).await.len(), 1);
    let left = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().starts_with("t-0")).count(), 1);
}

#[tokio::test]
async fn a_start_that_cannot_work_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let config = |dir: &std::path::Path| {
        let mut config = BrokerConfig::new(dir);
        config.listeners[0].port = 0;
        config
    };
    assert!(matches!(Broker::start(config(dir.path())).await, Err(Error::Locked { .. })));
    let other = tempfile::tempdir().unwrap();
    let mut taken = config(other.path());
    taken.listeners[0].port = broker.local_addrs()[0].port();
    assert!(matches!(Broker::start(taken).await, Err(Error::PortTaken { .. })));
    broker.shutdown().await.unwrap();
    let mut foreign = config(dir.path());
    foreign.cluster_id = Some("another".to_owned());
    assert!(matches!(Broker::start(foreign).await, Err(Error::ClusterId { .. })));
    let file = other.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(Broker::start(config(&file.join("below"))).await, Err(Error::Storage { .. })));
}

//! Transactions without sockets, as a worker in the same process uses them.

use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::records::RecordBatchDecoder;
use towline_broker::{
    Acks, BatchBuilder, CommitRequest, FetchFrom, FetchLimits, Handle, NewTopic, OffsetCommit, ResponseError,
    TransactionState,
};

use crate::client::{batch, now, start};

fn transactional(producer: (i64, i16), sequence: i32, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(now()).producer(producer.0, producer.1, sequence).transactional();
    for value in values {
        builder.push(now(), None, Some(value.as_bytes()));
    }
    builder.build()
}

async fn committed(handle: &Handle, max_bytes: usize) -> Vec<String> {
    let (mut offset, mut values) = (0, Vec::new());
    loop {
        let from = FetchFrom { topic: "t".to_owned(), partition: 0, offset, max_bytes };
        let limits = FetchLimits { max_bytes, min_bytes: 1, max_wait: Duration::ZERO };
        let found = handle.fetch_committed(&[from], limits).await.remove(0).unwrap();
        if found.next_offset == offset {
            return values;
        }
        offset = found.next_offset;
        let mut records = found.records;
        while records.has_remaining() {
            let decoded = RecordBatchDecoder::decode(&mut records).unwrap();
            values.extend(decoded.records.into_iter().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()));
        }
    }
}

#[tokio::test]
async fn a_reader_in_the_process_gets_committed_data_only() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let handle = broker.handle();
    handle
        .create_topic(
            NewTopic { name: "t".to_owned(), partitions: 1, replication_factor: 1, ..NewTopic::default() },
            false,
        )
        .await
        .unwrap();
    let producer = handle.init_transactional_producer("id", 60_000).await.unwrap();
    let (id, epoch) = producer;
    let mut expected = Vec::new();
    for round in 0..6 {
        let commit = round % 3 != 1;
        handle.add_partitions_to_transaction("id", id, epoch, [("t", 0)]).unwrap();
        let values = [format!("{round} a"), format!("{round} b")];
        // Not awaited: the end makes it durable.
        handle.append("t", 0, transactional(producer, round * 2, &[&values[0]]), Acks::None).unwrap();
        handle.append("t", 0, batch(&["between"]), Acks::None).unwrap();
        handle.append("t", 0, transactional(producer, round * 2 + 1, &[&values[1]]), Acks::None).unwrap();
        handle.end_transaction("id", id, epoch, commit).await.unwrap();
        let plain = "between".to_owned();
        expected.extend(if commit { vec![values[0].clone(), plain, values[1].clone()] } else { vec![plain] });
        assert_eq!(committed(handle, 1 << 20).await, expected, "what ended is visible");
    }
    assert_eq!(committed(handle, 1).await, expected, "also batch by batch");
    let offsets = handle.log_offsets("t", 0).unwrap();
    assert_eq!((offsets.end, offsets.last_stable, offsets.durable), (24, 24, 24));
}

#[tokio::test]
async fn offsets_of_a_group_join_the_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let handle = broker.handle();
    handle
        .create_topic(
            NewTopic { name: "t".to_owned(), partitions: 1, replication_factor: 1, ..NewTopic::default() },
            false,
        )
        .await
        .unwrap();
    let (id, epoch) = handle.init_transactional_producer("id", 60_000).await.unwrap();
    let request = |offset| CommitRequest {
        group_id: "g".to_owned(),
        generation: -1,
        offsets: vec![OffsetCommit {
            topic: "t".to_owned(),
            partition: 0,
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            error: None,
        }],
        ..CommitRequest::default()
    };
    for (offset, commit, seen) in [(3, true, 3), (4, false, 3)] {
        let answer = handle.commit_offsets_in_transaction("id", id, epoch, request(offset)).await;
        assert_eq!(answer.offsets[0].error, None);
        handle.end_transaction("id", id, epoch, commit).await.unwrap();
        assert_eq!(handle.committed_offsets("g")[&("t".to_owned(), 0)].offset, seen);
    }
    handle.init_transactional_producer("id", 60_000).await.unwrap();
    let fenced = handle.commit_offsets_in_transaction("id", id, epoch, request(5)).await;
    assert_eq!(fenced.offsets[0].error, Some(ResponseError::ProducerFenced));
}

#[tokio::test]
async fn a_second_producer_waits_until_the_first_ones_transaction_is_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let handle = broker.handle();
    handle
        .create_topic(
            NewTopic { name: "t".to_owned(), partitions: 1, replication_factor: 1, ..NewTopic::default() },
            false,
        )
        .await
        .unwrap();
    let old = handle.init_transactional_producer("id", 60_000).await.unwrap();
    handle.add_partitions_to_transaction("id", old.0, old.1, [("t", 0)]).unwrap();
    handle.append("t", 0, transactional(old, 0, &["left open"]), Acks::All).unwrap().done().await.unwrap();
    assert_eq!(handle.describe_transaction("id").unwrap().state, TransactionState::Ongoing);
    // Both are served, one after the other; the later one stays.
    let (one, two) = tokio::join!(
        handle.init_transactional_producer("id", 60_000),
        handle.init_transactional_producer("id", 60_000)
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.1 != two.1 && one.1.min(two.1) > old.1);
    let marks = handle.log_offsets("t", 0).unwrap();
    assert_eq!((marks.last_stable, committed(handle, 1 << 20).await.len()), (2, 0));
    let late = handle.append("t", 0, transactional(old, 1, &["late"]), Acks::All).unwrap_err();
    assert_eq!(late.error, ResponseError::InvalidProducerEpoch);
    assert_eq!(handle.end_transaction("id", old.0, old.1, true).await, Err(ResponseError::ProducerFenced));
    let unknown = handle.add_partitions_to_transaction("id", old.0, old.1, [("none", 0)]);
    assert_eq!(unknown, Err(ResponseError::UnknownTopicOrPartition));
}

//! Offsets that are committed in a transaction.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, GroupId, OffsetFetchRequest, ProducerId, TxnOffsetCommitRequest,
};

use super::producer::TestProducer;
use crate::client::{Client, name, start, string};

async fn add_offsets(producer: &mut TestProducer) -> i16 {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(producer.transactional_id.clone())
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_group_id(GroupId(string("g")));
    producer.client.call(request, 3).await.error_code
}

async fn commit(producer: &mut TestProducer, offset: i64, generation: i32) -> i16 {
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(string("meta")));
    let topic = TxnOffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(producer.transactional_id.clone())
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_group_id(GroupId(string("g")))
        .with_generation_id(generation)
        .with_topics(vec![topic]);
    producer.client.call(request, 3).await.topics[0].partitions[0].error_code
}

/// The committed offset, and the error when only a stable one is wanted.
async fn fetch(client: &mut Client) -> (i64, i16) {
    let topic = OffsetFetchRequestTopic::default().with_name(name("t")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(GroupId(string("g"))).with_topics(Some(vec![topic]));
    let plain = client.call(request.clone(), 7).await.topics[0].partitions[0].clone();
    assert_eq!(plain.error_code, 0);
    let stable = client.call(request.with_require_stable(true), 7).await.topics[0].partitions[0].clone();
    (plain.committed_offset, stable.error_code)
}

#[tokio::test]
async fn offsets_count_once_their_transaction_is_committed_across_restarts() {
    let unstable = ResponseError::UnstableOffsetCommit.code();
    let dir = tempfile::tempdir().unwrap();
    let mut broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    let mut producer = TestProducer::init(Client::connect(&broker).await, "id").await;
    assert_eq!(commit(&mut producer, 1, -1).await, ResponseError::InvalidTxnState.code());
    let mut expected = -1;
    for (offset, commits, clean) in [(5, true, true), (9, false, true), (7, true, false), (8, false, false)] {
        assert_eq!(add_offsets(&mut producer).await, 0);
        assert_eq!(commit(&mut producer, offset, -1).await, 0);
        assert_eq!(fetch(&mut client).await, (expected, unstable));
        if clean {
            broker.shutdown().await.unwrap();
        } else {
            drop(broker);
        }
        broker = start(dir.path(), &[]).await;
        client = Client::connect(&broker).await;
        producer.client = Client::connect(&broker).await;
        assert_eq!(fetch(&mut client).await, (expected, unstable));
        producer.end(commits).await;
        expected = if commits { offset } else { expected };
        assert_eq!(fetch(&mut client).await, (expected, 0));
    }
    drop(broker);
    broker = start(dir.path(), &[]).await;
    assert_eq!(fetch(&mut Client::connect(&broker).await).await, (7, 0));
    let committed = broker.handle().committed_offsets("g").remove(&("t".to_owned(), 0)).unwrap();
    assert_eq!((committed.metadata.as_str(), committed.leader_epoch), ("meta", -1));
}

#[tokio::test]
async fn a_commit_of_a_stranger_to_the_group_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    Client::connect(&broker).await.create("t", 1, &[]).await;
    let mut producer = TestProducer::init(Client::connect(&broker).await, "id").await;
    assert_eq!(add_offsets(&mut producer).await, 0);
    assert_eq!(commit(&mut producer, 5, 3).await, ResponseError::IllegalGeneration.code());
    assert_eq!(commit(&mut producer, 5, -1).await, 0);
    producer.end(true).await;
    assert_eq!(add_offsets(&mut producer).await, 0);
    assert_eq!(commit(&mut producer, 6, 3).await, ResponseError::UnknownMemberId.code());
    producer.epoch -= 1;
    assert_eq!(add_offsets(&mut producer).await, ResponseError::ProducerFenced.code());
    assert_eq!(commit(&mut producer, 6, -1).await, ResponseError::InvalidProducerEpoch.code());
}

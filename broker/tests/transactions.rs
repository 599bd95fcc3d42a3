//! Transactions over the wire and on the handle: commit, abort, isolation, fencing, timeouts, offsets, restarts.

mod crash;
mod handle;
mod offsets;
mod producer;
mod restart;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, FindCoordinatorRequest, ListOffsetsRequest,
    ListTransactionsRequest, ProducerId, TransactionalId,
};

use crate::client::{Client, batch, name, start, string, until};
use producer::{TestProducer, committed, uncommitted};

#[tokio::test]
async fn committed_data_is_seen_and_aborted_data_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 2, &[]).await;
    let mut producer = TestProducer::init(Client::connect(&broker).await, "id").await;
    for (value, commit) in [("kept", true), ("dropped", false)] {
        producer.add("t", &[0, 1]).await;
        for partition in [0, 1] {
            producer.produce("t", partition, value).await;
        }
        assert_eq!(committed(&mut client, "t", 0).await.0.len(), usize::from(!commit));
        producer.end(commit).await;
    }
    producer.add("t", &[0]).await;
    producer.produce("t", 0, "open").await;
    // Offsets: kept 0, marker 1, dropped 2, marker 3, open 4.
    assert_eq!(uncommitted(&mut client, "t", 0).await, ["kept", "dropped", "open"]);
    let (values, aborted, last_stable) = committed(&mut client, "t", 0).await;
    assert_eq!((values, aborted, last_stable), (vec!["kept".to_owned()], vec![(producer.id, 2)], 4));
    assert_eq!(committed(&mut client, "t", 1).await.2, 4);
    for (level, offset) in [(0, 5), (1, 4)] {
        let asked = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
        let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_isolation_level(level).with_topics(vec![topic]);
        assert_eq!(client.call(request, 7).await.topics[0].partitions[0].offset, offset);
    }
    producer.end(true).await;
    assert_eq!(committed(&mut client, "t", 0).await.0, ["kept", "open"]);
    // A read that begins after the aborted records need not know of them.
    let after = client.call(producer::fetch_committed("t", 0, 4, 0), 12).await;
    assert_eq!(after.responses[0].partitions[0].aborted_transactions.as_deref().map(<[_]>::len), Some(0));
}

#[tokio::test]
async fn a_reader_that_waits_wakes_at_the_marker() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    let mut producer = TestProducer::init(Client::connect(&broker).await, "id").await;
    producer.add("t", &[0]).await;
    producer.produce("t", 0, "value").await;
    let began = tokio::time::Instant::now();
    client.send(&producer::fetch_committed("t", 0, 0, 60_000), 12).await;
    producer.end(true).await;
    let answer = client.receive::<kafka_protocol::messages::FetchRequest>(12).await.1;
    assert!(!answer.responses[0].partitions[0].records.clone().unwrap_or_default().is_empty());
    assert!(began.elapsed().as_secs() < 30);
}

#[tokio::test]
async fn a_new_producer_fences_the_old_one_and_aborts_what_it_left() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    let mut old = TestProducer::init(Client::connect(&broker).await, "id").await;
    old.add("t", &[0]).await;
    old.produce("t", 0, "old").await;
    let mut new = TestProducer::init(Client::connect(&broker).await, "id").await;
    assert_eq!((new.id, new.epoch > old.epoch), (old.id, true));
    assert_eq!(old.try_produce("t", 0, "late", 9).await, ResponseError::InvalidProducerEpoch.code());
    assert_eq!(old.try_add("t", &[0]).await, ResponseError::ProducerFenced.code());
    assert_eq!(old.try_end(true, 3).await, ResponseError::ProducerFenced.code());
    assert_eq!(old.try_end(true, 1).await, ResponseError::InvalidProducerEpoch.code());
    assert_eq!(old.try_init(Some((old.id, old.epoch)), 60_000).await.0, ResponseError::ProducerFenced.code());
    new.add("t", &[0]).await;
    new.produce("t", 0, "new").await;
    new.end(true).await;
    assert_eq!(committed(&mut client, "t", 0).await.0, ["new"]);
    // A producer that says who it is bumps its epoch and goes on from sequence 0 (KIP-360).
    let (error, id, epoch) = new.try_init(Some((new.id, new.epoch)), 60_000).await;
    assert_eq!((error, id, epoch), (0, new.id, new.epoch + 1));
    for (known, timeout, error) in [
        (Some((new.id, -1)), 60_000, ResponseError::InvalidRequest),
        (None, 0, ResponseError::InvalidTransactionTimeout),
        (None, 900_001, ResponseError::InvalidTransactionTimeout),
    ] {
        assert_eq!(new.try_init(known, timeout).await.0, error.code());
    }
}

#[tokio::test]
async fn what_does_not_belong_to_a_transaction_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 2, &[]).await;
    let mut producer = TestProducer::init(Client::connect(&broker).await, "id").await;
    let invalid = ResponseError::InvalidTxnState.code();
    assert_eq!(producer.try_produce("t", 0, "not added", 9).await, invalid);
    assert_eq!(producer.try_produce("t", 0, "not added", 11).await, ResponseError::TransactionAbortable.code());
    assert_eq!(producer.try_end(true, 3).await, invalid);
    assert_eq!(producer.try_add("none", &[0]).await, ResponseError::UnknownTopicOrPartition.code());
    producer.add("t", &[0]).await;
    assert_eq!(producer.try_produce("t", 1, "not added", 9).await, invalid);
    producer.produce("t", 0, "in").await;
    let plain = producer.batch("t", 0, "plain", false);
    assert_eq!(client.produce("t", plain).await.error_code, invalid);
    let stolen = producer.batch("t", 0, "without its id", true);
    assert_eq!(client.produce("t", stolen).await.error_code, ResponseError::TransactionalIdAuthorizationFailed.code());
    assert_eq!(client.produce("t", batch(&["another's"])).await.error_code, 0);
    producer.end(true).await;
    assert_eq!((producer.try_end(true, 3).await, producer.try_end(false, 3).await), (0, invalid));
    let mut other = TestProducer::init(Client::connect(&broker).await, "other").await;
    (other.id, other.epoch) = (producer.id, producer.epoch);
    assert_eq!(other.try_add("t", &[0]).await, ResponseError::InvalidProducerIdMapping.code());
    assert_eq!(other.try_produce("t", 0, "x", 9).await, ResponseError::InvalidProducerIdMapping.code());
    assert_eq!(committed(&mut client, "t", 0).await.0, ["in", "another's"]);
}

#[tokio::test]
async fn a_transaction_that_lasts_too_long_is_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("transaction.abort.timed.out.transaction.cleanup.interval.ms", "10")];
    let broker = start(dir.path(), &settings).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    let mut producer = TestProducer::init_with(Client::connect(&broker).await, "id", 50).await;
    producer.add("t", &[0]).await;
    producer.produce("t", 0, "late").await;
    let handle = broker.handle();
    until(|| async { handle.describe_transaction("id").unwrap().state.name() == "CompleteAbort" }).await;
    assert_eq!(producer.try_end(true, 3).await, ResponseError::ProducerFenced.code());
    let (values, aborted, last_stable) = committed(&mut client, "t", 0).await;
    assert_eq!((values.len(), aborted, last_stable), (0, vec![(producer.id, 0)], 2));
}

#[tokio::test]
async fn unused_transactional_ids_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        [("transactional.id.expiration.ms", "1"), ("transaction.remove.expired.transaction.cleanup.interval.ms", "10")];
    let broker = start(dir.path(), &settings).await;
    TestProducer::init(Client::connect(&broker).await, "id").await;
    until(|| async { broker.handle().list_transactions().is_empty() }).await;
    drop(broker);
    let broker = start(dir.path(), &[]).await;
    assert!(broker.handle().list_transactions().is_empty());
}

#[tokio::test]
async fn admin_requests_show_transactions_and_producers() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    let mut producer = TestProducer::init(Client::connect(&broker).await, "id").await;
    producer.add("t", &[0]).await;
    producer.produce("t", 0, "value").await;
    let found = client.call(FindCoordinatorRequest::default().with_key(string("id")).with_key_type(1), 2).await;
    assert_eq!((found.error_code, found.port), (0, i32::from(broker.local_addrs()[0].port())));
    let ids = ["id", "none", ""].map(|id| TransactionalId(string(id))).to_vec();
    let described = client.call(DescribeTransactionsRequest::default().with_transactional_ids(ids), 0).await;
    let [found, none, empty] = described.transaction_states.as_slice() else { panic!("three were asked for") };
    assert_eq!((found.error_code, &*found.transaction_state), (0, "Ongoing"));
    assert_eq!(
        (found.producer_id.0, found.producer_epoch, found.topics[0].partitions.as_slice()),
        (producer.id, 0, &[0][..])
    );
    assert_eq!(none.error_code, ResponseError::TransactionalIdNotFound.code());
    assert_eq!(empty.error_code, ResponseError::InvalidRequest.code());
    for (filter, count) in [("Ongoing", 1), ("Empty", 0), ("Unheard", 0)] {
        let request = ListTransactionsRequest::default().with_state_filters(vec![string(filter)]);
        let listed = client.call(request.with_duration_filter(-1), 1).await;
        assert_eq!(
            (listed.transaction_states.len(), listed.unknown_state_filters.len()),
            (count, usize::from(filter == "Unheard"))
        );
    }
    let other = ListTransactionsRequest::default().with_producer_id_filters(vec![ProducerId(producer.id + 1)]);
    assert!(client.call(other.with_duration_filter(-1), 1).await.transaction_states.is_empty());
    let long = ListTransactionsRequest::default().with_duration_filter(3_600_000);
    assert!(client.call(long, 1).await.transaction_states.is_empty());
    let topic = TopicRequest::default().with_name(name("t")).with_partition_indexes(vec![0]);
    let describe = DescribeProducersRequest::default().with_topics(vec![topic]);
    let open = client.call(describe.clone(), 0).await.topics[0].partitions[0].active_producers[0].clone();
    assert_eq!((open.producer_id.0, open.current_txn_start_offset, open.coordinator_epoch), (producer.id, 0, -1));
    producer.end(false).await;
    let ended = client.call(describe, 0).await.topics[0].partitions[0].active_producers[0].clone();
    assert_eq!((ended.current_txn_start_offset, ended.coordinator_epoch, ended.last_sequence), (-1, 0, 0));
}

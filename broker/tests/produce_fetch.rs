//! Produce, Fetch, ListOffsets: offsets, long polling, order, refusals.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ApiVersionsRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest};
use towline_broker::BatchBuilder;

use crate::client::{Client, batch, name, now, produce_request, start, string};

#[tokio::test]
async fn what_is_produced_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.create("t", 1, &[]).await, 0);
    assert_eq!(client.produce_values("t", &["a", "b"]).await, 0);
    assert_eq!(client.produce_values("t", &["c"]).await, 2);
    let read = client.read("t", 1).await;
    assert_eq!(read.iter().map(|r| (r.0, r.2.as_deref().unwrap())).collect::<Vec<_>>(), [(1, "b"), (2, "c")]);
    let past = client.fetch("t", 4, 0).await;
    assert_eq!(past.error_code, ResponseError::OffsetOutOfRange.code());
    assert_eq!(client.fetch("nowhere", 0, 0).await.error_code, ResponseError::UnknownTopicOrPartition.code());
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_parked_fetch_wakes_when_records_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let (mut reader, mut writer) = (Client::connect(&broker).await, Client::connect(&broker).await);
    writer.create("t", 1, &[]).await;
    let began = std::time::Instant::now();
    let parked = tokio::spawn(async move { reader.fetch("t", 0, 30_000).await });
    writer.produce_values("t", &["x"]).await;
    let found = parked.await.unwrap();
    assert_eq!((found.error_code, found.high_watermark), (0, 1));
    assert!(!found.records.unwrap().is_empty() && began.elapsed().as_secs() < 10);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    for _ in 0..20 {
        client.send(&produce_request("t", batch(&["v"]), -1), 9).await;
    }
    let mut ids = Vec::new();
    for i in 0..20 {
        let (id, response) = client.receive::<ProduceRequest>(9).await;
        assert_eq!(response.responses[0].partition_responses[0].base_offset, i);
        ids.push(id);
    }
    assert!(ids.is_sorted());
}

#[tokio::test]
async fn bad_batches_are_refused_and_leave_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[("max.message.bytes", "200")]).await;
    client.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let mut broken = batch(&["v"]).to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let refused = async |client: &mut Client, topic: &str, bytes: Bytes| client.produce(topic, bytes).await.error_code;
    assert_eq!(refused(&mut client, "t", broken.into()).await, ResponseError::CorruptMessage.code());
    assert_eq!(refused(&mut client, "t", Bytes::new()).await, ResponseError::InvalidRecord.code());
    let two = [batch(&["v"]), batch(&["w"])].concat();
    assert_eq!(refused(&mut client, "t", two.into()).await, ResponseError::InvalidRecord.code());
    let large = "x".repeat(300);
    assert_eq!(refused(&mut client, "t", batch(&[&large])).await, ResponseError::MessageTooLarge.code());
    assert_eq!(
        refused(&mut client, "__consumer_offsets", batch(&["v"])).await,
        ResponseError::InvalidTopicException.code()
    );
    let mut keyless = BatchBuilder::new(now());
    keyless.push(now(), None, Some(b"v"));
    let answer = client.produce("compacted", keyless.build()).await;
    assert_eq!(answer.error_code, ResponseError::InvalidRecord.code());
    assert_eq!(answer.record_errors[0].batch_index, 0);
    assert_eq!(client.produce_values("t", &["good"]).await, 0);
}

#[tokio::test]
async fn an_idempotent_producer_gets_the_original_offset_for_a_duplicate() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    let id = client
        .call(InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1000), 4)
        .await
        .producer_id
        .0;
    let numbered = |sequence: i32| {
        let mut builder = BatchBuilder::new(now()).producer(id, 0, sequence);
        builder.push(now(), None, Some(b"v"));
        builder.push(now(), None, Some(b"w"));
        builder.build()
    };
    for (sequence, offset) in [(0, 0), (2, 2), (0, 0), (2, 2), (4, 4)] {
        let answer = client.produce("t", numbered(sequence)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, offset), "sequence {sequence}");
    }
    let gap = client.produce("t", numbered(9)).await;
    assert_eq!((gap.error_code, gap.base_offset), (ResponseError::OutOfOrderSequenceNumber.code(), -1));
    // A clean stop keeps the last batch in a snapshot, a crash leaves all of them to be read back from the log.
    for clean in [true, false] {
        if clean {
            broker.shutdown().await.unwrap();
        } else {
            drop(broker);
        }
        broker = start(dir.path(), &[]).await;
        client = Client::connect(&broker).await;
        let answer = client.produce("t", numbered(4)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, 4));
        assert_eq!(client.produce("t", numbered(8)).await.error_code, ResponseError::OutOfOrderSequenceNumber.code());
    }
    let other = client
        .call(InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1000), 4)
        .await
        .producer_id
        .0;
    assert!(other > id);
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    let base = now() - 10_000;
    for (at, len) in [(0, 1), (100, 2), (50, 1), (300, 1)] {
        let mut builder = BatchBuilder::new(base + at);
        for i in 0..len {
            builder.push(base + at + i * 10, None, Some(b"v"));
        }
        client.produce("t", builder.build()).await;
    }
    let mut find = async |timestamp: i64| {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let answer = client.call(ListOffsetsRequest::default().with_topics(vec![topic]), 7).await;
        let found = &answer.topics[0].partitions[0];
        (found.error_code, found.offset, found.timestamp)
    };
    assert_eq!(find(-1).await, (0, 5, -1));
    assert_eq!(find(-2).await, (0, 0, -1));
    assert_eq!(find(-3).await, (0, 4, base + 300));
    assert_eq!(find(base + 105).await, (0, 2, base + 110));
    assert_eq!(find(base + 200).await, (0, 4, base + 300));
    assert_eq!(find(base + 301).await, (0, -1, -1));
    assert_eq!(find(-9).await.0, ResponseError::UnsupportedVersion.code());
}

#[tokio::test]
async fn garbage_closes_the_connection_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    for garbage in
        [&[0xff, 0xff, 0xff, 0xff][..], &[0x7f, 0, 0, 0], &[0, 0, 0, 9, 0, 3, 0, 99, 0, 0, 0, 1, 0], &[0, 0, 0, 1, 1]]
    {
        let mut client = Client::connect(&broker).await;
        client.raw(garbage).await;
        assert!(client.frame().await.is_none());
    }
    let lying_array = [0, 0, 0, 14, 0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff];
    let mut client = Client::connect(&broker).await;
    client.raw(&lying_array).await;
    assert!(client.frame().await.is_none());
    // An unknown version of ApiVersions is answered in version 0.
    let mut client = Client::connect(&broker).await;
    client.raw(&[0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff]).await;
    let frame = client.frame().await.unwrap();
    assert_eq!(&frame[..6], &[0, 0, 0, 7, 0, 35]);
    let asks =
        ApiVersionsRequest::default().with_client_software_name(string("t")).with_client_software_version(string("1"));
    let served = client.call(asks, 3).await;
    assert!(served.error_code == 0 && served.api_keys.iter().any(|k| k.api_key == 0 && k.min_version == 0));
}

#[tokio::test]
async fn a_topic_may_stamp_times_and_recompress() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[("message.timestamp.type", "LogAppendTime"), ("compression.type", "gzip")]).await;
    let mut builder = BatchBuilder::new(5);
    builder.push(5, Some(b"k"), Some(b"v"));
    let answer = client.produce("t", builder.build()).await;
    assert!(answer.error_code == 0 && answer.log_append_time_ms > 1_000_000);
    let stored = client.fetch("t", 0, 0).await.records.unwrap();
    assert_eq!(stored[22] & 0b1111, 0b1001);
    assert_eq!(&stored[61..63], &[0x1f, 0x8b], "a gzip member");
}

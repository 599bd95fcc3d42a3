//! Topics: metadata, creation rules, settings, retention, compaction, deletion of records.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeConfigsRequest, MetadataRequest, MetadataResponse,
};
use towline_broker::BatchBuilder;

use crate::client::{Client, name, now, start, string, until};

async fn metadata(client: &mut Client, topic: &str, create: bool) -> MetadataResponse {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    client
        .call(MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(create), 12)
        .await
}

#[tokio::test]
async fn metadata_creates_topics_if_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[("num.partitions", "3")]).await;
    let mut client = Client::connect(&broker).await;
    let refused = metadata(&mut client, "auto", false).await;
    assert_eq!(refused.topics[0].error_code, ResponseError::UnknownTopicOrPartition.code());
    let created = metadata(&mut client, "auto", true).await;
    assert_eq!((created.topics[0].error_code, created.topics[0].partitions.len()), (0, 3));
    assert_eq!(created.brokers[0].port, i32::from(broker.local_addrs()[0].port()));
    let bad = metadata(&mut client, "no spaces", true).await;
    assert_eq!(bad.topics[0].error_code, ResponseError::InvalidTopicException.code());
    let all = client.call(MetadataRequest::default().with_topics(None), 9).await;
    let names: Vec<_> = all.topics.iter().map(|t| t.name.clone().unwrap().0.to_string()).collect();
    assert_eq!(names, ["__consumer_offsets", "__transaction_state", "auto"]);
}

#[tokio::test]
async fn creation_follows_the_rules() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[("towline.clamp.replication.factor", "false")]).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.create("a.b", 1, &[]).await, 0);
    assert_eq!(client.create("a.b", 1, &[]).await, ResponseError::TopicAlreadyExists.code());
    assert_eq!(client.create("a_b", 1, &[]).await, ResponseError::InvalidTopicException.code());
    assert_eq!(client.create("zero", 0, &[]).await, ResponseError::InvalidPartitions.code());
    assert_eq!(client.create("c", 1, &[("dummy.doesntexist", "1")]).await, ResponseError::InvalidConfig.code());
    let topic =
        towline_broker::NewTopic { name: "rf".into(), partitions: 1, replication_factor: 3, ..Default::default() };
    let refused = broker.handle().create_topic(topic, false).await.unwrap_err();
    assert_eq!(refused.0, ResponseError::InvalidReplicationFactor);
    let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(string("a.b"));
    let described = client.call(DescribeConfigsRequest::default().with_resources(vec![resource]), 4).await;
    assert!(described.results[0].configs.len() > 30);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![name("a.b"), name("a.b")]).with_timeout_ms(1000);
    let deleted = client.call(delete, 5).await;
    assert_eq!(deleted.responses[0].error_code, 0);
    assert_eq!(deleted.responses[1].error_code, ResponseError::UnknownTopicOrPartition.code());
    assert_eq!(client.create("a_b", 2, &[]).await, 0);
}

#[tokio::test]
async fn retention_deletes_old_segments_and_records_can_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[("log.retention.check.interval.ms", "20")]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[("segment.bytes", "200"), ("retention.bytes", "300")]).await;
    for i in 0..20 {
        client.produce_values("t", &[&format!("value {i}")]).await;
    }
    let client = tokio::sync::Mutex::new(client);
    until(|| async { client.lock().await.fetch("t", 19, 0).await.log_start_offset > 10 }).await;
    let mut client = client.into_inner();
    assert_eq!(client.fetch("t", 0, 0).await.error_code, ResponseError::OffsetOutOfRange.code());
    let partition = DeleteRecordsPartition::default().with_offset(19);
    let topic = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let answer = client.call(DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000), 2).await;
    assert_eq!(answer.topics[0].partitions[0].low_watermark, 19);
    drop(broker);
    let broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.read("t", 19).await.len(), 1);
    assert_eq!(client.fetch("t", 18, 0).await.error_code, ResponseError::OffsetOutOfRange.code());
}

#[tokio::test]
async fn compaction_keeps_the_latest_of_each_key_and_drops_tombstones() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("log.cleaner.backoff.ms", "20")];
    let broker = start(dir.path(), &settings).await;
    let mut client = Client::connect(&broker).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "400"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
    ];
    client.create("t", 1, &configs).await;
    let mut put = async |key: &str, value: Option<&str>| {
        let mut builder = BatchBuilder::new(now());
        builder.push(now(), Some(key.as_bytes()), value.map(str::as_bytes));
        assert_eq!(client.produce("t", builder.build()).await.error_code, 0);
    };
    put("gone", Some("x")).await;
    put("gone", None).await;
    for i in 0..60 {
        put(&format!("key{}", i % 3), Some(&i.to_string())).await;
    }
    let client = tokio::sync::Mutex::new(client);
    // Further appends roll the active segment, without which the last records stay uncompacted.
    let mut round = 0;
    until(|| {
        round += 1;
        let client = &client;
        async move {
            let mut client = client.lock().await;
            let mut builder = BatchBuilder::new(now());
            builder.push(now(), Some(b"filler"), Some(round.to_string().as_bytes()));
            client.produce("t", builder.build()).await;
            let read = client.read("t", 0).await;
            let keys = |name: &str| read.iter().filter(|r| r.1.as_deref() == Some(name)).count();
            keys("gone") == 0 && (0..3).all(|i| keys(&format!("key{i}")) == 1)
        }
    })
    .await;
    let mut client = client.into_inner();
    let latest = |read: &[(i64, Option<String>, Option<String>)]| {
        let mut found: Vec<_> = read
            .iter()
            .filter(|r| r.1.as_deref().unwrap().starts_with("key"))
            .map(|r| (r.0, r.2.clone().unwrap()))
            .collect();
        found.sort();
        found
    };
    let expected = vec![(59, "57".to_owned()), (60, "58".to_owned()), (61, "59".to_owned())];
    assert_eq!(latest(&client.read("t", 0).await), expected);
    drop(broker);
    let broker = start(dir.path(), &settings).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(latest(&client.read("t", 0).await), expected);
    broker.shutdown().await.unwrap();
}

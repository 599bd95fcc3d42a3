//! A minimal client: one connection, one request at a time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, FetchRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use towline_broker::{BatchBuilder, Broker, BrokerConfig};

/// Starts a broker on a free port.
pub(crate) async fn start(dir: &Path, settings: &[(&str, &str)]) -> Broker {
    let mut properties: BTreeMap<String, String> =
        settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    properties.insert("log.dirs".to_owned(), dir.display().to_string());
    properties.insert("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned());
    let (config, warnings) = BrokerConfig::from_properties(&properties).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    Broker::start(config).await.unwrap()
}

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

pub(crate) fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) struct Client {
    stream: TcpStream,
    next: i32,
}

impl Client {
    pub(crate) async fn connect(broker: &Broker) -> Client {
        Client::connect_to(broker.local_addrs()[0]).await
    }

    pub(crate) async fn connect_to(address: SocketAddr) -> Client {
        Client { stream: TcpStream::connect(address).await.unwrap(), next: 5_000_000 }
    }

    /// Like [`Client::receive`]; none when the broker has gone.
    pub(crate) async fn receive_if_any<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let mut frame = self.frame().await?;
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        Some(R::Response::decode(&mut frame, version).unwrap())
    }

    /// Like [`Client::send`]; false when the broker has gone.
    pub(crate) async fn try_send<R: Request>(&mut self, request: &R, version: i16) -> bool {
        let frame = self.encode(request, version);
        self.stream.write_all(&frame).await.is_ok()
    }

    pub(crate) async fn send<R: Request>(&mut self, request: &R, version: i16) {
        let frame = self.encode(request, version);
        self.stream.write_all(&frame).await.unwrap();
    }

    fn encode<R: Request>(&mut self, request: &R, version: i16) -> BytesMut {
        self.next += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next)
            .with_client_id(Some(string("test")));
        let mut out = BytesMut::new();
        out.put_i32(0);
        header.encode(&mut out, ApiKey::try_from(R::KEY).unwrap().request_header_version(version)).unwrap();
        request.encode(&mut out, version).unwrap();
        let len = out.len() as i32 - 4;
        out[..4].copy_from_slice(&len.to_be_bytes());
        out
    }

    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        let len = self.stream.read_i32().await.ok()?;
        let mut bytes = vec![0; len as usize];
        self.stream.read_exact(&mut bytes).await.ok()?;
        Some(Bytes::from(bytes))
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let mut frame = self.frame().await.expect("the broker closed the connection");
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(!frame.has_remaining(), "an answer with {} bytes too many", frame.len());
        (header.correlation_id, response)
    }

    pub(crate) async fn call<R: Request>(&mut self, request: R, version: i16) -> R::Response {
        self.send(&request, version).await;
        let (id, response) = self.receive::<R>(version).await;
        assert_eq!(id, self.next);
        response
    }

    pub(crate) async fn create(&mut self, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> i16 {
        let config =
            |(k, v): &(&str, &str)| CreatableTopicConfig::default().with_name(string(k)).with_value(Some(string(v)));
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.iter().map(config).collect());
        let response =
            self.call(CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000), 7).await;
        response.topics[0].error_code
    }

    pub(crate) async fn produce(&mut self, topic: &str, batch: Bytes) -> PartitionProduceResponse {
        self.call(produce_request(topic, batch, -1), 9).await.responses[0].partition_responses[0].clone()
    }

    pub(crate) async fn produce_values(&mut self, topic: &str, values: &[&str]) -> i64 {
        let answer = self.produce(topic, batch(values)).await;
        assert_eq!(answer.error_code, 0);
        answer.base_offset
    }

    pub(crate) async fn fetch(&mut self, topic: &str, offset: i64, wait_ms: i32) -> PartitionData {
        self.call(fetch_request(topic, offset, wait_ms), 12).await.responses[0].partitions[0].clone()
    }

    /// All records from `offset` on: offset, key, value.
    pub(crate) async fn read(&mut self, topic: &str, mut offset: i64) -> Vec<(i64, Option<String>, Option<String>)> {
        let mut all = Vec::new();
        loop {
            let data = self.fetch(topic, offset, 0).await;
            assert_eq!(data.error_code, 0);
            let mut records = data.records.unwrap_or_default();
            if records.is_empty() {
                return all;
            }
            while records.len() > 12 {
                let first = (&records[..]).get_i64();
                let len = 12 + (&records[8..]).get_i32() as usize;
                let delta = (&records[23..]).get_i32();
                let decoded = kafka_protocol::records::RecordBatchDecoder::decode(&mut records.split_to(len)).unwrap();
                let text = |b: Option<Bytes>| b.map(|b| String::from_utf8_lossy(&b).into_owned());
                all.extend(
                    decoded
                        .records
                        .into_iter()
                        .filter(|r| r.offset >= offset)
                        .map(|r| (r.offset, text(r.key), text(r.value))),
                );
                offset = offset.max(first + i64::from(delta) + 1);
            }
        }
    }
}

pub(crate) fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(now());
    for value in values {
        builder.push(now(), Some(b"k"), Some(value.as_bytes()));
    }
    builder.build()
}

pub(crate) fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

pub(crate) fn produce_request(topic: &str, batch: Bytes, acks: i16) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(5000).with_topic_data(vec![topic])
}

pub(crate) fn fetch_request(topic: &str, offset: i64, wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(10 << 20)
        .with_topics(vec![topic])
}

/// Waits until `done` says so, at most ten seconds.
pub(crate) async fn until<F: Future<Output = bool>>(mut done: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "the condition did not come true in time");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

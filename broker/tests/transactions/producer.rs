//! A transactional producer and readers of both isolation levels, on the published protocol crate.

use std::collections::{BTreeMap, HashMap};

use bytes::{Buf, Bytes};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, InitProducerIdRequest, ProducerId, TransactionalId,
};
use kafka_protocol::records::RecordBatchDecoder;
use towline_broker::BatchBuilder;

use crate::client::{Client, fetch_request, name, now, produce_request, string};

pub(crate) struct TestProducer {
    pub(crate) client: Client,
    pub(crate) transactional_id: TransactionalId,
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    sequences: HashMap<(String, i32), i32>,
}

impl TestProducer {
    pub(crate) async fn init(client: Client, id: &str) -> Self {
        TestProducer::init_with(client, id, 60_000).await
    }

    pub(crate) async fn init_with(client: Client, id: &str, timeout_ms: i32) -> Self {
        let transactional_id = TransactionalId(string(id));
        let mut new = TestProducer { client, transactional_id, id: -1, epoch: -1, sequences: HashMap::new() };
        let (error, id, epoch) = new.try_init(None, timeout_ms).await;
        assert_eq!(error, 0);
        (new.id, new.epoch) = (id, epoch);
        new
    }

    pub(crate) async fn try_init(&mut self, known: Option<(i64, i16)>, timeout_ms: i32) -> (i16, i64, i16) {
        let (id, epoch) = known.unwrap_or((-1, -1));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.transactional_id.clone()))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch);
        let answer = self.client.call(request, 4).await;
        (answer.error_code, answer.producer_id.0, answer.producer_epoch)
    }

    pub(crate) async fn try_add(&mut self, topic: &str, partitions: &[i32]) -> i16 {
        let topic = AddPartitionsToTxnTopic::default().with_name(name(topic)).with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id.clone())
            .with_v3_and_below_producer_id(ProducerId(self.id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let answer = self.client.call(request, 3).await;
        answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    pub(crate) async fn add(&mut self, topic: &str, partitions: &[i32]) {
        assert_eq!(self.try_add(topic, partitions).await, 0);
    }

    pub(crate) fn batch(&self, topic: &str, partition: i32, value: &str, transactional: bool) -> Bytes {
        let sequence = self.sequences.get(&(topic.to_owned(), partition)).copied().unwrap_or(0);
        let mut builder = BatchBuilder::new(now()).producer(self.id, self.epoch, sequence);
        if transactional {
            builder = builder.transactional();
        }
        builder.push(now(), Some(b"k"), Some(value.as_bytes()));
        builder.build()
    }

    pub(crate) async fn try_produce(&mut self, topic: &str, partition: i32, value: &str, version: i16) -> i16 {
        let mut request = produce_request(topic, self.batch(topic, partition, value, true), -1);
        request.transactional_id = Some(self.transactional_id.clone());
        request.topic_data[0].partition_data[0].index = partition;
        let error = self.client.call(request, version).await.responses[0].partition_responses[0].error_code;
        if error == 0 {
            *self.sequences.entry((topic.to_owned(), partition)).or_default() += 1;
        }
        error
    }

    pub(crate) async fn produce(&mut self, topic: &str, partition: i32, value: &str) {
        assert_eq!(self.try_produce(topic, partition, value, 9).await, 0);
    }

    pub(crate) async fn try_end(&mut self, commit: bool, version: i16) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        self.client.call(request, version).await.error_code
    }

    pub(crate) async fn end(&mut self, commit: bool) {
        assert_eq!(self.try_end(commit, 3).await, 0);
    }
}

pub(crate) fn fetch_committed(topic: &str, partition: i32, offset: i64, wait_ms: i32) -> FetchRequest {
    let mut request = fetch_request(topic, offset, wait_ms).with_isolation_level(1);
    request.topics[0].partitions[0].partition = partition;
    request
}

/// What a client that reads committed records sees from the start: values, aborted transactions, last stable offset.
pub(crate) async fn committed(client: &mut Client, topic: &str, partition: i32) -> (Vec<String>, Vec<(i64, i64)>, i64) {
    read(client, topic, partition, true).await
}

/// The values that a client sees that reads all records.
pub(crate) async fn uncommitted(client: &mut Client, topic: &str, partition: i32) -> Vec<String> {
    read(client, topic, partition, false).await.0
}

async fn read(
    client: &mut Client,
    topic: &str,
    partition: i32,
    committed: bool,
) -> (Vec<String>, Vec<(i64, i64)>, i64) {
    let (mut offset, mut values, mut all_aborted) = (0, Vec::new(), BTreeMap::new());
    loop {
        let request = fetch_committed(topic, partition, offset, 0).with_isolation_level(i8::from(committed));
        let found = client.call(request, 12).await.responses[0].partitions[0].clone();
        assert_eq!(found.error_code, 0);
        let aborted = found.aborted_transactions.unwrap_or_default();
        let mut coming: Vec<(i64, i64)> = aborted.iter().map(|a| (a.first_offset, a.producer_id.0)).collect();
        coming.sort_unstable();
        all_aborted.extend(coming.iter().copied());
        let mut dropped = Vec::new();
        let mut records = found.records.unwrap_or_default();
        if records.is_empty() {
            let aborted = all_aborted.into_iter().map(|(first, producer)| (producer, first)).collect();
            return (values, aborted, found.last_stable_offset);
        }
        while records.len() > 61 {
            let len = 12 + (&records[8..]).get_i32() as usize;
            let mut batch = records.split_to(len);
            let (base, delta) = ((&batch[..]).get_i64(), (&batch[23..]).get_i32());
            let (attributes, producer) = ((&batch[21..]).get_i16(), (&batch[43..]).get_i64());
            offset = base + i64::from(delta) + 1;
            while coming.first().is_some_and(|(first, _)| *first < offset) {
                dropped.push(coming.remove(0).1);
            }
            let decoded = RecordBatchDecoder::decode(&mut batch).unwrap().records;
            if attributes & 32 != 0 {
                // Type 0 in the key of a marker is an abort.
                if decoded[0].key.as_ref().unwrap()[3] == 0 {
                    dropped.retain(|id| *id != producer);
                }
            } else if attributes & 16 == 0 || !dropped.contains(&producer) {
                values.extend(decoded.into_iter().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()));
            }
        }
    }
}

//! Reading whole topics through librdkafka, outside of any group.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use towline_connectors::api::{Error, Result, TopicPartition};

use super::group::Drain;
use super::{ClientSettings, client_config, failed, refused};
use crate::kafka::{IncomingBatch, LogReader, REQUEST_TIMEOUT};

/// Reads on a thread of its own into a bounded queue.
pub(super) struct ClusterLogReader {
    ends: Vec<(TopicPartition, i64)>,
    records: mpsc::Receiver<Vec<IncomingBatch>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ClusterLogReader {
    /// Reads all partitions of topics from their beginning.
    pub(super) async fn open(common: &ClientSettings, topics: &[String]) -> Result<Self> {
        let consumer = open_consumer(common, &ClientSettings::new())?;
        let ends = learn_ends(consumer.clone(), topics.to_vec()).await?;
        Self::start(consumer, ends, Offset::Beginning)
    }

    /// Reads one partition.
    pub(super) fn open_at(
        common: &ClientSettings,
        settings: &ClientSettings,
        at: &TopicPartition,
        start: Offset,
    ) -> Result<Self> {
        Self::start(open_consumer(common, settings)?, vec![(at.clone(), 0)], start)
    }

    fn start(consumer: Arc<BaseConsumer>, ends: Vec<(TopicPartition, i64)>, start: Offset) -> Result<Self> {
        let mut assignment = TopicPartitionList::new();
        for (at, _) in &ends {
            assignment
                .add_partition_offset(&at.topic, at.partition, start)
                .map_err(|e| failed(format!("cannot read topic {}", at.topic), e))?;
        }
        consumer.assign(&assignment).map_err(|e| failed(format!("cannot read {} partitions", ends.len()), e))?;
        let (sender, records) = mpsc::channel(4);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn({
                let stop = stop.clone();
                move || read(&consumer, &stop, &sender)
            })
            .map_err(|e| Error::fatal("cannot start a thread to read the log").caused_by(e))?;
        Ok(Self { ends, records, stop, thread: Some(thread) })
    }
}

/// The ends of a topic's partitions.
pub(super) async fn ends(common: &ClientSettings, topic: &str) -> Result<Vec<(TopicPartition, i64)>> {
    learn_ends(open_consumer(common, &ClientSettings::new())?, vec![topic.to_owned()]).await
}

fn open_consumer(common: &ClientSettings, settings: &ClientSettings) -> Result<Arc<BaseConsumer>> {
    let mut all = ClientSettings::from(
        [
            ("group.id", "towline-log-reader"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("fetch.wait.max.ms", "500"),
            ("fetch.error.backoff.ms", "50"),
            ("queued.max.messages.kbytes", "4096"),
            ("allow.auto.create.topics", "false"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    all.extend(settings.clone());
    let consumer = client_config(common, &all).create().map_err(|e| refused("cannot open a consumer", e))?;
    Ok(Arc::new(consumer))
}

/// The partitions of the topics and their ends. Asked before anything is fetched: on one connection a question waits
/// behind a long fetch.
async fn learn_ends(consumer: Arc<BaseConsumer>, topics: Vec<String>) -> Result<Vec<(TopicPartition, i64)>> {
    blocking(move || {
        let what = || format!("cannot learn the partitions and ends of topics {topics:?}");
        let mut wanted = TopicPartitionList::new();
        for topic in &topics {
            let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT).map_err(|e| failed(what(), e))?;
            for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
                wanted.add_partition_offset(topic, partition.id(), Offset::End).map_err(|e| failed(what(), e))?;
            }
        }
        let found = consumer.offsets_for_times(wanted, REQUEST_TIMEOUT).map_err(|e| failed(what(), e))?;
        let names: HashMap<&str, Arc<str>> = topics.iter().map(|t| (t.as_str(), Arc::from(t.as_str()))).collect();
        found
            .elements()
            .iter()
            .filter_map(|element| Some((names.get(element.topic())?.clone(), element)))
            .map(|(topic, element)| match (element.error(), element.offset()) {
                (Ok(()), Offset::Offset(end)) => Ok((TopicPartition { topic, partition: element.partition() }, end)),
                (Ok(()), _) => Ok((TopicPartition { topic, partition: element.partition() }, 0)),
                (Err(error), _) => Err(failed(what(), error)),
            })
            .collect()
    })
    .await
}

fn read(consumer: &BaseConsumer, stop: &AtomicBool, sender: &mpsc::Sender<Vec<IncomingBatch>>) {
    let mut drain = Drain::default();
    while !stop.load(Ordering::Acquire) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => drain.add(&message),
            Some(Err(error)) => tracing::debug!(%error, "log reader"),
            None => continue,
        }
        while drain.has_room() {
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => drain.add(&message),
                _ => break,
            }
        }
        let batch = drain.take();
        if !batch.is_empty() && sender.blocking_send(batch).is_err() {
            return;
        }
    }
}

/// Runs a blocking client call off the async threads.
pub(super) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(call)
        .await
        .unwrap_or_else(|error| Err(Error::fatal("a blocking Kafka call was aborted").caused_by(error)))
}

#[async_trait]
impl LogReader for ClusterLogReader {
    async fn next(&mut self) -> Option<Vec<IncomingBatch>> {
        self.records.recv().await
    }

    fn ends(&self) -> &[(TopicPartition, i64)] {
        &self.ends
    }
}

impl Drop for ClusterLogReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.records.close();
        // The thread ends within one poll; joining it here could block an async thread.
        drop(self.thread.take());
    }
}

//! Reading whole topics of the broker in this process, outside of any group.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use towline_broker::{FetchFrom, FetchLimits, Handle, ResponseError, UnreadableBatch};
use towline_connectors::api::{Error, Result, TopicPartition};

use super::{failed, incoming_but};
use crate::kafka::{IncomingBatch, LogReader};

const LIMITS: FetchLimits = FetchLimits { max_bytes: 1 << 20, min_bytes: 1, max_wait: Duration::from_secs(30) };
/// The pause after a fetch that failed.
const RETRY: Duration = Duration::from_millis(100);

pub(super) struct EmbeddedLogReader {
    handle: Handle,
    ends: Vec<(TopicPartition, i64)>,
    from: Vec<FetchFrom>,
}

impl EmbeddedLogReader {
    /// Reads all partitions of topics from their beginning.
    pub(super) async fn open(handle: Handle, topics: &[String]) -> Result<Self> {
        let mut all = Vec::new();
        for topic in topics {
            all.extend(ends(&handle, topic).await?);
        }
        let ends = all;
        let start = |(at, _): &(TopicPartition, i64)| FetchFrom {
            topic: at.topic.to_string(),
            partition: at.partition,
            offset: handle.log_offsets(&at.topic, at.partition).map_or(0, |marks| marks.start),
            max_bytes: LIMITS.max_bytes,
        };
        let from = ends.iter().map(start).collect();
        Ok(Self { handle, ends, from })
    }
}

/// The end of what is committed in each partition of a topic.
pub(super) async fn ends(handle: &Handle, topic: &str) -> Result<Vec<(TopicPartition, i64)>> {
    let what = || format!("cannot learn the partitions and ends of topic {topic}");
    let count = handle.partitions(topic, false).await.map_err(|(error, _)| failed(&what(), error))?;
    let name: Arc<str> = Arc::from(topic);
    (0..count)
        .map(|partition| {
            let marks = handle.log_offsets(topic, partition).map_err(|error| failed(&what(), error))?;
            Ok((TopicPartition { topic: name.clone(), partition }, marks.last_stable))
        })
        .collect()
}

/// One bad record must not keep what is behind it from being read: it is told of, once, and lost.
fn pass_over(topic: &str, partition: i32, unreadable: &UnreadableBatch) -> Result<()> {
    let Some(next) = unreadable.next_offset else {
        return Err(Error::retriable(format!("cannot read {topic}-{partition}: {unreadable}")));
    };
    tracing::error!(
        at = %format_args!("{topic}-{partition}@{}", unreadable.offset), next, error = %unreadable,
        "records cannot be read and are passed over up to the end of their batch: what they said is lost"
    );
    Ok(())
}

#[async_trait]
impl LogReader for EmbeddedLogReader {
    async fn next(&mut self) -> Option<Vec<IncomingBatch>> {
        loop {
            let found = self.handle.fetch_committed(&self.from, LIMITS).await;
            let mut batches = Vec::new();
            let mut trouble = None;
            for (index, fetched) in found.into_iter().enumerate() {
                let (from, topic) = (&mut self.from[index], &self.ends[index].0.topic);
                let read = match fetched {
                    Ok(fetched) => incoming_but(topic, from.partition, from.offset, fetched, |unreadable| {
                        pass_over(topic, from.partition, &unreadable)
                    }),
                    Err(error) => {
                        if let (ResponseError::OffsetOutOfRange, Ok(marks)) =
                            (error, self.handle.log_offsets(topic, from.partition))
                        {
                            from.offset = marks.start;
                        }
                        Err(failed("cannot read the log", error))
                    }
                };
                match read {
                    Ok(read) => {
                        from.offset = read.last().map_or(from.offset, |batch| batch.next_offset);
                        batches.extend(read);
                    }
                    Err(error) => trouble = Some(error),
                }
            }
            if let Some(error) = trouble {
                tracing::warn!(%error, "the log cannot be read, trying again");
                tokio::time::sleep(RETRY).await;
            }
            if !batches.is_empty() {
                return Some(batches);
            }
        }
    }

    fn ends(&self) -> &[(TopicPartition, i64)] {
        &self.ends
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use towline_broker::{Acks, BatchBuilder, NewTopic};

    use super::super::tests::start;
    use super::*;

    /// The checksum of batches (CRC-32C), bit by bit.
    fn crc32c(bytes: &[u8]) -> u32 {
        let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
    }

    fn batch(values: &[&str]) -> BytesMut {
        let mut builder = BatchBuilder::new(1);
        values.iter().for_each(|value| builder.push(1, Some(b"key"), Some(value.as_bytes())));
        BytesMut::from(&builder.build()[..])
    }

    /// Two records, the second of which says that it has a header and ends there.
    fn broken() -> Bytes {
        let mut bytes = batch(&["good", "bad"]);
        *bytes.last_mut().unwrap() = 2;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }

    #[tokio::test]
    async fn passes_over_a_record_that_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let broker = start(dir.path()).await;
        let handle = broker.handle();
        let configs = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
        let new = NewTopic { name: "state".to_owned(), partitions: 1, replication_factor: 1, configs };
        handle.create_topic(new, false).await.unwrap();
        for bytes in [batch(&["first"]).freeze(), broken(), batch(&["last"]).freeze()] {
            handle.append("state", 0, bytes, Acks::All).unwrap().done().await.unwrap();
        }
        let mut reader = EmbeddedLogReader::open(handle.clone(), &["state".to_owned()]).await.unwrap();
        let (mut seen, mut next) = (Vec::new(), 0);
        while next < 4 {
            for batch in reader.next().await.unwrap() {
                next = batch.next_offset;
                seen.extend(batch.iter().map(|record| (record.offset, record.value.unwrap())));
            }
        }
        let expected = [(0, "first"), (1, "good"), (3, "last")].map(|(at, value)| (at, Bytes::from(value)));
        assert_eq!(seen, expected);
        broker.shutdown().await.unwrap();
    }
}

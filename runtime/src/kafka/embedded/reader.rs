//! Reading whole topics of the broker in this process, outside of any group.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use towline_broker::{FetchFrom, FetchLimits, Handle, ResponseError};
use towline_connectors::api::{Result, TopicPartition};

use super::{failed, incoming};
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
                    Ok(fetched) => incoming(topic, from.partition, from.offset, fetched),
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

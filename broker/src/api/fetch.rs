//! Fetch (1): whole batches from several partitions, long polling. No fetch sessions: the session id is always 0,
//! which every client accepts.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::{ApiKey, FetchRequest, RequestHeader};
use std::sync::Arc;

use super::{Context, Unreadable, decode, framed, head};
use crate::cluster::Topic;
use crate::handle::{FetchLimits, FetchPlace};
use crate::log::{Found, Isolation, Partition};
use crate::wire::fetch::{FetchAnswer, PartitionAnswer};
use crate::wire::guard::GuardedBuf;

/// Longest time that a fetch may park.
const MAX_WAIT_MS: i32 = 600_000;

pub(super) async fn answer(
    context: &Context,
    header: &RequestHeader,
    body: GuardedBuf,
) -> Result<Vec<Bytes>, Unreadable> {
    let version = header.request_api_version;
    let request: FetchRequest = decode(body, version)?;
    let mut places: Vec<FetchPlace> = Vec::new();
    let mut diverging = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let found = if version >= 13 {
            context.cluster().topic_by_id(&topic.topic_id).ok_or(ResponseError::UnknownTopicId)
        } else {
            context.cluster().topic(&topic.topic.0).ok_or(ResponseError::UnknownTopicOrPartition)
        };
        for asked in &topic.partitions {
            let (place, ended) = match locate(&found, asked) {
                Ok((partition, ended)) => (Ok(partition), ended),
                Err(error) => (Err(error), None),
            };
            diverging.push(ended);
            places.push((place, asked.fetch_offset, usize::try_from(asked.partition_max_bytes).unwrap_or(0)));
        }
        topics.push(topic);
    }
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(context.handle.0.config.fetch_max_bytes);
    let wait = if diverging.iter().any(Option::is_some) { 0 } else { request.max_wait_ms.clamp(0, MAX_WAIT_MS) };
    let limits = FetchLimits {
        max_bytes,
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes.max(1)),
        max_wait: Duration::from_millis(wait as u64),
    };
    let committed = request.isolation_level == 1;
    let isolation = if committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let found = context.handle.fetch_places(&places, limits, isolation).await;
    let mut found = found.into_iter().zip(diverging);
    let mut answer = FetchAnswer::default();
    for topic in topics {
        let partitions = topic.partitions.iter().zip(&mut found);
        let partitions =
            partitions.map(|(asked, (result, ended))| partition(asked, result, ended, committed, version)).collect();
        answer.topics.push((topic.topic.0.clone().into_bytes(), topic.topic_id, partitions));
    }
    let mut chunks = Vec::new();
    answer.encode(version, &mut chunks, head(header, ApiKey::Fetch));
    Ok(framed(chunks))
}

type Located = (Arc<Partition>, Option<(i32, i64)>);

fn locate(topic: &Result<Arc<Topic>, ResponseError>, asked: &FetchPartition) -> Result<Located, ResponseError> {
    let partition = topic.as_ref().map_err(|e| *e)?.partition(asked.partition)?.clone();
    let ended = {
        let log = partition.log();
        check_epoch(asked.current_leader_epoch, log.leader_epoch())?;
        let (epoch, end) =
            if asked.last_fetched_epoch >= 0 { log.end_of_epoch(asked.last_fetched_epoch) } else { (-1, -1) };
        let diverges = end >= 0 && (epoch < asked.last_fetched_epoch || end < asked.fetch_offset);
        diverges.then_some((epoch, end))
    };
    Ok((partition, ended))
}

/// Compares the epoch that a client believes in with ours; -1 skips the check.
pub(super) fn check_epoch(theirs: i32, ours: i32) -> Result<(), ResponseError> {
    match theirs {
        epoch if epoch < 0 || epoch == ours => Ok(()),
        epoch if epoch < ours => Err(ResponseError::FencedLeaderEpoch),
        _ => Err(ResponseError::UnknownLeaderEpoch),
    }
}

fn partition(
    asked: &FetchPartition,
    result: Result<Found, ResponseError>,
    diverging: Option<(i32, i64)>,
    committed: bool,
    version: i16,
) -> PartitionAnswer {
    let mut answer = PartitionAnswer {
        partition: asked.partition,
        error: None,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start: -1,
        diverging,
        aborted: committed.then(Vec::new),
        records: Bytes::new(),
    };
    match result {
        Ok(Found { marks, records, aborted, .. }) => {
            (answer.high_watermark, answer.last_stable_offset) = (marks.high_watermark, marks.last_stable);
            answer.log_start = marks.log_start;
            if diverging.is_none() {
                answer.records = records;
                answer.aborted = committed.then_some(aborted);
            }
        }
        Err(ResponseError::KafkaStorageError) if version <= 5 => {
            answer.error = Some(ResponseError::NotLeaderOrFollower);
        }
        Err(error) => answer.error = Some(error),
    }
    answer
}

//! ListOffsets (2): first, last, or by time; for read_committed (isolation level 1) before the last stable offset.

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, RequestHeader};

use super::Context;
use super::fetch::check_epoch;
use crate::handle::{FoundOffset, OffsetSpec};

const NOTHING: FoundOffset = FoundOffset { offset: -1, timestamp: -1, leader_epoch: -1 };

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let version = header.request_api_version;
    let mut seen = HashSet::new();
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let mut answered = ListOffsetsTopicResponse::default();
        for asked in topic.partitions {
            let found = if seen.insert((topic.name.clone(), asked.partition_index)) {
                find(context, &topic.name.0, &asked, (version, request.isolation_level == 1)).await
            } else {
                Err(ResponseError::InvalidRequest)
            };
            let base = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            answered.partitions.push(match found {
                Ok(found) => base
                    .with_offset(found.offset)
                    .with_timestamp(found.timestamp)
                    .with_leader_epoch(if version >= 4 { found.leader_epoch } else { -1 }),
                Err(error) => base.with_error_code(error.code()),
            });
        }
        response.topics.push(answered.with_name(topic.name));
    }
    response
}

async fn find(
    context: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    (version, committed): (i16, bool),
) -> Result<FoundOffset, ResponseError> {
    let partition = context.cluster().partition(topic, asked.partition_index)?;
    check_epoch(asked.current_leader_epoch, partition.log().leader_epoch())?;
    let since = |first: i16, spec| if version >= first { Ok(spec) } else { Err(ResponseError::UnsupportedVersion) };
    let spec = match asked.timestamp {
        -1 if committed => OffsetSpec::LatestStable,
        -1 => OffsetSpec::Latest,
        -2 => OffsetSpec::Earliest,
        -3 => since(7, OffsetSpec::MaxTimestamp)?,
        // Without tiers all that is stored is local.
        -4 => since(8, OffsetSpec::Earliest)?,
        -5 => {
            since(9, OffsetSpec::Latest)?;
            return Ok(NOTHING);
        }
        time if time >= 0 => OffsetSpec::Timestamp(time),
        _ => return Err(ResponseError::UnsupportedVersion),
    };
    let found = context.handle.find_offset(topic, asked.partition_index, spec).await?;
    let unstable = committed && found.timestamp >= 0 && found.offset >= partition.log().last_stable();
    Ok(if unstable { NOTHING } else { found })
}

//! Produce (0): appends at once, answers when the records are as durable as `acks` asks.

use bytes::Buf;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, RequestHeader};

use super::{Answer, Context, Unreadable, decode, encode, text};
use crate::handle::{Acks, AppendError, Handle, PendingAppend};
use crate::wire::batch::BatchHeader;
use crate::wire::guard::GuardedBuf;

/// A larger request is appended where it may block.
const INLINE_BYTES: usize = 128 << 10;

type Appends = Vec<(TopicProduceData, Vec<(i32, Result<PendingAppend, AppendError>)>)>;

pub(super) async fn answer(
    context: &Context,
    header: RequestHeader,
    body: GuardedBuf,
) -> Result<Option<Answer>, Unreadable> {
    let (version, len) = (header.request_api_version, body.remaining());
    let request: ProduceRequest = decode(body, version)?;
    let acks = request.acks;
    let (appends, failed) = if len < INLINE_BYTES {
        append_all(&context.handle, request, version)
    } else {
        let handle = context.handle.clone();
        let work = tokio::task::spawn_blocking(move || append_all(&handle, request, version));
        work.await.map_err(|_| "the broker is stopping".to_owned())?
    };
    if acks == 0 {
        // Nobody reads an answer; closing is the only way to make the client refresh its metadata.
        return if failed { Err("a produce with acks=0 failed".to_owned()) } else { Ok(None) };
    }
    Ok(Some(Answer::Later(Box::pin(async move {
        let response = respond(appends).await;
        encode(&header, ApiKey::Produce, &response).ok()
    }))))
}

/// Appends to all partitions in the order of the request; says also whether any was refused.
fn append_all(handle: &Handle, request: ProduceRequest, version: i16) -> (Appends, bool) {
    let acks = match request.acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        _ => Err(ResponseError::InvalidRequiredAcks),
    };
    let acks = acks.and_then(|acks| check_transaction(handle, &request).map(|()| acks));
    let mut failed = false;
    let mut appends: Appends = Vec::with_capacity(request.topic_data.len());
    for mut topic in request.topic_data {
        let partitions = std::mem::take(&mut topic.partition_data);
        let found = handle.0.cluster.topic(&topic.name.0).ok_or(ResponseError::UnknownTopicOrPartition);
        let append = |data: PartitionProduceData| -> Result<PendingAppend, AppendError> {
            let acks = acks?;
            let records = data.records.filter(|r| !r.is_empty()).ok_or(ResponseError::InvalidRecord)?;
            let zstd = records.len() > 22 && records[22] & 7 == 4;
            if zstd && version < 7 {
                return Err(ResponseError::UnsupportedCompressionType.into());
            }
            let transactional = is_transactional(&records);
            let append = handle.append_to(found.as_ref().map_err(|e| *e)?, data.index, records, acks);
            append.map_err(|mut refused| {
                // From version 11 on clients know that aborting is the way on (KIP-890).
                if version >= 11 && transactional && refused.error == ResponseError::InvalidTxnState {
                    refused.error = ResponseError::TransactionAbortable;
                }
                refused
            })
        };
        let results: Vec<_> = partitions.into_iter().map(|data| (data.index, append(data))).collect();
        failed |= results.iter().any(|(_, result)| result.is_err());
        appends.push((topic, results));
    }
    (appends, failed)
}

fn is_transactional(batch: &[u8]) -> bool {
    BatchHeader::parse(batch).is_ok_and(|header| header.is_transactional())
}

/// What transactional batches demand of the whole request: one transactional id, and one producer, that belongs to it.
fn check_transaction(handle: &Handle, request: &ProduceRequest) -> Result<(), ResponseError> {
    let records = request.topic_data.iter().flat_map(|topic| &topic.partition_data).filter_map(|p| p.records.as_ref());
    let headers = records.filter_map(|records| BatchHeader::parse(records).ok());
    let mut producers = headers.filter(BatchHeader::is_transactional).map(|header| header.producer_id);
    let Some(producer) = producers.next() else { return Ok(()) };
    let id = request.transactional_id.as_ref().ok_or(ResponseError::TransactionalIdAuthorizationFailed)?;
    let one = producers.all(|other| other == producer) && handle.0.transactions.owns(&id.0, producer);
    if one { Ok(()) } else { Err(ResponseError::InvalidProducerIdMapping) }
}

async fn respond(appends: Appends) -> ProduceResponse {
    let mut response = ProduceResponse::default();
    for (topic, partitions) in appends {
        let mut answered = TopicProduceResponse::default().with_name(topic.name).with_topic_id(topic.topic_id);
        for (index, append) in partitions {
            let outcome = match append {
                Ok(pending) => pending.done().await.map_err(AppendError::from),
                Err(refused) => Err(refused),
            };
            let base = PartitionProduceResponse::default().with_index(index);
            answered.partition_responses.push(match outcome {
                Ok(stored) => base
                    .with_base_offset(stored.base_offset)
                    .with_log_append_time_ms(stored.log_append_time)
                    .with_log_start_offset(stored.log_start),
                Err(refused) => refuse(base, &refused),
            });
        }
        response.responses.push(answered);
    }
    response
}

fn refuse(base: PartitionProduceResponse, refused: &AppendError) -> PartitionProduceResponse {
    let record = |(index, reason): &(i32, &'static str)| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(*index)
            .with_batch_index_error_message(Some(text(*reason)))
    };
    let message = refused.records.first().map(|(_, reason)| text(*reason));
    base.with_error_code(refused.error.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
        .with_record_errors(refused.records.iter().map(record).collect())
        .with_error_message(message)
}

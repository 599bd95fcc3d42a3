//! Requests: one file per API key, one table of what is served. ApiVersions is computed from the table.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{self, ApiKey, BrokerId, RequestHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::handle::Handle;
use crate::listeners::Advertised;
use crate::wire::guard::GuardedBuf;

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod api_versions;
mod configs;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod describe_transactions;
mod elect_leaders;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod txn_offset_commit;

/// Requests other than Produce have no reason to be larger.
const MAX_CONTROL_REQUEST: usize = 16 << 20;

/// What a handler knows of its connection.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) handle: Handle,
    pub(crate) advertised: Arc<Advertised>,
    pub(crate) listener: usize,
    pub(crate) local: SocketAddr,
    pub(crate) client_host: String,
}

impl Context {
    /// Host and port of this broker for this client.
    fn address(&self) -> (StrBytes, i32) {
        let (host, port) = self.advertised.address(self.listener, self.local);
        (StrBytes::from_string(host), i32::from(port))
    }
    fn node_id(&self) -> BrokerId {
        BrokerId(self.handle.0.config.node_id)
    }
    fn cluster(&self) -> &crate::cluster::Cluster {
        &self.handle.0.cluster
    }
    fn rack(&self) -> Option<StrBytes> {
        self.handle.0.config.rack.clone().map(StrBytes::from_string)
    }
}

/// An answer in buffers, now or later; later none means: close the connection.
pub(crate) enum Answer {
    Ready(Vec<Bytes>),
    Later(Pin<Box<dyn Future<Output = Option<Vec<Bytes>>> + Send>>),
}

impl Answer {
    /// Waits for the answer.
    pub(crate) async fn ready(self) -> Option<Vec<Bytes>> {
        match self {
            Answer::Ready(chunks) => Some(chunks),
            Answer::Later(future) => future.await,
        }
    }

    /// The answer if it is there already; else the answer still to be waited for.
    pub(crate) async fn now(self) -> Result<Option<Vec<Bytes>>, Answer> {
        let mut future = match self {
            Answer::Ready(chunks) => return Ok(Some(chunks)),
            Answer::Later(future) => future,
        };
        match poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            Poll::Ready(chunks) => Ok(chunks),
            Poll::Pending => Err(Answer::Later(future)),
        }
    }
}

/// Why a connection must be closed.
pub(crate) type Unreadable = String;

/// One served request.
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) min: i16,
    pub(crate) max: i16,
}

macro_rules! apis {
    ($($key:ident $module:ident $request:ident $min:literal ..= $max:literal;)*) => {
        /// All requests that are answered. Produce and Fetch have their own encoding and are dispatched first.
        pub(crate) static APIS: &[Api] = &[
            Api { key: ApiKey::Produce as i16, min: 0, max: 11 },
            Api { key: ApiKey::Fetch as i16, min: 4, max: 16 },
            Api { key: ApiKey::ApiVersions as i16, min: 0, max: 4 },
            $(Api { key: ApiKey::$key as i16, min: $min, max: $max },)*
        ];

        async fn answer(context: &Context, header: &RequestHeader, api: ApiKey, body: GuardedBuf) -> Result<Vec<Bytes>, Unreadable> {
            let version = header.request_api_version;
            match api {
                $(ApiKey::$key => {
                    let request: messages::$request = decode(body, version)?;
                    let response = Box::pin($module::handle(context, header, request)).await;
                    encode(header, api, &response)
                })*
                _ => Err(format!("unsupported request {api:?}")),
            }
        }
    };
}

apis! {
    ListOffsets list_offsets ListOffsetsRequest 1..=10;
    Metadata metadata MetadataRequest 0..=13;
    OffsetCommit offset_commit OffsetCommitRequest 2..=9;
    OffsetFetch offset_fetch OffsetFetchRequest 1..=9;
    FindCoordinator find_coordinator FindCoordinatorRequest 0..=5;
    JoinGroup join_group JoinGroupRequest 0..=9;
    Heartbeat heartbeat HeartbeatRequest 0..=4;
    LeaveGroup leave_group LeaveGroupRequest 0..=5;
    SyncGroup sync_group SyncGroupRequest 0..=5;
    DescribeGroups describe_groups DescribeGroupsRequest 0..=6;
    ListGroups list_groups ListGroupsRequest 0..=5;
    CreateTopics create_topics CreateTopicsRequest 2..=7;
    DeleteTopics delete_topics DeleteTopicsRequest 1..=6;
    DeleteRecords delete_records DeleteRecordsRequest 0..=2;
    InitProducerId init_producer_id InitProducerIdRequest 0..=5;
    AddPartitionsToTxn add_partitions_to_txn AddPartitionsToTxnRequest 0..=3;
    AddOffsetsToTxn add_offsets_to_txn AddOffsetsToTxnRequest 0..=4;
    EndTxn end_txn EndTxnRequest 0..=4;
    TxnOffsetCommit txn_offset_commit TxnOffsetCommitRequest 0..=4;
    OffsetForLeaderEpoch offset_for_leader_epoch OffsetForLeaderEpochRequest 2..=4;
    DescribeAcls describe_acls DescribeAclsRequest 1..=3;
    DescribeConfigs describe_configs DescribeConfigsRequest 1..=4;
    AlterConfigs alter_configs AlterConfigsRequest 0..=2;
    DescribeLogDirs describe_log_dirs DescribeLogDirsRequest 1..=4;
    CreatePartitions create_partitions CreatePartitionsRequest 0..=3;
    DeleteGroups delete_groups DeleteGroupsRequest 0..=2;
    ElectLeaders elect_leaders ElectLeadersRequest 0..=2;
    IncrementalAlterConfigs incremental_alter_configs IncrementalAlterConfigsRequest 0..=1;
    ListPartitionReassignments list_partition_reassignments ListPartitionReassignmentsRequest 0..=0;
    OffsetDelete offset_delete OffsetDeleteRequest 0..=0;
    DescribeClientQuotas describe_client_quotas DescribeClientQuotasRequest 0..=1;
    DescribeCluster describe_cluster DescribeClusterRequest 0..=2;
    DescribeProducers describe_producers DescribeProducersRequest 0..=0;
    DescribeTransactions describe_transactions DescribeTransactionsRequest 0..=0;
    ListTransactions list_transactions ListTransactionsRequest 0..=1;
    ListConfigResources list_config_resources ListConfigResourcesRequest 0..=1;
    DescribeTopicPartitions describe_topic_partitions DescribeTopicPartitionsRequest 0..=0;
}

/// Decodes a frame and answers it; none if the client expects no answer.
pub(crate) async fn dispatch(context: &Context, mut frame: Bytes) -> Result<Option<Answer>, Unreadable> {
    if frame.len() < 8 {
        return Err("a request shorter than its header".to_owned());
    }
    let (key, version) = ((&frame[..]).get_i16(), (&frame[2..]).get_i16());
    let served = APIS.iter().find(|api| api.key == key).ok_or_else(|| format!("unknown request key {key}"))?;
    let api = ApiKey::try_from(key).map_err(|()| format!("unknown request key {key}"))?;
    if api == ApiKey::ApiVersions {
        return api_versions::answer(&mut frame, served).map(|answer| Some(Answer::Ready(answer)));
    }
    let flexible = api.request_header_version(version) >= 2;
    let oldest = if api == ApiKey::Produce { 3 } else { served.min };
    if !(oldest..=served.max).contains(&version) {
        return Err(format!("unsupported version {version} of {api:?}"));
    }
    if api != ApiKey::Produce && frame.len() > MAX_CONTROL_REQUEST {
        return Err(format!("{api:?} of {} bytes", frame.len()));
    }
    let header = RequestHeader::decode(&mut frame, if flexible { 2 } else { 1 }).map_err(|e| e.to_string())?;
    tracing::trace!(?api, version, client = header.client_id.as_deref(), "request");
    let body = GuardedBuf::new(frame, flexible);
    match api {
        ApiKey::Produce => produce::answer(context, header, body).await,
        ApiKey::Fetch => fetch::answer(context, &header, body).await.map(|chunks| Some(Answer::Ready(chunks))),
        _ => answer(context, &header, api, body).await.map(|chunks| Some(Answer::Ready(chunks))),
    }
}

fn decode<T: Decodable + Debug>(mut body: GuardedBuf, version: i16) -> Result<T, Unreadable> {
    T::decode(&mut body, version).map_err(|e| e.to_string())
}

/// The start of an answer: room for the length, correlation id, tags.
fn head(header: &RequestHeader, api: ApiKey) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    out.put_i32(header.correlation_id);
    if api.response_header_version(header.request_api_version) >= 1 {
        out.put_u8(0);
    }
    out
}

/// Sets the length at the front of the first buffer.
fn framed(mut chunks: Vec<Bytes>) -> Vec<Bytes> {
    let len: usize = chunks.iter().map(Bytes::len).sum();
    if let Some(first) = chunks.first_mut() {
        let mut front = BytesMut::from(std::mem::take(first));
        front[..4].copy_from_slice(&((len - 4) as i32).to_be_bytes());
        *first = front.freeze();
    }
    chunks
}

fn encode(header: &RequestHeader, api: ApiKey, response: &impl Encodable) -> Result<Vec<Bytes>, Unreadable> {
    let mut out = head(header, api);
    response.encode(&mut out, header.request_api_version).map_err(|e| {
        tracing::error!(?api, version = header.request_api_version, error = %e, "cannot encode an answer");
        e.to_string()
    })?;
    Ok(framed(vec![out.freeze()]))
}

fn code(result: Result<(), ResponseError>) -> i16 {
    result.map_or_else(|error| error.code(), |()| 0)
}

/// An error as clients know it: before version `since` of a request PRODUCER_FENCED had another name.
fn fenced_since(since: i16, header: &RequestHeader, error: ResponseError) -> ResponseError {
    let old = header.request_api_version < since && error == ResponseError::ProducerFenced;
    if old { ResponseError::InvalidProducerEpoch } else { error }
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn own(text: &Option<StrBytes>) -> Option<String> {
    text.as_ref().map(|t| t.to_string())
}

//! An embedded single-node broker that speaks the Apache Kafka protocol and keeps Kafka's on-disk format.
//!
//! The map: [`Broker`] starts and stops everything; `server` cuts frames out of connections; `api` has one file
//! per request, which decodes, calls [`Handle`] and encodes; `cluster` owns topics and settings; `group` is the
//! group coordinator, `transaction` that of transactions; `log` stores batches; `wire` is what the protocol crate lacks. Code in the same process
//! uses [`Handle`] and needs no socket. KIP-848, SASL, TLS and ACLs are not there yet and not
//! advertised.

mod api;
mod broker;
mod clock;
mod cluster;
mod config;
mod error;
mod group;
mod handle;
mod listeners;
mod lock;
mod log;
mod maintenance;
mod server;
mod transaction;
mod wire;

pub use broker::Broker;
pub use cluster::NewTopic;
pub use config::{BrokerConfig, Endpoint, SyncPolicy};
pub use error::Error;
pub use group::{
    CommitRequest, Committed, GroupDescription, GroupPhase, JoinReply, JoinRequest, JoinedMember, MemberDescription,
    OffsetCommit, SyncReply, SyncRequest,
};
pub use handle::{
    Acks, AppendError, AppendOutcome, ConfigSource, ConfigSynonym, FetchFrom, FetchLimits, Fetched, FoundOffset,
    Handle, LogOffsets, OffsetSpec, PendingAppend, TopicConfigEntry,
};
/// Kafka's error codes.
pub use kafka_protocol::ResponseError;
pub use transaction::{TransactionDescription, TransactionState};
pub use wire::compression::Compression;
pub use wire::reader::{BatchReader, ReadBatch, RecordAt, UnreadableBatch};
pub use wire::records::BatchBuilder;

//! An embedded single-node broker that speaks the Apache Kafka protocol and keeps Kafka's on-disk format.
//!
//! The map: [`Broker`] starts and stops everything; `server` cuts frames out of connections; `api` has one file
//! per request, which decodes, calls [`Handle`] and encodes; `cluster` owns topics and settings; `group` is the
//! group coordinator, `transaction` that of transactions; `log` stores batches; `wire` is what the protocol crate
//! lacks. Code in the same process uses [`Handle`] and needs no socket. KIP-848, SASL, TLS and ACLs are not there yet
//! and not advertised.
//!
//! A transaction without sockets:
//! ```no_run
//! # use towline_broker::{Acks, BatchBuilder, FetchFrom, FetchLimits, Handle, ResponseError};
//! # async fn example(broker: &Handle, limits: FetchLimits) -> Result<(), ResponseError> {
//! let (id, epoch) = broker.init_transactional_producer("my-task-0", 60_000).await?;
//! let mut sequence = 0; // Of the partition; goes on over transactions, begins at 0 in a new epoch.
//! broker.add_partitions_to_transaction("my-task-0", id, epoch, [("orders", 0)])?;
//! let mut batch = BatchBuilder::new(1_700_000_000_000).producer(id, epoch, sequence).transactional();
//! batch.push(1_700_000_000_000, Some(b"key"), Some(b"value"));
//! sequence += 1;
//! // Not awaited: the end makes durable what is not.
//! broker.append("orders", 0, batch.build(), Acks::None).map_err(|refused| refused.error)?;
//! broker.end_transaction("my-task-0", id, epoch, true).await?;
//!
//! let from = FetchFrom { topic: "orders".into(), partition: 0, offset: 0, max_bytes: 1 << 20 };
//! let found = broker.fetch_committed(&[from], limits).await.remove(0)?;
//! let (_committed_batches, _go_on_from) = (found.records, found.next_offset);
//! # let _ = sequence;
//! # Ok(())
//! # }
//! ```

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

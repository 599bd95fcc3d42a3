//! Consumer groups: a pure state machine, Kafka's record format for `__consumer_offsets`, and the coordinator
//! that joins them with the log. Classic protocol only; assignments are opaque.

mod coordinator;
mod offsets;
mod records;
mod state;

pub(crate) use coordinator::{Coordinator, MemberView};
pub use offsets::{CommitRequest, Committed, OffsetCommit};
pub use state::{JoinReply, JoinRequest, JoinedMember, SyncReply, SyncRequest};

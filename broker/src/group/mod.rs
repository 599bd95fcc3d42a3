//! Consumer groups: a pure state machine, Kafka's record format for `__consumer_offsets`, and the coordinator
//! that joins them with the log. Classic protocol only; assignments are opaque.

mod coordinator;
mod offsets;
mod records;
mod requests;
mod state;

pub(crate) use coordinator::{Coordinator, place_of};
pub use coordinator::{GroupDescription, MemberDescription};
pub use offsets::{CommitRequest, Committed, OffsetCommit};
pub use requests::{JoinReply, JoinRequest, JoinedMember, SyncReply, SyncRequest};
pub use state::Phase as GroupPhase;

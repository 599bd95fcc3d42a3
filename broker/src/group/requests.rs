//! Requests and answers of the classic group protocol as values, free of the wire's versions.

use bytes::Bytes;
use kafka_protocol::ResponseError;

/// A JoinGroup request.
#[derive(Debug, Clone, Default)]
pub struct JoinRequest {
    /// Group to join.
    pub group_id: String,
    /// Empty for a new member.
    pub member_id: String,
    /// Static member name.
    pub instance_id: Option<String>,
    /// Client id, for descriptions and the member id.
    pub client_id: String,
    /// Address of the client, for descriptions.
    pub client_host: String,
    /// Milliseconds without a heartbeat after which the member is gone.
    pub session_timeout_ms: i32,
    /// Milliseconds that the member may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect` ...
    pub protocol_type: String,
    /// Supported assignors with their metadata, the preferred first.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether a new member must come back with the id that it is given (version 4 on).
    pub require_known_member: bool,
    /// Whether the client understands `skip_assignment` (version 9 on).
    pub can_skip_assignment: bool,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Member id.
    pub member_id: String,
    /// Static member name.
    pub instance_id: Option<String>,
    /// Metadata for the chosen assignor.
    pub metadata: Bytes,
}

/// The answer to JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// Why it failed.
    pub error: Option<ResponseError>,
    /// Generation joined, -1 on error.
    pub generation: i32,
    /// `consumer`, `connect` ...
    pub protocol_type: Option<String>,
    /// Chosen assignor.
    pub protocol: Option<String>,
    /// Member id of the leader.
    pub leader: String,
    /// The member's own id.
    pub member_id: String,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
    /// The leader need not assign again.
    pub skip_assignment: bool,
}

impl JoinReply {
    pub(super) fn failed(error: ResponseError, member_id: &str) -> Self {
        JoinReply {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member_id: member_id.to_owned(),
            members: Vec::new(),
            skip_assignment: false,
        }
    }
}

/// A SyncGroup request.
#[derive(Debug, Clone, Default)]
pub struct SyncRequest {
    /// The group.
    pub group_id: String,
    /// The member.
    pub member_id: String,
    /// Static member name.
    pub instance_id: Option<String>,
    /// Generation joined.
    pub generation: i32,
    /// Checked if given.
    pub protocol_type: Option<String>,
    /// Checked if given.
    pub protocol: Option<String>,
    /// Assignments by member id, from the leader.
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// `consumer`, `connect` ...
    pub protocol_type: Option<String>,
    /// Chosen assignor.
    pub protocol: Option<String>,
    /// The member's assignment.
    pub assignment: Bytes,
}

//! Committed offsets of a group: values and when they expire.

use kafka_protocol::ResponseError;

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 if unknown.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: String,
    /// When it was committed, milliseconds since 1970.
    pub commit_timestamp: i64,
    /// When it expires, if the client said so.
    pub expire_timestamp: Option<i64>,
}

/// One offset of a commit request, and the answer for it.
#[derive(Debug, Clone)]
pub struct OffsetCommit {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 if unknown.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: String,
    /// Filled in by the coordinator.
    pub error: Option<ResponseError>,
}

/// An OffsetCommit request.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The group; it need not exist.
    pub group_id: String,
    /// Empty for a commit from outside.
    pub member_id: String,
    /// Static member name.
    pub instance_id: Option<String>,
    /// Generation, -1 for a commit from outside.
    pub generation: i32,
    /// How long to keep the offsets, if the client says so.
    pub retention_ms: Option<i64>,
    /// Whether a missing group answers GROUP_ID_NOT_FOUND (version 9 on).
    pub knows_group_not_found: bool,
    /// What to commit.
    pub offsets: Vec<OffsetCommit>,
}

/// What decides on expiry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    pub(super) now: i64,
    pub(super) retention_ms: i64,
    /// Since when the group has no members, if it is a group with a protocol.
    pub(super) empty_since: Option<i64>,
    /// Whether members that subscribe to the topic exist, or may exist.
    pub(super) in_use: bool,
}

impl Committed {
    /// Whether the offset may be forgotten.
    pub(super) fn is_expired(&self, when: Expiry) -> bool {
        if when.in_use {
            return false;
        }
        if let Some(expires) = self.expire_timestamp {
            return expires <= when.now;
        }
        let since = when.empty_since.map_or(self.commit_timestamp, |t| t.max(self.commit_timestamp));
        when.now.saturating_sub(since) >= when.retention_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_expires_after_the_group_was_empty_long_enough() {
        let committed = Committed {
            offset: 1,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp: 100,
            expire_timestamp: None,
        };
        let when = Expiry { now: 1_100, retention_ms: 1_000, empty_since: None, in_use: false };
        assert!(committed.is_expired(when));
        assert!(!committed.is_expired(Expiry { empty_since: Some(200), ..when }));
        assert!(!committed.is_expired(Expiry { in_use: true, ..when }));
        let dated = Committed { expire_timestamp: Some(500), ..committed };
        assert!(dated.is_expired(when) && !dated.is_expired(Expiry { now: 400, ..when }));
    }
}

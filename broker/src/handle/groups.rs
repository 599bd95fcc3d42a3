//! Consumer groups and their offsets.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::Handle;
use crate::group::{CommitRequest, Committed, GroupDescription, JoinReply, JoinRequest, SyncReply, SyncRequest};

impl Handle {
    /// Joins a group; resolves when the rebalance ends.
    pub async fn join_group(&self, request: JoinRequest) -> JoinReply {
        self.0.coordinator.join(request).await
    }

    /// Hands in (leader) or waits for (follower) the assignment.
    ///
    /// # Errors
    /// As SyncGroup answers.
    pub async fn sync_group(&self, request: SyncRequest) -> Result<SyncReply, ResponseError> {
        self.0.coordinator.sync(request).await
    }

    /// A sign of life of a group member.
    ///
    /// # Errors
    /// As Heartbeat answers; REBALANCE_IN_PROGRESS means rejoin.
    pub fn heartbeat(
        &self,
        group: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        self.0.coordinator.heartbeat(group, member, instance, generation)
    }

    /// Resolves when a group rebalances, has got beyond a generation, or is gone, so that a member need not wait for
    /// its next heartbeat to hear of it. Cancel-safe.
    pub async fn rebalance_after(&self, group: &str, generation: i32) {
        self.0.coordinator.rebalance_after(group, generation).await;
    }

    /// Removes a member from a group.
    ///
    /// # Errors
    /// As LeaveGroup answers for the member.
    pub fn leave_group(&self, group: &str, member: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        self.0.coordinator.leave(group, member, instance)
    }

    /// Commits offsets; resolves when they are durable. The answer carries an error per offset.
    pub async fn commit_offsets(&self, request: CommitRequest) -> CommitRequest {
        self.0.coordinator.commit(request).await
    }

    /// Committed offsets of a group, by topic and partition.
    pub fn committed_offsets(&self, group: &str) -> BTreeMap<(String, i32), Committed> {
        self.0.coordinator.offsets(group)
    }

    /// All groups, sorted by id, without their members.
    pub fn list_groups(&self) -> Vec<GroupDescription> {
        self.0.coordinator.list()
    }

    /// One group with its members; none if it does not exist.
    pub fn describe_group(&self, group: &str) -> Option<GroupDescription> {
        self.0.coordinator.describe(group)
    }

    /// Deletes a group without members, with its offsets; resolves when that is durable.
    ///
    /// # Errors
    /// As DeleteGroups answers: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP.
    pub async fn delete_group(&self, group: &str) -> Result<(), ResponseError> {
        self.0.coordinator.delete_group(group).await
    }

    /// Forgets single offsets of a group, by topic and partition; resolves when that is durable. Answers in the
    /// order asked; an offset that was never committed counts as forgotten.
    ///
    /// # Errors
    /// As OffsetDelete answers for the whole group; else each offset has its own result.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        places: &[(String, i32)],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        self.0.coordinator.delete_offsets(group, places).await
    }
}

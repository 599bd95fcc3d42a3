//! Consumer groups over the wire: a rebalance, commits, and their life across restarts.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};

use crate::client::{Client, name, start, string, until};

fn group(id: &str) -> GroupId {
    GroupId(string(id))
}

fn join(member: &str) -> JoinGroupRequest {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(string("range")).with_metadata(Bytes::from_static(b"meta"));
    JoinGroupRequest::default()
        .with_group_id(group("g"))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(string(member))
        .with_protocol_type(string("consumer"))
        .with_protocols(vec![protocol])
}

async fn join_new(client: &mut Client) -> JoinGroupResponse {
    let first = client.call(join(""), 5).await;
    assert_eq!(first.error_code, ResponseError::MemberIdRequired.code());
    client.call(join(&first.member_id), 5).await
}

async fn sync(client: &mut Client, joined: &JoinGroupResponse, assignments: &[(&str, &'static [u8])]) -> (i16, Bytes) {
    let assignment = |(id, bytes): &(&str, &'static [u8])| {
        SyncGroupRequestAssignment::default().with_member_id(string(id)).with_assignment(Bytes::from_static(bytes))
    };
    let request = SyncGroupRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(assignments.iter().map(assignment).collect());
    let answer = client.call(request, 3).await;
    (answer.error_code, answer.assignment)
}

async fn heartbeat(client: &mut Client, joined: &JoinGroupResponse) -> i16 {
    let request = HeartbeatRequest::default().with_group_id(group("g")).with_generation_id(joined.generation_id);
    client.call(request.with_member_id(joined.member_id.clone()), 3).await.error_code
}

async fn commit(client: &mut Client, id: &str, member: Option<&JoinGroupResponse>, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let partition = partition.with_committed_metadata(Some(string("note")));
    let topic = OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_generation_id_or_member_epoch(member.map_or(-1, |m| m.generation_id))
        .with_member_id(member.map(|m| m.member_id.clone()).unwrap_or_default())
        .with_topics(vec![topic]);
    client.call(request, 8).await.topics[0].partitions[0].error_code
}

async fn committed(client: &mut Client, id: &str) -> (i16, i64, String) {
    let topic = OffsetFetchRequestTopics::default().with_name(name("t")).with_partition_indexes(vec![0]);
    let asked = OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(Some(vec![topic]));
    let answer = client.call(OffsetFetchRequest::default().with_groups(vec![asked]), 8).await;
    let found = &answer.groups[0].topics[0].partitions[0];
    (answer.groups[0].error_code, found.committed_offset, found.metadata.clone().unwrap().to_string())
}

#[tokio::test]
async fn two_members_share_a_group_and_one_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let (mut a, mut b) = (Client::connect(&broker).await, Client::connect(&broker).await);
    let first = join_new(&mut a).await;
    assert_eq!((first.error_code, first.generation_id, first.members.len()), (0, 1, 1));
    assert_eq!(sync(&mut a, &first, &[(&first.member_id, b"all")]).await, (0, Bytes::from_static(b"all")));
    assert_eq!(heartbeat(&mut a, &first).await, 0);
    let second = tokio::spawn(async move {
        let joined = join_new(&mut b).await;
        (b, joined)
    });
    let rebalancing = ResponseError::RebalanceInProgress.code();
    let beating = tokio::sync::Mutex::new(a);
    until(|| async { heartbeat(&mut *beating.lock().await, &first).await == rebalancing }).await;
    let mut a = beating.into_inner();
    let again = a.call(join(&first.member_id), 5).await;
    let (mut b, second) = second.await.unwrap();
    assert_eq!((again.generation_id, second.generation_id, again.members.len(), second.members.len()), (2, 2, 2, 0));
    let follower = tokio::spawn(async move {
        let synced = sync(&mut b, &second, &[]).await;
        (b, second, synced)
    });
    let leader_sync =
        sync(&mut a, &again, &[(&again.members[0].member_id, b"1"), (&again.members[1].member_id, b"2")]).await;
    let (mut b, second, synced) = follower.await.unwrap();
    assert_eq!((leader_sync.0, synced.0), (0, 0));
    assert_ne!(leader_sync.1, synced.1);
    let described = b.call(DescribeGroupsRequest::default().with_groups(vec![group("g")]), 4).await;
    assert_eq!((described.groups[0].group_state.as_str(), described.groups[0].members.len()), ("Stable", 2));
    let left = LeaveGroupRequest::default().with_group_id(group("g")).with_member_id(second.member_id.clone());
    assert_eq!(b.call(left, 1).await.error_code, 0);
    assert_eq!(heartbeat(&mut a, &again).await, rebalancing);
    assert_eq!(commit(&mut b, "g", Some(&second), 1).await, ResponseError::UnknownMemberId.code());
}

#[tokio::test]
async fn commits_survive_restarts_and_unknown_groups_have_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = start(dir.path(), &[]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[]).await;
    assert_eq!(committed(&mut client, "nobody").await, (0, -1, String::new()));
    assert_eq!(commit(&mut client, "outside", None, 41).await, 0);
    assert_eq!(commit(&mut client, "outside", None, 42).await, 0);
    let joined = join_new(&mut client).await;
    sync(&mut client, &joined, &[]).await;
    assert_eq!(commit(&mut client, "g", Some(&joined), 7).await, 0);
    assert_eq!(commit(&mut client, "g", None, 8).await, ResponseError::UnknownMemberId.code());
    for clean in [true, false] {
        if clean {
            broker.shutdown().await.unwrap();
        } else {
            drop(broker);
        }
        broker = start(dir.path(), &[]).await;
        client = Client::connect(&broker).await;
        assert_eq!(committed(&mut client, "outside").await, (0, 42, "note".to_owned()));
        assert_eq!(committed(&mut client, "g").await, (0, 7, "note".to_owned()));
        assert_eq!(heartbeat(&mut client, &joined).await, 0, "members survive");
    }
    let listed = client.call(ListGroupsRequest::default(), 4).await;
    assert_eq!(listed.groups.iter().map(|g| g.group_state.as_str()).collect::<Vec<_>>(), ["Stable", "Empty"]);
    let delete =
        |ids: &[&str]| DeleteGroupsRequest::default().with_groups_names(ids.iter().map(|id| group(id)).collect());
    let deleted = client.call(delete(&["outside", "g", "nobody"]), 2).await;
    let codes: Vec<i16> = deleted.results.iter().map(|r| r.error_code).collect();
    assert_eq!(codes, [0, ResponseError::NonEmptyGroup.code(), ResponseError::GroupIdNotFound.code()]);
    assert_eq!(committed(&mut client, "outside").await.1, -1);
}

#[tokio::test]
async fn a_silent_member_expires() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[("group.min.session.timeout.ms", "50")]).await;
    let mut client = Client::connect(&broker).await;
    let short = |member: &str| join(member).with_session_timeout_ms(60);
    let first = client.call(short(""), 3).await;
    assert_eq!((first.error_code, first.generation_id), (0, 1));
    sync(&mut client, &first, &[]).await;
    let client = tokio::sync::Mutex::new(client);
    until(|| async {
        let asked = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
        client.lock().await.call(asked, 4).await.groups[0].group_state.as_str() == "Empty"
    })
    .await;
    let gone = heartbeat(&mut *client.lock().await, &first).await;
    assert_eq!(gone, ResponseError::UnknownMemberId.code());
}

//! The state machine, event by event.

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::*;
use crate::group::requests::{JoinRequest, SyncRequest};

const LIMITS: Limits = Limits { max_size: 10, initial_delay_ms: 0 };

fn request(member_id: &str) -> JoinRequest {
    JoinRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t"))],
        ..JoinRequest::default()
    }
}

fn join(group: &mut Group, r: JoinRequest, fresh_id: String, token: Token, now: i64, limits: Limits) -> Effects {
    group.join(r, JoinContext { fresh_id, token, now, limits })
}

fn joined(effects: Effects) -> Vec<(Token, JoinReply)> {
    effects.into_iter().filter_map(|e| if let Effect::Join(t, r) = e { Some((t, r)) } else { None }).collect()
}

fn sync(group: &mut Group, member: &str, token: Token, assignments: Vec<(String, Bytes)>) -> Effects {
    let generation = group.generation;
    group.sync(SyncRequest { member_id: member.into(), generation, assignments, ..SyncRequest::default() }, token, 0)
}

/// A stable group of members a (leader) and b.
fn stable() -> Group {
    let mut group = Group::new(0);
    assert_eq!(joined(join(&mut group, request(""), "a".into(), 1, 0, LIMITS)).len(), 1);
    assert!(joined(join(&mut group, request(""), "b".into(), 2, 0, LIMITS)).is_empty());
    let replies = joined(join(&mut group, request("a"), String::new(), 3, 0, LIMITS));
    assert_eq!(replies.len(), 2);
    assert_eq!((replies[0].1.members.len(), replies[1].1.members.len()), (2, 0));
    assert!(sync(&mut group, "b", 4, vec![]).is_empty());
    let effects = sync(&mut group, "a", 5, vec![("b".into(), Bytes::from_static(b"x"))]);
    assert!(matches!(effects[0], Effect::Persist));
    assert_eq!(effects.len(), 3);
    assert_eq!((group.phase, group.generation), (Phase::Stable, 2));
    group
}

#[test]
fn two_members_join_sync_and_heartbeat() {
    let mut group = stable();
    assert_eq!(group.heartbeat("a", None, 2, 100), Ok(()));
    assert_eq!(group.heartbeat("a", None, 1, 100), Err(ResponseError::IllegalGeneration));
    assert_eq!(group.heartbeat("z", None, 2, 100), Err(ResponseError::UnknownMemberId));
    assert_eq!(group.subscribed(), Some(vec!["t".to_owned(), "t".to_owned()]));
}

#[test]
fn a_silent_member_is_removed_and_the_rest_rebalances() {
    let mut group = stable();
    group.heartbeat("a", None, 2, 9_000).unwrap();
    assert_eq!(group.next_deadline(), Some(10_000));
    assert!(group.tick(10_000, LIMITS).is_empty());
    assert_eq!((group.phase, group.members.len()), (Phase::Preparing, 1));
    assert_eq!(group.heartbeat("a", None, 2, 10_001), Err(ResponseError::RebalanceInProgress));
    let replies = joined(join(&mut group, request("a"), String::new(), 9, 10_002, LIMITS));
    assert_eq!((replies[0].1.generation, replies[0].1.members.len()), (3, 1));
}

#[test]
fn the_last_to_leave_empties_the_group() {
    let mut group = stable();
    let (result, _) = group.leave("b", None, 5, LIMITS);
    assert_eq!(result, Ok(()));
    let (result, effects) = group.leave("a", None, 6, LIMITS);
    assert_eq!((result, group.phase), (Ok(()), Phase::Empty));
    assert!(matches!(effects.as_slice(), [Effect::Persist]));
    assert_eq!(group.check_commit("", None, -1, 7), Ok(()));
    assert_eq!(group.leave("a", None, 6, LIMITS).0, Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_new_member_must_return_with_its_id() {
    let mut group = Group::new(0);
    let asks = JoinRequest { require_known_member: true, ..request("") };
    let replies = joined(join(&mut group, asks, "m".into(), 1, 0, LIMITS));
    assert_eq!((replies[0].1.error, replies[0].1.member_id.as_str()), (Some(ResponseError::MemberIdRequired), "m"));
    assert_eq!(joined(join(&mut group, request("m"), String::new(), 2, 0, LIMITS))[0].1.error, None);
    assert_eq!(
        joined(join(&mut group, request("n"), String::new(), 3, 0, LIMITS))[0].1.error,
        Some(ResponseError::UnknownMemberId)
    );
}

#[test]
fn a_static_member_returns_without_a_rebalance_and_fences_its_old_self() {
    let mut group = Group::new(0);
    let fixed = |id: &str| JoinRequest { instance_id: Some("i".into()), can_skip_assignment: true, ..request(id) };
    join(&mut group, fixed(""), "i-1".into(), 1, 0, LIMITS);
    sync(&mut group, "i-1", 2, vec![("i-1".into(), Bytes::from_static(b"mine"))]);
    let replies = joined(join(&mut group, fixed(""), "i-2".into(), 3, 0, LIMITS));
    let reply = &replies[0].1;
    assert_eq!((reply.generation, reply.skip_assignment, reply.member_id.as_str()), (1, true, "i-2"));
    assert_eq!(group.heartbeat("i-1", Some("i"), 1, 0), Err(ResponseError::FencedInstanceId));
    assert_eq!(group.synced("i-2").assignment, Bytes::from_static(b"mine"));
    assert_eq!(group.leave("", Some("i"), 0, LIMITS).0, Ok(()));
    assert_eq!(group.phase, Phase::Empty);
}

#[test]
fn a_static_member_that_remembers_its_partitions_returns_without_a_rebalance_but_not_with_other_topics() {
    let mut group = Group::new(0);
    let fixed = |metadata: &'static [u8]| JoinRequest {
        instance_id: Some("i".into()),
        can_skip_assignment: true,
        protocols: vec![("range".into(), Bytes::from_static(metadata))],
        ..request("")
    };
    let (fresh, owning) =
        (b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0", b"\0\x01\0\0\0\x01\0\x01t\0\0\0\0\0\0\0\x01");
    join(&mut group, fixed(owning), "i-1".into(), 1, 0, LIMITS);
    sync(&mut group, "i-1", 2, vec![("i-1".into(), Bytes::from_static(b"mine"))]);
    let replies = joined(join(&mut group, fixed(fresh), "i-2".into(), 3, 0, LIMITS));
    assert_eq!((replies[0].1.generation, group.phase), (1, Phase::Stable));
    let replies = joined(join(&mut group, fixed(b"\0\x01\0\0\0\x01\0\x01u"), "i-3".into(), 4, 0, LIMITS));
    assert_eq!((replies[0].1.generation, group.phase), (2, Phase::Completing));
}

#[test]
fn members_without_a_common_assignor_are_refused() {
    let mut group = stable();
    let other = JoinRequest { protocols: vec![("sticky".into(), Bytes::new())], ..request("") };
    assert_eq!(
        joined(join(&mut group, other, "c".into(), 7, 0, LIMITS))[0].1.error,
        Some(ResponseError::InconsistentGroupProtocol)
    );
    let other = JoinRequest { protocol_type: "connect".into(), ..request("") };
    assert_eq!(
        joined(join(&mut group, other, "c".into(), 8, 0, LIMITS))[0].1.error,
        Some(ResponseError::InconsistentGroupProtocol)
    );
}

#[test]
fn the_join_phase_ends_without_those_who_do_not_return() {
    let mut group = stable();
    assert!(joined(join(&mut group, request(""), "c".into(), 7, 1_000, LIMITS)).is_empty());
    assert!(joined(join(&mut group, request("a"), String::new(), 8, 1_000, LIMITS)).is_empty());
    group.heartbeat("b", None, 2, 60_500).unwrap_err();
    let replies = joined(group.tick(61_000, LIMITS));
    assert_eq!(replies.len(), 2);
    assert!(!group.members.contains_key("b"));
    assert_eq!(group.check_commit("a", None, 3, 61_001), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn a_first_member_waits_for_others_if_told_so() {
    let limits = Limits { initial_delay_ms: 3_000, ..LIMITS };
    let mut group = Group::new(0);
    assert!(join(&mut group, request(""), "a".into(), 1, 0, limits).is_empty());
    assert!(join(&mut group, request(""), "b".into(), 2, 2_000, limits).is_empty());
    assert!(group.tick(3_000, limits).is_empty());
    assert_eq!(joined(group.tick(5_000, limits)).len(), 2);
    assert_eq!(group.generation, 1);
}

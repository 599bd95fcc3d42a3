//! Keys and values of `__consumer_offsets`, in Kafka's binary format (keys 0-2, values up to version 3).

use bytes::{Buf, BufMut, Bytes};

use super::offsets::Committed;
use super::state::{Group, Member, Phase};

/// A key of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Offset { group: String, topic: String, partition: i32 },
    Group(String),
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn put_opt(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_str(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

fn take_opt(b: &mut &[u8]) -> Option<Option<String>> {
    let len = b.try_get_i16().ok()?;
    if len < 0 {
        return Some(None);
    }
    let (text, tail) = b.split_at_checked(len as usize)?;
    *b = tail;
    Some(Some(String::from_utf8(text.to_vec()).ok()?))
}

fn take_str(b: &mut &[u8]) -> Option<String> {
    take_opt(b)?
}

fn take_bytes(b: &mut &[u8]) -> Option<Bytes> {
    let len = usize::try_from(b.try_get_i32().ok()?).ok()?;
    let (bytes, tail) = b.split_at_checked(len)?;
    *b = tail;
    Some(Bytes::copy_from_slice(bytes))
}

impl Key {
    /// The bytes of the key.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Key::Offset { group, topic, partition } => {
                out.put_i16(1);
                put_str(&mut out, group);
                put_str(&mut out, topic);
                out.put_i32(*partition);
            }
            Key::Group(group) => {
                out.put_i16(2);
                put_str(&mut out, group);
            }
        }
        out
    }

    /// Reads a key; none for kinds that are not known here.
    pub(super) fn decode(mut b: &[u8]) -> Option<Self> {
        match b.try_get_i16().ok()? {
            0 | 1 => {
                let (group, topic) = (take_str(&mut b)?, take_str(&mut b)?);
                Some(Key::Offset { group, topic, partition: b.try_get_i32().ok()? })
            }
            2 => Some(Key::Group(take_str(&mut b)?)),
            _ => None,
        }
    }
}

/// The bytes of an offset.
pub(super) fn encode_offset(value: &Committed) -> Vec<u8> {
    let mut out = Vec::new();
    // Version 1 is the only one that carries an expiry.
    match value.expire_timestamp {
        Some(expires) => {
            out.put_i16(1);
            out.put_i64(value.offset);
            put_str(&mut out, &value.metadata);
            out.put_i64(value.commit_timestamp);
            out.put_i64(expires);
        }
        None => {
            out.put_i16(3);
            out.put_i64(value.offset);
            out.put_i32(value.leader_epoch);
            put_str(&mut out, &value.metadata);
            out.put_i64(value.commit_timestamp);
        }
    }
    out
}

/// Reads an offset; none for versions that are not known here.
pub(super) fn decode_offset(mut b: &[u8]) -> Option<Committed> {
    let version = b.try_get_i16().ok()?;
    if !(0..=3).contains(&version) {
        return None;
    }
    let offset = b.try_get_i64().ok()?;
    let leader_epoch = if version >= 3 { b.try_get_i32().ok()? } else { -1 };
    let metadata = take_str(&mut b)?;
    let commit_timestamp = b.try_get_i64().ok()?;
    let expire_timestamp = if version == 1 { Some(b.try_get_i64().ok()?).filter(|t| *t >= 0) } else { None };
    Some(Committed { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp })
}

/// The bytes of a group's state.
pub(super) fn encode_group(group: &Group) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(3);
    put_str(&mut out, group.protocol_type.as_deref().unwrap_or(""));
    out.put_i32(group.generation);
    put_opt(&mut out, group.protocol.as_deref());
    put_opt(&mut out, group.leader.as_deref());
    out.put_i64(group.since);
    out.put_i32(group.members.len() as i32);
    let protocol = group.protocol.as_deref().unwrap_or("");
    for member in group.members.values() {
        put_str(&mut out, &member.id);
        put_opt(&mut out, member.instance_id.as_deref());
        put_str(&mut out, &member.client_id);
        put_str(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout as i32);
        out.put_i32(member.session_timeout as i32);
        put_bytes(&mut out, &member.metadata(protocol));
        put_bytes(&mut out, &member.assignment);
    }
    out
}

/// Reads a group's state; its members have a full session from `now` on.
pub(super) fn decode_group(mut b: &[u8], now: i64) -> Option<Group> {
    let version = b.try_get_i16().ok()?;
    if !(0..=3).contains(&version) {
        return None;
    }
    let mut group = Group::new(now);
    group.protocol_type = take_opt(&mut b)?.filter(|t| !t.is_empty());
    group.generation = b.try_get_i32().ok()?;
    group.protocol = take_opt(&mut b)?;
    group.leader = take_opt(&mut b)?;
    if version >= 2 {
        group.since = Some(b.try_get_i64().ok()?).filter(|t| *t >= 0).unwrap_or(now);
    }
    for _ in 0..b.try_get_i32().ok()? {
        let id = take_str(&mut b)?;
        let instance_id = if version >= 3 { take_opt(&mut b)? } else { None };
        let (client_id, client_host) = (take_str(&mut b)?, take_str(&mut b)?);
        let rebalance = if version >= 1 { Some(b.try_get_i32().ok()?) } else { None };
        let session = b.try_get_i32().ok()?;
        let mut member = Member::restored(id, i64::from(session), i64::from(rebalance.unwrap_or(session)), now);
        (member.instance_id, member.client_id, member.client_host) = (instance_id, client_id, client_host);
        let metadata = take_bytes(&mut b)?;
        member.protocols = vec![(group.protocol.clone().unwrap_or_default(), metadata)];
        member.assignment = take_bytes(&mut b)?;
        group.restore(member);
    }
    debug_assert!(group.members.is_empty() == (group.phase == Phase::Empty));
    Some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_offsets_and_groups_read_back() {
        let key = Key::Offset { group: "g".into(), topic: "t".into(), partition: 7 };
        assert_eq!(key.encode(), b"\0\x01\0\x01g\0\x01t\0\0\0\x07");
        assert_eq!(Key::decode(&key.encode()), Some(key));
        assert_eq!(Key::decode(b"\0\x09"), None);
        for expire_timestamp in [None, Some(9)] {
            let value =
                Committed { offset: 5, leader_epoch: -1, metadata: "m".into(), commit_timestamp: 8, expire_timestamp };
            assert_eq!(decode_offset(&encode_offset(&value)), Some(value));
        }
        let mut group = Group::new(1);
        group.protocol_type = Some("consumer".into());
        group.protocol = Some("range".into());
        let mut member = Member::restored("a".into(), 10, 20, 0);
        member.instance_id = Some("i".into());
        member.protocols = vec![("range".into(), Bytes::from_static(b"meta"))];
        group.restore(member);
        let bytes = encode_group(&group);
        let read = decode_group(&bytes, 5).unwrap();
        assert_eq!((read.phase, read.members["a"].metadata("range")), (Phase::Stable, Bytes::from_static(b"meta")));
        assert_eq!(encode_group(&read), bytes);
        for cut in 0..bytes.len() {
            assert!(decode_group(&bytes[..cut], 5).is_none());
        }
    }
}

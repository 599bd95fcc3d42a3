//! Reading all groups back from `__consumer_offsets` at the start.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::Groups;
use crate::clock::now_ms;
use crate::group::records::{Key, decode_group, decode_offset};
use crate::group::state::Group;
use crate::log::Partition;
use crate::wire::batch::batches;
use crate::wire::records::decode;

/// Applies all records of one partition in their order.
pub(super) fn replay(partition: &Arc<Partition>, groups: &mut Groups) -> Result<(), ResponseError> {
    let now = now_ms();
    let (mut offset, end) = {
        let log = partition.log();
        (log.log_start(), log.end())
    };
    while offset < end {
        let (_, bytes) = partition.read(offset, 1 << 20, true)?;
        if bytes.is_empty() {
            break;
        }
        for (header, batch) in batches(&bytes) {
            offset = header.last_offset() + 1;
            if header.is_control() {
                continue;
            }
            let Ok(unpacked) = decode(&header, batch) else { continue };
            for record in unpacked.records().map_while(Result::ok) {
                if let Some(key) = record.key.and_then(Key::decode) {
                    apply(groups, key, record.value, record.offset, now);
                }
            }
        }
    }
    Ok(())
}

fn apply(groups: &mut Groups, key: Key, value: Option<&[u8]>, at: i64, now: i64) {
    match (key, value) {
        (Key::Group(id), None) => {
            if let Some(entry) = groups.entries.get_mut(&id) {
                entry.group = Group::new(now);
                if entry.offsets.is_empty() {
                    groups.entries.remove(&id);
                }
            }
        }
        (Key::Group(id), Some(value)) => match decode_group(value, now) {
            Some(group) => groups.entry(&id, now).group = group,
            None => tracing::warn!(group = id, "the state of a group is in an unknown format and was skipped"),
        },
        (Key::Offset { group, topic, partition }, None) => {
            if let Some(entry) = groups.entries.get_mut(&group) {
                entry.offsets.remove(&(topic, partition));
            }
        }
        (Key::Offset { group, topic, partition }, Some(value)) => {
            if let Some(committed) = decode_offset(value) {
                groups.entry(&group, now).offsets.insert((topic, partition), (committed, at));
            }
        }
    }
}

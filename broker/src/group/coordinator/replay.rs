//! Reading all groups back from `__consumer_offsets` at the start.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::{Groups, place_of};
use crate::clock::now_ms;
use crate::group::records::{Key, decode_group, decode_offset};
use crate::group::state::Group;
use crate::log::Partition;
use crate::wire::batch::batches;
use crate::wire::marker::EndMarker;
use crate::wire::records::decode;

/// Applies all records of one of `count` partitions in their order.
pub(super) fn replay(partition: &Arc<Partition>, count: usize, groups: &mut Groups) -> Result<(), ResponseError> {
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
                if let Some(marker) = EndMarker::parse(&header, batch) {
                    groups.end_transaction(marker.producer_id, marker.commit, now, |group| {
                        place_of(group, count) == partition.index
                    });
                }
                continue;
            }
            let producer = header.is_transactional().then_some(header.producer_id);
            let Ok(unpacked) = decode(&header, batch) else { continue };
            for record in unpacked.records().map_while(Result::ok) {
                if let Some(key) = record.key.and_then(Key::decode) {
                    apply(groups, key, record.value, (record.offset, producer), now);
                }
            }
        }
    }
    Ok(())
}

/// Applies a record at an offset, of a transaction if a producer is given.
fn apply(groups: &mut Groups, key: Key, value: Option<&[u8]>, (at, producer): (i64, Option<i64>), now: i64) {
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
            let Some(committed) = decode_offset(value) else { return };
            let offsets = match producer {
                Some(producer) => groups.pending.entry(producer).or_default().entry(group).or_default(),
                None => &mut groups.entry(&group, now).offsets,
            };
            offsets.insert((topic, partition), (committed, at));
        }
    }
}

//! What a reader of committed records keeps of what it fetched (KIP-98).

use bytes::{Bytes, BytesMut};

use super::batch::batches;
use super::marker::EndMarker;

/// The batches without markers and without what was aborted; a copy only where something in between was left out.
pub(crate) fn committed_only(records: &Bytes, mut aborted: Vec<(i64, i64)>) -> Bytes {
    aborted.sort_unstable_by_key(|(_, first)| std::cmp::Reverse(*first));
    let mut dropped: Vec<i64> = Vec::new();
    let mut kept: Vec<std::ops::Range<usize>> = Vec::new();
    let mut at = 0;
    for (header, batch) in batches(records) {
        while let Some((producer, _)) = aborted.pop_if(|(_, first)| *first <= header.last_offset()) {
            dropped.push(producer);
        }
        let range = at..at + batch.len();
        at = range.end;
        if header.is_control() {
            if EndMarker::parse(&header, batch).is_some_and(|marker| !marker.commit) {
                dropped.retain(|producer| *producer != header.producer_id);
            }
        } else if !(header.is_transactional() && dropped.contains(&header.producer_id)) {
            match kept.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => kept.push(range),
            }
        }
    }
    match kept.as_slice() {
        [] => Bytes::new(),
        [all] => records.slice(all.clone()),
        parts => {
            let mut out = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
            parts.iter().for_each(|part| out.extend_from_slice(&records[part.clone()]));
            out.freeze()
        }
    }
}

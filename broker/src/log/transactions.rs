//! Transactions in one log: markers, the last stable offset, and which transactions were aborted (`.txnindex`).

use std::io;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::append::{Appended, Batch};
use super::fs::Fs;
use super::partition::{Log, Partition};
use super::producer_state::{Producer, Producers};
use super::segment::Scanner;
use crate::wire::batch::BatchHeader;
use crate::wire::marker::EndMarker;

const INDEX_ENTRY: usize = 34;
/// More bytes than any reader waits for.
const ENOUGH: i64 = i64::MAX / 4;

/// One entry of a `.txnindex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// Offset of the marker.
    pub(crate) last_offset: i64,
    /// Last stable offset once the marker was there.
    pub(crate) last_stable: i64,
}

impl Aborted {
    /// The entry for a marker that was just noted in `producers`.
    pub(super) fn new(header: &BatchHeader, first_offset: i64, producers: &Producers) -> Self {
        Aborted {
            producer_id: header.producer_id,
            first_offset,
            last_offset: header.last_offset(),
            last_stable: producers.first_open().unwrap_or(header.last_offset() + 1),
        }
    }

    /// The bytes of a `.txnindex` file.
    pub(super) fn encode(all: &[Aborted]) -> Vec<u8> {
        let mut out = Vec::with_capacity(all.len() * INDEX_ENTRY);
        for entry in all {
            out.extend_from_slice(&0i16.to_be_bytes());
            for field in [entry.producer_id, entry.first_offset, entry.last_offset, entry.last_stable] {
                out.extend_from_slice(&field.to_be_bytes());
            }
        }
        out
    }

    /// Reads a `.txnindex` file; none if it is damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Aborted>> {
        let i64_at = |e: &[u8], at: usize| e[at..at + 8].iter().fold(0u64, |v, b| (v << 8) | u64::from(*b)) as i64;
        let entry = |e: &[u8]| {
            (e[..2] == [0, 0]).then(|| Aborted {
                producer_id: i64_at(e, 2),
                first_offset: i64_at(e, 10),
                last_offset: i64_at(e, 18),
                last_stable: i64_at(e, 26),
            })
        };
        if bytes.len().is_multiple_of(INDEX_ENTRY) {
            bytes.chunks_exact(INDEX_ENTRY).map(entry).collect()
        } else {
            None
        }
    }
}

impl Log {
    /// Last stable offset: all transactions before it have ended, visibly.
    pub(crate) fn last_stable(&self) -> i64 {
        let open = self.producers.first_open();
        let ended = self.unseen_ends.iter().map(|(_, first)| *first).min();
        let limits = [open, ended].into_iter().flatten();
        limits.fold(self.visible_end(), i64::min).max(self.log_start)
    }

    /// Appends the marker that ends a producer's transaction; nothing if it has none open here.
    pub(crate) fn end_transaction(&mut self, marker: &EndMarker, now: i64) -> Result<Option<Appended>, ResponseError> {
        self.check_alive()?;
        if !self.producers.check_marker(marker)? {
            return Ok(None);
        }
        let (fs, dir) = (self.fs.clone(), self.dir.clone());
        self.active().aborted(fs.as_ref(), &dir).map_err(|_| ResponseError::KafkaStorageError)?;
        let bytes = marker.batch();
        let header = BatchHeader::parse(&bytes).map_err(|_| ResponseError::UnknownServerError)?;
        let (header, appended) = self.store(Batch { header, bytes }, now)?;
        if let Some(first) = self.producers.note_marker(&header, marker) {
            if !marker.commit {
                let entry = Aborted::new(&header, first, &self.producers);
                self.active().note_aborted(entry);
            }
            if self.visible_end() < self.end {
                self.unseen_ends.push((header.base_offset, first));
            }
        }
        // A reader of committed records may wait for much less than this marker sets free.
        self.grew(ENOUGH);
        Ok(Some(appended))
    }

    /// Aborted transactions that a reader of `[from, to)` must know.
    pub(crate) fn aborted_between(&mut self, from: i64, to: i64) -> io::Result<Vec<Aborted>> {
        let (fs, dir) = (self.fs.clone(), self.dir.clone());
        let mut found = Vec::new();
        for at in self.segment_of(from)..self.segments.len() {
            for entry in self.segments[at].aborted(fs.as_ref(), &dir)? {
                if entry.last_offset >= from && entry.first_offset < to {
                    found.push(*entry);
                }
                if entry.last_stable >= to {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// A producer that has written here.
    pub(crate) fn producer(&self, producer_id: i64) -> Option<&Producer> {
        self.producers.find(producer_id)
    }

    /// Whether all that was appended is on disk.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced_end >= self.end
    }
}

type Place = (Arc<dyn super::fs::LogFile>, u64);

impl Partition {
    /// The marker with which a producer's last transaction before `offset` ended; none if its last batch before
    /// that is none, or there is none. Walks back through the log; meant for recovery.
    pub(crate) fn last_marker_before(&self, producer_id: i64, offset: i64) -> io::Result<Option<EndMarker>> {
        let mut places: Vec<Place> = {
            let mut log = self.log();
            let (fs, dir) = (log.fs.clone(), log.dir.clone());
            let file = |s: &mut super::segment::Segment, fs: &dyn Fs| Ok((s.file(fs, &dir, false)?, s.size));
            let before = log.segments.iter_mut().filter(|s| s.base < offset && s.size > 0);
            before.map(|s| file(s, fs.as_ref())).collect::<io::Result<_>>()?
        };
        while let Some((file, size)) = places.pop() {
            let mut scanner = Scanner::new(file, 0, size);
            let mut last = None;
            while let Some((position, header)) = scanner.next()? {
                if header.base_offset >= offset {
                    break;
                }
                if header.producer_id == producer_id && header.record_count > 0 {
                    last = Some((position, header));
                }
            }
            if let Some((position, header)) = last {
                return Ok(EndMarker::parse(&header, &scanner.batch(position, &header)?));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_reads_back_and_notices_damage() {
        let entry = Aborted { producer_id: 1, first_offset: 5, last_offset: 9, last_stable: 10 };
        let bytes = Aborted::encode(&[entry, Aborted { last_offset: 12, ..entry }]);
        assert_eq!(bytes.len(), 68);
        assert_eq!(Aborted::decode(&bytes).map(|all| all[0]), Some(entry));
        assert_eq!(Aborted::decode(&bytes[1..]), None);
    }
}

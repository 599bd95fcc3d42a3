//! What a partition remembers of producers: the last five batches of each, for duplicates and order (KIP-98, KIP-360),
//! which transactions are open, and the `.snapshot` file.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kafka_protocol::ResponseError;

use crate::wire::batch::{BatchHeader, add_sequence};
use crate::wire::marker::EndMarker;

const KEPT_BATCHES: usize = 5;
const SNAPSHOT_ENTRY: usize = 46;

/// One remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remembered {
    last_sequence: i32,
    /// Offsets, and sequences, that the batch spans beyond its first.
    delta: i32,
    last_offset: i64,
}

impl Remembered {
    fn first_sequence(&self) -> i32 {
        add_sequence(self.last_sequence, self.delta.wrapping_neg())
    }
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    /// Current epoch.
    pub(crate) epoch: i16,
    /// Time of its last batch.
    pub(crate) timestamp: i64,
    /// Epoch of the coordinator that last ended a transaction of it, -1 if none did.
    pub(crate) coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub(crate) open_from: Option<i64>,
    /// Time of its last marker, far back if there is none; not known for what was open at a snapshot.
    pub(crate) last_marker: Option<i64>,
    batches: VecDeque<Remembered>,
}

impl Producer {
    /// Sequence of its last record, -1 if none is known.
    pub(crate) fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |b| b.last_sequence)
    }
    /// Offset of its last record.
    pub(crate) fn last_offset(&self) -> i64 {
        self.batches.back().map_or(-1, |b| b.last_offset)
    }
}

/// What the check says about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// Append it.
    Next,
    /// It is in the log already, with these first and last offsets.
    Duplicate(i64, i64),
}

/// All producers of a partition.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Producers {
    known: HashMap<i64, Producer>,
    /// Producer by the first offset of its open transaction.
    open: BTreeMap<i64, i64>,
}

impl Producers {
    /// Checks a batch that is about to be appended.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Sequence, ResponseError> {
        if !header.has_producer() {
            return Ok(Sequence::Next);
        }
        let Some(known) = self.known.get(&header.producer_id) else { return Ok(Sequence::Next) };
        let (first, last) = (header.base_sequence, header.last_sequence());
        if header.producer_epoch == known.epoch && first >= 0 {
            let same = |b: &&Remembered| b.first_sequence() == first && b.last_sequence == last;
            if let Some(batch) = known.batches.iter().find(same) {
                return Ok(Sequence::Duplicate(batch.last_offset - i64::from(batch.delta), batch.last_offset));
            }
        }
        if header.producer_epoch < known.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if known.open_from.is_some() && !header.is_transactional() {
            return Err(ResponseError::InvalidTxnState);
        }
        if first < 0 {
            // The broker's own records of a transaction have no sequence.
            return Ok(Sequence::Next);
        }
        let expected = if header.producer_epoch > known.epoch {
            0
        } else if let Some(batch) = known.batches.back() {
            add_sequence(batch.last_sequence, 1)
        } else {
            return Ok(Sequence::Next);
        };
        if first == expected { Ok(Sequence::Next) } else { Err(ResponseError::OutOfOrderSequenceNumber) }
    }

    /// Whether a marker may be appended, and whether there is a transaction for it to end.
    pub(crate) fn check_marker(&self, marker: &EndMarker) -> Result<bool, ResponseError> {
        let Some(known) = self.known.get(&marker.producer_id) else { return Ok(false) };
        if marker.epoch < known.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if marker.coordinator_epoch < known.coordinator_epoch {
            return Err(ResponseError::TransactionCoordinatorFenced);
        }
        Ok(known.open_from.is_some())
    }

    /// Remembers a batch of data that is in the log at the offsets of its header.
    pub(crate) fn note(&mut self, header: &BatchHeader) {
        if !header.has_producer() || header.is_control() {
            return;
        }
        let entry = self.seen(header);
        if header.is_transactional() && entry.open_from.is_none() {
            entry.open_from = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
        if header.base_sequence < 0 {
            return;
        }
        let Some(entry) = self.known.get_mut(&header.producer_id) else { return };
        if entry.batches.len() == KEPT_BATCHES {
            entry.batches.pop_front();
        }
        entry.batches.push_back(Remembered {
            last_sequence: header.last_sequence(),
            delta: header.last_offset_delta,
            last_offset: header.last_offset(),
        });
    }

    /// Remembers a marker that is in the log; answers the first offset of the transaction that it ended.
    pub(crate) fn note_marker(&mut self, header: &BatchHeader, marker: &EndMarker) -> Option<i64> {
        let entry = self.seen(header);
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_marker = Some(marker.timestamp);
        let from = entry.open_from.take()?;
        self.open.remove(&from);
        Some(from)
    }

    fn seen(&mut self, header: &BatchHeader) -> &mut Producer {
        let entry = self.known.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            timestamp: header.max_timestamp,
            coordinator_epoch: -1,
            open_from: None,
            last_marker: Some(i64::MIN),
            batches: VecDeque::with_capacity(1),
        });
        if entry.epoch != header.producer_epoch {
            entry.epoch = header.producer_epoch;
            entry.batches.clear();
        }
        entry.timestamp = header.max_timestamp;
        entry
    }

    /// First offset of the oldest open transaction.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.first_key_value().map(|(offset, _)| *offset)
    }

    /// One producer.
    pub(crate) fn find(&self, producer_id: i64) -> Option<&Producer> {
        self.known.get(&producer_id)
    }

    /// Forgets producers that were silent since `before` and have no open transaction.
    pub(crate) fn expire(&mut self, before: i64) {
        self.known.retain(|_, producer| producer.timestamp >= before || producer.open_from.is_some());
    }

    /// Whether compaction must keep the batch that ends at `offset`, for the producer's last sequence.
    pub(crate) fn is_last_of(&self, producer_id: i64, offset: i64) -> bool {
        self.known.get(&producer_id).is_some_and(|p| p.last_offset() == offset)
    }

    /// Producers by id, for DescribeProducers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.known.iter().map(|(id, producer)| (*id, producer))
    }

    /// The bytes of a `.snapshot` file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(4 + self.known.len() * SNAPSHOT_ENTRY);
        body.extend_from_slice(&(self.known.len() as i32).to_be_bytes());
        for (id, producer) in &self.known {
            let last = producer.batches.back();
            body.extend_from_slice(&id.to_be_bytes());
            body.extend_from_slice(&producer.epoch.to_be_bytes());
            body.extend_from_slice(&producer.last_sequence().to_be_bytes());
            body.extend_from_slice(&producer.last_offset().to_be_bytes());
            body.extend_from_slice(&last.map_or(0, |b| b.delta).to_be_bytes());
            body.extend_from_slice(&producer.timestamp.to_be_bytes());
            body.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            body.extend_from_slice(&producer.open_from.unwrap_or(-1).to_be_bytes());
        }
        let mut out = 1i16.to_be_bytes().to_vec();
        out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// Reads a `.snapshot` file; none if it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk::<2>()?;
        let (crc, body) = rest.split_first_chunk::<4>()?;
        let (_count, entries) = body.split_first_chunk::<4>()?;
        if *version != [0, 1] || u32::from_be_bytes(*crc) != crc32c::crc32c(body) {
            return None;
        }
        let mut producers = Producers::default();
        for e in entries.chunks_exact(SNAPSHOT_ENTRY) {
            let i64_at = |at: usize| e[at..at + 8].iter().fold(0u64, |v, b| (v << 8) | u64::from(*b)) as i64;
            let i32_at = |at: usize| i32::from_be_bytes([e[at], e[at + 1], e[at + 2], e[at + 3]]);
            let (last_sequence, last_offset) = (i32_at(10), i64_at(14));
            let mut batches = VecDeque::with_capacity(1);
            if last_sequence >= 0 {
                batches.push_back(Remembered { last_sequence, delta: i32_at(22), last_offset });
            }
            let (id, open_from) = (i64_at(0), Some(i64_at(38)).filter(|from| *from >= 0));
            producers.open.extend(open_from.map(|from| (from, id)));
            let epoch = i16::from_be_bytes([e[8], e[9]]);
            let (timestamp, coordinator_epoch) = (i64_at(26), i32_at(34));
            // What a transactional producer wrote last, if nothing is open, was a marker.
            let last_marker = open_from.is_none().then_some(timestamp);
            let producer = Producer { epoch, timestamp, coordinator_epoch, open_from, last_marker, batches };
            producers.known.insert(id, producer);
        }
        Some(producers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::records::BatchBuilder;

    fn batch(epoch: i16, sequence: i32, count: usize, at: i64) -> BatchHeader {
        let mut builder = BatchBuilder::new(77).producer(9, epoch, sequence);
        for _ in 0..count {
            builder.push(77, None, Some(b"v"));
        }
        let mut header = BatchHeader::parse(&builder.build()).unwrap();
        header.base_offset = at;
        header
    }

    #[test]
    fn duplicates_get_their_offsets_and_gaps_are_refused() {
        let mut producers = Producers::default();
        for i in 0..6 {
            let next = batch(0, i * 2, 2, i64::from(i) * 10);
            assert_eq!(producers.check(&next), Ok(Sequence::Next));
            producers.note(&next);
        }
        assert_eq!(producers.check(&batch(0, 4, 2, 0)), Ok(Sequence::Duplicate(20, 21)));
        assert_eq!(producers.check(&batch(0, 0, 2, 0)), Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(producers.check(&batch(0, 13, 1, 0)), Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(producers.check(&batch(1, 3, 1, 0)), Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(producers.check(&batch(1, 0, 1, 0)), Ok(Sequence::Next));
        producers.note(&batch(1, 0, 1, 90));
        assert_eq!(producers.check(&batch(0, 12, 1, 0)), Err(ResponseError::InvalidProducerEpoch));
    }

    #[test]
    fn sequences_wrap() {
        let mut producers = Producers::default();
        producers.note(&batch(0, i32::MAX - 1, 3, 0));
        assert_eq!(producers.check(&batch(0, 1, 1, 0)), Ok(Sequence::Next));
        assert_eq!(producers.check(&batch(0, i32::MAX - 1, 3, 0)), Ok(Sequence::Duplicate(0, 2)));
    }

    #[test]
    fn a_snapshot_keeps_the_last_batch_and_notices_damage() {
        let mut producers = Producers::default();
        producers.note(&batch(2, 0, 2, 5));
        producers.note(&batch(2, 2, 3, 7));
        let mut bytes = producers.encode();
        let read = Producers::decode(&bytes).unwrap();
        assert_eq!(read.check(&batch(2, 2, 3, 0)), Ok(Sequence::Duplicate(7, 9)));
        assert_eq!(read.check(&batch(2, 5, 1, 0)), Ok(Sequence::Next));
        bytes[20] ^= 1;
        assert_eq!(Producers::decode(&bytes), None);
        producers.expire(78);
        assert_eq!(producers.iter().count(), 0);
    }

    #[test]
    fn a_transaction_is_open_from_its_first_batch_to_its_marker() {
        let transactional = |sequence, at| {
            let mut builder = BatchBuilder::new(77).producer(9, 0, sequence).transactional();
            builder.push(77, None, Some(b"v"));
            let mut header = BatchHeader::parse(&builder.build()).unwrap();
            header.base_offset = at;
            header
        };
        let marker = EndMarker { producer_id: 9, epoch: 0, commit: true, coordinator_epoch: 2, timestamp: 80 };
        let mut producers = Producers::default();
        assert_eq!(producers.check_marker(&marker), Ok(false));
        producers.note(&transactional(0, 5));
        producers.note(&transactional(1, 6));
        assert_eq!(producers.first_open(), Some(5));
        assert_eq!(producers.check(&batch(0, 2, 1, 7)), Err(ResponseError::InvalidTxnState));
        let mut producers = Producers::decode(&producers.encode()).unwrap();
        assert_eq!((producers.check_marker(&marker), producers.first_open()), (Ok(true), Some(5)));
        let mut header = BatchHeader::parse(&marker.batch()).unwrap();
        header.base_offset = 7;
        assert_eq!(producers.note_marker(&header, &marker), Some(5));
        assert_eq!((producers.first_open(), producers.check(&batch(0, 2, 1, 8))), (None, Ok(Sequence::Next)));
        let late = EndMarker { coordinator_epoch: 1, ..marker };
        assert_eq!(producers.check_marker(&late), Err(ResponseError::TransactionCoordinatorFenced));
    }
}

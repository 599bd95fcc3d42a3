//! The two sparse indexes of a segment: offset to position (8-byte entries) and time to offset (12-byte entries).
//!
//! The active segment's indexes live in memory; they are written when it is sealed or at a clean stop, and
//! rebuilt from the log when they are missing or do not hold together.

/// Entries of `.index` and `.timeindex`, offsets relative to the segment's base.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    /// Last offset of a batch, and where that batch starts.
    pub(crate) offsets: Vec<(u32, u32)>,
    /// A time, and the offset at or after which later times are.
    pub(crate) times: Vec<(i64, u32)>,
}

impl Index {
    /// Position from which to scan for `relative`.
    pub(crate) fn position(&self, relative: u32) -> u32 {
        let after = self.offsets.partition_point(|(offset, _)| *offset <= relative);
        if after == 0 { 0 } else { self.offsets[after - 1].1 }
    }

    /// Relative offset from which to scan for the first record at or after `timestamp`.
    pub(crate) fn offset_for_time(&self, timestamp: i64) -> u32 {
        let after = self.times.partition_point(|(time, _)| *time < timestamp);
        if after == 0 { 0 } else { self.times[after - 1].1 }
    }

    /// Adds a time entry if it is later than all before.
    pub(crate) fn push_time(&mut self, timestamp: i64, relative: u32) {
        if self.times.last().is_none_or(|(time, offset)| timestamp > *time && relative >= *offset) {
            self.times.push((timestamp, relative));
        }
    }

    /// The bytes of `.index` and `.timeindex`.
    pub(crate) fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let mut offsets = Vec::with_capacity(self.offsets.len() * 8);
        for (offset, position) in &self.offsets {
            offsets.extend_from_slice(&offset.to_be_bytes());
            offsets.extend_from_slice(&position.to_be_bytes());
        }
        let mut times = Vec::with_capacity(self.times.len() * 12);
        for (time, offset) in &self.times {
            times.extend_from_slice(&time.to_be_bytes());
            times.extend_from_slice(&offset.to_be_bytes());
        }
        (offsets, times)
    }

    /// Reads both files; none if they cannot belong to a segment of `size` bytes.
    pub(crate) fn decode(offsets: &[u8], times: &[u8], size: u64) -> Option<Self> {
        if !offsets.len().is_multiple_of(8) || !times.len().is_multiple_of(12) {
            return None;
        }
        let u32_of = |b: &[u8]| u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        let offsets: Vec<_> = offsets.chunks_exact(8).map(|e| (u32_of(e), u32_of(&e[4..]))).collect();
        let times: Vec<_> = times
            .chunks_exact(12)
            .map(|e| (((u64::from(u32_of(e)) << 32) | u64::from(u32_of(&e[4..]))) as i64, u32_of(&e[8..])))
            .collect();
        let sorted = offsets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1)
            && times.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1);
        let inside = offsets.last().is_none_or(|(_, position)| u64::from(*position) < size);
        (sorted && inside).then_some(Index { offsets, times })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_entry_before_and_survives_a_round_trip() {
        let mut index = Index { offsets: vec![(10, 100), (20, 200)], times: vec![] };
        index.push_time(5, 10);
        index.push_time(4, 12);
        index.push_time(9, 20);
        assert_eq!(index.times, [(5, 10), (9, 20)]);
        assert_eq!([9, 10, 19, 25].map(|o| index.position(o)), [0, 100, 100, 200]);
        assert_eq!([5, 6, 9, 10].map(|t| index.offset_for_time(t)), [0, 10, 10, 20]);
        let (offsets, times) = index.encode();
        assert_eq!(Index::decode(&offsets, &times, 300), Some(index));
        assert_eq!(Index::decode(&offsets, &times, 150), None);
        assert_eq!(Index::decode(&offsets[1..], &times, 300), None);
        assert_eq!(Index::decode(&[0; 16], &times, 300), None);
    }
}

//! Reading: which segment and position hold an offset, whole batches up to a limit, and look-ups by time.
//!
//! A read takes the lock only to find its place; the bytes are read without it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::buffers::ReadBuffer;
use super::fs::LogFile;
use super::partition::{Log, Partition};
use super::segment::Scanner;
use crate::wire::batch::{BatchHeader, HEADER_LEN, whole_batches};
use crate::wire::records;

/// A place in a segment.
#[derive(Debug)]
struct Place {
    file: Arc<dyn LogFile>,
    position: u64,
    size: u64,
    next_base: Option<i64>,
}

/// What a reader sees of a partition besides the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) log_start: i64,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable: i64,
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Isolation {
    /// All up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Those before the last stable offset, of which some may have been aborted.
    ReadCommitted,
}

/// What a read found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) marks: Watermarks,
    pub(crate) records: Bytes,
    /// Aborted transactions among the records: producer and first offset. For read_committed only.
    pub(crate) aborted: Vec<(i64, i64)>,
    /// Offset after the last record, or the one asked for.
    pub(crate) next: i64,
}

fn storage(error: &io::Error) -> ResponseError {
    tracing::error!(error = error as &dyn std::error::Error, "cannot read a log");
    ResponseError::KafkaStorageError
}

impl Log {
    /// Offsets as they are now.
    pub(crate) fn watermarks(&self) -> Watermarks {
        Watermarks { log_start: self.log_start, high_watermark: self.visible_end(), last_stable: self.last_stable() }
    }

    fn limit(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.visible_end(),
            Isolation::ReadCommitted => self.last_stable(),
        }
    }

    fn place(&mut self, offset: i64) -> io::Result<Option<Place>> {
        let at = self.segment_of(offset);
        let next_base = self.segments.get(at + 1).map(|s| s.base);
        let (fs, dir, interval) = (self.fs.clone(), self.dir.clone(), self.interval());
        let segment = &mut self.segments[at];
        if segment.size == 0 {
            return Ok(None);
        }
        let relative = u32::try_from(offset - segment.base).unwrap_or(0);
        let position = u64::from(segment.index(fs.as_ref(), &dir, interval)?.position(relative));
        let size = segment.size;
        let file = segment.file(fs.as_ref(), &dir, false)?;
        Ok(Some(Place { file, position, size, next_base }))
    }
}

impl Place {
    /// Position of the batch that holds `offset` or the first after it, with its length.
    fn find(&self, offset: i64) -> io::Result<Option<(u64, usize)>> {
        let mut scanner = Scanner::lookup(self.file.clone(), self.position, self.size);
        while let Some((position, header)) = scanner.next()? {
            if header.last_offset() >= offset {
                return Ok(Some((position, header.total_len())));
            }
        }
        Ok(None)
    }
}

impl Partition {
    /// Whether there is something to read at `offset`, and whether it may have to come from the disk.
    pub(crate) fn unread(&self, offset: i64, isolation: Isolation) -> (bool, bool) {
        let log = self.log();
        let any = offset < log.limit(isolation);
        (any, any && offset < log.warm.from())
    }

    /// Whole batches from the one that holds `offset` on, at most `max_bytes`; with `at_least_one`, the first
    /// batch even if it is larger. Empty at the end of the log.
    pub(crate) fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<(Watermarks, Bytes), ResponseError> {
        let found = self.read_isolated(offset, max_bytes, at_least_one, Isolation::ReadUncommitted)?;
        Ok((found.marks, found.records))
    }

    /// Like [`Partition::read`] up to what the isolation level lets a reader see.
    pub(crate) fn read_isolated(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<Found, ResponseError> {
        let (mut from, mut first) = (offset, true);
        loop {
            let (marks, limit, changes, place) = {
                let mut log = self.log();
                log.check_alive()?;
                let (marks, limit) = (log.watermarks(), log.limit(isolation));
                // Between high watermark and end is nothing yet, but nothing is wrong with asking for it.
                if first && (from < marks.log_start || from > log.end) {
                    return Err(ResponseError::OffsetOutOfRange);
                }
                let place = if from < limit { log.place(from).map_err(|e| storage(&e))? } else { None };
                (marks, limit, log.changes, place)
            };
            first = false;
            let nothing = Found { marks, records: Bytes::new(), aborted: Vec::new(), next: offset };
            let Some(place) = place else { return Ok(nothing) };
            let Some((position, len)) = place.find(from).map_err(|e| storage(&e))? else {
                // Compaction may leave no batch at the end of a segment.
                match place.next_base {
                    Some(base) => from = base,
                    None => return Ok(nothing),
                }
                continue;
            };
            let most = if at_least_one { max_bytes.max(len) } else { max_bytes };
            let (records, end) = place.read(position, most, limit).map_err(|e| storage(&e))?;
            if isolation == Isolation::ReadUncommitted || records.is_empty() {
                return Ok(Found { records, next: end.max(offset), ..nothing });
            }
            let mut log = self.log();
            if log.changes != changes {
                // What went meanwhile may have taken along that it was aborted.
                (from, first) = (offset, true);
                continue;
            }
            let aborted = log.aborted_between(from, end).map_err(|e| storage(&e))?;
            let aborted = aborted.into_iter().map(|entry| (entry.producer_id, entry.first_offset)).collect();
            return Ok(Found { records, aborted, next: end.max(offset), ..nothing });
        }
    }

    /// First record at or after `timestamp`: its time, offset and epoch.
    pub(crate) fn find_time(&self, timestamp: i64) -> Result<Option<(i64, i64, i32)>, ResponseError> {
        let (segments, log_start) = {
            let mut log = self.log();
            log.check_alive()?;
            (log.time_places(timestamp).map_err(|e| storage(&e))?, log.log_start)
        };
        for place in segments {
            let mut scanner = Scanner::new(place.file.clone(), place.position, place.size);
            while let Some((position, header)) = scanner.next().map_err(|e| storage(&e))? {
                if header.max_timestamp < timestamp || header.last_offset() < log_start {
                    continue;
                }
                let found = first_record(&scanner, position, &header, |r| r.0 >= timestamp && r.1 >= log_start);
                if let Some((time, offset)) = found.map_err(|e| storage(&e))? {
                    return Ok(Some((time, offset, self.log().epoch_at(offset))));
                }
            }
        }
        Ok(None)
    }

    /// The record with the largest time: its time, offset and epoch.
    pub(crate) fn max_time(&self) -> Result<Option<(i64, i64, i32)>, ResponseError> {
        let (place, offset) = {
            let mut log = self.log();
            log.check_alive()?;
            let Some((_, offset)) = log.largest_time().map_err(|e| storage(&e))? else { return Ok(None) };
            (log.place(offset).map_err(|e| storage(&e))?, offset)
        };
        let Some(place) = place else { return Ok(None) };
        let mut scanner = Scanner::new(place.file.clone(), place.position, place.size);
        while let Some((position, header)) = scanner.next().map_err(|e| storage(&e))? {
            if header.last_offset() >= offset {
                let largest = header.max_timestamp;
                let found = first_record(&scanner, position, &header, |r| r.0 >= largest).map_err(|e| storage(&e))?;
                return Ok(found.map(|(time, offset)| (time, offset, self.log().epoch_at(offset))));
            }
        }
        Ok(None)
    }
}

impl Log {
    fn time_places(&mut self, timestamp: i64) -> io::Result<Vec<Place>> {
        let (fs, dir, interval) = (self.fs.clone(), self.dir.clone(), self.interval());
        let mut places = Vec::new();
        for segment in &mut self.segments {
            let largest = segment.largest(fs.as_ref(), &dir, interval)?;
            if largest.is_none_or(|(time, _)| time < timestamp) {
                continue;
            }
            let index = segment.index(fs.as_ref(), &dir, interval)?;
            let position = u64::from(index.position(index.offset_for_time(timestamp)));
            let size = segment.size;
            places.push(Place { file: segment.file(fs.as_ref(), &dir, false)?, position, size, next_base: None });
            // Records of one segment may all lie before the log's start; two candidates are enough but for that.
            if places.len() == 2 {
                break;
            }
        }
        Ok(places)
    }

    fn largest_time(&mut self) -> io::Result<Option<(i64, i64)>> {
        let (fs, dir, interval) = (self.fs.clone(), self.dir.clone(), self.interval());
        let mut best: Option<(i64, i64)> = None;
        for segment in &mut self.segments {
            if let Some(found) = segment.largest(fs.as_ref(), &dir, interval)?
                && best.is_none_or(|(time, _)| found.0 > time)
            {
                best = Some(found);
            }
        }
        Ok(best)
    }
}

impl Place {
    /// Whole batches that begin below the offset `before`, and the offset after them.
    fn read(&self, position: u64, max_bytes: usize, before: i64) -> io::Result<(Bytes, i64)> {
        let want = (max_bytes as u64).min(self.size - position) as usize;
        let mut buffer = ReadBuffer::take(want);
        let read = self.file.read_at(buffer.first_mut(want), position)?;
        let (whole, end) = whole_batches(buffer.first_mut(read), before);
        Ok((buffer.into_bytes(whole), end))
    }
}

fn first_record(
    scanner: &Scanner,
    position: u64,
    header: &BatchHeader,
    wanted: impl Fn((i64, i64)) -> bool,
) -> io::Result<Option<(i64, i64)>> {
    let bytes = scanner.batch(position, header)?;
    if bytes.len() < HEADER_LEN {
        return Ok(None);
    }
    let Ok(unpacked) = records::decode(header, &bytes) else { return Ok(None) };
    Ok(unpacked.records().map_while(Result::ok).map(|r| (r.timestamp, r.offset)).find(|r| wanted(*r)))
}

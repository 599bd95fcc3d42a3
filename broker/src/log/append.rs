//! Appending a batch: checks, sequence, roll, write, index. A failed write leaves no trace.

use std::io;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;

use super::partition::{Health, Log};
use super::producer_state::Sequence;
use super::segment::Segment;
use crate::config::TopicConfig;
use crate::wire::batch::{BatchError, BatchHeader, HEADER_LEN, seal, verify};
use crate::wire::{compression, records};

/// A checked record batch, ready to be appended.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
}

/// Records of a batch that were refused, by index, with the reason.
pub(crate) type RecordErrors = Vec<(i32, &'static str)>;

/// Why a batch was refused.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) error: ResponseError,
    pub(crate) records: RecordErrors,
}

impl From<ResponseError> for Refused {
    fn from(error: ResponseError) -> Self {
        Refused { error, records: Vec::new() }
    }
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    /// -1 unless the topic stamps times itself.
    pub(crate) log_append_time: i64,
    pub(crate) log_start: i64,
    /// A segment was sealed and should be synced in the background.
    pub(crate) rolled: bool,
}

impl Batch {
    /// Checks what a producer sent: exactly one v2 batch, whole, not too large, with a right checksum.
    pub(crate) fn check(bytes: Bytes, config: &TopicConfig, now: i64) -> Result<Self, Refused> {
        let header = BatchHeader::parse(&bytes).map_err(|e| match e {
            BatchError::Magic(_) => ResponseError::InvalidRecord,
            _ => ResponseError::CorruptMessage,
        })?;
        if header.total_len() > bytes.len() {
            return Err(ResponseError::CorruptMessage.into());
        }
        if header.total_len() > config.max_message_bytes as usize {
            return Err(ResponseError::MessageTooLarge.into());
        }
        if header.total_len() < bytes.len() || header.is_control() || header.base_offset != 0 {
            return Err(ResponseError::InvalidRecord.into());
        }
        verify(&bytes, &header).map_err(|_| ResponseError::CorruptMessage)?;
        let dense = i64::from(header.last_offset_delta) + 1 == i64::from(header.record_count);
        let sequence = if header.has_producer() {
            header.base_sequence >= 0 && header.producer_epoch >= 0
        } else {
            !header.is_transactional()
        };
        // A record takes at least seven bytes: a count beyond that would make readers reserve memory for nothing.
        let section = header.total_len() - HEADER_LEN;
        let fits = header.codec() != 0 || i64::from(header.record_count) * 7 <= section as i64;
        if !dense || !sequence || !fits || header.codec() > 4 || header.delete_horizon().is_some() {
            return Err(ResponseError::InvalidRecord.into());
        }
        if header.is_log_append_time() {
            return Err(ResponseError::InvalidTimestamp.into());
        }
        let batch = Batch { header, bytes };
        batch.check_times(config, now)?;
        if config.compact {
            batch.check_keys()?;
        }
        batch.prepared(config, now)
    }

    fn check_times(&self, config: &TopicConfig, now: i64) -> Result<(), Refused> {
        if config.log_append_time {
            return Ok(());
        }
        let late = now.saturating_sub(self.header.base_timestamp.min(self.header.max_timestamp));
        let early = self.header.max_timestamp.saturating_sub(now);
        // A time of -1 means none, which Kafka lets pass.
        let none = self.header.max_timestamp < 0;
        if !none && (late > config.timestamp_before_max_ms || early > config.timestamp_after_max_ms) {
            return Err(ResponseError::InvalidTimestamp.into());
        }
        Ok(())
    }

    fn check_keys(&self) -> Result<(), Refused> {
        let unpacked = records::decode(&self.header, &self.bytes).map_err(|_| ResponseError::CorruptMessage)?;
        let mut refused = Vec::new();
        for (i, record) in unpacked.records().enumerate() {
            if record.map_err(|_| ResponseError::InvalidRecord)?.key.is_none() {
                refused.push((i as i32, "compacted topic cannot accept message without key"));
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(Refused { error: ResponseError::InvalidRecord, records: refused }) }
    }

    /// The broker's time, -1 if the topic keeps the producer's.
    fn log_append_time(&self) -> i64 {
        if self.header.is_log_append_time() { self.header.max_timestamp } else { -1 }
    }

    /// Recompressed and stamped as the topic demands; untouched if it demands nothing.
    fn prepared(mut self, config: &TopicConfig, now: i64) -> Result<Self, Refused> {
        let other_codec = config.compression.filter(|codec| *codec != self.header.codec());
        if other_codec.is_none() && !config.log_append_time {
            return Ok(self);
        }
        let section = self.bytes.slice(HEADER_LEN..);
        let packed = match other_codec {
            None => section,
            Some(codec) => {
                let corrupt = |_| ResponseError::CorruptMessage;
                let plain = compression::unpack(self.header.codec(), &section).map_err(corrupt)?;
                self.header.attributes = (self.header.attributes & !7) | i16::from(codec);
                Bytes::from(compression::pack(codec, &plain).map_err(corrupt)?)
            }
        };
        if config.log_append_time {
            self.header.set_log_append_time(now);
        }
        self.header.batch_length = (HEADER_LEN - 12 + packed.len()) as i32;
        let mut out = BytesMut::with_capacity(HEADER_LEN + packed.len());
        out.resize(HEADER_LEN, 0);
        self.header.write(&mut out);
        out.extend_from_slice(&packed);
        seal(&mut out);
        self.bytes = out.freeze();
        self.header = BatchHeader::parse(&self.bytes).map_err(|_| ResponseError::CorruptMessage)?;
        Ok(self)
    }
}

impl Log {
    /// Appends a checked batch. On any error nothing was appended.
    pub(crate) fn append(&mut self, batch: Batch, now: i64) -> Result<Appended, ResponseError> {
        self.check_alive()?;
        if let Sequence::Duplicate(base_offset, last_offset) = self.producers.check(&batch.header)? {
            let (log_append_time, log_start) = (batch.log_append_time(), self.log_start);
            return Ok(Appended { base_offset, last_offset, log_append_time, log_start, rolled: false });
        }
        let (header, appended) = self.store(batch, now)?;
        self.producers.note(&header);
        self.grew(header.total_len() as i64);
        Ok(appended)
    }

    /// Appends a batch that belongs here; the caller tells producers and readers.
    pub(super) fn store(&mut self, batch: Batch, now: i64) -> Result<(BatchHeader, Appended), ResponseError> {
        let log_append_time = batch.log_append_time();
        let Batch { mut header, bytes } = batch;
        if header.total_len() as u64 > self.config.segment_bytes {
            return Err(ResponseError::RecordListTooLarge);
        }
        header.base_offset = self.end;
        header.leader_epoch = self.leader_epoch;
        let written = self.heal().and_then(|()| {
            let rolled = self.roll_if_needed(&header, now)?;
            self.write(&header, &bytes).map(|()| rolled)
        });
        let rolled = written.map_err(|error| {
            tracing::error!(dir = %self.dir.display(), error = &error as &dyn std::error::Error, "cannot append; nothing was stored");
            ResponseError::KafkaStorageError
        })?;
        self.end = header.last_offset() + 1;
        let interval = self.interval();
        self.active().note(&header, interval);
        self.warm.note(header.base_offset, header.total_len() as u64);
        let (base_offset, last_offset, log_start) = (header.base_offset, header.last_offset(), self.log_start);
        Ok((header, Appended { base_offset, last_offset, log_append_time, log_start, rolled }))
    }

    fn write(&mut self, header: &BatchHeader, bytes: &[u8]) -> io::Result<()> {
        if !self.exists {
            self.create()?;
        }
        if self.epochs.begin(self.leader_epoch, header.base_offset) {
            self.save_epochs()?;
        }
        let (fs, dir) = (self.fs.clone(), self.dir.clone());
        let segment = self.active();
        let first = segment.size == 0;
        let file = segment.file(fs.as_ref(), &dir, true)?;
        self.new_files |= first;
        let mut front = [0; 16];
        front[..8].copy_from_slice(&header.base_offset.to_be_bytes());
        front[8..12].copy_from_slice(&header.batch_length.to_be_bytes());
        front[12..].copy_from_slice(&header.leader_epoch.to_be_bytes());
        let result = file.append([&front, &bytes[16..]]);
        if result.is_err() {
            self.health = Health::Torn;
            // The log must end with a whole batch even if the process dies now.
            let _ = self.heal();
        }
        result
    }

    /// Cuts off the remains of a failed append.
    pub(super) fn heal(&mut self) -> io::Result<()> {
        if self.health == Health::Torn {
            let (fs, dir) = (self.fs.clone(), self.dir.clone());
            let segment = self.active();
            let size = segment.size;
            segment.file(fs.as_ref(), &dir, true)?.truncate(size)?;
            self.health = Health::Good;
        }
        Ok(())
    }

    fn roll_if_needed(&mut self, incoming: &BatchHeader, now: i64) -> io::Result<bool> {
        let config = self.config.clone();
        let segment = self.active();
        if segment.size == 0 {
            // An empty segment is simply reused; its base is the offset of its first batch.
            return Ok(false);
        }
        let full = segment.size + incoming.total_len() as u64 > config.segment_bytes;
        let since = segment.first_timestamp.filter(|t| *t >= 0);
        let newest = if incoming.max_timestamp >= 0 { incoming.max_timestamp } else { now };
        let old = since.is_some_and(|first| newest.saturating_sub(first) > config.segment_ms);
        let far = incoming.last_offset() - segment.base > i64::from(i32::MAX);
        if !(full || old || far) {
            return Ok(false);
        }
        self.roll()?;
        Ok(true)
    }

    /// Seals the active segment and begins the next.
    pub(super) fn roll(&mut self) -> io::Result<()> {
        let (fs, dir, end) = (self.fs.clone(), self.dir.clone(), self.end);
        self.active().write_index(fs.as_ref(), &dir)?;
        self.active().write_aborted(fs.as_ref(), &dir)?;
        self.snapshot()?;
        self.new_files |= self.active().aborted_unsynced;
        self.segments.push(Segment::empty(end));
        Ok(())
    }
}

//! One segment: a `.log` file with its indexes, opened when it is used and closed when it is idle.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fs::{Fs, LogFile};
use super::index::Index;
use super::transactions::Aborted;
use crate::wire::batch::{BatchHeader, HEADER_LEN};

const SCAN_BUFFER: usize = 32 << 10;
/// A look-up needs a header or two, near the place that the index named.
const LOOKUP_BUFFER: usize = 1 << 10;

/// A segment; all its state that is not in the files.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: i64,
    pub(crate) size: u64,
    /// Bytes known to be on disk.
    pub(crate) synced: u64,
    /// Time of the first record, once known.
    pub(crate) first_timestamp: Option<i64>,
    /// Largest time and its offset, once known.
    pub(crate) largest: Option<(i64, i64)>,
    file: Option<Arc<dyn LogFile>>,
    index: Option<Index>,
    /// Transactions whose abort markers are in this segment, once known.
    aborted: Option<Vec<Aborted>>,
    /// Whether `.txnindex` has been written and not been synced since.
    pub(crate) aborted_unsynced: bool,
    since_index: u64,
    used: bool,
}

/// Path of a segment's file.
pub(crate) fn segment_path(dir: &Path, base: i64, suffix: &str) -> PathBuf {
    dir.join(format!("{base:020}.{suffix}"))
}

impl Segment {
    /// A new, empty segment; its file appears with the first append.
    pub(crate) fn empty(base: i64) -> Self {
        Segment { index: Some(Index::default()), aborted: Some(Vec::new()), ..Segment::sealed(base, 0) }
    }

    /// A segment found on disk, whose indexes are read when needed.
    pub(crate) fn sealed(base: i64, size: u64) -> Self {
        Segment {
            base,
            size,
            synced: size,
            first_timestamp: None,
            largest: None,
            file: None,
            index: None,
            aborted: None,
            aborted_unsynced: false,
            since_index: 0,
            used: false,
        }
    }

    /// The open file; `create` for the active segment.
    pub(crate) fn file(&mut self, fs: &dyn Fs, dir: &Path, create: bool) -> io::Result<Arc<dyn LogFile>> {
        self.used = true;
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = fs.open(&segment_path(dir, self.base, "log"), create)?;
        self.file = Some(file.clone());
        Ok(file)
    }

    /// Closes the file and, for a sealed segment, drops the index, unless used since the last call.
    pub(crate) fn close_if_idle(&mut self, sealed: bool) {
        if !std::mem::take(&mut self.used) && self.synced == self.size {
            self.file = None;
            if sealed {
                self.index = None;
                if !self.aborted_unsynced {
                    self.aborted = self.aborted.take().filter(Vec::is_empty);
                }
            }
        }
    }

    /// Notes a batch that was written at the end of the file.
    pub(crate) fn note(&mut self, header: &BatchHeader, interval: u64) {
        let len = header.total_len() as u64;
        let last = (header.last_offset() - self.base) as u32;
        if self.first_timestamp.is_none() {
            self.first_timestamp = Some(header.base_timestamp);
        }
        if self.largest.is_none_or(|(time, _)| header.max_timestamp > time) {
            self.largest = Some((header.max_timestamp, header.last_offset()));
        }
        let index = self.index.get_or_insert_default();
        if self.since_index > interval {
            index.offsets.push((last, self.size as u32));
            if let Some((time, offset)) = self.largest {
                index.push_time(time, (offset - self.base) as u32);
            }
            self.since_index = 0;
        }
        self.since_index += len;
        self.size += len;
    }

    /// Writes the indexes, as at roll and clean stop.
    pub(crate) fn write_index(&mut self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        let Some(index) = &mut self.index else { return Ok(()) };
        if let Some((time, offset)) = self.largest {
            index.push_time(time, (offset - self.base) as u32);
        }
        let (offsets, times) = index.encode();
        fs.write(&segment_path(dir, self.base, "index"), &offsets)?;
        fs.write(&segment_path(dir, self.base, "timeindex"), &times)
    }

    /// Aborted transactions of the segment, read if they are not in memory.
    pub(crate) fn aborted(&mut self, fs: &dyn Fs, dir: &Path) -> io::Result<&[Aborted]> {
        self.used = true;
        if self.aborted.is_none() {
            let read = match fs.read(&segment_path(dir, self.base, "txnindex")) {
                Ok(bytes) => Aborted::decode(&bytes).ok_or(io::Error::from(io::ErrorKind::InvalidData))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            };
            self.aborted = Some(read);
        }
        Ok(self.aborted.get_or_insert_default())
    }

    /// Notes an abort marker; [`Segment::aborted`] must have succeeded before.
    pub(crate) fn note_aborted(&mut self, entry: Aborted) {
        self.aborted.get_or_insert_default().push(entry);
    }

    /// Whether there may be a `.txnindex`.
    pub(crate) fn may_have_aborted(&self) -> bool {
        self.aborted.as_ref().is_none_or(|all| !all.is_empty())
    }

    /// The bytes of the `.txnindex`.
    pub(crate) fn encoded_aborted(&self) -> Vec<u8> {
        Aborted::encode(self.aborted.as_deref().unwrap_or_default())
    }

    /// Replaces what is known of aborted transactions.
    pub(crate) fn set_aborted(&mut self, all: Vec<Aborted>) {
        self.aborted = Some(all);
    }

    /// Forgets what is known of aborted transactions: it is read again when needed.
    pub(crate) fn forget_aborted(&mut self) {
        self.aborted = None;
    }

    /// Writes `.txnindex`; there is none where nothing was aborted.
    pub(crate) fn write_aborted(&mut self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        if let Some(all) = self.aborted.as_ref().filter(|all| !all.is_empty()) {
            fs.write(&segment_path(dir, self.base, "txnindex"), &Aborted::encode(all))?;
            self.aborted_unsynced = true;
        }
        Ok(())
    }

    /// Replaces `.txnindex`, durably, by what is known.
    pub(crate) fn rewrite_aborted(&mut self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        let path = segment_path(dir, self.base, "txnindex");
        match &self.aborted {
            None => {}
            Some(all) if all.is_empty() => {
                if let Err(error) = fs.remove(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    return Err(error);
                }
            }
            Some(all) => {
                fs.replace(&path, &Aborted::encode(all))?;
                self.aborted_unsynced = false;
            }
        }
        Ok(())
    }

    /// The index, read or rebuilt if it is not in memory.
    pub(crate) fn index(&mut self, fs: &dyn Fs, dir: &Path, interval: u64) -> io::Result<&Index> {
        self.used = true;
        if self.index.is_none() {
            let offsets = fs.read(&segment_path(dir, self.base, "index"));
            let times = fs.read(&segment_path(dir, self.base, "timeindex"));
            match (offsets, times) {
                (Ok(offsets), Ok(times)) => self.index = Index::decode(&offsets, &times, self.size),
                _ => self.index = None,
            }
            if self.index.is_none() {
                self.rebuild(fs, dir, interval)?;
                self.write_index(fs, dir)?;
            }
        }
        Ok(self.index.get_or_insert_default())
    }

    /// Rebuilds index, times and size knowledge from the batches (trusting their checksums).
    pub(crate) fn rebuild(&mut self, fs: &dyn Fs, dir: &Path, interval: u64) -> io::Result<()> {
        let size = std::mem::take(&mut self.size);
        self.index = Some(Index::default());
        (self.since_index, self.largest, self.first_timestamp) = (0, None, None);
        let mut scanner = Scanner::new(self.file(fs, dir, false)?, 0, size);
        while let Some((_, header)) = scanner.next()? {
            self.note(&header, interval);
        }
        self.size = size;
        Ok(())
    }

    /// Largest time in the segment: from memory, the time index, or a scan.
    pub(crate) fn largest(&mut self, fs: &dyn Fs, dir: &Path, interval: u64) -> io::Result<Option<(i64, i64)>> {
        if self.largest.is_none() && self.size > 0 {
            let base = self.base;
            let last = self.index(fs, dir, interval)?.times.last().copied();
            match last {
                Some((time, offset)) => self.largest = Some((time, base + i64::from(offset))),
                None => self.rebuild(fs, dir, interval)?,
            }
        }
        Ok(self.largest)
    }

    /// Deletes the files; readers that hold them open can finish.
    pub(crate) fn delete(&self, fs: &dyn Fs, dir: &Path) {
        for suffix in ["log", "index", "timeindex", "txnindex"] {
            let path = segment_path(dir, self.base, suffix);
            if let Err(error) = fs.remove(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "cannot delete a segment file");
            }
        }
    }
}

/// Walks the batch headers of a file without reading the records.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn LogFile>,
    pos: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    /// Bytes to read next; doubles up to [`SCAN_BUFFER`].
    step: usize,
}

impl Scanner {
    /// Walks from `pos`, which must be the start of a batch, to `end`.
    pub(crate) fn new(file: Arc<dyn LogFile>, pos: u64, end: u64) -> Self {
        Scanner { file, pos, end, buffer: Vec::new(), buffer_at: 0, step: SCAN_BUFFER }
    }

    /// Like [`Scanner::new`] when the walk will probably be short.
    pub(crate) fn lookup(file: Arc<dyn LogFile>, pos: u64, end: u64) -> Self {
        Scanner { step: LOOKUP_BUFFER, ..Scanner::new(file, pos, end) }
    }

    /// Where the next batch would start.
    pub(crate) fn position(&self) -> u64 {
        self.pos
    }

    /// Position and header of the next whole batch; none at the end or at the first that is cut or malformed.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, BatchHeader)>> {
        if self.end.saturating_sub(self.pos) < HEADER_LEN as u64 {
            return Ok(None);
        }
        let inside =
            self.pos >= self.buffer_at && self.pos + HEADER_LEN as u64 <= self.buffer_at + self.buffer.len() as u64;
        if !inside {
            let want = (self.end - self.pos).min(self.step as u64) as usize;
            self.step = (self.step * 2).min(SCAN_BUFFER);
            self.buffer.resize(want, 0);
            let read = self.file.read_at(&mut self.buffer, self.pos)?;
            self.buffer.truncate(read);
            self.buffer_at = self.pos;
        }
        let Ok(header) = BatchHeader::parse(&self.buffer[(self.pos - self.buffer_at) as usize..]) else {
            return Ok(None);
        };
        let pos = self.pos;
        if self.end - pos < header.total_len() as u64 {
            return Ok(None);
        }
        self.pos += header.total_len() as u64;
        Ok(Some((pos, header)))
    }

    /// The bytes of a batch that `next` answered.
    pub(crate) fn batch(&self, pos: u64, header: &BatchHeader) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; header.total_len()];
        let read = self.file.read_at(&mut bytes, pos)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

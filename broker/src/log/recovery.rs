//! Opening a log: after a clean stop everything is trusted; else batches from the recovery point on are checked,
//! the log is cut at the first bad one, and indexes and producers are rebuilt.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::epochs::Epochs;
use super::partition::{Log, LogSetup, Warm, uuid_text};
use super::producer_state::Producers;
use super::segment::{Scanner, Segment, segment_path};
use super::transactions::Aborted;
use crate::wire::batch::verify;
use crate::wire::marker::EndMarker;

impl Log {
    /// Opens the log of a partition; an absent directory is an empty log.
    pub(crate) fn open(setup: LogSetup) -> io::Result<Self> {
        let recovery_point = setup.recovery_point;
        let mut log = Log::empty(setup);
        let names = match log.fs.list(&log.dir) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(log),
            Err(e) => return Err(e),
        };
        if log.move_stale_away()? {
            return Ok(log);
        }
        log.exists = true;
        finish_swaps(&log, &names)?;
        log.segments = log.find_segments()?;
        let fs = log.fs.clone();
        if let Ok(text) = fs.read(&log.dir.join("leader-epoch-checkpoint")) {
            log.epochs = Epochs::decode(&String::from_utf8_lossy(&text)).unwrap_or_default();
        }
        let checked_from = match recovery_point {
            None => log.find_end()?,
            Some(point) => log.check_from(point)?,
        };
        log.synced_end = log.end;
        log.adjust_start();
        log.warm = Warm::starting(log.end);
        log.load_producers(checked_from)?;
        log.leader_epoch = log.leader_epoch.max(log.epochs.latest().unwrap_or(0));
        Ok(log)
    }

    /// Moves a directory away that a deleted topic of the same name left behind, as a crash in the middle of the
    /// deletion does; says whether it was one. Without a readable id the directory counts as the topic's own.
    fn move_stale_away(&self) -> io::Result<bool> {
        let Ok(metadata) = self.fs.read(&self.dir.join("partition.metadata")) else { return Ok(false) };
        let text = String::from_utf8_lossy(&metadata);
        let found = text.lines().find_map(|line| line.strip_prefix("topic_id: ")).unwrap_or_default().trim();
        if found.len() != uuid_text(&self.topic_id).len() || found == uuid_text(&self.topic_id) {
            return Ok(false);
        }
        let mut gone = self.dir.clone().into_os_string();
        // What ends so is removed at the next start at the latest.
        gone.push(format!(".{}-delete", self.topic_id.simple()));
        tracing::warn!(dir = %self.dir.display(), found, "the directory belongs to a topic that was deleted; it is removed");
        let gone = Path::new(&gone);
        self.fs.rename(&self.dir, gone)?;
        if let Err(error) = self.fs.remove_dir(gone) {
            tracing::warn!(dir = %gone.display(), error = &error as &dyn std::error::Error, "cannot remove a stale directory");
        }
        Ok(true)
    }

    fn find_segments(&self) -> io::Result<Vec<Segment>> {
        let mut segments = Vec::new();
        let names = self.fs.list(&self.dir)?;
        let base_of = |name: &String, suffix| name.strip_suffix(suffix).and_then(|base| base.parse::<i64>().ok());
        let aborts: HashSet<i64> = names.iter().filter_map(|name| base_of(name, ".txnindex")).collect();
        for base in names.iter().filter_map(|name| base_of(name, ".log")) {
            let (size, _) = self.fs.stat(&segment_path(&self.dir, base, "log"))?;
            let mut segment = Segment::sealed(base, size);
            if !aborts.contains(&base) {
                segment.set_aborted(Vec::new());
            }
            segments.push(segment);
        }
        segments.sort_by_key(|s| s.base);
        if segments.is_empty() {
            segments.push(Segment::empty(self.log_start));
        }
        Ok(segments)
    }

    /// After a clean stop: the end is found from the active segment's last index entry. Answers the end.
    fn find_end(&mut self) -> io::Result<i64> {
        let (fs, dir, interval) = (self.fs.clone(), self.dir.clone(), self.interval());
        let segment = self.active();
        let mut end = segment.base;
        if segment.size > 0 {
            let last = segment.index(fs.as_ref(), &dir, interval)?.offsets.last().copied();
            let (size, file) = (segment.size, segment.file(fs.as_ref(), &dir, false)?);
            let mut first = Scanner::new(file.clone(), 0, size);
            segment.first_timestamp = first.next()?.map(|(_, header)| header.base_timestamp);
            let mut scanner = Scanner::new(file, last.map_or(0, |(_, position)| u64::from(position)), size);
            while let Some((_, header)) = scanner.next()? {
                end = header.last_offset() + 1;
            }
            let whole = scanner.position();
            segment.largest(fs.as_ref(), &dir, interval)?;
            if whole != size {
                // The clean mark lied, as when files were copied by hand.
                return self.check_from(0);
            }
        }
        self.end = end;
        Ok(end)
    }

    /// After a crash: checks all batches of the segments at or after `point`. Answers from where on.
    fn check_from(&mut self, point: i64) -> io::Result<i64> {
        let (fs, dir, interval) = (self.fs.clone(), self.dir.clone(), self.interval());
        let last = self.segments.len() - 1;
        let from = self.segment_of(point).min(last);
        self.end = self.segments[0].base;
        let mut keep = self.segments.len();
        for i in from..self.segments.len() {
            let expected = if i > from { self.end } else { self.segments[i].base };
            let segment = &mut self.segments[i];
            let (good, end) = check_segment(segment, fs.as_ref(), &dir, expected, interval)?;
            self.end = end;
            if !good {
                tracing::warn!(dir = %dir.display(), end, "the log ended in a damaged batch and was cut there");
                keep = i + 1;
                break;
            }
        }
        for segment in self.segments.drain(keep..) {
            segment.delete(fs.as_ref(), &dir);
        }
        // Snapshots beyond the end describe what is gone.
        for (offset, name) in snapshots(&fs.list(&dir)?) {
            if offset > self.end {
                fs.remove(&dir.join(name))?;
            }
        }
        self.epochs.truncate(self.end.max(1));
        let sealed = self.segments.len() - 1;
        for segment in &mut self.segments[from.min(sealed)..sealed] {
            segment.write_index(fs.as_ref(), &dir)?;
        }
        Ok(self.segments[from.min(sealed)].base)
    }

    /// The log starts where its first segment does, or later by DeleteRecords, but never after its end.
    fn adjust_start(&mut self) {
        self.log_start = self.log_start.max(self.segments[0].base);
        if self.log_start > self.end {
            let (fs, dir) = (self.fs.clone(), self.dir.clone());
            for segment in self.segments.drain(..) {
                segment.delete(fs.as_ref(), &dir);
            }
            self.segments.push(Segment::empty(self.log_start));
            (self.end, self.synced_end) = (self.log_start, self.log_start);
        }
    }

    /// Reads the last snapshot that is not after `trusted`, and the batches and markers since.
    fn load_producers(&mut self, trusted: i64) -> io::Result<()> {
        let mut found = snapshots(&self.fs.list(&self.dir)?);
        found.sort();
        let mut from = self.segments[0].base;
        while let Some((offset, name)) = found.pop() {
            if offset > trusted && offset <= self.end {
                // Only what was on disk for certain tells whose transactions were open there.
                continue;
            }
            let path = self.dir.join(name);
            match self.fs.read(&path).ok().and_then(|bytes| Producers::decode(&bytes)) {
                Some(producers) if offset <= self.end => {
                    self.producers = producers;
                    from = offset.max(from);
                    break;
                }
                _ => self.fs.remove(&path)?,
            }
        }
        if from >= self.end {
            return Ok(());
        }
        let (fs, dir, interval) = (self.fs.clone(), self.dir.clone(), self.interval());
        for i in self.segment_of(from)..self.segments.len() {
            let segment = &mut self.segments[i];
            if segment.size == 0 {
                continue;
            }
            let relative = u32::try_from(from - segment.base).unwrap_or(0);
            let position = segment.index(fs.as_ref(), &dir, interval)?.position(relative);
            let (size, file) = (segment.size, segment.file(fs.as_ref(), &dir, false)?);
            let mut scanner = Scanner::new(file, u64::from(position), size);
            // A segment that was read from its start has no other aborts than those found here.
            let mut aborted = known_aborts(segment, fs.as_ref(), &dir, from)?;
            while let Some((position, header)) = scanner.next()? {
                if header.base_offset < from {
                    continue;
                }
                if !header.is_control() {
                    self.producers.note(&header);
                } else if let Some(marker) = EndMarker::parse(&header, &scanner.batch(position, &header)?)
                    && let Some(first) = self.producers.note_marker(&header, &marker)
                    && !marker.commit
                {
                    aborted.push(Aborted::new(&header, first, &self.producers));
                }
            }
            segment.set_aborted(aborted);
            segment.rewrite_aborted(fs.as_ref(), &dir)?;
        }
        Ok(())
    }
}

/// Aborts before `from` that the index of the segment tells of.
fn known_aborts(segment: &mut Segment, fs: &dyn super::Fs, dir: &Path, from: i64) -> io::Result<Vec<Aborted>> {
    if from <= segment.base {
        return Ok(Vec::new());
    }
    // What was checked after a crash has forgotten its index.
    segment.forget_aborted();
    let known = segment.aborted(fs, dir)?;
    Ok(known.iter().filter(|entry| entry.last_offset < from).copied().collect())
}

fn snapshots(names: &[String]) -> Vec<(i64, String)> {
    names.iter().filter_map(|name| Some((name.strip_suffix(".snapshot")?.parse().ok()?, name.clone()))).collect()
}

/// Checks every batch; cuts the file after the last good one. Answers whether all was good, and the end offset.
fn check_segment(
    segment: &mut Segment,
    fs: &dyn super::Fs,
    dir: &Path,
    expected: i64,
    interval: u64,
) -> io::Result<(bool, i64)> {
    let mut end = segment.base.max(expected);
    if segment.size == 0 {
        return Ok((true, end));
    }
    let file = segment.file(fs, dir, false)?;
    let size = segment.size;
    *segment = Segment::empty(segment.base);
    let mut scanner = Scanner::new(file.clone(), 0, size);
    while let Some((position, header)) = scanner.next()? {
        let bytes = scanner.batch(position, &header)?;
        let in_order = header.base_offset >= end && header.last_offset() - segment.base <= i64::from(i32::MAX);
        if !in_order || verify(&bytes, &header).is_err() {
            break;
        }
        segment.note(&header, interval);
        end = header.last_offset() + 1;
    }
    let good = segment.size == size;
    if !good {
        file.truncate(segment.size)?;
    }
    // What was checked came from the page cache: make it durable before it is called recovered.
    file.sync()?;
    segment.synced = segment.size;
    Ok((good, end))
}

/// Finishes or undoes what a compaction or deletion left half done.
fn finish_swaps(log: &Log, names: &[String]) -> io::Result<()> {
    let (fs, dir) = (&log.fs, &log.dir);
    for name in names {
        if name.ends_with(".cleaned") || name.ends_with(".deleted") || name.ends_with(".tmp") {
            fs.remove(&dir.join(name))?;
        }
    }
    let mut swaps: Vec<i64> = names.iter().filter_map(|name| name.strip_suffix(".log.swap")?.parse().ok()).collect();
    swaps.sort_unstable();
    for name in names {
        let base = name.strip_suffix(".txnindex.swap").and_then(|base| base.parse::<i64>().ok());
        if base.is_some_and(|base| swaps.binary_search(&base).is_err()) {
            fs.remove(&dir.join(name))?;
        }
    }
    for base in swaps {
        super::compaction::finish_swap(fs.as_ref(), dir, base)?;
    }
    Ok(())
}

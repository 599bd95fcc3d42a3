//! What may go: segments that are too old or too many, and records deleted on request. Aborted transactions go with the
//! segments that hold their markers.

use std::io;

use kafka_protocol::ResponseError;

use super::partition::{Health, Log};
use super::segment::segment_path;

impl Log {
    /// Deletes segments that the topic's settings no longer keep; answers how many went.
    pub(crate) fn retire(&mut self, now: i64) -> io::Result<usize> {
        if !self.exists || self.health != Health::Good {
            return Ok(0);
        }
        let mut count = self.before_start();
        if self.config.delete {
            count = count.max(self.too_large()).max(self.too_old(now)?);
            if count == self.segments.len() && self.active().size > 0 {
                self.roll()?;
            }
        }
        self.drop_first(count.min(self.segments.len() - 1))
    }

    /// Segments wholly below the log's start.
    fn before_start(&self) -> usize {
        self.segments.windows(2).take_while(|pair| pair[1].base <= self.log_start).count()
    }

    fn too_large(&self) -> usize {
        let Ok(limit) = u64::try_from(self.config.retention_bytes) else { return 0 };
        let mut size = self.size();
        let goes = |s: &&super::segment::Segment| {
            let fits = size.saturating_sub(s.size) >= limit && s.size > 0;
            size = size.saturating_sub(s.size);
            fits
        };
        self.segments.iter().take_while(goes).count()
    }

    fn too_old(&mut self, now: i64) -> io::Result<usize> {
        if self.config.retention_ms < 0 {
            return Ok(0);
        }
        let (fs, dir, interval) = (self.fs.clone(), self.dir.clone(), self.interval());
        let mut count = 0;
        for segment in &mut self.segments {
            if segment.size == 0 {
                break;
            }
            let largest = match segment.largest(fs.as_ref(), &dir, interval)? {
                Some((time, _)) if time >= 0 => time,
                _ => fs.stat(&segment_path(&dir, segment.base, "log"))?.1,
            };
            if now.saturating_sub(largest) <= self.config.retention_ms {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    fn drop_first(&mut self, count: usize) -> io::Result<usize> {
        if count == 0 {
            return Ok(0);
        }
        let (fs, dir) = (self.fs.clone(), self.dir.clone());
        // The names of the files that stay tell a restart where the offsets go on: they must be on disk, even that of
        // an empty segment, before the others are gone.
        if self.active().size == 0 {
            self.active().file(fs.as_ref(), &dir, true)?;
        }
        fs.sync_dir(&dir)?;
        for segment in self.segments.drain(..count) {
            segment.delete(fs.as_ref(), &dir);
            let _ = fs.remove(&segment_path(&dir, segment.base, "snapshot"));
        }
        self.changes += 1;
        self.log_start = self.log_start.max(self.segments[0].base);
        let gone = self.log_start;
        self.note_synced(gone, 0);
        self.first_dirty = self.first_dirty.max(self.log_start);
        Ok(count)
    }

    /// Moves the start of the log to `offset` (-1: its end); answers the new start.
    pub(crate) fn delete_records(&mut self, offset: i64) -> Result<i64, ResponseError> {
        self.check_alive()?;
        let end = self.visible_end();
        let offset = if offset == -1 { end } else { offset };
        if offset < 0 || offset > end {
            return Err(ResponseError::OffsetOutOfRange);
        }
        self.log_start = self.log_start.max(offset);
        let count = self.before_start();
        if let Err(error) = self.drop_first(count) {
            // The records are out of sight; retention tries again.
            tracing::warn!(dir = %self.dir.display(), error = &error as &dyn std::error::Error, "cannot delete segments");
        }
        Ok(self.log_start)
    }
}

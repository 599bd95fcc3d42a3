//! Buffers for reads, used again: memory that was touched before costs a tenth of fresh memory, and need not be
//! zeroed for each read.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Smaller reads use the allocator, larger ones are rare.
const SIZES: std::ops::RangeInclusive<usize> = (32 << 10)..=(8 << 20);
/// Bytes that may lie here unused.
const KEPT: usize = 32 << 20;

static POOL: Mutex<Pool> = Mutex::new(Pool { free: Vec::new(), bytes: 0 });

#[derive(Debug)]
struct Pool {
    free: Vec<Vec<u8>>,
    bytes: usize,
}

/// A buffer of initialized memory; goes back when dropped.
#[derive(Debug)]
pub(super) struct ReadBuffer(Vec<u8>);

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReadBuffer {
    /// A buffer of at least `len` bytes with arbitrary contents.
    pub(super) fn take(len: usize) -> Self {
        if !SIZES.contains(&len) {
            return ReadBuffer(vec![0; len]);
        }
        let size = len.next_power_of_two();
        let mut pool = pool();
        if let Some(at) = pool.free.iter().rposition(|buffer| buffer.len() == size) {
            pool.bytes -= size;
            return ReadBuffer(pool.free.swap_remove(at));
        }
        drop(pool);
        ReadBuffer(vec![0; size])
    }

    /// The first `len` bytes, to be filled.
    pub(super) fn first_mut(&mut self, len: usize) -> &mut [u8] {
        let len = len.min(self.0.len());
        &mut self.0[..len]
    }

    /// The first `len` bytes, without a copy unless that would pin much more memory than is used.
    pub(super) fn into_bytes(self, len: usize) -> Bytes {
        let len = len.min(self.0.len());
        if len == 0 {
            return Bytes::new();
        }
        if len < self.0.len() / 4 {
            return Bytes::copy_from_slice(&self.0[..len]);
        }
        Bytes::from_owner(self).slice(..len)
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let size = self.0.len();
        if size.is_power_of_two() && SIZES.contains(&size) {
            let mut pool = pool();
            if pool.bytes + size <= KEPT {
                pool.bytes += size;
                pool.free.push(std::mem::take(&mut self.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_shows_what_was_filled_and_nothing_else() {
        for len in [10, 40_000, 1 << 20] {
            let mut buffer = ReadBuffer::take(len);
            buffer.first_mut(len).fill(7);
            let bytes = buffer.into_bytes(len - 1);
            assert!(bytes.len() == len - 1 && bytes.iter().all(|b| *b == 7));
        }
        assert!(ReadBuffer::take(0).into_bytes(5).is_empty());
        assert_eq!(ReadBuffer::take(1 << 20).into_bytes(3).len(), 3);
    }
}

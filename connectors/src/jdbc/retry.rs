//! Pauses between attempts: exponential, with jitter so that many tasks do not knock at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Counts attempts that failed in a row.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    failed: u32,
}

impl Backoff {
    /// Pauses from `first` doubling up to `most`.
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most: most.max(first), failed: 0 }
    }

    /// Another attempt failed: how long to wait.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.first.saturating_mul(1 << self.failed.min(16)).min(self.most);
        self.failed = self.failed.saturating_add(1);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        // Between three quarters and all of it.
        pause.mul_f64(0.75 + 0.25 * f64::from(clock % 1000) / 1000.0)
    }

    /// An attempt worked.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }

    /// How many attempts failed in a row.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_most() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let pauses: Vec<_> = (0..6).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] >= Duration::from_millis(75) && pauses[0] <= Duration::from_millis(100));
        assert!(pauses[5] >= Duration::from_millis(750) && pauses[5] <= Duration::from_secs(1));
        assert_eq!(backoff.failed(), 6);
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_millis(100));
    }
}

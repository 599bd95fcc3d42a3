//! When a group rebalances for topics that come one after the other: not for each of them, as a rebalance gives up all
//! that is under way. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// It waits until none has come for so long,
const QUIET: Duration = Duration::from_millis(100);
/// and at the latest so long after the first one.
const AT_MOST: Duration = Duration::from_millis(500);
/// Both double with each rebalance that follows the one before it within this time, so often at most.
const FOLLOWS: Duration = Duration::from_secs(10);
const DOUBLED: u32 = 3;

/// Topics that came since the last rebalance.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// When to rebalance, and at the latest.
    due: Option<(Instant, Instant)>,
    /// Rebalances that followed each other.
    doubled: u32,
    last: Option<Instant>,
}

impl Arrivals {
    /// A topic came or went.
    pub(super) fn changed(&mut self, now: Instant) {
        let patience = 1 << if self.follows(now) { self.doubled } else { 0 };
        let (_, latest) = self.due.unwrap_or((now, now + AT_MOST * patience));
        self.due = Some((latest.min(now + QUIET * patience), latest));
    }

    /// When to rebalance; `None` if nothing came.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.map(|(at, _)| at)
    }

    /// That time came, and the group rebalances or need not.
    pub(super) fn settled(&mut self, rebalances: bool, now: Instant) {
        self.due = None;
        if rebalances {
            self.doubled = if self.follows(now) { DOUBLED.min(self.doubled + 1) } else { 1 };
            self.last = Some(now);
        }
    }

    fn follows(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now - last < FOLLOWS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_quiet_but_not_for_ever_and_longer_each_time() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.due(), None);
        arrivals.changed(at(0));
        assert_eq!(arrivals.due(), Some(at(100)));
        (1..9).for_each(|n| arrivals.changed(at(n * 60)));
        assert_eq!(arrivals.due(), Some(at(500)));
        arrivals.settled(true, at(500));
        arrivals.changed(at(600));
        assert_eq!(arrivals.due(), Some(at(800)));
        arrivals.settled(false, at(800));
        assert_eq!(arrivals.due(), None);
        for _ in 0..9 {
            arrivals.settled(true, at(1_000));
        }
        arrivals.changed(at(2_000));
        assert_eq!(arrivals.due(), Some(at(2_800)));
        arrivals.settled(true, at(2_800));
        arrivals.changed(at(20_000));
        assert_eq!(arrivals.due(), Some(at(20_100)));
    }
}

//! Leader epochs of a partition: which epoch began at which offset (`leader-epoch-checkpoint`).

/// Sorted (epoch, start offset) pairs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<(i32, i64)>);

impl Epochs {
    /// Reads the checkpoint; none if it is malformed.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        lines.next().filter(|version| *version == "0")?;
        let count: usize = lines.next()?.trim().parse().ok()?;
        let entries: Option<Vec<_>> = lines
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(' ').and_then(|(e, o)| Some((e.parse().ok()?, o.trim().parse().ok()?))))
            .collect();
        entries.filter(|e| e.len() == count && e.is_sorted()).map(Epochs)
    }

    /// The checkpoint's text.
    pub(crate) fn encode(&self) -> String {
        let lines: String = self.0.iter().map(|(epoch, offset)| format!("{epoch} {offset}\n")).collect();
        format!("0\n{}\n{lines}", self.0.len())
    }

    /// The latest epoch.
    pub(crate) fn latest(&self) -> Option<i32> {
        self.0.last().map(|(epoch, _)| *epoch)
    }

    /// Begins an epoch; true if it is new.
    pub(crate) fn begin(&mut self, epoch: i32, offset: i64) -> bool {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        // An epoch without records leaves no trace.
        while self.0.last().is_some_and(|(_, start)| *start >= offset) {
            self.0.pop();
        }
        self.0.push((epoch, offset));
        true
    }

    /// Forgets what began after the log's new end.
    pub(crate) fn truncate(&mut self, end: i64) {
        self.0.retain(|(_, start)| *start < end);
    }

    /// End offset of `asked`, as OffsetForLeaderEpoch answers it: (epoch, offset), -1 for unknown.
    pub(crate) fn end_of(&self, asked: i32, log_end: i64) -> (i32, i64) {
        let Some(latest) = self.latest() else { return (-1, -1) };
        if asked == latest {
            return (asked, log_end);
        }
        if asked < 0 || asked > latest {
            return (-1, -1);
        }
        let after = self.0.partition_point(|(epoch, _)| *epoch <= asked);
        let known = if after == 0 { asked } else { self.0[after - 1].0 };
        (known, self.0[after].1)
    }

    /// Epoch of the record at `offset`.
    pub(crate) fn of(&self, offset: i64) -> i32 {
        let after = self.0.partition_point(|(_, start)| *start <= offset);
        if after == 0 { -1 } else { self.0[after - 1].0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_the_end_of_each_epoch() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.end_of(0, 9), (-1, -1));
        assert!(epochs.begin(1, 0) && epochs.begin(3, 10) && epochs.begin(5, 20));
        assert!(!epochs.begin(5, 30));
        let ends = [0, 1, 2, 3, 4, 5, 6, -1].map(|e| epochs.end_of(e, 25));
        assert_eq!(ends, [(0, 0), (1, 10), (1, 10), (3, 20), (3, 20), (5, 25), (-1, -1), (-1, -1)]);
        assert_eq!([0, 9, 10, 40].map(|o| epochs.of(o)), [1, 1, 3, 5]);
        assert_eq!(Epochs::decode(&epochs.encode()), Some(epochs.clone()));
        epochs.truncate(20);
        assert_eq!(epochs.latest(), Some(3));
        assert_eq!(Epochs::decode("0\n2\n1 0\n"), None);
    }
}

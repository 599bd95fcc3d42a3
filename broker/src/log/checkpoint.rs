//! Text checkpoints in the data directory, in Kafka's form: version, count, then `topic partition offset` lines, to
//! which the topic's id is added: a topic that was deleted and made anew must not inherit offsets.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use uuid::Uuid;

use super::fs::Fs;

/// What a checkpoint says: an offset and the id of the topic by topic name and partition.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint(HashMap<(String, i32), (i64, Option<Uuid>)>);

impl Checkpoint {
    /// Reads a checkpoint; missing or malformed counts as empty, which only costs recovery time.
    pub(crate) fn read(fs: &dyn Fs, path: &Path) -> Self {
        let Ok(bytes) = fs.read(path) else { return Checkpoint::default() };
        let text = String::from_utf8_lossy(&bytes);
        let parse = |line: &str| {
            let mut parts = line.split(' ');
            let topic = parts.next()?.to_owned();
            let partition = parts.next()?.parse().ok()?;
            let offset = parts.next()?.parse().ok()?;
            Some(((topic, partition), (offset, parts.next().map(Uuid::parse_str).transpose().ok()?)))
        };
        Checkpoint(text.lines().skip(2).filter_map(parse).collect())
    }

    /// The offset of that very topic's partition, 0 if unknown. A line without an id counts for any.
    pub(crate) fn offset(&self, topic: &str, partition: i32, id: Uuid) -> i64 {
        let found = self.0.get(&(topic.to_owned(), partition));
        found.filter(|(_, of)| of.is_none_or(|of| of == id)).map_or(0, |(offset, _)| *offset)
    }
}

/// Replaces a checkpoint.
pub(crate) fn write_checkpoint(fs: &dyn Fs, path: &Path, entries: &[(&str, i32, i64, Uuid)]) -> io::Result<()> {
    let line = |(topic, partition, offset, id): &(&str, i32, i64, Uuid)| format!("{topic} {partition} {offset} {id}\n");
    let lines: String = entries.iter().map(line).collect();
    fs.replace(path, format!("0\n{}\n{lines}", entries.len()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StdFs;

    #[test]
    fn a_checkpoint_reads_back_for_the_same_topic_only_and_a_missing_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(Checkpoint::read(&StdFs, &path).offset("a", 0, one), 0);
        write_checkpoint(&StdFs, &path, &[("a", 0, 5, one), ("b.c", 12, 7, other)]).unwrap();
        let read = Checkpoint::read(&StdFs, &path);
        assert_eq!((read.offset("a", 0, one), read.offset("b.c", 12, other)), (5, 7));
        assert_eq!((read.offset("a", 0, other), read.offset("a", 1, one)), (0, 0));
        std::fs::write(&path, "0\n1\na 0 5\n").unwrap();
        assert_eq!(Checkpoint::read(&StdFs, &path).offset("a", 0, other), 5);
    }
}

//! Kafka's text checkpoints in the data directory: version, count, then `topic partition offset` lines.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::fs::Fs;

/// Reads a checkpoint; missing or malformed counts as empty, which only costs recovery time.
pub(crate) fn read_checkpoint(fs: &dyn Fs, path: &Path) -> HashMap<(String, i32), i64> {
    let Ok(bytes) = fs.read(path) else { return HashMap::new() };
    let text = String::from_utf8_lossy(&bytes);
    let parse = |line: &str| {
        let mut parts = line.split(' ');
        let topic = parts.next()?.to_owned();
        let partition = parts.next()?.parse().ok()?;
        Some(((topic, partition), parts.next()?.parse().ok()?))
    };
    text.lines().skip(2).filter_map(parse).collect()
}

/// Replaces a checkpoint.
pub(crate) fn write_checkpoint(fs: &dyn Fs, path: &Path, entries: &[(&str, i32, i64)]) -> io::Result<()> {
    let lines: String =
        entries.iter().map(|(topic, partition, offset)| format!("{topic} {partition} {offset}\n")).collect();
    fs.replace(path, format!("0\n{}\n{lines}", entries.len()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StdFs;

    #[test]
    fn a_checkpoint_reads_back_and_a_missing_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        assert!(read_checkpoint(&StdFs, &path).is_empty());
        write_checkpoint(&StdFs, &path, &[("a", 0, 5), ("b.c", 12, 7)]).unwrap();
        let read = read_checkpoint(&StdFs, &path);
        assert_eq!((read[&("a".into(), 0)], read[&("b.c".into(), 12)], read.len()), (5, 7, 2));
    }
}

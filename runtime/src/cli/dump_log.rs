//! `kafka-dump-log`: prints the batches, and the records of uncompressed ones, of log segment files.
//!
//! It must never change a file, and survives a torn one: what is broken is said where it is found.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use clap::Args;

use super::failure::{Failure, Out, Outcome};

/// Bytes of a batch before its records.
const HEADER: usize = 61;
/// No broker takes larger batches.
const MAX_BATCH: usize = 1 << 30;

/// `kafka-dump-log`.
#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// Segment files (`.log`), several separated by commas.
    #[arg(long, required = true, value_delimiter = ',')]
    files: Vec<PathBuf>,
    /// Print the records' keys and values.
    #[arg(long)]
    print_data_log: bool,
    /// Print the records without their keys and values.
    #[arg(long)]
    deep_iteration: bool,
    /// Print batches only, even with --print-data-log.
    #[arg(long)]
    skip_record_metadata: bool,
}

/// Runs the tool.
pub(super) fn run(args: &DumpArgs, out: Out<'_>) -> Outcome {
    for path in &args.files {
        dump(path, args, out)?;
    }
    Ok(())
}

fn dump(path: &Path, args: &DumpArgs, out: Out<'_>) -> Outcome {
    let failed = |error: io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(base) = name.strip_suffix(".log").and_then(|stem| stem.parse::<i64>().ok()) else {
        return Err(Failure::new(format!(
            "{} is not a log segment; only files such as 00000000000000000000.log can be dumped",
            path.display()
        )));
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    writeln!(out, "Dumping {}", path.display())?;
    writeln!(out, "Log starting offset: {base}")?;
    let mut position = 0;
    loop {
        let mut frame = Vec::new();
        file.by_ref().take(12).read_to_end(&mut frame).map_err(failed)?;
        if frame.is_empty() {
            return Ok(());
        }
        let length = frame.get(8..12).map_or(0, |mut bytes| bytes.get_u32() as usize);
        if frame.len() == 12 && (HEADER - 12..MAX_BATCH).contains(&length) {
            file.by_ref().take(length as u64).read_to_end(&mut frame).map_err(failed)?;
        }
        if frame.len() < HEADER || frame.len() != length + 12 {
            writeln!(out, "Found {} bytes at position {position} that are not a whole batch", frame.len())?;
            return Ok(());
        }
        let size = frame.len();
        let batch = Batch::parse(Bytes::from(frame));
        writeln!(out, "{}", batch.line(position))?;
        if (args.print_data_log || args.deep_iteration) && !args.skip_record_metadata {
            batch.dump_records(args.print_data_log, out)?;
        }
        position += size;
    }
}

/// A record batch of version 2.
struct Batch {
    base_offset: i64,
    leader_epoch: i32,
    magic: i8,
    crc: u32,
    is_valid: bool,
    attributes: i16,
    last_offset_delta: i32,
    first_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
    size: usize,
    records: Bytes,
}

impl Batch {
    /// Reads the header; the bytes are at least one header long.
    fn parse(mut bytes: Bytes) -> Self {
        let size = bytes.len();
        let computed = crc32c_of(&bytes[21..]);
        let base_offset = bytes.get_i64();
        bytes.advance(4);
        let (leader_epoch, magic, crc) = (bytes.get_i32(), bytes.get_i8(), bytes.get_u32());
        Self {
            base_offset,
            leader_epoch,
            magic,
            crc,
            is_valid: crc == computed,
            attributes: bytes.get_i16(),
            last_offset_delta: bytes.get_i32(),
            first_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            count: bytes.get_i32(),
            size,
            records: bytes,
        }
    }

    fn codec(&self) -> &'static str {
        match self.attributes & 7 {
            0 => "none",
            1 => "gzip",
            2 => "snappy",
            3 => "lz4",
            4 => "zstd",
            _ => "unknown",
        }
    }

    fn time_kind(&self) -> &'static str {
        if self.attributes & 8 == 0 { "CreateTime" } else { "LogAppendTime" }
    }

    fn sequence(&self, delta: i32) -> i32 {
        if self.base_sequence < 0 { -1 } else { self.base_sequence.wrapping_add(delta) & i32::MAX }
    }

    fn line(&self, position: usize) -> String {
        let horizon = if self.attributes & 64 == 0 {
            "OptionalLong.empty".to_owned()
        } else {
            format!("OptionalLong[{}]", self.first_timestamp)
        };
        format!(
            "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
             partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: {horizon} position: {position} \
             {}: {} size: {} magic: {} compresscodec: {} crc: {} isvalid: {}",
            self.base_offset,
            self.base_offset.wrapping_add(self.last_offset_delta.into()),
            self.count,
            self.base_sequence,
            self.sequence(self.last_offset_delta),
            self.producer_id,
            self.producer_epoch,
            self.leader_epoch,
            self.attributes & 16 != 0,
            self.attributes & 32 != 0,
            self.time_kind(),
            self.max_timestamp,
            self.size,
            self.magic,
            self.codec(),
            self.crc,
            self.is_valid
        )
    }

    fn dump_records(&self, with_data: bool, out: Out<'_>) -> Outcome {
        if self.attributes & 7 != 0 {
            writeln!(out, "| (records compressed with {} are not shown)", self.codec())?;
            return Ok(());
        }
        let mut records = self.records.clone();
        for _ in 0..self.count {
            match self.record_line(&mut records, with_data) {
                Some(line) => writeln!(out, "{line}")?,
                None => {
                    writeln!(out, "| (the records end in the middle of one)")?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The line of the next record; `None` if it is torn.
    fn record_line(&self, rest: &mut Bytes, with_data: bool) -> Option<String> {
        let length = usize::try_from(varint(rest)?).ok().filter(|length| *length <= rest.len())?;
        let mut record = rest.split_to(length);
        record.try_get_i8().ok()?;
        let timestamp = self.first_timestamp.wrapping_add(varint(&mut record)?);
        let delta = i32::try_from(varint(&mut record)?).ok()?;
        let (key, value) = (field(&mut record)?, field(&mut record)?);
        let mut headers = Vec::new();
        for _ in 0..varint(&mut record)? {
            headers.push(String::from_utf8_lossy(&field(&mut record)??).into_owned());
            field(&mut record)?;
        }
        let size = |field: &Option<Bytes>| field.as_ref().map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(-1));
        let mut line = format!(
            "| offset: {} {}: {timestamp} keySize: {} valueSize: {} sequence: {} headerKeys: [{}]",
            self.base_offset.wrapping_add(delta.into()),
            self.time_kind(),
            size(&key),
            size(&value),
            self.sequence(delta),
            headers.join(",")
        );
        if with_data {
            for (name, field) in [("key", key), ("payload", value)] {
                if let Some(bytes) = field {
                    line.push_str(&format!(" {name}: {}", String::from_utf8_lossy(&bytes)));
                }
            }
        }
        Some(line)
    }
}

/// A length and so many bytes; the inner `None` is null.
fn field(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    let length = varint(bytes)?;
    if length < 0 {
        return Some(None);
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
    Some(Some(bytes.split_to(length)))
}

/// A zigzag number.
fn varint(bytes: &mut Bytes) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    None
}

/// CRC-32C, bit by bit with a table: a dump has no hurry.
fn crc32c_of(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|byte| {
        (0..8).fold(byte as u32, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ table[usize::from(crc.to_le_bytes()[0] ^ byte)];
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_kafkas() {
        assert_eq!(crc32c_of(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn varints_are_zigzag() {
        let of = |bytes: &'static [u8]| varint(&mut Bytes::from_static(bytes));
        assert_eq!((of(&[0]), of(&[1]), of(&[2]), of(&[0xac, 0x02])), (Some(0), Some(-1), Some(1), Some(150)));
        assert_eq!((of(&[0x80]), of(&[0xff; 11])), (None, None));
    }

    #[test]
    fn a_torn_file_is_said_to_be_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00000000000000000007.log");
        std::fs::write(&path, [0; 20]).unwrap();
        let args =
            DumpArgs { files: vec![path], print_data_log: true, deep_iteration: false, skip_record_metadata: false };
        let mut out = Vec::new();
        run(&args, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Log starting offset: 7") && text.contains("not a whole batch"), "{text}");
    }
}

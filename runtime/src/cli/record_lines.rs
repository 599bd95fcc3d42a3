//! Records as lines of text and back, as Kafka's console tools write and read them.

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;

use super::failure::{Failure, Outcome};
use crate::kafka::{Incoming, Outgoing, OutgoingRecord};

type Properties = BTreeMap<String, String>;

fn is_true(properties: &Properties, key: &str, default: bool) -> bool {
    properties.get(key).map_or(default, |text| text.trim().eq_ignore_ascii_case("true"))
}

fn text(properties: &Properties, key: &str, default: &str) -> String {
    properties.get(key).map_or(default, String::as_str).to_owned()
}

/// Writes records as Kafka's DefaultMessageFormatter does.
#[derive(Debug)]
pub(super) struct Formatter {
    timestamp: bool,
    partition: bool,
    offset: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null: Vec<u8>,
}

/// Properties that the formatter knows.
const FORMATTER_PROPERTIES: &[&str] = &[
    "print.timestamp",
    "print.partition",
    "print.offset",
    "print.headers",
    "print.key",
    "print.value",
    "key.separator",
    "line.separator",
    "headers.separator",
    "null.literal",
];

impl Formatter {
    /// A formatter by Kafka's property names; says on stderr which it does not know.
    pub(super) fn new(properties: &Properties) -> Self {
        for key in properties.keys().filter(|key| !FORMATTER_PROPERTIES.contains(&key.as_str())) {
            eprintln!("WARN formatter property {key} is not known here and ignored");
        }
        let bytes = |key: &str, default: &str| text(properties, key, default).into_bytes();
        Self {
            timestamp: is_true(properties, "print.timestamp", false),
            partition: is_true(properties, "print.partition", false),
            offset: is_true(properties, "print.offset", false),
            headers: is_true(properties, "print.headers", false),
            key: is_true(properties, "print.key", false),
            value: is_true(properties, "print.value", true),
            key_separator: bytes("key.separator", "\t"),
            line_separator: bytes("line.separator", "\n"),
            headers_separator: bytes("headers.separator", ","),
            null: bytes("null.literal", "null"),
        }
    }

    /// Appends a record's line.
    pub(super) fn write(&self, record: &Incoming, line: &mut Vec<u8>) {
        let mut between = Between { separator: &self.key_separator, first: true };
        if self.timestamp {
            between.put(line);
            match record.timestamp {
                Some(time) => line.extend_from_slice(format!("CreateTime:{time}").as_bytes()),
                None => line.extend_from_slice(b"NO_TIMESTAMP"),
            }
        }
        if self.partition {
            between.put(line);
            line.extend_from_slice(format!("Partition:{}", record.partition).as_bytes());
        }
        if self.offset {
            between.put(line);
            line.extend_from_slice(format!("Offset:{}", record.offset).as_bytes());
        }
        if self.headers {
            between.put(line);
            self.write_headers(record, line);
        }
        if self.key {
            between.put(line);
            line.extend_from_slice(record.key.as_deref().unwrap_or(&self.null));
        }
        if self.value {
            between.put(line);
            line.extend_from_slice(record.value.as_deref().unwrap_or(&self.null));
        }
        line.extend_from_slice(&self.line_separator);
    }

    fn write_headers(&self, record: &Incoming, line: &mut Vec<u8>) {
        if record.headers.is_empty() {
            line.extend_from_slice(b"NO_HEADERS");
        }
        let mut between = Between { separator: &self.headers_separator, first: true };
        for (key, value) in &record.headers {
            between.put(line);
            line.extend_from_slice(key.as_bytes());
            line.push(b':');
            line.extend_from_slice(value.as_deref().unwrap_or(&self.null));
        }
    }
}

/// Puts a separator before every part but the first.
struct Between<'a> {
    separator: &'a [u8],
    first: bool,
}

impl Between<'_> {
    fn put(&mut self, line: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.first, false) {
            line.extend_from_slice(self.separator);
        }
    }
}

/// Properties that the reader knows.
const READER_PROPERTIES: &[&str] = &[
    "topic",
    "parse.key",
    "key.separator",
    "parse.headers",
    "headers.delimiter",
    "headers.separator",
    "headers.key.separator",
    "ignore.error",
    "null.marker",
];

/// Reads records as Kafka's LineMessageReader does.
#[derive(Debug)]
pub(super) struct LineReader {
    key: bool,
    headers: bool,
    key_separator: String,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    ignore_error: bool,
    null: Option<String>,
    line: u64,
}

impl LineReader {
    /// A reader by Kafka's property names; says on stderr which it does not know.
    pub(super) fn new(properties: &Properties) -> Outcome<Self> {
        for key in properties.keys().filter(|key| !READER_PROPERTIES.contains(&key.as_str())) {
            eprintln!("WARN reader property {key} is not known here and ignored");
        }
        let reader = Self {
            key: is_true(properties, "parse.key", false),
            headers: is_true(properties, "parse.headers", false),
            key_separator: text(properties, "key.separator", "\t"),
            headers_delimiter: text(properties, "headers.delimiter", "\t"),
            headers_separator: text(properties, "headers.separator", ","),
            headers_key_separator: text(properties, "headers.key.separator", ":"),
            ignore_error: is_true(properties, "ignore.error", false),
            null: properties.get("null.marker").filter(|marker| !marker.is_empty()).cloned(),
            line: 0,
        };
        let separators = [
            ("key.separator", &reader.key_separator),
            ("headers.delimiter", &reader.headers_delimiter),
            ("headers.separator", &reader.headers_separator),
            ("headers.key.separator", &reader.headers_key_separator),
        ];
        if let Some((name, _)) = separators.iter().find(|(_, separator)| separator.is_empty()) {
            return Err(Failure::new(format!("{name} must not be empty")));
        }
        Ok(reader)
    }

    /// Adds the record of a line, without its end, to a batch.
    pub(super) fn read(&mut self, line: &[u8], batch: &mut Outgoing) -> Outcome {
        self.line += 1;
        let mut rest = line;
        let mut headers = Vec::new();
        if self.headers
            && let Some((part, after)) = self.split(rest, &self.headers_delimiter, "headers delimiter")?
        {
            headers = self.parse_headers(part)?;
            rest = after;
        }
        let mut key = None;
        if self.key
            && let Some((part, after)) = self.split(rest, &self.key_separator, "key separator")?
        {
            key = self.unless_null(part).map(|bytes| batch.put(bytes));
            rest = after;
        }
        let value = self.unless_null(rest).map(|bytes| batch.put(bytes));
        batch.records.push(OutgoingRecord { partition: None, timestamp: None, key, value, headers });
        Ok(())
    }

    /// Splits at a separator; `None` if it is not there and that is to be ignored.
    fn split<'a>(&self, line: &'a [u8], separator: &str, name: &str) -> Outcome<Option<(&'a [u8], &'a [u8])>> {
        let parts = split_at(line, separator.as_bytes());
        if parts.is_none() && !self.ignore_error {
            return Err(Failure::new(format!(
                "No {name} found on line number {}: '{}'",
                self.line,
                String::from_utf8_lossy(line)
            )));
        }
        Ok(parts)
    }

    fn parse_headers(&self, part: &[u8]) -> Outcome<Vec<(ByteString, Option<Bytes>)>> {
        let part = String::from_utf8_lossy(part);
        if part.is_empty() {
            return Ok(Vec::new());
        }
        let mut headers = Vec::new();
        for pair in part.split(self.headers_separator.as_str()) {
            match pair.split_once(self.headers_key_separator.as_str()) {
                Some((key, value)) => {
                    let value = self.unless_null(value.as_bytes()).map(Bytes::copy_from_slice);
                    headers.push((ByteString::from(key), value));
                }
                None if self.ignore_error => {}
                None => {
                    return Err(Failure::new(format!(
                        "No header key separator found in pair '{pair}' on line number {}",
                        self.line
                    )));
                }
            }
        }
        Ok(headers)
    }

    fn unless_null<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        Some(bytes).filter(|bytes| self.null.as_ref().is_none_or(|marker| marker.as_bytes() != *bytes))
    }
}

fn split_at<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn read(pairs: &[(&str, &str)], line: &str) -> Outcome<Outgoing> {
        let mut batch = Outgoing::new(Arc::from("t"));
        LineReader::new(&properties(pairs))?.read(line.as_bytes(), &mut batch)?;
        Ok(batch)
    }

    #[test]
    fn formats_all_parts_in_kafkas_order() {
        let record = Incoming {
            topic: Arc::from("t"),
            partition: 1,
            offset: 2,
            timestamp: Some(3),
            key: None,
            value: Some(Bytes::from_static(b"v")),
            headers: vec![(ByteString::from("h"), Some(Bytes::from_static(b"x"))), (ByteString::from("n"), None)],
        };
        let line = |pairs: &[(&str, &str)]| {
            let mut line = Vec::new();
            Formatter::new(&properties(pairs)).write(&record, &mut line);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(line(&[]), "v\n");
        assert_eq!(line(&[("print.key", "true"), ("key.separator", "-")]), "null-v\n");
        let all = ["print.timestamp", "print.partition", "print.offset", "print.headers", "print.key"];
        let all: Vec<_> = all.iter().map(|key| (*key, "true")).collect();
        assert_eq!(line(&all), "CreateTime:3\tPartition:1\tOffset:2\th:x,n:null\tnull\tv\n");
    }

    #[test]
    fn parses_keys_headers_and_nulls() {
        let batch = read(&[("parse.key", "true"), ("key.separator", "=")], "k=v=w").unwrap();
        let record = &batch.records[0];
        assert_eq!(&batch.buffer[record.key.clone().unwrap()], b"k");
        assert_eq!(&batch.buffer[record.value.clone().unwrap()], b"v=w");
        let batch =
            read(&[("parse.headers", "true"), ("parse.key", "true"), ("null.marker", "~")], "a:1,b:~\tk\t~").unwrap();
        let record = &batch.records[0];
        assert_eq!(record.headers[0].1.as_deref(), Some(&b"1"[..]));
        assert_eq!(record.headers[1].1, None);
        assert_eq!(record.value, None);
    }

    #[test]
    fn a_line_without_separator_is_named() {
        let failure = read(&[("parse.key", "true")], "x").unwrap_err();
        assert_eq!(failure.message(), "No key separator found on line number 1: 'x'");
        assert_eq!(read(&[("parse.key", "true"), ("ignore.error", "true")], "x").unwrap().records[0].key, None);
    }
}

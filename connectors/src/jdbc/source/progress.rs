//! How far reading has come, and the offsets that say so: byte for byte those of the original, so that either worker
//! can go on where the other stopped.

use super::config::Mode;
use crate::api::{Error, Position, Result};
use crate::data::Value;

/// What partitions look like, for messages.
const PARTITIONS: &str = "{\"protocol\":\"1\",\"table\":\"<schema>.<table>\"}, {\"table\":\"<table>\"} (of versions before 5.0.2) or \
     {\"query\":\"query\"}";

/// How far a table or query was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// The last id.
    pub(super) id: Option<i64>,
    /// The last timestamp, in microseconds.
    pub(super) micros: Option<i64>,
    /// The same as the column's wall clock, if it has no zone and was read in this run: an offset can't say a time that a
    /// switch of clocks skips.
    pub(super) wall: Option<i64>,
}

/// The partition under which a table's offsets are stored.
pub(super) fn table_partition(dotted: &str) -> Position {
    // Order as Java hashes the two keys: stored offsets are found by their bytes.
    Position::of([("protocol", Value::from("1")), ("table", Value::from(dotted))])
}

/// The partition of old versions, which is only read.
pub(super) fn old_table_partition(name: &str) -> Position {
    Position::of([("table", Value::from(name))])
}

/// The partition of a query.
pub(super) fn query_partition() -> Position {
    Position::of([("query", Value::from("query"))])
}

impl Progress {
    /// From a stored offset.
    pub(super) fn from_position(position: &Position) -> Self {
        let number = |key: &str| position.get(key).and_then(Value::as_i64);
        let micros = number("timestamp").map(|millis| match number("timestamp_nanos") {
            Some(nanos) => millis.div_euclid(1000).saturating_mul(1_000_000).saturating_add(nanos / 1000),
            None => millis.saturating_mul(1000),
        });
        Self { id: number("incrementing"), micros, wall: None }
    }

    /// As an offset; `None` if there is nothing to store.
    pub(super) fn to_position(self) -> Option<Position> {
        let mut entries: Vec<(std::sync::Arc<str>, Value)> = Vec::with_capacity(3);
        if let Some(id) = self.id {
            entries.push(("incrementing".into(), Value::Int64(id)));
        }
        if let Some(micros) = self.micros {
            entries.push(("timestamp".into(), Value::Int64(micros.div_euclid(1000))));
            entries.push(("timestamp_nanos".into(), Value::Int64(micros.rem_euclid(1_000_000) * 1000)));
        }
        (!entries.is_empty()).then(|| Position::new(entries))
    }
}

/// Checks a partition and its offset that a user wants to store: what reading would not understand would be as good as
/// none, and everything be read again. To forget a partition's offset is always right.
///
/// # Errors
/// What is wrong, and what is expected.
pub(super) fn check_altered(
    mode: Option<Mode>,
    qualified: bool,
    partition: &Position,
    offset: Option<&Position>,
) -> Result<()> {
    let Some(offset) = offset else { return Ok(()) };
    let text = |key: &str| match partition.get(key) {
        Some(Value::String(text)) => Some(text.to_string()),
        _ => None,
    };
    let shown = partition.to_json();
    let known = match (partition.entries().len(), text("protocol"), text("table"), text("query")) {
        (2, Some(protocol), Some(table), _) => {
            let whole = if qualified { table.trim_matches('.').contains('.') } else { !table.is_empty() };
            protocol == "1" && whole
        }
        (1, _, Some(table), _) => !table.is_empty(),
        (1, _, _, Some(query)) => query == "query",
        _ => false,
    };
    if !known {
        return Err(Error::data(format!(
            "The partition {shown} is none of this connector: expected is {PARTITIONS}, as GET of the offsets shows it"
        )));
    }
    let wrong = |what: String| {
        Error::data(format!("The offset {} of the partition {shown} can't be used: {what}", offset.to_json()))
    };
    for (key, value) in offset.entries() {
        let number = match &**key {
            "incrementing" | "timestamp" | "timestamp_nanos" => value.as_i64(),
            _ => {
                return Err(wrong(format!(
                    "the key '{key}' is unknown; known are 'incrementing', 'timestamp' and 'timestamp_nanos'"
                )));
            }
        };
        let in_range = match (&**key, number) {
            ("timestamp_nanos", Some(nanos)) => (0..1_000_000_000).contains(&nanos),
            (_, number) => number.is_some(),
        };
        if !in_range {
            let expected = match &**key {
                "incrementing" => "the last id, a JSON integer of 64 bits",
                "timestamp" => "milliseconds since 1970, a JSON integer of 64 bits",
                _ => "the nanoseconds of the second, a JSON integer from 0 to 999999999",
            };
            return Err(wrong(format!("the value of '{key}' must be {expected}")));
        }
    }
    let needed = match mode {
        Some(Mode::Bulk) => {
            return Err(wrong("mode=bulk keeps no offsets, only null can be set".to_owned()));
        }
        Some(Mode::Incrementing) => "incrementing",
        Some(Mode::Timestamp | Mode::TimestampIncrementing) => "timestamp",
        None if offset.get("timestamp_nanos").is_some() => "timestamp",
        None => return Ok(()),
    };
    if offset.get(needed).is_none() {
        return Err(wrong(format!("the connector's mode needs the key '{needed}', or everything would be read again")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_read_and_write_as_the_original() {
        assert_eq!(table_partition("public.t").to_json().to_string(), r#"{"protocol":"1","table":"public.t"}"#);
        let id = Progress { id: Some(42), ..Progress::default() };
        assert_eq!(id.to_position().unwrap().to_json().to_string(), r#"{"incrementing":42}"#);
        let both = Progress { id: Some(1), micros: Some(1_709_209_845_123_456), wall: None };
        let position = both.to_position().unwrap();
        assert_eq!(
            position.to_json().to_string(),
            r#"{"incrementing":1,"timestamp":1709209845123,"timestamp_nanos":123456000}"#
        );
        assert_eq!(Progress::from_position(&position), both);
        let before_1970 = Progress { micros: Some(-1), ..Progress::default() };
        assert_eq!(Progress::from_position(&before_1970.to_position().unwrap()), before_1970);
        let coarse = Position::of([("timestamp", Value::Int64(5))]);
        assert_eq!(Progress::from_position(&coarse).micros, Some(5000));
    }

    #[test]
    fn offsets_that_would_not_be_understood_are_refused() {
        let parsed = |json: &str| Position::from_json(&serde_json::from_str(json).unwrap()).unwrap();
        let table = r#"{"protocol":"1","table":"public.o"}"#;
        let check = |mode, partition: &str, offset: &str| {
            check_altered(Mode::from_text(mode), true, &parsed(partition), Some(&parsed(offset)))
                .map_err(|e| e.to_string())
        };
        for partition in [table, r#"{"table":"public.o","protocol":"1"}"#, r#"{"table":"o"}"#, r#"{"query":"query"}"#] {
            assert_eq!(check("incrementing", partition, r#"{"incrementing":5}"#), Ok(()), "{partition}");
        }
        let both = r#"{"incrementing":-1,"timestamp":-5,"timestamp_nanos":999999999}"#;
        assert_eq!(check("timestamp+incrementing", table, both), Ok(()));
        assert_eq!(check("timestamp", table, r#"{"timestamp":9223372036854775807}"#), Ok(()));
        for partition in [
            r#"{"foo":"query"}"#,
            r#"{"protocol":"2","table":"public.o"}"#,
            r#"{"protocol":1,"table":"public.o"}"#,
            r#"{"protocol":"1"}"#,
            r#"{"protocol":"1","table":"o"}"#,
            r#"{"protocol":"1","table":".o"}"#,
            r#"{"protocol":"1","table":""}"#,
            r#"{"query":"other"}"#,
            r#"{"query":"query","table":"o"}"#,
            "{}",
        ] {
            let said = check("incrementing", partition, r#"{"incrementing":5}"#).unwrap_err();
            assert!(said.contains(partition) && said.contains("<schema>.<table>"), "{said}");
            assert!(check_altered(Some(Mode::Incrementing), true, &parsed(partition), None).is_ok());
        }
        let (bare, five) = (parsed(r#"{"protocol":"1","table":"o"}"#), parsed(r#"{"incrementing":5}"#));
        assert!(check_altered(Some(Mode::Incrementing), false, &bare, Some(&five)).is_ok());
        for (mode, offset, part) in [
            ("incrementing", r#"{"incrementing":"5"}"#, "'incrementing' must be"),
            ("incrementing", r#"{"incrementing":5.5}"#, "'incrementing' must be"),
            ("incrementing", r#"{"incrementing":null}"#, "'incrementing' must be"),
            ("incrementing", r#"{"incrementing":true}"#, "'incrementing' must be"),
            ("incrementing", r#"{"incrementing":99999999999999999999}"#, "64 bits"),
            ("incrementing", r#"{"foo":5}"#, "'foo' is unknown"),
            ("incrementing", r#"{"timestamp":"x","incrementing":5}"#, "'timestamp' must be"),
            ("incrementing", r#"{"timestamp":5}"#, "needs the key 'incrementing'"),
            ("timestamp+incrementing", r#"{"incrementing":5}"#, "needs the key 'timestamp'"),
            ("timestamp", r#"{"timestamp":5,"timestamp_nanos":1000000000}"#, "to 999999999"),
            ("${file:mode}", r#"{"timestamp_nanos":1}"#, "needs the key 'timestamp'"),
            ("incrementing", "{}", "needs the key"),
            ("bulk", r#"{"incrementing":5}"#, "keeps no offsets"),
        ] {
            let said = check(mode, table, offset).unwrap_err();
            assert!(said.contains(part) && said.contains("public.o"), "{offset}: {said}");
        }
    }
}

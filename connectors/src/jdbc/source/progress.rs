//! How far reading has come, and the offsets that say so: byte for byte those of the original, so that either worker
//! can go on where the other stopped.

use crate::api::Position;
use crate::data::Value;

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
}

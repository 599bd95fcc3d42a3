//! The SQL of each mode, as pure functions. Columns are named, values inlined by one function, since COPY takes no
//! parameters.

use super::config::Mode;
use super::progress::Progress;
use crate::postgres::catalog::Column;
use crate::postgres::quote::{Quoting, bigint, identifier, literal};
use crate::postgres::temporal::{self, Zone};
use crate::postgres::type_map::PgType;

/// A column that offsets are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OffsetColumn {
    /// The name.
    pub(super) name: String,
    /// The type.
    pub(super) kind: PgType,
}

/// What statements are made from.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// The mode.
    pub(super) mode: Mode,
    /// What follows FROM: a table, or a sub-select with an alias.
    pub(super) from: String,
    /// The columns to select, as SQL.
    pub(super) columns: String,
    /// The incrementing column.
    pub(super) incrementing: Option<OffsetColumn>,
    /// The timestamp columns.
    pub(super) timestamps: Vec<OffsetColumn>,
    /// How names are written.
    pub(super) quoting: Quoting,
    /// `db.timezone`
    pub(super) zone: Zone,
    /// `query.suffix`
    pub(super) suffix: String,
}

/// What a round may read: up to this id, before this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bound {
    /// The largest id.
    pub(super) id: Option<i64>,
    /// The time that rows must be before, in microseconds.
    pub(super) micros: Option<i64>,
}

/// What starts the server's words about a value above the limit.
const TOO_LARGE: &str = "max.value.bytes: ";

/// A column as it is selected. A value above the limit ends the statement before it is sent: sizes of what is kept out of
/// line are known without fetching it, those of text and bytea as they are, those of others as they are compressed.
pub(super) fn selected(column: &Column, cast: &str, limit: Option<u64>) -> String {
    let name = identifier(&column.name);
    let size = match (column.kind, limit) {
        // What has a length can't be that large, nor can numbers.
        (_, None) | (PgType::Numeric(_) | PgType::Bit(_), _) => return format!("{name}{cast}"),
        (PgType::Text, _) if column.declared.contains('(') => return format!("{name}{cast}"),
        (PgType::Text, Some(_)) if column.unmodified != "xml" => format!("octet_length({name})"),
        (PgType::Bytea, Some(_)) => format!("octet_length({name})"),
        (_, Some(_)) => format!("pg_column_size({name})"),
    };
    // A number that is none is the one error with words of ours that plain SQL has.
    let said = literal(&format!(" bytes in column \"{}\"", column.name));
    // Null where the value is null, which is asked about too.
    let told = format!("'{TOO_LARGE}' OPERATOR(pg_catalog.||) pg_catalog.{size}::text OPERATOR(pg_catalog.||) {said}");
    format!(
        "CASE WHEN pg_catalog.{size} > {} AND ({told})::int4 IS NULL THEN NULL ELSE {name}{cast} END",
        limit.unwrap_or_default()
    )
}

/// What the server said about a value above the limit, if that was it.
pub(super) fn too_large(message: &str) -> Option<&str> {
    let (_, said) = message.split_once(TOO_LARGE)?;
    Some(said.strip_suffix('"').unwrap_or(said))
}

/// How many rows a statement reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paging {
    /// About so many.
    Keyset(usize),
    /// All.
    Stream,
}

impl Statement {
    /// The statement that reads the next page.
    pub(super) fn page(&self, from: Progress, bound: Bound, paging: Paging) -> String {
        let mut sql = format!("SELECT {} FROM {}", self.columns, self.from);
        let (conditions, order) = self.conditions(from, bound);
        if !conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&conditions.join(" AND "));
        }
        if !order.is_empty() {
            sql.push_str(" ORDER BY ");
            sql.push_str(&order.iter().map(|key| format!("{key} ASC")).collect::<Vec<_>>().join(","));
        }
        if let (Paging::Keyset(rows), false) = (paging, order.is_empty()) {
            // Rows of one offset must not be cut: the next page starts behind it. Ids too may repeat.
            sql.push_str(&format!(" FETCH FIRST {rows} ROWS WITH TIES"));
        }
        if !self.suffix.is_empty() {
            sql.push(' ');
            sql.push_str(&self.suffix);
        }
        sql
    }

    /// The condition that there are rows to read.
    pub(super) fn any(&self, from: Progress) -> String {
        let (conditions, _) = self.conditions(from, Bound::default());
        let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        format!("EXISTS (SELECT FROM {} WHERE {conditions})", self.from)
    }

    /// The statement that asks for the largest id that is visible, and whether the server is a standby.
    pub(super) fn largest_id(&self) -> Option<String> {
        let id = self.id()?;
        // A fraction counts as the next id, and what is larger than all ids as the largest: such rows must be met.
        let largest = match self.incrementing.as_ref().map(|column| column.kind) {
            Some(PgType::Numeric(_)) => format!(
                "CASE WHEN max({id}) > {most} THEN {most} WHEN max({id}) < -{most} THEN -{most} ELSE ceil(max({id})) END",
                most = i64::MAX
            ),
            _ => format!("max({id})"),
        };
        Some(format!("SELECT ({largest})::int8, pg_catalog.pg_is_in_recovery() FROM {}", self.from))
    }

    /// The statement that asks for the latest timestamp that is visible and could be read, in microseconds as its column
    /// shows it.
    pub(super) fn latest(&self, from: Progress, bound: Bound) -> String {
        let (conditions, _) = self.conditions(from, bound);
        format!(
            "SELECT (extract(epoch FROM max({})) * 1000000)::int8 FROM {} WHERE {}",
            self.timestamp(),
            self.from,
            conditions.join(" AND ")
        )
    }

    /// A time that [`Self::latest`] answered, as an instant.
    pub(super) fn instant_of_latest(&self, micros: i64) -> i64 {
        let zoned = self.timestamps.iter().any(|column| column.kind == PgType::TimestampTz);
        if zoned { micros } else { self.zone.to_instant(micros) }
    }

    /// A statement that takes the locks of reading, and reads nothing.
    pub(super) fn lock(&self) -> String {
        lock(&self.from)
    }

    fn id(&self) -> Option<String> {
        self.incrementing.as_ref().map(|column| self.quoting.identifier(&column.name))
    }

    fn timestamp(&self) -> String {
        match self.timestamps.as_slice() {
            [one] => self.quoting.identifier(&one.name),
            many => format!("COALESCE({})", self.quoting.list(many.iter().map(|column| column.name.as_str()))),
        }
    }

    fn moment(&self, micros: i64) -> String {
        let zoned = self.timestamps.iter().any(|column| column.kind == PgType::TimestampTz);
        if zoned {
            format!("{}::timestamptz", literal(&format!("{}+00", datetime(micros))))
        } else {
            format!("{}::timestamp", literal(&datetime(self.zone.to_wall(micros))))
        }
    }

    /// Where the last row stands.
    fn begin(&self, from: Progress) -> String {
        match from.wall {
            Some(wall) => format!("{}::timestamp", literal(&datetime(wall))),
            None => self.moment(from.micros.unwrap_or(0)),
        }
    }

    fn conditions(&self, from: Progress, bound: Bound) -> (Vec<String>, Vec<String>) {
        let mut conditions = Vec::new();
        match self.mode {
            Mode::Bulk => (conditions, Vec::new()),
            Mode::Incrementing => {
                let id = self.id().unwrap_or_default();
                conditions.push(format!("{id} > {}", bigint(from.id.unwrap_or(-1))));
                let last = bound.id.filter(|last| *last < i64::MAX);
                conditions.extend(last.map(|last| format!("{id} <= {}", bigint(last))));
                (conditions, vec![id])
            }
            Mode::Timestamp => {
                let time = self.timestamp();
                conditions.push(format!("{time} > {}", self.begin(from)));
                conditions.extend(bound.micros.map(|end| format!("{time} < {}", self.moment(end))));
                (conditions, vec![time])
            }
            Mode::TimestampIncrementing => {
                let (time, id) = (self.timestamp(), self.id().unwrap_or_default());
                let begin = self.begin(from);
                conditions.extend(bound.micros.map(|end| format!("{time} < {}", self.moment(end))));
                // The first condition lets an index on the timestamp serve the disjunction.
                conditions.push(format!("{time} >= {begin}"));
                let last = bigint(from.id.unwrap_or(-1));
                conditions.push(format!("(({time} = {begin} AND {id} > {last}) OR {time} > {begin})"));
                (conditions, vec![time, id])
            }
        }
    }
}

fn datetime(micros: i64) -> String {
    temporal::datetime_text(micros, ' ', 6)
}

/// A statement that takes the locks of reading, and reads nothing.
pub(super) fn lock(from: &str) -> String {
    format!("SELECT * FROM {from} LIMIT 0")
}

/// A query as what follows FROM; on lines of its own, so that a comment at its end ends there.
pub(super) fn sub_select(query: &str) -> String {
    format!("(\n{query}\n) towline")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(mode: Mode, stamp: PgType) -> Statement {
        Statement {
            mode,
            from: "\"s\".\"t\"".to_owned(),
            columns: "\"id\",\"at\"".to_owned(),
            incrementing: Some(OffsetColumn { name: "id".to_owned(), kind: PgType::Int4 }),
            timestamps: vec![OffsetColumn { name: "at".to_owned(), kind: stamp }],
            quoting: Quoting::Always,
            zone: Zone::from_text("Asia/Seoul").unwrap(),
            suffix: String::new(),
        }
    }

    #[test]
    fn statements_of_each_mode() {
        let from = Progress { id: Some(7), micros: Some(1_709_209_845_123_456), wall: None };
        let bound = Bound { id: Some(9), micros: Some(1_709_209_846_000_000) };
        assert_eq!(
            statement(Mode::Incrementing, PgType::Timestamp).page(from, bound, Paging::Keyset(10)),
            "SELECT \"id\",\"at\" FROM \"s\".\"t\" WHERE \"id\" > '7'::int8 AND \"id\" <= '9'::int8 \
             ORDER BY \"id\" ASC FETCH FIRST 10 ROWS WITH TIES"
        );
        assert_eq!(
            statement(Mode::Timestamp, PgType::Timestamp).page(from, bound, Paging::Keyset(10)),
            "SELECT \"id\",\"at\" FROM \"s\".\"t\" WHERE \"at\" > '2024-02-29 21:30:45.123456'::timestamp \
             AND \"at\" < '2024-02-29 21:30:46.000000'::timestamp ORDER BY \"at\" ASC FETCH FIRST 10 ROWS WITH TIES"
        );
        assert_eq!(
            statement(Mode::Incrementing, PgType::Timestamp).any(from),
            "EXISTS (SELECT FROM \"s\".\"t\" WHERE \"id\" > '7'::int8)"
        );
        let both = statement(Mode::TimestampIncrementing, PgType::TimestampTz).page(from, bound, Paging::Stream);
        assert!(both.contains("\"at\" < '2024-02-29 12:30:46.000000+00'::timestamptz"), "{both}");
        assert!(both.ends_with("ORDER BY \"at\" ASC,\"id\" ASC"), "{both}");
        assert_eq!(
            statement(Mode::Bulk, PgType::Timestamp).page(from, bound, Paging::Keyset(10)),
            "SELECT \"id\",\"at\" FROM \"s\".\"t\""
        );
    }
}

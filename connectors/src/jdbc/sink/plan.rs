//! How records of one pair of schemas go into one table: encoders and SQL, made once and used for every record.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::config::{InsertMode, SinkConfig};
use super::destination::columns_for;
use super::fields::{PlannedField, Take};
use crate::api::{Error, Result, SinkRecord};
use crate::data::{Logical, Schema, Type};
use crate::postgres::catalog::{Column, Table, UniqueKey};
use crate::postgres::copy_encode::put_count;
use crate::postgres::field_encoder::{EncodeError, FieldEncoder};
use crate::postgres::quote::identifier;
use crate::postgres::type_map::{PgType, UNCONSTRAINED_SCALE};

/// One column of a plan.
#[derive(Debug)]
struct PlannedColumn {
    name: Arc<str>,
    sql: String,
    declared: String,
    /// The type that staged text is cast to, without a length: an explicit cast would cut silently, an assignment refuses.
    assigned: String,
    /// Whether `=` is defined for the type.
    comparable: bool,
    take: Take,
    /// The kind of value that comes.
    kind: Type,
    encoder: FieldEncoder,
    key: bool,
    /// Whether UPDATE may set it: identities that are always generated refuse that.
    settable: bool,
    /// Whether equal values have equal bytes.
    exact: bool,
}

/// A field of a tuple that is null.
const NULL_FIELD: [u8; 4] = (-1_i32).to_be_bytes();

/// Which staged rows a statement is about, by their numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Within(Option<(usize, usize)>);

impl Within {
    /// All.
    pub(super) const ALL: Self = Self(None);
    /// None at all.
    pub(super) const NONE: Self = Self(Some((1, 0)));

    /// These, which are in ascending order and without others between them.
    pub(super) fn rows(rows: &[usize]) -> Self {
        Self(rows.first().copied().zip(rows.last().copied()))
    }

    fn condition(self, alias: &str, before: &str) -> String {
        self.0.map_or_else(String::new, |(first, last)| format!("{before}{alias}.n BETWEEN {first} AND {last}"))
    }
}

/// How records go into a table.
#[derive(Debug)]
pub(super) struct WritePlan {
    /// The table's SQL name, also for messages.
    pub(super) table: String,
    /// The temporary table that rows are staged in.
    pub(super) stage: String,
    columns: Vec<PlannedColumn>,
    /// Whether rows can go straight into the table: every column has a binary form, and the table takes COPY as INSERT.
    pub(super) direct: bool,
    overriding: &'static str,
    /// The columns of a unique key that are all written; which row a record could collide with.
    unique: Option<Vec<usize>>,
    /// Whether keys that are equal to the server are so in bytes; `citext` and numbers as text are not.
    pub(super) exact_keys: bool,
}

impl WritePlan {
    /// A plan for a table that has a column for every field.
    pub(super) fn new(config: &SinkConfig, table: &Table, fields: &[PlannedField]) -> Self {
        let mut columns = Vec::with_capacity(fields.len());
        let mut overriding = "";
        for (field, column) in fields.iter().zip(columns_for(table, fields)) {
            let Some(column) = column else { continue };
            if column.generated {
                tracing::warn!(table = %table.name.dotted(), column = %column.name, "generated column is not written");
                continue;
            }
            if column.identity_always {
                overriding = " OVERRIDING SYSTEM VALUE";
            }
            columns.push(planned_column(config, field, column));
        }
        let direct = table.copies && columns.iter().all(|column| !column.encoder.is_staged());
        let unique = table.keys.iter().find_map(|key| {
            key.columns.iter().map(|name| columns.iter().position(|column| *column.name == **name)).collect()
        });
        let exact_keys = columns.iter().filter(|column| column.key).all(|column| column.exact);
        Self {
            table: table.name.quoted(),
            stage: stage_name(&columns),
            columns,
            direct,
            overriding,
            unique,
            exact_keys,
        }
    }

    /// Appends a record as a tuple, with its number in front if staged. On an error nothing is left of it.
    ///
    /// # Errors
    /// The column that the record does not fit, and why.
    #[inline]
    pub(super) fn encode(
        &self,
        record: &SinkRecord,
        number: Option<i32>,
        out: &mut Vec<u8>,
    ) -> Result<(), (&str, EncodeError)> {
        let start = out.len();
        put_count(out, self.columns.len() + usize::from(number.is_some()));
        if let Some(number) = number {
            crate::postgres::copy_encode::put_field(out, &number.to_be_bytes());
        }
        for column in &self.columns {
            if let Err(error) = column.encoder.encode(&column.take.of(record), out) {
                out.truncate(start);
                return Err((&column.name, error));
            }
        }
        Ok(())
    }

    /// Appends the key columns of a record: equal bytes, equal keys. False if one is null, which equals no other.
    pub(super) fn encode_key(&self, record: &SinkRecord, out: &mut Vec<u8>) -> Result<bool, (&str, EncodeError)> {
        let mut whole = true;
        for column in self.columns.iter().filter(|column| column.key) {
            let start = out.len();
            column.encoder.encode(&column.take.of(record), out).map_err(|error| (&*column.name, error))?;
            whole &= out[start..] != NULL_FIELD;
        }
        Ok(whole)
    }

    /// A column for messages: its name, the kind of value that comes, and its type.
    pub(super) fn describe(&self, column: &str) -> String {
        match self.columns.iter().find(|planned| *planned.name == *column) {
            Some(planned) => format!("column \"{column}\" ({} into {})", planned.kind.java_name(), planned.declared),
            None => format!("column \"{column}\""),
        }
    }

    /// The one column of the type that the server names.
    pub(super) fn describe_type_in(&self, said: &str) -> Option<String> {
        let named = |column: &&PlannedColumn| {
            column.declared.ends_with(')') && said.contains(&format!("type {}", column.declared))
        };
        let mut columns = self.columns.iter().filter(named);
        columns.next().filter(|_| columns.next().is_none()).map(|column| self.describe(&column.name))
    }

    /// The columns of the unique key by which redelivered rows are told, for messages.
    pub(super) fn unique_columns(&self) -> String {
        let unique = self.unique.iter().flatten();
        unique.map(|at| &*self.columns[*at].name).collect::<Vec<_>>().join(", ")
    }

    /// The name of a column of the staging table.
    pub(super) fn name_of_staged(&self, column: &str) -> Option<&str> {
        let at: usize = column.strip_prefix('c')?.parse().ok()?;
        self.columns.get(at).map(|planned| &*planned.name)
    }

    /// For each column that is staged as text, its name and the statement that casts what is staged.
    pub(super) fn casts(&self, within: Within) -> impl Iterator<Item = (&str, String)> {
        let staged = self.columns.iter().enumerate().filter(|(_, column)| column.encoder.is_staged());
        staged.map(move |(at, column)| {
            let sql = format!(
                "SELECT count({}) FROM {} s{}",
                self.staged(at, "s"),
                self.stage,
                within.condition("s", " WHERE ")
            );
            (&*column.name, sql)
        })
    }

    /// Whether ON CONFLICT finds a unique key of exactly the key columns.
    ///
    /// # Errors
    /// With the statement that makes one.
    pub(super) fn check_conflict_target(&self, config: &SinkConfig, table: &Table) -> Result<()> {
        let mut keys: Vec<&str> = self.columns.iter().filter(|column| column.key).map(|column| &*column.name).collect();
        keys.sort_unstable();
        let fits = |unique: &UniqueKey| {
            let mut columns: Vec<&str> = unique.columns.iter().map(String::as_str).collect();
            columns.sort_unstable();
            columns == keys
        };
        if table.keys.iter().any(fits) || matches!(table.kind, 'v' | 'f') {
            return Ok(());
        }
        let list = join(keys.iter().map(|name| identifier(name)), ", ");
        Err(Error::fatal(format!(
            "insert.mode=upsert needs a unique key of exactly ({list}) on table {0}: CREATE UNIQUE INDEX ON {0} ({list}); \
             or choose the columns with {1}",
            self.table,
            config.dialect.key_fields()
        )))
    }

    fn names(&self) -> String {
        join(self.columns.iter().map(|column| column.sql.as_str()), ",")
    }

    /// COPY straight into the table.
    pub(super) fn copy(&self) -> String {
        format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.table, self.names())
    }

    /// Makes the staging table, if this session has none yet.
    pub(super) fn create_stage(&self) -> String {
        let mut sql = format!("CREATE TEMPORARY TABLE IF NOT EXISTS {} (n int4", self.stage);
        for (at, column) in self.columns.iter().enumerate() {
            let _ = write!(sql, ", c{at} {}", column.staged_as());
        }
        sql.push_str(") ON COMMIT DELETE ROWS");
        sql
    }

    /// COPY into the staging table, of rows that are numbered or not.
    pub(super) fn copy_stage(&self, numbered: bool) -> String {
        let numbers = numbered.then(|| "n".to_owned());
        let columns = numbers.into_iter().chain((0..self.columns.len()).map(|at| format!("c{at}")));
        format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.stage, join(columns, ","))
    }

    /// A staged column as it is assigned to the table's column.
    fn assigned(&self, at: usize, alias: &str) -> String {
        self.cast(at, alias, &self.columns[at].assigned)
    }

    /// A staged column as it compares with the table's column: rounded as what is stored, but not cut.
    fn staged(&self, at: usize, alias: &str) -> String {
        let column = &self.columns[at];
        let cuts = ["bit", "char"].iter().any(|word| column.assigned.contains(word));
        self.cast(at, alias, if cuts { &column.assigned } else { &column.declared })
    }

    fn cast(&self, at: usize, alias: &str, to: &str) -> String {
        let column = &self.columns[at];
        let staged = format!("{alias}.c{at}");
        if !column.encoder.is_staged() {
            return staged;
        }
        if column.declared == "money" {
            // Plain numbers mean the same in every locale, if they come as numbers.
            return format!(
                "CASE WHEN {staged} ~ '^-?[0-9]+([.][0-9]+)?$' THEN {staged}::numeric::money ELSE {staged}::money END"
            );
        }
        format!("{staged}::{to}")
    }

    /// Writes what is staged.
    pub(super) fn apply(&self, mode: InsertMode, within: Within) -> String {
        match mode {
            InsertMode::Update => self.update(within),
            InsertMode::Insert => self.insert(within, &self.rows(within, false)),
            InsertMode::Upsert => {
                format!("{}{}", self.insert(within, &self.rows(within, true)), self.on_conflict())
            }
        }
    }

    fn insert(&self, within: Within, rows: &str) -> String {
        let values = join((0..self.columns.len()).map(|at| self.assigned(at, "s")), ",");
        // All of a stage that was filled once are read in their order anyway.
        let order = if within.0.is_some() { " ORDER BY s.n" } else { "" };
        format!("INSERT INTO {} ({}){} SELECT {values} FROM {rows}{order}", self.table, self.names(), self.overriding,)
    }

    /// Staged rows, each that `each_key_once` leaves the last of its key.
    fn rows(&self, within: Within, each_key_once: bool) -> String {
        let rows = format!("{} s{}", self.stage, within.condition("s", " WHERE "));
        if self.exact_keys || !each_key_once {
            return rows;
        }
        let keys = (0..self.columns.len()).filter(|at| self.columns[*at].key).map(|at| self.staged(at, "s"));
        let keys: Vec<String> = keys.collect();
        // A null equals no other.
        let null = join(keys.iter().map(|key| format!("{key} IS NULL")), " OR ");
        let by = format!("{}, CASE WHEN {null} THEN s.n END", keys.join(", "));
        format!("(SELECT DISTINCT ON ({by}) s.* FROM {rows} ORDER BY {by}, s.n DESC) s")
    }

    fn on_conflict(&self) -> String {
        let keys = join(self.columns.iter().filter(|column| column.key).map(|column| column.sql.as_str()), ",");
        let sets = self.columns.iter().filter(|column| column.settable);
        let sets = join(sets.map(|column| format!("{0}=EXCLUDED.{0}", column.sql)), ",");
        if sets.is_empty() {
            format!(" ON CONFLICT ({keys}) DO NOTHING")
        } else {
            format!(" ON CONFLICT ({keys}) DO UPDATE SET {sets}")
        }
    }

    fn update(&self, within: Within) -> String {
        let places = (0..self.columns.len()).filter(|at| self.columns[*at].settable);
        let sets = join(places.map(|at| format!("{} = {}", self.columns[at].sql, self.assigned(at, "s"))), ",");
        if sets.is_empty() {
            return "SELECT 1".to_owned();
        }
        let keys = self.keys_equal("t");
        let (rows, part) = if self.exact_keys {
            (format!("{} s", self.stage), within.condition("s", " AND "))
        } else {
            (self.rows(within, true), String::new())
        };
        format!("UPDATE {} t SET {sets} FROM {rows} WHERE {keys}{part}", self.table)
    }

    /// Empties the table.
    pub(super) fn truncate(&self) -> String {
        format!("TRUNCATE TABLE {}", self.table)
    }

    /// Deletes the rows whose keys are staged.
    pub(super) fn delete(&self, within: Within) -> String {
        let keys = self.keys_equal("t");
        format!("DELETE FROM {} t USING {} s WHERE {keys}{}", self.table, self.stage, within.condition("s", " AND "))
    }

    /// Takes rows off the stage.
    pub(super) fn unstage(&self, within: Within) -> String {
        format!("DELETE FROM {} s{}", self.stage, within.condition("s", " WHERE "))
    }

    /// Makes parts of many staged rows cheap to find.
    pub(super) fn index_stage(&self) -> String {
        format!("CREATE INDEX IF NOT EXISTS {0}_n ON {0} (n)", self.stage)
    }

    fn keys_equal(&self, alias: &str) -> String {
        let keys = (0..self.columns.len()).filter(|at| self.columns[*at].key);
        let equal =
            join(keys.map(|at| format!("{alias}.{} = {}", self.columns[at].sql, self.staged(at, "s"))), " AND ");
        if equal.is_empty() { "true".to_owned() } else { equal }
    }

    /// Takes staged rows off whose key is in the table already; answers their numbers and whether the stored row is the
    /// same in all that would be written. `None` without a unique key: there an equal row is no redelivery.
    pub(super) fn take_stored(&self, within: Within) -> Option<String> {
        let key = self.unique.as_ref()?;
        let same = self.same(|at| format!("t.{}", self.columns[at].sql));
        let found =
            join(key.iter().map(|at| format!("t.{} = {}", self.columns[*at].sql, self.staged(*at, "s"))), " AND ");
        let part = within.condition("s", " AND ");
        Some(format!("DELETE FROM {} s USING {} t WHERE {found}{part} RETURNING s.n, ({same})", self.stage, self.table))
    }

    /// Takes staged rows off that repeat an earlier one of them.
    pub(super) fn take_repeated(&self, within: Within) -> Option<String> {
        let key = self.unique.as_ref()?;
        let same = self.same(|at| self.staged(at, "e"));
        let equal =
            join(key.iter().map(|at| format!("{} = {}", self.staged(*at, "e"), self.staged(*at, "s"))), " AND ");
        let (part, others) = (within.condition("s", " AND "), within.condition("e", " AND "));
        Some(format!("DELETE FROM {0} s USING {0} e WHERE {equal} AND e.n < s.n AND {same}{part}{others}", self.stage))
    }

    fn same(&self, other: impl Fn(usize) -> String) -> String {
        join(
            (0..self.columns.len()).map(|at| {
                let cast = if self.columns[at].comparable { "" } else { "::text" };
                format!("({}){cast} IS NOT DISTINCT FROM ({}){cast}", other(at), self.staged(at, "s"))
            }),
            " AND ",
        )
    }
}

impl PlannedColumn {
    /// The type of its column in the staging table.
    fn staged_as(&self) -> &str {
        if self.encoder.is_staged() { "text" } else { &self.declared }
    }
}

/// One name for one list of types: plans come and go with every rollback, the session's staging tables stay.
fn stage_name(columns: &[PlannedColumn]) -> String {
    let mut hasher = DefaultHasher::new();
    columns.iter().for_each(|column| column.staged_as().hash(&mut hasher));
    format!("towline_stage_{:016x}", hasher.finish())
}

fn planned_column(config: &SinkConfig, field: &PlannedField, column: &Column) -> PlannedColumn {
    let stamp = config.stamp_fields.iter().any(|name| **name == *field.name).then_some(config.stamp_unit);
    let encoder = FieldEncoder::new(&field.schema, column.kind, stamp, &config.render);
    let comparable = match column.kind {
        PgType::Json | PgType::Other => false,
        PgType::Text => column.declared != "xml",
        _ => true,
    };
    // Text may say one value in many ways.
    let exact = !encoder.is_staged() && has_exact_bytes(column, &field.schema);
    PlannedColumn {
        name: Arc::clone(&column.name),
        sql: identifier(&column.name),
        declared: column.declared.clone(),
        assigned: column.unmodified.clone(),
        comparable,
        take: field.take,
        kind: field.schema.kind,
        encoder: if config.null_to_default { encoder.with_default() } else { encoder },
        key: field.key,
        settable: !field.key && !column.identity_always,
        exact,
    }
}

/// Whether equal values of a column are equal as they are sent.
fn has_exact_bytes(column: &Column, schema: &Schema) -> bool {
    use PgType as P;
    match column.kind {
        // Of one scale, which the column does not round.
        P::Numeric(declared) => {
            let keeps = |scale| declared.is_none_or(|(_, kept)| kept >= scale);
            match (schema.logical(), schema.kind) {
                (Some(Logical::Decimal { scale }), _) => scale != UNCONSTRAINED_SCALE && keeps(scale),
                (None, Type::Int8 | Type::Int16 | Type::Int32 | Type::Int64) => keeps(0),
                _ => false,
            }
        }
        // Of char(n) blanks at the end do not count.
        P::Text => !matches!(&*column.unmodified, "character" | "bpchar"),
        P::Int2 | P::Int4 | P::Int8 | P::Oid | P::Bool | P::Bytea | P::Uuid | P::Char => true,
        P::Date | P::Bit(_) => true,
        P::Time | P::Timestamp | P::TimestampTz => !column.declared.contains('('),
        _ => false,
    }
}

fn join<T: AsRef<str>>(parts: impl Iterator<Item = T>, separator: &str) -> String {
    let mut out = String::new();
    for part in parts {
        if !out.is_empty() {
            out.push_str(separator);
        }
        out.push_str(part.as_ref());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Props;
    use crate::data::{Field, Schema};
    use crate::postgres::catalog::TableName;

    fn plan() -> WritePlan {
        let props: Props = [
            ("connection.url", "jdbc:postgresql://h/d"),
            ("pk.mode", "record_value"),
            ("pk.fields", "id"),
            ("insert.mode", "upsert"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
        let config = super::super::confluent_keys::read(&props).unwrap();
        let column = |name: &str, kind, declared: &str| Column {
            name: name.into(),
            kind,
            declared: declared.to_owned(),
            unmodified: declared.to_owned(),
            relation: 1,
            not_null: false,
            auto_increment: false,
            generated: false,
            identity_always: false,
            unbounded: false,
            large: false,
        };
        let table = Table {
            oid: 1,
            name: TableName { schema: "s".into(), name: "t".into() },
            kind: 'r',
            copies: true,
            columns: vec![column("id", PgType::Int4, "integer"), column("ip", PgType::Other, "inet")],
            keys: vec![UniqueKey { name: "t_pkey".into(), columns: vec!["id".into()], primary: true }],
        };
        let field = |name: &str, kind| Field::new(name, Arc::new(Schema::new(kind)));
        let schema = Arc::new(Schema::structure(vec![field("id", Type::Int32), field("ip", Type::String)]));
        let fields = super::super::fields::plan(&config, "t", None, Some(&schema)).unwrap();
        let mut plan = WritePlan::new(&config, &table, &fields);
        assert_eq!(plan.stage, WritePlan::new(&config, &table, &fields).stage);
        plan.stage = "towline_stage_3".to_owned();
        plan
    }

    #[test]
    fn statements_over_the_stage() {
        let plan = plan();
        assert!(!plan.direct);
        assert_eq!(
            plan.create_stage(),
            "CREATE TEMPORARY TABLE IF NOT EXISTS towline_stage_3 (n int4, c0 integer, c1 text) ON COMMIT DELETE ROWS"
        );
        assert_eq!(
            plan.apply(InsertMode::Upsert, Within::ALL),
            "INSERT INTO \"s\".\"t\" (\"id\",\"ip\") SELECT s.c0,s.c1::inet FROM towline_stage_3 s \
             ON CONFLICT (\"id\") DO UPDATE SET \"ip\"=EXCLUDED.\"ip\""
        );
        assert_eq!(
            plan.apply(InsertMode::Update, Within::rows(&[2, 5])),
            "UPDATE \"s\".\"t\" t SET \"ip\" = s.c1::inet FROM towline_stage_3 s WHERE t.\"id\" = s.c0 \
             AND s.n BETWEEN 2 AND 5"
        );
        assert_eq!(
            plan.take_stored(Within::ALL).unwrap(),
            "DELETE FROM towline_stage_3 s USING \"s\".\"t\" t WHERE t.\"id\" = s.c0 RETURNING s.n, \
             ((t.\"id\") IS NOT DISTINCT FROM (s.c0) AND (t.\"ip\")::text IS NOT DISTINCT FROM (s.c1::inet)::text)"
        );
    }
}

//! The shape of what is read: columns, decoders and the one schema that all rows of a batch share. Looked up in the
//! transaction that reads, under the lock of reading, so that no ALTER TABLE comes between.

use std::sync::Arc;

use sqlx::{Column as _, Executor as _, Statement as _, postgres::types::Oid};

use super::config::{Mode, SourceConfig};
use super::places::Places;
use super::sql::{self, OffsetColumn, Statement};
use crate::api::{Error, Result};
use crate::data::{Field, Schema, Type};
use crate::postgres::catalog::{self, Column, TableName};
use crate::postgres::connection::{Session, within};
use crate::postgres::exact;
use crate::postgres::failure;
use crate::postgres::field_decoder::FieldDecoder;
use crate::postgres::type_map::{NumericMapping, PgType, connect_schema};

/// What is read: a table or a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Relation {
    Table(TableName),
    Query(String),
}

impl Relation {
    /// The name for messages.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Table(table) => table.dotted(),
            Self::Query(_) => "the query".to_owned(),
        }
    }

    /// What follows FROM.
    pub(super) fn clause(&self) -> String {
        match self {
            Self::Table(table) => table.quoted(),
            Self::Query(query) => sql::sub_select(query),
        }
    }
}

/// How the rows of a relation are read, as long as its columns stay the same.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) columns: Vec<Column>,
    pub(super) schema: Arc<Schema>,
    /// One for each selected column; offset columns are found by their places.
    pub(super) decoders: Arc<[(Arc<str>, FieldDecoder)]>,
    /// Where the offset columns are.
    pub(super) places: Arc<Places>,
    pub(super) statement: Statement,
    /// Whether pages by key are cheap.
    pub(super) indexed: bool,
}

impl Shape {
    /// The oid of the table that is read.
    pub(super) fn table(&self) -> Option<u32> {
        self.columns.first().map(|column| column.relation)
    }

    /// About how many bytes a row has as the server copies it out; `None` if its columns set no bound.
    pub(super) fn width(&self) -> Option<usize> {
        self.columns.iter().map(|column| Some(4 + column.kind.width()?)).sum()
    }
}

/// The columns as they are now. To be called in a transaction that has run [`sql::lock`].
pub(super) async fn columns(session: &mut Session, relation: &Relation) -> Result<Vec<Column>, sqlx::Error> {
    match relation {
        Relation::Table(table) => catalog::columns_of(session, &table.quoted()).await,
        Relation::Query(query) => query_columns(session, query).await,
    }
}

/// A column's label, type and, if it is one of a table, that table and the column's number.
type Described = (String, u32, Option<(u32, i16)>);

async fn query_columns(session: &mut Session, query: &str) -> Result<Vec<Column>, sqlx::Error> {
    use sqlx::Connection as _;
    // The driver remembers the columns of a statement it has seen.
    within(session.patience, session.connection.clear_cached_statements()).await?;
    let text = sqlx::AssertSqlSafe(sql::lock(&sql::sub_select(query)));
    let preparing = (&mut session.connection).prepare(sqlx::SqlSafeStr::into_sql_str(text));
    let prepared = within(session.patience, preparing).await?;
    let described: Vec<Described> = prepared
        .columns()
        .iter()
        .map(|column| {
            let origin = column.relation_id().zip(column.relation_attribute_no());
            let oid = column.type_info().oid().map_or(0, |oid| oid.0);
            (column.name().to_owned(), oid, origin.map(|(table, number)| (table.0, number)))
        })
        .collect();
    let wanted: Vec<(u32, i16)> = described.iter().filter_map(|(_, _, origin)| *origin).collect();
    let known = catalog::columns_by_number(session, &wanted).await?;
    // A column of the inner side of an outer join may be null whatever its table says.
    let lower = query.to_ascii_lowercase();
    let outer = lower.contains("join") && ["left", "right", "full"].iter().any(|word| lower.contains(word));
    let mut columns = Vec::with_capacity(described.len());
    for (name, oid, origin) in described {
        let base = origin.and_then(|origin| known.iter().find(|(place, _)| *place == origin)).map(|(_, base)| base);
        columns.push(match base {
            Some(base) => Column { name: name.into(), not_null: base.not_null && !outer, ..base.clone() },
            None => {
                let (kind, declared) = catalog::type_by_oid(session, oid).await?;
                Column {
                    name: name.into(),
                    kind,
                    unmodified: declared.clone(),
                    declared,
                    relation: 0,
                    not_null: false,
                    auto_increment: false,
                    generated: false,
                    identity_always: false,
                    unbounded: false,
                    large: false,
                }
            }
        });
    }
    Ok(columns)
}

/// Plans how to read a relation with these columns.
///
/// # Errors
/// If columns that the config names are missing or unfit.
pub(super) async fn plan(
    session: &mut Session,
    relation: &Relation,
    columns: Vec<Column>,
    config: &SourceConfig,
) -> Result<Shape> {
    let label = relation.label();
    let (mut shape, leading) = layout(relation, columns, config)?;
    if let (Relation::Table(_), Some(table), Some(leading)) = (relation, shape.table(), leading) {
        let found = catalog::lead_an_index(session, &[(table, &leading)]).await;
        let broken = |error| failure::to_error(error, &format!("could not read the catalog about {label}"));
        shape.indexed = found.map_err(broken)?.first().copied().unwrap_or(false);
    }
    Ok(shape)
}

/// Plans how to read a relation with these columns, as if no index served it; and the column that one would start with.
///
/// # Errors
/// As [`plan`].
pub(super) fn layout(
    relation: &Relation,
    columns: Vec<Column>,
    config: &SourceConfig,
) -> Result<(Shape, Option<String>)> {
    let label = relation.label();
    if let Some(twice) =
        columns.iter().enumerate().find(|(at, column)| columns[..*at].iter().any(|c| c.name == column.name))
    {
        return Err(Error::config(format!(
            "{label} has two columns named \"{}\": give one of them another name with AS",
            twice.1.name
        )));
    }
    let (names, offsets) = offset_columns(relation, &columns, config)?;
    let mut fields = Vec::new();
    let mut decoders = Vec::new();
    let mut select = String::new();
    for column in &columns {
        // The id is decoded for the offset, which its text is not.
        let exact = config.exact && offsets.0.as_ref().is_none_or(|id| *id.name != *column.name);
        let Some((cast, schema, decoder)) = reading(column, config, exact) else {
            tracing::warn!(
                table = %label, column = %column.name, r#type = %column.declared,
                "column is left out: its type has no Connect schema; type.mapping=exact sends it and all others unchanged"
            );
            continue;
        };
        if !select.is_empty() {
            select.push(',');
        }
        let guarded = matches!(relation, Relation::Table(_)) && column.unbounded;
        let limit = config.value_limit.filter(|limit| guarded && (limit.everywhere || column.large));
        select.push_str(&sql::selected(column, cast, limit.map(|limit| limit.bytes)));
        fields.push(Field::new(Arc::clone(&column.name), schema));
        decoders.push((Arc::clone(&column.name), decoder));
    }
    let place = |wanted: &OffsetColumn| {
        decoders.iter().position(|(name, _)| **name == *wanted.name).map(|at| (at, wanted.kind)).ok_or_else(|| {
            Error::config(format!("column \"{}\" of {label} can't be read, so it can't be the offset", wanted.name))
        })
    };
    let id = offsets.0.as_ref().map(place).transpose()?;
    let times = offsets.1.iter().map(place).collect::<Result<Vec<_>>>()?;
    let rank = |at: usize| times.iter().position(|(place, _)| *place == at).map(|rank| (rank, times[rank].1));
    let ranks = (0..decoders.len()).map(rank).collect();
    let end = id.iter().chain(&times).map(|(place, _)| place + 1).max().unwrap_or(0);
    let mut schema = Schema::structure(fields);
    if let Relation::Table(table) = relation {
        schema = schema.with_name(table.name.as_str());
    }
    let statement = Statement {
        mode: config.mode,
        from: relation.clause(),
        columns: select,
        incrementing: offsets.0,
        timestamps: offsets.1,
        quoting: crate::postgres::quote::Quoting::Always,
        zone: config.decode.zone.clone(),
        suffix: config.suffix.clone(),
    };
    let shape = Shape {
        columns,
        schema: Arc::new(schema),
        decoders: decoders.into(),
        places: Arc::new(Places { mode: config.mode, zone: config.decode.zone.clone(), id, ranks, end }),
        statement,
        indexed: false,
    };
    Ok((shape, names.into_iter().next()))
}

/// How a column is selected and decoded, and its schema; `None` if it is left out.
fn reading(column: &Column, config: &SourceConfig, exact: bool) -> Option<(&'static str, Arc<Schema>, FieldDecoder)> {
    let optional = !column.not_null;
    // Who says what numbers become gets numbers, without a form for NaN.
    let mapped = matches!(column.kind, PgType::Numeric(Some(_))) && config.decode.numeric != NumericMapping::None;
    if exact
        && !mapped
        && let Some((cast, decoder)) = exact::reading(column.kind)
    {
        return Some((cast, Arc::new(exact::schema(&column.declared).with_optional(optional)), decoder));
    }
    let usual = connect_schema(column.kind, optional, config.decode.numeric, config.decode.granularity);
    match usual.zip(FieldDecoder::of(column.kind, &config.decode)) {
        Some((schema, decoder)) => {
            // What is exact already says its type too, so that a sink can make the same column.
            let typed = exact
                && matches!(column.kind, PgType::Text | PgType::Json | PgType::Jsonb | PgType::Uuid | PgType::Oid);
            let schema = if typed { Arc::new(exact::typed((*schema).clone(), &column.declared)) } else { schema };
            Some((FieldDecoder::select_cast(column.kind), schema, decoder))
        }
        None if config.unsupported_as_text => {
            let schema = Schema::new(Type::String).with_optional(optional);
            Some(("::text", Arc::new(schema), FieldDecoder::Text))
        }
        None => None,
    }
}

type OffsetColumns = (Option<OffsetColumn>, Vec<OffsetColumn>);

/// The offset columns; the names in the order in which an index would serve them.
fn offset_columns(
    relation: &Relation,
    columns: &[Column],
    config: &SourceConfig,
) -> Result<(Vec<String>, OffsetColumns)> {
    let label = relation.label();
    let mode = config.mode;
    let mut names = Vec::new();
    let mut times = Vec::new();
    if mode.has_timestamp() {
        let wanted = config.timestamps_of(&label);
        if wanted.is_empty() {
            return Err(Error::config(format!(
                "no timestamp column is configured for {label}: set timestamp.column.name"
            )));
        }
        for name in &wanted {
            let column = find(columns, name).ok_or_else(|| missing(&label, "timestamp.column.name", name, columns))?;
            if !matches!(column.kind, PgType::Timestamp | PgType::TimestampTz | PgType::Date) {
                return Err(Error::config(format!(
                    "timestamp column \"{}\" of {label} is of type {}, not a timestamp",
                    column.name, column.declared
                )));
            }
            times.push(column);
        }
        let zoned = times.iter().filter(|column| column.kind == PgType::TimestampTz).count();
        if zoned != 0 && zoned != times.len() {
            return Err(Error::config(format!(
                "timestamp columns {wanted:?} of {label} mix types with and without time zone, which COALESCE would \
                 compare in the server's zone: alter them to one type, or read a query that casts them"
            )));
        }
        if config.validate_non_null && matches!(relation, Relation::Table(_)) && times.iter().all(|c| !c.not_null) {
            return Err(Error::fatal(format!(
                "cannot make incremental queries using timestamp columns {wanted:?} on {label} because all of these \
                 columns are nullable: rows without a timestamp would never be read (validate.non.null=false allows it)"
            )));
        }
        names.extend(times.iter().map(|column| column.name.to_string()));
    }
    let mut id = None;
    if mode.has_incrementing() {
        let column = match config.incrementing_of(&label) {
            Some(name) => {
                find(columns, &name).ok_or_else(|| missing(&label, "incrementing.column.name", &name, columns))?
            }
            None => columns.iter().find(|column| column.auto_increment).ok_or_else(|| {
                Error::config(format!(
                    "no column of {label} is numbered by the server: set incrementing.column.name to the growing one"
                ))
            })?,
        };
        if !matches!(column.kind, PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Oid | PgType::Numeric(_)) {
            return Err(Error::fatal(format!(
                "invalid type for incrementing column: \"{}\" of {label} is {}, a whole number is needed",
                column.name, column.declared
            )));
        }
        if config.validate_non_null && matches!(relation, Relation::Table(_)) && !column.not_null {
            return Err(Error::fatal(format!(
                "cannot make incremental queries using incrementing column \"{}\" on {label} because this column is \
                 nullable (validate.non.null=false allows it)",
                column.name
            )));
        }
        names.push(column.name.to_string());
        id = Some(column);
    }
    let owned = |column: &Column| OffsetColumn { name: column.name.to_string(), kind: column.kind };
    if mode == Mode::Bulk {
        names.clear();
    }
    Ok((names, (id.map(owned), times.into_iter().map(owned).collect())))
}

/// Exact, then the only one that matches in any case, then the part behind an alias.
fn find<'a>(columns: &'a [Column], name: &str) -> Option<&'a Column> {
    if let Some(exact) = columns.iter().find(|column| &*column.name == name) {
        return Some(exact);
    }
    let mut close = columns.iter().filter(|column| column.name.eq_ignore_ascii_case(name));
    if let (Some(column), None) = (close.next(), close.next()) {
        return Some(column);
    }
    let (_, bare) = name.rsplit_once('.')?;
    find(columns, bare.trim_matches('"'))
}

fn missing(label: &str, key: &str, name: &str, columns: &[Column]) -> Error {
    let known: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
    let known = if known.is_empty() {
        "which has no columns".to_owned()
    } else {
        format!("whose columns are {}", known.join(", "))
    };
    Error::config(format!("column \"{name}\" of {key} does not exist in {label}, {known}"))
}

/// What this transaction has locked for reading: every table behind the relation, through views and partitions; and
/// the sequences of their columns and of those that they are partitions of, whose numbers are drawn before the row is
/// written. To be asked each round: tables and partitions come, go and change their names.
pub(super) const LOCKED: &str = "WITH RECURSIVE locked AS MATERIALIZED ( \
       SELECT DISTINCT l.relation AS oid FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation \
       WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.mode = 'AccessShareLock' \
       AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
       AND c.relkind IN ('r', 'p', 'f') AND c.relnamespace <> 'pg_catalog'::regnamespace), \
     tables (oid) AS (SELECT oid FROM locked UNION \
       SELECT i.inhparent FROM tables t JOIN pg_catalog.pg_inherits i ON i.inhrelid = t.oid), \
     relations (oid) AS MATERIALIZED (SELECT oid FROM locked \
       UNION SELECT d.objid FROM tables t JOIN pg_catalog.pg_depend d ON d.refobjid = t.oid \
         JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
         WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
         AND d.refobjsubid > 0 \
       UNION SELECT d.refobjid FROM tables t JOIN pg_catalog.pg_attrdef f ON f.adrelid = t.oid \
         JOIN pg_catalog.pg_depend d ON d.objid = f.oid AND d.classid = 'pg_catalog.pg_attrdef'::regclass \
         AND d.refclassid = 'pg_catalog.pg_class'::regclass \
         JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S')";

/// The relations of [`LOCKED`].
pub(super) async fn locked_relations(session: &mut Session) -> Result<Vec<u32>, sqlx::Error> {
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("{LOCKED} SELECT oid FROM relations")));
    let relations: Vec<Oid> = within(session.patience, query.fetch_all(&mut session.connection)).await?;
    Ok(relations.into_iter().map(|oid| oid.0).collect())
}

//! What the catalog says of tables and columns, in one query each.

use std::sync::Arc;

use sqlx::postgres::types::Oid;
use sqlx::{Row, postgres::PgRow};

use super::connection::Session;
use super::quote;
use super::type_map::PgType;

/// A table as it is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The bare name.
    pub name: String,
}

impl TableName {
    /// `schema.table`, unquoted: the name in offsets.
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// `"schema"."table"`.
    pub fn quoted(&self) -> String {
        quote::table(&self.schema, &self.name)
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The name.
    pub name: Arc<str>,
    /// The type, domains resolved.
    pub kind: PgType,
    /// The type as declared, such as `character varying(20)`.
    pub declared: String,
    /// The type without its modifier, domains resolved, such as `character varying`; `"bit"`, not `bit`, which is of one.
    pub unmodified: String,
    /// The table's oid; 0 for an expression.
    pub relation: u32,
    /// Whether the column or its domain refuses null.
    pub not_null: bool,
    /// Whether the server numbers it (identity, or a default that calls `nextval`).
    pub auto_increment: bool,
    /// Whether it is `GENERATED ALWAYS AS (...) STORED`, which can't be written.
    pub generated: bool,
    /// Whether it is `GENERATED ALWAYS AS IDENTITY`.
    pub identity_always: bool,
}

/// A unique index whose columns are plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueKey {
    /// The index's name, which is the constraint's.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// Whether it is the primary key.
    pub primary: bool,
}

/// A table with its columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// `pg_class.relkind`.
    pub kind: char,
    /// Whether COPY does to it what INSERT does: no view, no rules, no row security for this role.
    pub copies: bool,
    /// The columns in order.
    pub columns: Vec<Column>,
    /// The unique keys, the primary key first.
    pub keys: Vec<UniqueKey>,
}

impl Table {
    /// The column of an exact name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| &*column.name == name)
    }
}

/// The driver's names of kinds of tables, with `relkind`.
const TABLE_TYPES: &[(&str, char)] =
    &[("FOREIGN TABLE", 'f'), ("MATERIALIZED VIEW", 'm'), ("PARTITIONED TABLE", 'p'), ("TABLE", 'r'), ("VIEW", 'v')];

/// Lists the tables of the given types, ordered by type, schema and name as JDBC's `getTables`.
///
/// # Errors
/// The driver's.
pub async fn list_tables(
    session: &mut Session,
    types: &[&str],
    schema_pattern: Option<&str>,
) -> Result<Vec<TableName>, sqlx::Error> {
    let wanted: Vec<&(&str, char)> =
        TABLE_TYPES.iter().filter(|(name, _)| types.iter().any(|given| given.eq_ignore_ascii_case(name))).collect();
    let kinds: Vec<String> = wanted.iter().map(|(_, kind)| kind.to_string()).collect();
    let rows = sqlx::query(
        "SELECT n.nspname::text, c.relname::text, c.relkind::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind::text = ANY($1) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
         AND ($2::text IS NULL OR n.nspname LIKE $2) ORDER BY n.nspname, c.relname",
    )
    .bind(&kinds)
    .bind(schema_pattern)
    .fetch_all(&mut session.connection)
    .await?;
    let mut tables = Vec::with_capacity(rows.len());
    for (_, kind) in &wanted {
        for row in &rows {
            if row.try_get::<String, _>(2)?.starts_with(*kind) {
                tables.push(TableName { schema: row.try_get(0)?, name: row.try_get(1)? });
            }
        }
    }
    Ok(tables)
}

const COLUMNS: &str = "SELECT a.attname::text, coalesce(b2.oid, b1.oid, t.oid) AS base, \
     coalesce(b2.typname, b1.typname, t.typname)::text AS base_name, \
     coalesce(b2.typtype, b1.typtype, t.typtype)::text AS base_kind, \
     CASE WHEN a.atttypmod >= 0 THEN a.atttypmod WHEN t.typtype = 'd' AND b1.typtype = 'd' AND t.typtypmod < 0 \
     THEN b1.typtypmod WHEN t.typtype = 'd' THEN t.typtypmod ELSE -1 END AS modifier, \
     pg_catalog.format_type(a.atttypid, a.atttypmod) AS declared, \
     pg_catalog.format_type(coalesce(b2.oid, b1.oid, t.oid), -1) AS unmodified, \
     (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull)) AS not_null, \
     (a.attidentity <> '' OR coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', false)) AS counted, \
     a.attidentity::text AS identity, a.attgenerated::text AS generated, a.attrelid, a.attnum \
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
     LEFT JOIN pg_catalog.pg_type b1 ON t.typtype = 'd' AND b1.oid = t.typbasetype \
     LEFT JOIN pg_catalog.pg_type b2 ON b1.typtype = 'd' AND b2.oid = b1.typbasetype \
     LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated = '' \
     WHERE a.attnum > 0 AND NOT a.attisdropped AND ";

fn column_of(row: &PgRow) -> Result<Column, sqlx::Error> {
    let oid: Oid = row.try_get("base")?;
    let kind: String = row.try_get("base_kind")?;
    let name: String = row.try_get("base_name")?;
    let identity: String = row.try_get("identity")?;
    Ok(Column {
        name: Arc::from(row.try_get::<String, _>(0)?),
        kind: PgType::of(oid.0, &name, kind.starts_with('e'), row.try_get("modifier")?),
        declared: row.try_get("declared")?,
        unmodified: row.try_get("unmodified")?,
        relation: row.try_get::<Oid, _>("attrelid")?.0,
        not_null: row.try_get("not_null")?,
        auto_increment: row.try_get("counted")?,
        generated: !row.try_get::<String, _>("generated")?.is_empty(),
        identity_always: identity == "a",
    })
}

/// The columns of a table, in order.
///
/// # Errors
/// The driver's.
pub async fn columns(session: &mut Session, table: u32) -> Result<Vec<Column>, sqlx::Error> {
    let sql = format!("{COLUMNS} a.attrelid = $1 ORDER BY a.attnum");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(Oid(table)).fetch_all(&mut session.connection).await?;
    rows.iter().map(column_of).collect()
}

/// The columns of a table by its quoted name, in order; none if there is no such table.
///
/// # Errors
/// The driver's.
pub async fn columns_of(session: &mut Session, quoted: &str) -> Result<Vec<Column>, sqlx::Error> {
    let sql = format!("{COLUMNS} a.attrelid = pg_catalog.to_regclass($1) ORDER BY a.attnum");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(quoted).fetch_all(&mut session.connection).await?;
    rows.iter().map(column_of).collect()
}

/// The oids of tables by their quoted names; `None` where there is no such table.
///
/// # Errors
/// The driver's.
pub async fn oids_of(session: &mut Session, quoted: &[String]) -> Result<Vec<Option<u32>>, sqlx::Error> {
    let oids: Vec<Option<Oid>> = sqlx::query_scalar(
        "SELECT pg_catalog.to_regclass(n.name)::oid FROM unnest($1::text[]) WITH ORDINALITY AS n(name, place) ORDER BY place",
    )
    .bind(quoted)
    .fetch_all(&mut session.connection)
    .await?;
    Ok(oids.into_iter().map(|oid| oid.map(|oid| oid.0)).collect())
}

/// The columns of several tables, each table's in order.
///
/// # Errors
/// The driver's.
pub async fn columns_of_all(session: &mut Session, tables: &[u32]) -> Result<Vec<Column>, sqlx::Error> {
    let tables: Vec<Oid> = tables.iter().map(|table| Oid(*table)).collect();
    let sql = format!("{COLUMNS} a.attrelid = ANY($1) ORDER BY a.attrelid, a.attnum");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&tables).fetch_all(&mut session.connection).await?;
    rows.iter().map(column_of).collect()
}

/// Columns of any tables by table oid and column number: what the columns of a query come from.
///
/// # Errors
/// The driver's.
pub async fn columns_by_number(
    session: &mut Session,
    wanted: &[(u32, i16)],
) -> Result<Vec<((u32, i16), Column)>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (tables, numbers): (Vec<Oid>, Vec<i16>) = wanted.iter().map(|(table, number)| (Oid(*table), *number)).unzip();
    let sql = format!("{COLUMNS} (a.attrelid, a.attnum) IN (SELECT * FROM unnest($1::oid[], $2::int2[]))");
    let rows =
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&tables).bind(&numbers).fetch_all(&mut session.connection).await?;
    rows.iter()
        .map(|row| Ok(((row.try_get::<Oid, _>("attrelid")?.0, row.try_get("attnum")?), column_of(row)?)))
        .collect()
}

/// The type behind an oid, for columns that are expressions.
///
/// # Errors
/// The driver's.
pub async fn type_by_oid(session: &mut Session, oid: u32) -> Result<(PgType, String), sqlx::Error> {
    let row = sqlx::query(
        "SELECT coalesce(b.oid, t.oid), coalesce(b.typname, t.typname)::text, coalesce(b.typtype, t.typtype)::text, \
         pg_catalog.format_type(t.oid, NULL), CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE -1 END \
         FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype \
         WHERE t.oid = $1",
    )
    .bind(Oid(oid))
    .fetch_one(&mut session.connection)
    .await?;
    let kind: String = row.try_get(2)?;
    let name: String = row.try_get(1)?;
    Ok((PgType::of(row.try_get::<Oid, _>(0)?.0, &name, kind.starts_with('e'), row.try_get(4)?), row.try_get(3)?))
}

/// Finds a table by its name as SQL would, through the search path if unqualified; `None` if there is none.
///
/// # Errors
/// The driver's.
pub async fn find_table(session: &mut Session, quoted: &str) -> Result<Option<Table>, sqlx::Error> {
    let found = sqlx::query(
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
         NOT c.relhasrules AND NOT (c.relrowsecurity AND pg_catalog.row_security_active(c.oid)) \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass($1)",
    )
    .bind(quoted)
    .fetch_optional(&mut session.connection)
    .await?;
    let Some(row) = found else { return Ok(None) };
    let oid = row.try_get::<Oid, _>(0)?.0;
    let name = TableName { schema: row.try_get(1)?, name: row.try_get(2)? };
    let kind = row.try_get::<String, _>(3)?.chars().next().unwrap_or('r');
    let copies = matches!(kind, 'r' | 'p') && row.try_get(4)?;
    let columns = columns(session, oid).await?;
    let keys = unique_keys(session, oid).await?;
    Ok(Some(Table { oid, name, kind, copies, columns, keys }))
}

/// Tables whose names differ from a quoted, possibly qualified one by case alone.
///
/// # Errors
/// The driver's.
pub async fn tables_named_alike(session: &mut Session, quoted: &str) -> Result<Vec<TableName>, sqlx::Error> {
    let mut parts = quote::split_name(quoted);
    let name = parts.pop().unwrap_or_default();
    let rows = sqlx::query(
        "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE lower(c.relname) = lower($1) AND c.relkind IN ('r', 'p', 'v', 'f') \
         AND ($2::text IS NULL AND n.nspname = ANY(pg_catalog.current_schemas(false)) OR lower(n.nspname) = lower($2)) \
         ORDER BY 1, 2 LIMIT 5",
    )
    .bind(name)
    .bind(parts.pop())
    .fetch_all(&mut session.connection)
    .await?;
    rows.iter().map(|row| Ok(TableName { schema: row.try_get(0)?, name: row.try_get(1)? })).collect()
}

async fn unique_keys(session: &mut Session, table: u32) -> Result<Vec<UniqueKey>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT c.relname::text, i.indisprimary, array_agg(a.attname::text ORDER BY k.place) \
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(number, place) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
         WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indexprs IS NULL AND i.indpred IS NULL \
         AND k.place <= i.indnkeyatts GROUP BY 1, 2 ORDER BY 2 DESC, 1",
    )
    .bind(Oid(table))
    .fetch_all(&mut session.connection)
    .await?;
    rows.iter()
        .map(|row| Ok(UniqueKey { name: row.try_get(0)?, primary: row.try_get(1)?, columns: row.try_get(2)? }))
        .collect()
}

/// For each table and column, whether a btree index starts with the column, so that keyset pages are cheap.
///
/// # Errors
/// The driver's.
pub async fn lead_an_index(session: &mut Session, columns: &[(u32, &str)]) -> Result<Vec<bool>, sqlx::Error> {
    let (tables, names): (Vec<Oid>, Vec<&str>) = columns.iter().map(|(table, name)| (Oid(*table), *name)).unzip();
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         JOIN pg_catalog.pg_am m ON m.oid = c.relam \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
         WHERE i.indrelid = w.relation AND a.attname = w.name AND i.indisvalid AND i.indpred IS NULL \
         AND m.amname = 'btree') \
         FROM unnest($1::oid[], $2::text[]) WITH ORDINALITY AS w(relation, name, place) ORDER BY place",
    )
    .bind(&tables)
    .bind(&names)
    .fetch_all(&mut session.connection)
    .await
}

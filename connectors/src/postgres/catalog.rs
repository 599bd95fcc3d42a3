//! What the catalog says of tables and columns, in one query each.

use std::sync::Arc;

use sqlx::postgres::types::Oid;
use sqlx::{Row, postgres::PgRow};

use super::connection::{Session, within};
use super::quote;
use super::type_map::PgType;

/// A table as it is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema; empty where the search path decides.
    pub schema: String,
    /// The bare name.
    pub name: String,
}

impl TableName {
    /// `schema.table`, unquoted: the name in offsets.
    pub fn dotted(&self) -> String {
        if self.schema.is_empty() { self.name.clone() } else { format!("{}.{}", self.schema, self.name) }
    }

    /// `"schema"."table"`.
    pub fn quoted(&self) -> String {
        if self.schema.is_empty() { quote::identifier(&self.name) } else { quote::table(&self.schema, &self.name) }
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
    /// Whether it is a table's, not a view's, and of a type whose values may have any size.
    pub unbounded: bool,
    /// Whether its table, or one that may be part of it, keeps so much out of line that a value may be very large.
    pub large: bool,
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

/// The driver's names of kinds of tables, in its order.
pub const TABLE_TYPE_NAMES: &[&str] =
    &["FOREIGN TABLE", "MATERIALIZED VIEW", "PARTITIONED TABLE", "SYSTEM TABLE", "SYSTEM VIEW", "TABLE", "VIEW"];

/// The kinds of [`TABLE_TYPE_NAMES`]: `relkind`, and whether the server itself made them.
const TABLE_TYPES: [(char, bool); 7] =
    [('f', false), ('m', false), ('p', false), ('r', true), ('v', true), ('r', false), ('v', false)];

/// Whether the connection's database, which is the one catalog that it sees, matches a LIKE pattern.
///
/// # Errors
/// The driver's.
pub async fn is_current(session: &mut Session, pattern: &str) -> Result<bool, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT pg_catalog.current_database()::text LIKE $1").bind(pattern);
    within(session.patience, query.fetch_one(&mut session.connection)).await
}

/// Lists the tables of the given types, ordered by type, schema and name as JDBC's `getTables`.
///
/// # Errors
/// The driver's.
pub async fn list_tables(
    session: &mut Session,
    types: &[&str],
    schema_pattern: Option<&str>,
) -> Result<Vec<TableName>, sqlx::Error> {
    let given = |name: &&str| types.iter().any(|given| given.eq_ignore_ascii_case(name));
    let wanted: Vec<(char, bool)> =
        TABLE_TYPE_NAMES.iter().zip(TABLE_TYPES).filter(|(name, _)| given(name)).map(|(_, kind)| kind).collect();
    let kinds: Vec<String> = wanted.iter().map(|(kind, _)| kind.to_string()).collect();
    let query = sqlx::query(
        "SELECT n.nspname::text, c.relname::text, c.relkind::text, \
         n.nspname IN ('pg_catalog', 'information_schema') FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind::text = ANY($1) AND (n.nspname !~ '^pg_' OR n.nspname = 'pg_catalog') \
         AND ($2::text IS NULL OR n.nspname LIKE $2) ORDER BY n.nspname, c.relname",
    );
    let rows =
        within(session.patience, query.bind(&kinds).bind(schema_pattern).fetch_all(&mut session.connection)).await?;
    let mut tables = Vec::with_capacity(rows.len());
    for (kind, system) in wanted {
        for row in &rows {
            if row.try_get::<String, _>(2)?.starts_with(kind) && row.try_get::<bool, _>(3)? == system {
                tables.push(TableName { schema: row.try_get(0)?, name: row.try_get(1)? });
            }
        }
    }
    Ok(tables)
}

/// Each type is looked up by its oid, so that this costs the same however many types, and so tables, a database has: from
/// the type down to what a domain is made of, no plan reads the whole of `pg_type`.
const COLUMNS: &str = "SELECT a.attname::text, b.oid AS base, b.typname::text AS base_name, b.typtype::text AS base_kind, \
     b.modifier, pg_catalog.format_type(a.atttypid, a.atttypmod) AS declared, \
     pg_catalog.format_type(b.oid, -1) AS unmodified, b.not_null, \
     (a.attidentity <> '' OR coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', false)) AS counted, \
     a.attidentity::text AS identity, a.attgenerated::text AS generated, a.attrelid, a.attnum, \
     coalesce(a.attstorage <> 'p' AND r.relkind IN ('r', 'p', 'm'), false) AS unbounded, \
     coalesce(r.relkind = 'p' OR r.relhassubclass \
       OR pg_catalog.pg_relation_size(nullif(r.reltoastrelid, 0)) >= 262144, false) AS large \
     FROM pg_catalog.pg_attribute a CROSS JOIN LATERAL ( \
       WITH RECURSIVE up AS (SELECT t.oid, t.typname, t.typtype, t.typbasetype, t.typtypmod, a.atttypmod AS modifier, \
         a.attnotnull OR t.typnotnull AS not_null FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid UNION ALL \
         SELECT t.oid, t.typname, t.typtype, t.typbasetype, t.typtypmod, \
         CASE WHEN up.modifier >= 0 THEN up.modifier ELSE up.typtypmod END, up.not_null OR t.typnotnull \
         FROM up JOIN pg_catalog.pg_type t ON t.oid = up.typbasetype WHERE up.typtype = 'd') \
       SELECT * FROM up WHERE up.typtype <> 'd') b \
     JOIN pg_catalog.pg_class r ON r.oid = a.attrelid \
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
        unbounded: row.try_get("unbounded")?,
        large: row.try_get("large")?,
    })
}

/// The columns of a table, in order.
///
/// # Errors
/// The driver's.
pub async fn columns(session: &mut Session, table: u32) -> Result<Vec<Column>, sqlx::Error> {
    let sql = format!("{COLUMNS} a.attrelid = $1 ORDER BY a.attnum");
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(Oid(table));
    let rows = within(session.patience, query.fetch_all(&mut session.connection)).await?;
    rows.iter().map(column_of).collect()
}

/// The columns of a table by its quoted name, in order; none if there is no such table.
///
/// # Errors
/// The driver's.
pub async fn columns_of(session: &mut Session, quoted: &str) -> Result<Vec<Column>, sqlx::Error> {
    let sql = format!("{COLUMNS} a.attrelid = pg_catalog.to_regclass($1) ORDER BY a.attnum");
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(quoted);
    let rows = within(session.patience, query.fetch_all(&mut session.connection)).await?;
    rows.iter().map(column_of).collect()
}

/// The oids of tables by their quoted names; `None` where there is no such table.
///
/// # Errors
/// The driver's.
pub async fn oids_of(session: &mut Session, quoted: &[String]) -> Result<Vec<Option<u32>>, sqlx::Error> {
    let query = sqlx::query_scalar(
        "SELECT pg_catalog.to_regclass(n.name)::oid FROM unnest($1::text[]) WITH ORDINALITY AS n(name, place) ORDER BY place",
    );
    let oids: Vec<Option<Oid>> =
        within(session.patience, query.bind(quoted).fetch_all(&mut session.connection)).await?;
    Ok(oids.into_iter().map(|oid| oid.map(|oid| oid.0)).collect())
}

/// The columns of several tables, each table's in order.
///
/// # Errors
/// The driver's.
pub async fn columns_of_all(session: &mut Session, tables: &[u32]) -> Result<Vec<Column>, sqlx::Error> {
    let tables: Vec<Oid> = tables.iter().map(|table| Oid(*table)).collect();
    let sql = format!("{COLUMNS} a.attrelid = ANY($1) ORDER BY a.attrelid, a.attnum");
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&tables);
    let rows = within(session.patience, query.fetch_all(&mut session.connection)).await?;
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
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&tables).bind(&numbers);
    let rows = within(session.patience, query.fetch_all(&mut session.connection)).await?;
    rows.iter()
        .map(|row| Ok(((row.try_get::<Oid, _>("attrelid")?.0, row.try_get("attnum")?), column_of(row)?)))
        .collect()
}

/// The type behind an oid, for columns that are expressions.
///
/// # Errors
/// The driver's.
pub async fn type_by_oid(session: &mut Session, oid: u32) -> Result<(PgType, String), sqlx::Error> {
    let query = sqlx::query(
        "WITH RECURSIVE up (oid, modifier) AS (SELECT $1::oid, -1 UNION ALL \
           SELECT o.typbasetype, CASE WHEN up.modifier >= 0 THEN up.modifier ELSE o.typtypmod END \
           FROM up JOIN pg_catalog.pg_type o ON o.oid = up.oid AND o.typtype = 'd') \
         SELECT t.oid, t.typname::text, t.typtype::text, pg_catalog.format_type($1, NULL), up.modifier FROM up \
         JOIN pg_catalog.pg_type t ON t.oid = up.oid AND t.typtype <> 'd'",
    );
    let row = within(session.patience, query.bind(Oid(oid)).fetch_one(&mut session.connection)).await?;
    let kind: String = row.try_get(2)?;
    let name: String = row.try_get(1)?;
    Ok((PgType::of(row.try_get::<Oid, _>(0)?.0, &name, kind.starts_with('e'), row.try_get(4)?), row.try_get(3)?))
}

/// Finds a table by its name as SQL would, through the search path if unqualified; `None` if there is none.
///
/// # Errors
/// The driver's.
pub async fn find_table(session: &mut Session, quoted: &str) -> Result<Option<Table>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
         NOT c.relhasrules AND NOT (c.relrowsecurity AND pg_catalog.row_security_active(c.oid)) \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass($1)",
    );
    let found = within(session.patience, query.bind(quoted).fetch_optional(&mut session.connection)).await?;
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
    let query = sqlx::query(
        "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE lower(c.relname) = lower($1) AND c.relkind IN ('r', 'p', 'v', 'f') \
         AND ($2::text IS NULL AND n.nspname = ANY(pg_catalog.current_schemas(false)) OR lower(n.nspname) = lower($2)) \
         ORDER BY 1, 2 LIMIT 5",
    );
    let query = query.bind(name).bind(parts.pop());
    let rows = within(session.patience, query.fetch_all(&mut session.connection)).await?;
    rows.iter().map(|row| Ok(TableName { schema: row.try_get(0)?, name: row.try_get(1)? })).collect()
}

async fn unique_keys(session: &mut Session, table: u32) -> Result<Vec<UniqueKey>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT c.relname::text, i.indisprimary, array_agg(a.attname::text ORDER BY k.place) \
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(number, place) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
         WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indexprs IS NULL AND i.indpred IS NULL \
         AND k.place <= i.indnkeyatts GROUP BY 1, 2 ORDER BY 2 DESC, 1",
    );
    let rows = within(session.patience, query.bind(Oid(table)).fetch_all(&mut session.connection)).await?;
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
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         JOIN pg_catalog.pg_am m ON m.oid = c.relam \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
         WHERE i.indrelid = w.relation AND a.attname = w.name AND i.indisvalid AND i.indpred IS NULL \
         AND m.amname = 'btree') \
         FROM unnest($1::oid[], $2::text[]) WITH ORDINALITY AS w(relation, name, place) ORDER BY place",
    );
    within(session.patience, query.bind(&tables).bind(&names).fetch_all(&mut session.connection)).await
}

//! CREATE TABLE and ALTER TABLE as the JDBC sink writes them.

use super::quote::{Quoting, literal};
use super::render::{self, RenderOptions};
use super::{debezium, schemaless};
use crate::data::{Logical, Schema, Type, Value};

/// A column to create.
#[derive(Debug, Clone)]
pub struct NewColumn<'a> {
    /// The name.
    pub name: &'a str,
    /// The field's schema.
    pub schema: &'a Schema,
    /// Whether it belongs to the primary key.
    pub key: bool,
    /// The column's type.
    pub kind: String,
    /// Whether it is made as by Debezium's sink, whose schema names say what a default means.
    pub named: bool,
}

/// The PostgreSQL type of a schema.
///
/// # Errors
/// If it has none; the text names the schema.
pub fn column_type(schema: &Schema) -> Result<String, String> {
    if schemaless::is_schemaless(schema) {
        return Err("a value without a schema does not say of which type a column should be: create the table or the \
                    column by hand, or send values with schemas (value.converter.schemas.enable=true)"
            .to_owned());
    }
    let name = match (schema.logical(), schema.kind) {
        (Some(Logical::Decimal { .. }), _) => "DECIMAL",
        (Some(Logical::Date), _) => "DATE",
        (Some(Logical::Time), _) => "TIME",
        (Some(Logical::Timestamp), _) => "TIMESTAMP",
        (None, Type::Int8 | Type::Int16) => "SMALLINT",
        (None, Type::Int32) => "INT",
        (None, Type::Int64) => "BIGINT",
        (None, Type::Float32) => "REAL",
        (None, Type::Float64) => "DOUBLE PRECISION",
        (None, Type::Boolean) => "BOOLEAN",
        (None, Type::String) => "TEXT",
        (None, Type::Bytes) => "BYTEA",
        (None, Type::Array) => {
            let items = schema.items.as_deref().ok_or("an ARRAY schema without an element schema")?;
            return Ok(format!("{}[]", column_type(items)?));
        }
        (None, Type::Map | Type::Struct) => {
            let name = schema.name().unwrap_or("null");
            return Err(format!(
                "{name} ({}) type doesn't have a mapping to the SQL database column type",
                schema.kind.java_name()
            ));
        }
    };
    Ok(name.to_owned())
}

/// `CREATE TABLE`.
pub fn create_table(quoting: Quoting, table: &str, columns: &[NewColumn<'_>], options: &RenderOptions) -> String {
    let mut parts: Vec<String> = columns.iter().map(|column| definition(quoting, column, options)).collect();
    let keys = quoting.list(columns.iter().filter(|column| column.key).map(|column| column.name));
    if !keys.is_empty() {
        parts.push(format!("PRIMARY KEY({keys})"));
    }
    format!("CREATE TABLE {table} (\n{})", parts.join(",\n"))
}

/// `ALTER TABLE ... ADD`.
///
/// # Errors
/// If a column can be added to no table that has rows.
pub fn add_columns(
    quoting: Quoting,
    table: &str,
    columns: &[NewColumn<'_>],
    options: &RenderOptions,
) -> Result<String, String> {
    let mut parts = Vec::with_capacity(columns.len());
    for column in columns {
        if !column.schema.optional && column.schema.default.is_none() {
            return Err(format!(
                "cannot ALTER {table} to add missing field {}, as the field is not optional and does not have a default value",
                column.name
            ));
        }
        parts.push(format!("ADD {}", definition(quoting, column, options)));
    }
    Ok(format!("ALTER TABLE {table} {}", parts.join(", ")))
}

fn definition(quoting: Quoting, column: &NewColumn<'_>, options: &RenderOptions) -> String {
    let suffix = match &column.schema.default {
        Some(default) if !default.is_null() => {
            let meaning = debezium::meaning(column.schema).filter(|_| column.named);
            let text = match meaning.and_then(|meaning| meaning.text(default, column.schema, options)) {
                Some(text) => literal(&text),
                None => default_literal(default, column.schema, options),
            };
            // Confluent's sink leaves a column with a default nullable.
            let required = if column.named && (column.key || !column.schema.optional) { " NOT NULL" } else { "" };
            format!(" DEFAULT {text}{required}")
        }
        _ if column.schema.optional && !column.key => " NULL".to_owned(),
        _ => " NOT NULL".to_owned(),
    };
    format!("{} {}{suffix}", quoting.identifier(column.name), column.kind)
}

fn default_literal(value: &Value, schema: &Schema, options: &RenderOptions) -> String {
    match (value, schema.logical()) {
        (Value::Boolean(true), _) => "TRUE".to_owned(),
        (Value::Boolean(false), _) => "FALSE".to_owned(),
        (Value::Int8(_) | Value::Int16(_) | Value::Int32(_) | Value::Int64(_), None) => {
            value.as_i64().unwrap_or(0).to_string()
        }
        (_, Some(Logical::Decimal { .. })) => render::text(value, Some(schema), options, false),
        (value, Some(Logical::Timestamp | Logical::Time)) => {
            let text = render::text(value, Some(schema), options, false);
            let bare =
                text.rfind(['+', '-']).filter(|at| *at > 10 || !text.contains(' ')).map_or(&*text, |at| &text[..at]);
            literal(bare)
        }
        _ => literal(&render::text(value, Some(schema), options, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use crate::postgres::temporal::Zone;

    #[test]
    fn statements_of_the_original() {
        let options = RenderOptions { zone: Zone::Utc, date_zone: Zone::Utc, legacy: true };
        let id = Schema::new(Type::Int32).optional();
        let text = Schema::new(Type::String).with_default(Value::from("it's"));
        let stamp = data::timestamp().optional();
        let day = data::timestamp().with_default(Value::Int64(1_709_209_845_123));
        let column =
            |name, schema, key| NewColumn { name, schema, key, kind: column_type(schema).unwrap(), named: false };
        let columns =
            [column("id", &id, true), column("t", &text, false), column("at", &stamp, false), column("d", &day, false)];
        assert_eq!(
            create_table(Quoting::Always, "\"s\".\"t\"", &columns, &options),
            "CREATE TABLE \"s\".\"t\" (\n\"id\" INT NOT NULL,\n\"t\" TEXT DEFAULT 'it''s',\n\"at\" TIMESTAMP NULL,\n\
             \"d\" TIMESTAMP DEFAULT '2024-02-29 12:30:45.123',\nPRIMARY KEY(\"id\"))"
        );
        assert_eq!(
            add_columns(Quoting::Always, "t", &columns[2..3], &options).unwrap(),
            "ALTER TABLE t ADD \"at\" TIMESTAMP NULL"
        );
        let theirs: Vec<_> = columns.iter().cloned().map(|column| NewColumn { named: true, ..column }).collect();
        let made = create_table(Quoting::Always, "t", &theirs, &options);
        assert!(
            made.contains("\"t\" TEXT DEFAULT 'it''s' NOT NULL") && made.contains("\"at\" TIMESTAMP NULL"),
            "{made}"
        );
        let strict = Schema::new(Type::Int32);
        assert!(
            add_columns(Quoting::Always, "t", &[column("n", &strict, false)], &options)
                .unwrap_err()
                .contains("not optional")
        );
        assert!(column_type(&Schema::structure(Vec::new())).is_err());
        assert_eq!(column_type(&Schema::array(Schema::new(Type::String).into())).unwrap(), "TEXT[]");
    }
}

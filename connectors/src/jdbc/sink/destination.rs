//! From a topic to a table: the name, the table as it is, and the DDL that makes it fit the record.

use super::config::{Dialect, SinkConfig};
use super::fields::{KAFKA_COLUMNS, PlannedField};
use crate::api::{Error, Result};
use crate::postgres::catalog::{self, Column, Table, TableName};
use crate::postgres::connection::Session;
use crate::postgres::ddl::{self, NewColumn};
use crate::postgres::debezium;
use crate::postgres::failure::{self, Cause};
use crate::postgres::quote::{Quoting, identifier, split_name};

/// The SQL name of the table for a topic.
///
/// # Errors
/// If the format leaves nothing.
pub(super) fn table_for(config: &SinkConfig, topic: &str) -> Result<String> {
    let name = match config.topic_tables.iter().find(|(from, _)| from == topic) {
        Some((_, table)) => table.clone(),
        None if !config.topic_tables.is_empty() => {
            return Err(Error::fatal(format!("topics.to.tables.mapping has no entry for topic {topic}")));
        }
        None if config.dialect == Dialect::Debezium => {
            config.table_format.replace("${topic}", &topic.replace('.', "_"))
        }
        None => {
            let name = config.table_format.replace("${topic}", topic);
            let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
            if config.normalize { name.chars().map(legal).collect() } else { name }
        }
    };
    sql_name(config, &name).ok_or_else(|| {
        Error::fatal(format!(
            "\"{name}\", the table name for topic {topic}, is no [[catalog.]schema.]table: the format of names is \"{}\"",
            config.table_format
        ))
    })
}

/// A table's name as SQL; `None` if it is no `[[catalog.]schema.]table`. The server refuses the catalogs of others.
pub(super) fn sql_name(config: &SinkConfig, name: &str) -> Option<String> {
    let parts: Vec<String> = split_name(name.trim()).into_iter().map(|part| part.trim().to_owned()).collect();
    if parts.iter().any(String::is_empty) || parts.len() > 3 {
        return None;
    }
    let spelled = parts.iter().map(|part| {
        identifier(truncated(&match config.quoting {
            Quoting::Always => part.clone(),
            Quoting::Never => part.to_lowercase(),
        }))
    });
    Some(spelled.collect::<Vec<_>>().join("."))
}

/// A name as PostgreSQL cuts it: 63 bytes, whole characters.
fn truncated(name: &str) -> &str {
    let mut end = name.len().min(63);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// For each field its column: the one of its name, else the only one that is left and differs by case alone.
pub(super) fn columns_for<'a>(table: &'a Table, fields: &[PlannedField]) -> Vec<Option<&'a Column>> {
    let exact: Vec<Option<&Column>> = fields.iter().map(|field| table.column(truncated(&field.name))).collect();
    let taken = |column: &Column| exact.iter().flatten().any(|other| other.name == column.name);
    let close = |name: &str| {
        let name = truncated(name).to_lowercase();
        let mut close = table.columns.iter().filter(|column| !taken(column) && column.name.to_lowercase() == name);
        let alike = |(field, exact): &(&PlannedField, &Option<&Column>)| {
            exact.is_none() && truncated(&field.name).to_lowercase() == name
        };
        // Two fields can't share a column.
        let alone = fields.iter().zip(&exact).filter(alike).count() == 1;
        close.next().filter(|_| alone && close.next().is_none())
    };
    fields.iter().zip(&exact).map(|(field, exact)| exact.or_else(|| close(&field.name))).collect()
}

/// The table, created or evolved so that it has a column for every field.
///
/// # Errors
/// If it can't be, or the config does not allow it.
pub(super) async fn fitting_table(
    session: &mut Session,
    config: &SinkConfig,
    sql_name: &str,
    fields: &[PlannedField],
) -> Result<Table> {
    let broken = |error| statement_error(error, sql_name);
    let found = match catalog::find_table(session, sql_name).await.map_err(broken)? {
        Some(table) => table,
        None if config.auto_create => {
            let sql = creation_order(config, fields)
                .map(|columns| ddl::create_table(config.quoting, sql_name, &columns, &config.render))
                .map_err(|reason| Error::data(format!("could not create table {sql_name}: {reason}")))?;
            tracing::info!(table = sql_name, "table is created");
            session.run(sql).await.map_err(broken)?;
            catalog::find_table(session, sql_name)
                .await
                .map_err(broken)?
                .ok_or_else(|| Error::fatal(format!("table {sql_name} was created but can't be found")))?
        }
        None => {
            let close = catalog::tables_named_alike(session, sql_name).await.map_err(broken)?;
            let hint = if close.is_empty() {
                format!("create it, or set {}", config.dialect.creation_key())
            } else {
                let names: Vec<String> = close.iter().map(TableName::quoted).collect();
                format!("there is {}: name it so, as names differ by case", names.join(", "))
            };
            return Err(unfit(format!("Table {sql_name} is missing and auto-creation is disabled: {hint}")));
        }
    };
    let columns = columns_for(&found, fields);
    let missing = fields.iter().zip(columns).filter(|(_, column)| column.is_none()).map(|(field, _)| field);
    let missing: Vec<&PlannedField> = missing.collect();
    if missing.is_empty() {
        return Ok(found);
    }
    let names = missing.iter().map(|field| &*field.name).collect::<Vec<_>>().join(", ");
    if !config.auto_evolve {
        let columns = found.columns.iter().map(|column| &*column.name).collect::<Vec<_>>().join(", ");
        return Err(unfit(format!(
            "Table {sql_name} is missing fields ({names}) and auto-evolution is disabled: add the columns, set {}, or \
             choose fields with {}; its columns are {columns}",
            config.dialect.evolution_key(),
            config.dialect.fields_key()
        )));
    }
    if matches!(found.kind, 'v' | 'm' | 'f') {
        return Err(unfit(format!(
            "Table {sql_name} is missing fields ({names}) and is no plain table, which alone can be altered: add the \
             columns by hand, or choose fields with {}",
            config.dialect.fields_key()
        )));
    }
    let columns = missing.iter().map(|field| new_column(config, field)).collect::<std::result::Result<Vec<_>, _>>();
    let sql = columns
        .and_then(|columns| ddl::add_columns(config.quoting, sql_name, &columns, &config.render))
        .map_err(|reason| Error::data(format!("could not add columns to table {sql_name}: {reason}")))?;
    tracing::info!(table = sql_name, columns = %names, "columns are added");
    session.run(sql).await.map_err(broken)?;
    catalog::find_table(session, sql_name)
        .await
        .map_err(broken)?
        .ok_or_else(|| Error::retriable(format!("table {sql_name} disappeared while columns were added")))
}

const UNFIT: &str = "io.confluent.connect.jdbc.sink.TableAlterOrCreateException";

/// The table does not fit the record; someone may change it meanwhile.
fn unfit(message: String) -> Error {
    Error::retriable(message).with_class(UNFIT)
}

/// Whether an error says that the table does not fit the record.
pub(super) fn is_unfit(error: &Error) -> bool {
    error.class() == UNFIT
}

/// An error of a statement about a table, never about a record: its transaction is broken. The source tells races.
fn statement_error(error: sqlx::Error, sql_name: &str) -> Error {
    let mut message = format!("could not read or change table {sql_name}: {}", failure::text(&error));
    if failure::is(&error, "0A000") && split_name(sql_name).len() == 3 {
        message.push_str(
            "; the first of a name's three parts is the database: shorten the topic with a RegexRouter, or quote the name",
        );
    }
    match failure::cause(&error) {
        Cause::Outage => Error::retriable(message),
        Cause::Data | Cause::Statement => Error::fatal(message),
    }
    .caused_by(error)
}

fn new_column<'a>(config: &SinkConfig, field: &'a PlannedField) -> std::result::Result<NewColumn<'a>, String> {
    let stamp = config.stamp_fields.iter().any(|name| **name == *field.name);
    let own = match config.dialect {
        Dialect::Debezium => debezium::column_type(&field.schema, &config.postgis_schema)?,
        Dialect::Confluent => stamp.then(|| "TIMESTAMP".to_owned()),
    };
    let kind = match own {
        Some(kind) => kind,
        None => ddl::column_type(&field.schema)?,
    };
    let named = config.dialect == Dialect::Debezium;
    Ok(NewColumn { name: &field.name, schema: &field.schema, key: field.key, kind, named })
}

/// The order in which each original makes columns. Debezium's: the key, then the rest. Confluent's: Kafka's coordinates under
/// their own names, then the value's fields in their order, then by name what the value does not have.
fn creation_order<'a>(
    config: &SinkConfig,
    fields: &'a [PlannedField],
) -> std::result::Result<Vec<NewColumn<'a>>, String> {
    let mut ordered: Vec<&PlannedField> = fields.iter().collect();
    match config.dialect {
        Dialect::Debezium => ordered.sort_by_key(|field| !field.key),
        Dialect::Confluent => ordered.sort_by_key(|field| {
            let coordinate = KAFKA_COLUMNS.iter().position(|name| **name == *field.name);
            match coordinate.filter(|_| field.key).map(|at| (0, at)).or(field.place.map(|at| (1, at))) {
                Some(place) => (place, ""),
                None => ((2, 0), &*field.name),
            }
        }),
    }
    ordered.into_iter().map(|field| new_column(config, field)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Props;

    fn name(entries: &[(&str, &str)], topic: &str) -> String {
        let mut props: Props = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        props.insert("connection.url".into(), "jdbc:postgresql://h/d".into());
        table_for(&super::super::confluent_keys::read(&props).unwrap(), topic).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn names_of_tables() {
        assert_eq!(name(&[], "Orders"), "\"Orders\"");
        assert_eq!(name(&[], "a.b"), "\"a\".\"b\"");
        assert_eq!(name(&[("table.name.format", "\"${topic}\"")], "a.b"), "\"a.b\"");
        assert_eq!(name(&[("table.name.format", "s.${topic}_x")], "t"), "\"s\".\"t_x\"");
        assert_eq!(name(&[("table.name.format", "db.s.t")], "t"), "\"db\".\"s\".\"t\"");
        assert!(name(&[("table.name.format", "a.b.c.d")], "t").contains("no [[catalog.]schema.]table"));
        assert_eq!(name(&[("quote.sql.identifiers", "NEVER")], "Orders"), "\"orders\"");
        assert_eq!(name(&[("table.name.normalize", "true")], "s.a-b"), "\"s_a_b\"");
        assert_eq!(name(&[("topics.to.tables.mapping", "x:y")], "x"), "\"y\"");
        assert!(name(&[("topics.to.tables.mapping", "x:y")], "z").contains("no entry"));
        assert_eq!(name(&[], &"x".repeat(70)).len(), 65);
    }
}

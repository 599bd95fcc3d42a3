//! What a form can offer while a source is configured: the tables that the connection shows, and the columns of those that
//! are chosen, or of the query, which could be offsets.

use super::shape::{self, Relation};
use super::tables::TableFilter;
use crate::postgres::catalog::{self, Column, TableName};
use crate::postgres::connection::Session;
use crate::postgres::type_map::PgType;

/// Of so many tables the columns are looked at.
const MOST_TABLES: usize = 20;

/// Values by key.
pub(super) async fn recommend(
    session: &mut Session,
    filter: &TableFilter,
    query: Option<&str>,
) -> Result<Vec<(&'static str, Vec<String>)>, sqlx::Error> {
    let schemas = filter.schemas(session).await?;
    let all: Vec<String> = filter.visible(session).await?.iter().map(TableName::dotted).collect();
    let patterns: Vec<String> = all.iter().map(|table| regex::escape(table)).collect();
    let mut numbers: Vec<String> = Vec::new();
    let mut times: Vec<String> = Vec::new();
    let mut offer = |columns: Vec<Column>| {
        for column in columns {
            let into = match column.kind {
                PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Numeric(Some((_, 0))) => &mut numbers,
                PgType::Timestamp | PgType::TimestampTz | PgType::Date => &mut times,
                _ => continue,
            };
            if !into.iter().any(|known| **known == *column.name) {
                into.push(column.name.to_string());
            }
        }
    };
    match query {
        // A query that does not work offers nothing, and must not take the tables away.
        Some(query) => {
            offer(shape::columns(session, &Relation::Query(query.to_owned())).await.unwrap_or_default());
        }
        None => {
            for table in filter.list(session).await?.iter().take(MOST_TABLES) {
                if let Some(table) = catalog::find_table(session, &table.quoted()).await? {
                    offer(table.columns);
                }
            }
        }
    }
    Ok(vec![
        ("schema.pattern", schemas),
        ("table.whitelist", all.clone()),
        ("table.blacklist", all),
        ("table.include.list", patterns.clone()),
        ("table.exclude.list", patterns),
        ("incrementing.column.name", numbers),
        ("timestamp.column.name", times),
    ])
}

//! What a form can offer while a source is configured: the tables that the connection shows, and the columns of those that
//! are chosen which could be offsets.

use super::tables::TableFilter;
use crate::postgres::catalog;
use crate::postgres::connection::Session;
use crate::postgres::type_map::PgType;

/// Of so many tables the columns are looked at.
const MOST_TABLES: usize = 20;

/// Values by key.
pub(super) async fn recommend(
    session: &mut Session,
    filter: &TableFilter,
) -> Result<Vec<(&'static str, Vec<String>)>, sqlx::Error> {
    let all: Vec<String> = filter.visible(session).await?.iter().map(|table| table.dotted()).collect();
    let mut numbers: Vec<String> = Vec::new();
    let mut times: Vec<String> = Vec::new();
    for table in filter.list(session).await?.iter().take(MOST_TABLES) {
        let Some(table) = catalog::find_table(session, &table.quoted()).await? else { continue };
        for column in table.columns {
            let into = match column.kind {
                PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Numeric(Some((_, 0))) => &mut numbers,
                PgType::Timestamp | PgType::TimestampTz | PgType::Date => &mut times,
                _ => continue,
            };
            if !into.iter().any(|known| **known == *column.name) {
                into.push(column.name.to_string());
            }
        }
    }
    Ok(vec![
        ("table.whitelist", all.clone()),
        ("table.blacklist", all),
        ("incrementing.column.name", numbers),
        ("timestamp.column.name", times),
    ])
}

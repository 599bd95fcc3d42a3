//! Which rows differ: both tables are read in the order of their key, side by side, and compared by hash; only rows that
//! differ are read in full. Memory does not grow with the tables.

use std::cmp::Ordering;

use futures_util::{Stream, StreamExt, TryStreamExt};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::super::failure::{Failure, Outcome};
use super::canonical::{Compared, row_text};
use super::side::{Side, side_failed};

/// A key: each column's canonical text.
type Key = Vec<Option<String>>;
/// A row's key and hash.
type Hashed = (Key, i64);

/// A row that differs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// The target lacks it.
    OnlySource(Key),
    /// The source lacks it.
    OnlyTarget(Key),
    /// Both have it: columns with the source's and the target's value.
    Changed(Key, Vec<(String, Option<String>, Option<String>)>),
}

impl Difference {
    /// The row's key, column by column.
    pub(super) fn key(&self) -> impl Iterator<Item = Option<&str>> {
        let (Self::OnlySource(key) | Self::OnlyTarget(key) | Self::Changed(key, _)) = self;
        key.iter().map(Option::as_deref)
    }
}

/// The first rows that differ, in the order of the key.
pub(super) async fn first_differences(
    source: &mut Side,
    target: &mut Side,
    compared: &[Compared],
    key: &[Compared],
    truncated: bool,
    limit: usize,
) -> Outcome<Vec<Difference>> {
    let sorts_as_number: Vec<bool> = key.iter().map(Compared::is_integer).collect();
    let here_sql = scan_sql(source.relation(), compared, key, false, truncated);
    let there_sql = scan_sql(target.relation(), compared, key, true, truncated);
    let mut found = {
        let (source_table, target_table) = (source.table().to_owned(), target.table().to_owned());
        let here = scan(source.connection(), here_sql, key.len())
            .map_err(|error| side_failed("source", &source_table, "cannot read the rows", &error));
        let there = scan(target.connection(), there_sql, key.len())
            .map_err(|error| side_failed("target", &target_table, "cannot read the rows", &error));
        merge(here, there, &sorts_as_number, limit).await?
    };
    for difference in &mut found {
        if let Difference::Changed(row, columns) = difference {
            let here = values(source, compared, key, row, false, truncated).await?;
            let there = values(target, compared, key, row, true, truncated).await?;
            let pairs = compared.iter().zip(here.into_iter().zip(there));
            columns.extend(pairs.filter(|(_, (a, b))| a != b).map(|(c, (a, b))| (c.name.clone(), a, b)));
        }
    }
    Ok(found)
}

fn scan_sql(relation: &str, compared: &[Compared], key: &[Compared], target: bool, truncated: bool) -> String {
    let texts: Vec<String> = key.iter().map(|column| column.text(target, truncated)).collect();
    // Whole numbers are sorted as such, which the key's index gives; all else by bytes, which is the same on both sides.
    let order: Vec<String> = key
        .iter()
        .map(|column| match column.is_integer() {
            // Named with its table: the bare name would mean the text of the same name in the output.
            true => format!("t.{} NULLS FIRST", column.quoted(target)),
            false => format!("{} COLLATE \"C\" NULLS FIRST", column.text(target, truncated)),
        })
        .collect();
    format!(
        "SELECT hashtextextended({} COLLATE \"C\", 0), {} FROM {relation} AS t ORDER BY {}",
        row_text(compared, target, truncated),
        texts.join(", "),
        order.join(", ")
    )
}

fn scan(
    connection: &mut PgConnection,
    sql: String,
    keys: usize,
) -> impl Stream<Item = Result<Hashed, sqlx::Error>> + Unpin {
    sqlx::query(AssertSqlSafe(sql)).fetch(connection).map(move |row| {
        let row = row?;
        let hash = row.try_get(0)?;
        Ok(((1..=keys).map(|at| row.try_get(at)).collect::<Result<_, _>>()?, hash))
    })
}

/// Walks two sorted streams side by side.
async fn merge(
    mut here: impl Stream<Item = Outcome<Hashed>> + Unpin,
    mut there: impl Stream<Item = Outcome<Hashed>> + Unpin,
    sorts_as_number: &[bool],
    limit: usize,
) -> Outcome<Vec<Difference>> {
    let mut found = Vec::new();
    let (mut a, mut b) =
        (next(&mut here, None, sorts_as_number).await?, next(&mut there, None, sorts_as_number).await?);
    while found.len() < limit {
        let order = match (&a, &b) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => order_of(a, b, sorts_as_number),
        };
        match (order, &a, &b) {
            (Ordering::Less, Some((key, _)), _) => found.push(Difference::OnlySource(key.clone())),
            (Ordering::Greater, _, Some((key, _))) => found.push(Difference::OnlyTarget(key.clone())),
            (Ordering::Equal, Some((key, source)), Some((_, target))) if source != target => {
                found.push(Difference::Changed(key.clone(), Vec::new()));
            }
            _ => {}
        }
        if order.is_le() {
            a = next(&mut here, a, sorts_as_number).await?;
        }
        if order.is_ge() {
            b = next(&mut there, b, sorts_as_number).await?;
        }
    }
    Ok(found)
}

/// The next row. A stream that is not in the order that is merged by would give wrong answers, so it is refused.
async fn next(
    rows: &mut (impl Stream<Item = Outcome<Hashed>> + Unpin),
    last: Option<Hashed>,
    sorts_as_number: &[bool],
) -> Outcome<Option<Hashed>> {
    let row = rows.try_next().await?;
    if let (Some((last, _)), Some((key, _))) = (&last, &row)
        && order_of(last, key, sorts_as_number).is_gt()
    {
        return Err(Failure::new(format!("the database sorts {key:?} behind {last:?}; name other columns with --key")));
    }
    Ok(row)
}

/// The order that the databases sort keys in: nulls first, whole numbers as such, all else by bytes.
fn order_of(a: &Key, b: &Key, sorts_as_number: &[bool]) -> Ordering {
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<i64>().ok());
    let orders = a.iter().zip(b).zip(sorts_as_number).map(|((a, b), as_number)| match as_number {
        true => number(a).cmp(&number(b)),
        false => a.cmp(b),
    });
    orders.fold(Ordering::Equal, Ordering::then)
}

/// The canonical values of the row with a key.
async fn values(
    side: &mut Side,
    compared: &[Compared],
    key: &[Compared],
    row: &Key,
    target: bool,
    truncated: bool,
) -> Outcome<Vec<Option<String>>> {
    let texts: Vec<String> = compared.iter().map(|column| column.text(target, truncated)).collect();
    let conditions: Vec<String> = (1..)
        .zip(key)
        .map(|(at, column)| {
            // A truncated time finds its row only by its truncated text.
            if truncated && column.is_time() {
                format!("{} IS NOT DISTINCT FROM ${at}", column.text(target, truncated))
            } else if row[at - 1].is_none() {
                format!("({} IS NULL AND ${at}::text IS NULL)", column.quoted(target))
            } else {
                format!("{} = CAST(${at}::text AS {})", column.quoted(target), column.sql_type(target))
            }
        })
        .collect();
    let sql =
        format!("SELECT {} FROM {} WHERE {} LIMIT 1", texts.join(", "), side.relation(), conditions.join(" AND "));
    let query = row.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| query.bind(value));
    let read = |row: PgRow| (0..compared.len()).map(|at| row.try_get(at)).collect::<Result<Vec<_>, sqlx::Error>>();
    let found = query.fetch_optional(side.connection()).await;
    found
        .and_then(|row| row.map_or_else(|| Ok(vec![None; compared.len()]), read))
        .map_err(|error| side.failed("cannot read a row", &error))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn rows(rows: &[(&str, i64)]) -> impl Stream<Item = Outcome<Hashed>> + Unpin {
        let rows: Vec<_> = rows.iter().map(|(key, hash)| Ok((vec![Some((*key).to_owned())], *hash))).collect();
        stream::iter(rows)
    }

    #[tokio::test]
    async fn merges_by_number_and_finds_all_kinds() {
        let key = |text: &str| vec![Some(text.to_owned())];
        let here = rows(&[("1", 1), ("2", 2), ("9", 9), ("10", 10)]);
        let there = rows(&[("2", 2), ("9", 0), ("10", 10), ("11", 1)]);
        let found = merge(here, there, &[true], 10).await.unwrap();
        assert_eq!(
            found,
            vec![
                Difference::OnlySource(key("1")),
                Difference::Changed(key("9"), Vec::new()),
                Difference::OnlyTarget(key("11"))
            ]
        );
    }

    #[tokio::test]
    async fn rows_out_of_order_are_refused() {
        let failure = merge(rows(&[("1", 1), ("10", 1), ("2", 1)]), rows(&[]), &[true], 9).await.unwrap_err();
        assert!(failure.message().contains("sorts"), "{failure:?}");
    }

    #[tokio::test]
    async fn stops_at_the_limit() {
        let found = merge(rows(&[("a", 1), ("b", 1), ("c", 1)]), rows(&[]), &[false], 2).await.unwrap();
        assert_eq!(found.len(), 2);
    }
}

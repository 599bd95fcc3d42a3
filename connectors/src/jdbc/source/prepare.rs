//! Describes the tables of a task at its start: all of them in a few trips to the server, or, where that fails, one after
//! the other, so that the error says which table it is about.

use super::config::{Mode, SourceConfig};
use super::page::PageError;
use super::reader::{self, Target};
use super::shape::{self, Relation};
use super::sql;
use super::trouble;
use crate::api::Error;
use crate::postgres::catalog::{self, Column};
use crate::postgres::connection::{Session, within};
use crate::postgres::failure;

/// So many tables are locked at once, with their partitions and indexes: a server has room for some thousand locks.
const TOGETHER: usize = 100;
/// How long several tables wait for locks together: while one is waited for, the others are held.
const LOCK_TIMEOUT: &str = "200ms";

/// Plans how to read each target. Answers what is wrong with those that can't be read, by their places.
///
/// # Errors
/// An outage, and where it was met.
pub(super) async fn prepare_all(
    session: &mut Session,
    targets: &mut [Target],
    config: &SourceConfig,
) -> Result<Vec<(usize, Error)>, (usize, Error)> {
    if targets.len() > 1 && config.mode == Mode::Incrementing && config.horizon {
        for some in targets.chunks_mut(TOGETHER) {
            if prepare_together(session, some, config).await.is_err() {
                // What it is will be told by the one that has it.
                some.iter_mut().for_each(|target| (target.shape, target.has_rows) = (None, false));
                let _ = session.run("ROLLBACK").await;
            }
        }
    }
    let mut troubles = Vec::new();
    for (at, target) in targets.iter_mut().enumerate().filter(|(_, target)| target.shape.is_none()) {
        match reader::prepare(session, target, config).await {
            Ok(()) | Err(PageError::Closed) => {}
            Err(PageError::Failed(error)) if trouble::is_locked(&error) => {
                // It is described when it can be read.
                roll_back(session).await.map_err(|error| (at, error))?;
            }
            Err(PageError::Failed(error)) => return Err((at, error)),
            Err(PageError::Table(error)) => {
                troubles.push((at, error));
                roll_back(session).await.map_err(|error| (at, error))?;
            }
        }
    }
    Ok(troubles)
}

async fn roll_back(session: &mut Session) -> Result<(), Error> {
    let done = session.run("ROLLBACK").await;
    done.map(drop).map_err(|error| failure::to_error(error, "could not end a transaction"))
}

async fn prepare_together(
    session: &mut Session,
    targets: &mut [Target],
    config: &SourceConfig,
) -> Result<(), PageError> {
    let names: Vec<String> = targets
        .iter()
        .filter_map(|target| match &target.relation {
            Relation::Table(table) => Some(table.quoted()),
            Relation::Query(_) => None,
        })
        .collect();
    if names.len() < targets.len() {
        return Ok(());
    }
    let locks: Vec<String> = names.iter().map(|name| sql::lock(name)).collect();
    session.run(format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {}", locks.join("; "))).await?;
    let oids = catalog::oids_of(session, &names).await?;
    let known: Vec<u32> = oids.iter().copied().flatten().collect();
    let columns = catalog::columns_of_all(session, &known).await?;
    let mut leading = Vec::new();
    for (target, oid) in targets.iter_mut().zip(oids) {
        let own: Vec<Column> = columns.iter().filter(|column| Some(column.relation) == oid).cloned().collect();
        let (shape, first) = shape::layout(&target.relation, own, config).map_err(PageError::of_table)?;
        target.shape = Some(shape);
        leading.push(oid.zip(first));
    }
    let asked: Vec<(u32, &str)> = leading.iter().flatten().map(|(oid, name)| (*oid, name.as_str())).collect();
    let mut found = catalog::lead_an_index(session, &asked).await?.into_iter();
    for (target, leading) in targets.iter_mut().zip(&leading) {
        if let (Some(shape), Some(_)) = (&mut target.shape, leading) {
            shape.indexed = found.next().unwrap_or(false);
        }
    }
    find_rows(session, targets).await?;
    session.run("COMMIT").await?;
    Ok(())
}

/// Notes which targets have rows to read, among those whose index tells at once.
async fn find_rows(session: &mut Session, targets: &mut [Target]) -> Result<(), PageError> {
    let mut asked = Vec::new();
    let mut conditions = Vec::new();
    for target in targets {
        if let Some(shape) = target.shape.as_ref().filter(|shape| shape.indexed) {
            conditions.push(shape.statement.any(target.progress));
            asked.push(target);
        }
    }
    if conditions.is_empty() {
        return Ok(());
    }
    // Without statistics the server would look through whole tables for rows that are not there.
    session.run("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off").await?;
    let sql = format!("SELECT ARRAY[{}]", conditions.join(", "));
    // It is of no use to the driver to remember this one.
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).persistent(false);
    let found: Vec<bool> = within(session.patience, query.fetch_one(&mut session.connection)).await?;
    asked.into_iter().zip(found).for_each(|(target, found)| target.has_rows = found);
    Ok(())
}

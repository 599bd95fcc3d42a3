//! Writes runs of records: binary COPY straight into the table, or into a temporary table and one statement from there.
//! The careful way isolates bad rows by halving, and recognises rows that were written before.

use sqlx::Row;

use super::config::{InsertMode, SinkConfig};
use super::plan::WritePlan;
use super::unwrap::Action;
use super::work::Run;
use crate::api::{Error, Rejected, SinkRecord};
use crate::postgres::connection::Session;
use crate::postgres::copy_encode::{put_header, put_trailer};
use crate::postgres::failure::{self, Cause};

/// Bytes of a COPY message.
const CHUNK: usize = 256 * 1024;

/// One attempt to write a put.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) session: &'a mut Session,
    pub(super) config: &'a SinkConfig,
    pub(super) records: &'a [SinkRecord],
    /// Staging tables that hold rows of this transaction.
    pub(super) used: Vec<String>,
    pub(super) rejected: Vec<Rejected>,
    /// Rows that the table had already.
    pub(super) redelivered: u64,
    pub(super) buffer: Vec<u8>,
}

impl Writer<'_> {
    /// Writes a run the fast way; any error of the server ends the transaction.
    pub(super) async fn write(&mut self, run: &Run) -> Result<(), sqlx::Error> {
        if run.action == Action::Truncate {
            self.session.run(run.plan.truncate()).await?;
            return Ok(());
        }
        for rows in run.rows.chunks(self.config.batch_rows.unwrap_or(usize::MAX)) {
            if run.plan.direct && run.action == Action::Write && self.config.insert_mode == InsertMode::Insert {
                self.copy(&run.plan, &run.plan.copy(), rows, false).await?;
            } else {
                self.stage(&run.plan, rows).await?;
                self.session.run(self.statement(run)).await?;
            }
        }
        Ok(())
    }

    fn statement(&self, run: &Run) -> String {
        if run.action == Action::Delete { run.plan.delete() } else { run.plan.apply(self.config.insert_mode) }
    }

    /// Writes a run so that only the rows at fault are rejected.
    pub(super) async fn write_carefully(&mut self, run: &Run) -> Result<(), sqlx::Error> {
        if run.action == Action::Truncate {
            return self.write(run).await;
        }
        let mut parts: Vec<&[usize]> = vec![&run.rows];
        while let Some(rows) = parts.pop() {
            let before = self.rejected.len();
            self.session.run("SAVEPOINT towline").await?;
            match self.attempt(run, rows).await {
                Ok(()) => {
                    self.session.run("RELEASE SAVEPOINT towline").await?;
                }
                Err(error) if failure::cause(&error) == Cause::Data => {
                    self.session.run("ROLLBACK TO SAVEPOINT towline").await?;
                    self.rejected.truncate(before);
                    if let [row] = rows {
                        self.reject(*row, &run.plan.table, &failure::text(&error));
                    } else {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        parts.push(second);
                        parts.push(first);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn attempt(&mut self, run: &Run, rows: &[usize]) -> Result<(), sqlx::Error> {
        self.stage(&run.plan, rows).await?;
        if run.action == Action::Write && self.config.insert_mode == InsertMode::Insert {
            self.take_redelivered(&run.plan).await?;
        }
        self.session.run(self.statement(run)).await?;
        Ok(())
    }

    /// Takes rows off the stage that the table has already: same rows are redelivered, others in conflict.
    async fn take_redelivered(&mut self, plan: &WritePlan) -> Result<(), sqlx::Error> {
        let Some(sql) = plan.take_stored() else { return Ok(()) };
        self.session.run(format!("ANALYZE {}", plan.stage)).await?;
        let found = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut self.session.connection).await?;
        for row in &found {
            let place = usize::try_from(row.try_get::<i32, _>(0)?).unwrap_or(0);
            if row.try_get::<Option<bool>, _>(1)? == Some(true) {
                self.redelivered += 1;
            } else {
                let said = "duplicate key value violates a unique constraint, and the row there is another one \
                            (insert.mode=upsert would overwrite it)";
                self.reject(place, &plan.table, said);
            }
        }
        if let Some(sql) = plan.take_repeated() {
            self.redelivered += self.session.run(sql).await?;
        }
        Ok(())
    }

    /// Fills the staging table with these rows.
    async fn stage(&mut self, plan: &WritePlan, rows: &[usize]) -> Result<(), sqlx::Error> {
        let mut sql = plan.create_stage();
        if self.used.contains(&plan.stage) {
            // Made anew if a rolled back savepoint took it away.
            sql = format!("{sql}; TRUNCATE {}", plan.stage);
        } else {
            self.used.push(plan.stage.clone());
        }
        self.session.run(sql).await?;
        self.copy(plan, &plan.copy_stage(), rows, true).await
    }

    async fn copy(&mut self, plan: &WritePlan, sql: &str, rows: &[usize], numbered: bool) -> Result<(), sqlx::Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        put_header(&mut buffer);
        let mut refused = Vec::new();
        let mut copy = self.session.connection.copy_in_raw(sql).await?;
        for row in rows {
            let number = numbered.then(|| i32::try_from(*row).unwrap_or(i32::MAX));
            if let Err((column, error)) = plan.encode(&self.records[*row], number, &mut buffer) {
                refused.push((*row, format!("column \"{column}\": {error}")));
            }
            if buffer.len() >= CHUNK {
                copy.send(buffer.as_slice()).await?;
                buffer.clear();
            }
        }
        put_trailer(&mut buffer);
        copy.send(buffer.as_slice()).await?;
        copy.finish().await?;
        self.buffer = buffer;
        for (row, why) in refused {
            // A row that is tried again in a smaller part is refused again.
            if self.rejected.iter().all(|rejected| rejected.index != row) {
                self.reject(row, &plan.table, &why);
            }
        }
        Ok(())
    }

    fn reject(&mut self, index: usize, table: &str, why: &str) {
        let error = error_of(&self.records[index], table, why);
        self.rejected.push(Rejected { index, error });
    }
}

/// An error that says which record did not go into which table, and why; never what it holds.
pub(super) fn error_of(record: &SinkRecord, table: &str, why: &str) -> Error {
    let origin = &record.origin;
    let target = if table.is_empty() { String::new() } else { format!(" to table {table}") };
    Error::data(format!(
        "could not write record {}-{}@{} ({} value){target}: {why}",
        origin.topic,
        origin.partition,
        origin.offset,
        record.record.value.value.kind_name()
    ))
}

//! Writes runs of records: binary COPY straight into the table, or into a temporary table and one statement from there.
//! The way that isolates bad rows is [`super::isolate`].

use super::config::{InsertMode, SinkConfig};
use super::plan::{Within, WritePlan};
use super::unwrap::Action;
use super::work::Run;
use crate::api::{Error, Rejected, SinkRecord};
use crate::postgres::connection::{Session, within};
use crate::postgres::copy_encode::{put_header, put_trailer};

/// Bytes of a COPY message.
const CHUNK: usize = 256 * 1024;
/// Rows that are staged at once where the user sets no limit: what goes beyond the server's temp_buffers is slow.
pub(super) const STAGED_ROWS: usize = 8_000;

/// One attempt to write a put.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) session: &'a mut Session,
    pub(super) config: &'a SinkConfig,
    pub(super) records: &'a [SinkRecord],
    /// Staging tables that hold rows of this transaction.
    pub(super) used: Vec<String>,
    pub(super) rejected: Vec<Rejected>,
    /// Rejected rows whose column was looked for.
    pub(super) explained: usize,
    /// SQLSTATEs of statements that values were found to cause.
    pub(super) of_values: Vec<Option<String>>,
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
        let direct = run.plan.direct && run.action == Action::Write && self.config.insert_mode == InsertMode::Insert;
        let most = self.config.batch_rows.unwrap_or(if direct { usize::MAX } else { STAGED_ROWS });
        for rows in run.rows.chunks(most) {
            if direct {
                self.copy_all(&run.plan, &run.plan.copy(), rows, false).await?;
            } else {
                self.stage(&run.plan, rows).await?;
                self.session.run(self.statement(run, Within::ALL)).await?;
            }
        }
        Ok(())
    }

    /// The statement that does with staged rows what the run is for.
    pub(super) fn statement(&self, run: &Run, within: Within) -> String {
        match run.action {
            Action::Delete => run.plan.delete(within),
            _ => run.plan.apply(self.config.insert_mode, within),
        }
    }

    /// Fills the staging table with these rows.
    async fn stage(&mut self, plan: &WritePlan, rows: &[usize]) -> Result<(), sqlx::Error> {
        self.empty_stage(plan).await?;
        // Numbers tell which of one key is the last.
        let numbered = !plan.exact_keys;
        self.copy_all(plan, &plan.copy_stage(numbered), rows, numbered).await
    }

    /// Makes sure that the staging table is there, and empty.
    pub(super) async fn empty_stage(&mut self, plan: &WritePlan) -> Result<(), sqlx::Error> {
        let mut sql = plan.create_stage();
        if self.used.contains(&plan.stage) {
            // Made anew if a rolled back savepoint took it away.
            sql = format!("{sql}; TRUNCATE {}", plan.stage);
        } else {
            self.used.push(plan.stage.clone());
        }
        self.session.run(sql).await?;
        Ok(())
    }

    /// Copies rows into the table or the staging table, with their numbers in front if that is asked for. Answers the rows that have no form
    /// for it, and why, which are left out; and whether the server took the others.
    pub(super) async fn copy(
        &mut self,
        plan: &WritePlan,
        sql: &str,
        rows: &[usize],
        numbered: bool,
    ) -> (Vec<(usize, String)>, Result<(), sqlx::Error>) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut refused = Vec::new();
        let patience = self.session.patience;
        let copied = within(patience, self.send(plan, sql, rows, numbered, &mut buffer, &mut refused)).await;
        self.buffer = buffer;
        (refused, copied)
    }

    async fn send(
        &mut self,
        plan: &WritePlan,
        sql: &str,
        rows: &[usize],
        numbered: bool,
        buffer: &mut Vec<u8>,
        refused: &mut Vec<(usize, String)>,
    ) -> Result<(), sqlx::Error> {
        put_header(buffer);
        let mut copy = self.session.connection.copy_in_raw(sql).await?;
        for row in rows {
            let number = numbered.then(|| i32::try_from(*row).unwrap_or(i32::MAX));
            if let Err((column, error)) = plan.encode(&self.records[*row], number, buffer) {
                refused.push((*row, format!("{}: {error}", plan.describe(column))));
            }
            if buffer.len() >= CHUNK {
                copy.send(buffer.as_slice()).await?;
                buffer.clear();
            }
        }
        put_trailer(buffer);
        copy.send(buffer.as_slice()).await?;
        copy.finish().await?;
        Ok(())
    }

    /// Copies rows, rejecting those that have no form for the table.
    async fn copy_all(
        &mut self,
        plan: &WritePlan,
        sql: &str,
        rows: &[usize],
        numbered: bool,
    ) -> Result<(), sqlx::Error> {
        let (refused, copied) = self.copy(plan, sql, rows, numbered).await;
        for (row, why) in refused {
            self.reject(row, &plan.table, &why);
        }
        copied
    }

    pub(super) fn reject(&mut self, index: usize, table: &str, why: &str) {
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

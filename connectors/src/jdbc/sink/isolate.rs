//! Writes rows so that only those at fault are rejected, and recognises rows that were written before. Rows are staged
//! once; what the staging table refuses is told by the server's line number, what the table refuses is found by halving.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::Row;

use super::config::InsertMode;
use super::plan::{Within, WritePlan};
use super::unwrap::Action;
use super::work::Run;
use super::write::Writer;
use crate::postgres::connection;
use crate::postgres::failure::{self, Cause};

/// For so many rejected rows of a put the column at fault is looked for.
const MOST_EXPLAINED: usize = 20;
/// Rows that are staged at once after a row was refused; more after each success.
const FIRST_SEGMENT: usize = 64;
/// So many statements search the stage without an index.
const FEW_RUNS: usize = 8;
/// So many rows in a row that fail by what seems to be no fault of theirs tell that it is the statement's.
const MOST_DOUBTFUL: usize = 16;

impl Writer<'_> {
    /// Writes runs so that only the rows at fault are rejected. Rows are staged once for all runs, which may be many.
    pub(super) async fn write_carefully(&mut self, runs: &[Run]) -> Result<(), sqlx::Error> {
        let mut plans: Vec<(&Arc<WritePlan>, Vec<usize>)> = Vec::new();
        for run in runs.iter().filter(|run| run.action != Action::Truncate) {
            match plans.iter_mut().find(|(plan, _)| Arc::ptr_eq(plan, &run.plan)) {
                Some((_, rows)) => rows.extend(&run.rows),
                None => plans.push((&run.plan, run.rows.clone())),
            }
        }
        for (plan, rows) in &plans {
            self.stage_carefully(plan, rows).await?;
            if runs.len() > FEW_RUNS {
                self.session.run(plan.index_stage()).await?;
            }
        }
        for run in runs {
            self.write_run_carefully(run).await?;
        }
        Ok(())
    }

    async fn write_run_carefully(&mut self, run: &Run) -> Result<(), sqlx::Error> {
        if run.action == Action::Truncate {
            return self.write(run).await;
        }
        // Rows that have no form are not staged: what does nothing for them tells nothing.
        let refused: HashSet<usize> = self.rejected.iter().map(|rejected| rejected.index).collect();
        let rows: Vec<usize> = run.rows.iter().copied().filter(|row| !refused.contains(row)).collect();
        let mut parts: Vec<&[usize]> = vec![&rows];
        let mut failed = false;
        let mut works = false;
        let mut doubtful: Vec<(usize, sqlx::Error)> = Vec::new();
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            let within = Within::rows(part);
            let (before, redelivered) = (self.rejected.len(), self.redelivered);
            let error = match self.attempt(run, part).await {
                Ok(given) => {
                    works |= given > 0;
                    continue;
                }
                Err(error) if failure::cause(&error) == Cause::Outage => return Err(error),
                Err(error) => error,
            };
            self.rejected.truncate(before);
            self.redelivered = redelivered;
            self.session.run("ROLLBACK TO SAVEPOINT towline; RELEASE SAVEPOINT towline").await?;
            if let [row] = part {
                match self.explain(run, *row, &error).await? {
                    Some(why) => self.reject(*row, &run.plan.table, &why),
                    None => doubtful.push((*row, error)),
                }
                // It must not pass for what a later row repeats.
                self.session.run(run.plan.unstage(within)).await?;
            } else {
                if !std::mem::replace(&mut failed, true) {
                    self.session.run(run.plan.index_stage()).await?;
                }
                let (first, second) = part.split_at(part.len() / 2);
                parts.push(second);
                parts.push(first);
            }
            if !works
                && doubtful.len() == MOST_DOUBTFUL
                && let Some(left) = parts.first()
            {
                let middle = left.len() / 2;
                works = self.works_for(run, &left[left.len() - 1..]).await?
                    || self.works_for(run, &left[middle..=middle]).await?;
                if !works {
                    break;
                }
            }
        }
        for (row, error) in doubtful {
            // What works for no row is wrong itself.
            if !works {
                return Err(error);
            }
            let state = failure::state(&error).unwrap_or_default();
            self.reject(row, &run.plan.table, &format!("the server could not write the row (SQLSTATE {state})"));
        }
        Ok(())
    }

    /// Whether the statement works for a row, which is not written.
    async fn works_for(&mut self, run: &Run, row: &[usize]) -> Result<bool, sqlx::Error> {
        let statement = self.statement(run, Within::rows(row));
        let tried = self.session.run(format!("SAVEPOINT towline; {statement}")).await;
        self.session.run("ROLLBACK TO SAVEPOINT towline; RELEASE SAVEPOINT towline").await?;
        match tried {
            Err(error) if failure::cause(&error) == Cause::Outage => Err(error),
            tried => Ok(tried.map_or_else(|error| failure::cause(&error) == Cause::Data, |_| true)),
        }
    }

    /// One part of the staged rows, in a savepoint that is released if all went well. Answers how many of them the
    /// statement was given.
    async fn attempt(&mut self, run: &Run, rows: &[usize]) -> Result<usize, sqlx::Error> {
        let within = Within::rows(rows);
        let statement = self.statement(run, within);
        if run.action == Action::Write && self.config.insert_mode == InsertMode::Insert {
            self.session.run("SAVEPOINT towline").await?;
            let taken = self.take_redelivered(&run.plan, within).await?;
            self.session.run(format!("{statement}; RELEASE SAVEPOINT towline")).await?;
            Ok(rows.len().saturating_sub(taken))
        } else {
            self.session.run(format!("SAVEPOINT towline; {statement}; RELEASE SAVEPOINT towline")).await?;
            Ok(rows.len())
        }
    }

    /// Stages the rows that the staging table takes.
    async fn stage_carefully(&mut self, plan: &WritePlan, rows: &[usize]) -> Result<(), sqlx::Error> {
        // Plans of the same types share it: the numbers tell their rows apart.
        self.session.run(plan.create_stage()).await?;
        let mut rest: Vec<usize> = rows.to_vec();
        let mut size = rest.len();
        while !rest.is_empty() {
            let segment = &rest[..size.min(rest.len())];
            self.session.run("SAVEPOINT towline_stage").await?;
            let (refused, copied) = self.copy(plan, &plan.copy_stage(true), segment, true).await;
            let gone: HashSet<usize> = refused.iter().map(|(row, _)| *row).collect();
            let sent: Vec<usize> = segment.iter().copied().filter(|row| !gone.contains(row)).collect();
            for (row, why) in refused {
                self.reject(row, &plan.table, &why);
            }
            let others = rest.split_off(segment.len());
            rest = match copied {
                Ok(()) => {
                    size = size.saturating_mul(2);
                    others
                }
                Err(error)
                    if failure::cause(&error) == Cause::Data
                        || (failure::cause(&error) == Cause::Statement && failure::copied_line(&error).is_some()) =>
                {
                    self.session.run("ROLLBACK TO SAVEPOINT towline_stage").await?;
                    let told = failure::copied_line(&error).and_then(|line| sent.get(line.checked_sub(1)?));
                    let bad = told.or(sent.first().filter(|_| sent.len() == 1)).copied();
                    if let Some(bad) = bad {
                        let column = failure::copied_column(&error).and_then(|column| plan.name_of_staged(column));
                        let said = failure::text_of_value(&error);
                        let why =
                            column.map_or_else(|| said.clone(), |name| format!("{}: {said}", plan.describe(name)));
                        self.reject(bad, &plan.table, &why);
                    }
                    // If it can't be told which row it was: fewer at once.
                    size = if bad.is_some() { FIRST_SEGMENT.max(size / 4) } else { (sent.len() / 2).max(1) };
                    sent.into_iter().filter(|row| Some(*row) != bad).chain(others).collect()
                }
                Err(error) => return Err(error),
            };
            self.session.run("RELEASE SAVEPOINT towline_stage").await?;
        }
        if rows.len() > FIRST_SEGMENT && plan.take_stored(Within::ALL).is_some() {
            self.session.run(format!("ANALYZE {}", plan.stage)).await?;
        }
        Ok(())
    }

    /// Takes rows off the stage that the table has already: same rows are redelivered, others in conflict. Answers how
    /// many.
    async fn take_redelivered(&mut self, plan: &WritePlan, within: Within) -> Result<usize, sqlx::Error> {
        let Some(sql) = plan.take_stored(within) else { return Ok(0) };
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut self.session.connection);
        let found = connection::within(self.session.patience, query).await?;
        for row in &found {
            let place = usize::try_from(row.try_get::<i32, _>(0)?).unwrap_or(0);
            if row.try_get::<Option<bool>, _>(1)? == Some(true) {
                self.redelivered += 1;
            } else {
                let said = format!(
                    "duplicate key value violates a unique constraint on ({}), and the row there is another one \
                     (insert.mode=upsert would overwrite it)",
                    plan.unique_columns()
                );
                self.reject(place, &plan.table, &said);
            }
        }
        let mut taken = found.len();
        if let Some(sql) = plan.take_repeated(within) {
            let repeated = self.session.run(sql).await?;
            self.redelivered += repeated;
            taken += usize::try_from(repeated).unwrap_or(usize::MAX);
        }
        Ok(taken)
    }

    /// What was wrong with a row, with the column where that can be found out; `None` if it may have been the statement.
    async fn explain(&mut self, run: &Run, row: usize, error: &sqlx::Error) -> Result<Option<String>, sqlx::Error> {
        let doubtful = failure::cause(error) == Cause::Statement;
        let said = if doubtful { failure::text_of_value(error) } else { failure::text(error) };
        let state = failure::state(error);
        if self.explained >= MOST_EXPLAINED || (!doubtful && !failure::is_of_value(error)) {
            return Ok((!doubtful || self.of_values.contains(&state)).then_some(said));
        }
        self.explained += 1;
        for ((column, cast), (_, idle)) in run.plan.casts(Within::rows(&[row])).zip(run.plan.casts(Within::NONE)) {
            let Err(error) = self.tried(cast).await? else { continue };
            // A type that can't be used at all is no value's fault.
            if failure::cause(&error) == Cause::Statement && self.tried(idle).await?.is_err() {
                return Ok(None);
            }
            self.of_values.push(state);
            return Ok(Some(format!("{}: {said}", run.plan.describe(column))));
        }
        Ok((!doubtful).then(|| match run.plan.describe_type_in(&said) {
            Some(column) => format!("{column}: {said}"),
            None => said,
        }))
    }

    /// What a query says, apart from outages, without any effect.
    async fn tried(&mut self, query: String) -> Result<Result<(), sqlx::Error>, sqlx::Error> {
        self.session.run("SAVEPOINT towline").await?;
        let tried = self.session.run(query).await;
        self.session.run("ROLLBACK TO SAVEPOINT towline; RELEASE SAVEPOINT towline").await?;
        match tried {
            Err(error) if failure::cause(&error) == Cause::Outage => Err(error),
            tried => Ok(tried.map(|_| ())),
        }
    }
}

//! Reads the tables of a task in rounds, each round in pages, each page in its own transaction, and hands batches over
//! through a bounded queue, so that reading goes on while the worker encodes. Outages are waited out here.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use sqlx::{Executor as _, Row as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batches::{Batches, Size};
use super::config::{Mode, SourceConfig};
use super::horizon::{self, Guard, Pending, Waiting};
use super::page::{self, Limits, PageError};
use super::progress::Progress;
use super::shape::{self, Relation, Shape};
use super::sql::{Bound, Paging};
use super::trouble::{self, Notes};
use crate::api::{Error, ErrorKind, Position, Result, SourceBatch, SourceRecords};
use crate::jdbc::connection_keys::Connector;
use crate::jdbc::retry::Backoff;
use crate::postgres::connection::{Session, within};

/// Rows of a batch where the user sets no limit,
pub(super) const BATCH_ROWS: usize = 10_000;
/// and about its bytes.
const BATCH_BYTES: usize = 1 << 20;
/// Rows of a page,
const PAGE_ROWS: usize = 50_000;
/// and about its bytes.
const PAGE_BYTES: usize = 4 << 20;
/// Rows of the first page, if nothing says how large they are.
const FIRST_ROWS: usize = 2_000;

/// One table or query with its progress.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) relation: Relation,
    pub(super) label: String,
    pub(super) partition: Arc<Position>,
    pub(super) topic: Arc<str>,
    pub(super) progress: Progress,
    pub(super) shape: Option<Shape>,
    pub(super) due: Instant,
    /// Who must end before this target's rows are read.
    pub(super) pending: Option<Pending>,
    /// Rows of a page, adapted to the size of rows once some were read.
    pub(super) page_rows: Option<usize>,
    /// Whether it was found to have rows that were not read, at the start.
    pub(super) has_rows: bool,
    /// Whether the log has the cautions about this target.
    pub(super) told: bool,
    /// Attempts that failed in a row.
    backoff: Backoff,
    /// Since when, and why, it can't be read, as long as that is not an outage.
    trouble: Option<(Instant, Error)>,
    /// Whether it was described anew since it was last read, because reading failed.
    anew: bool,
    /// Whether the log says that its numbers have started anew.
    told_reset: bool,
}

/// The loop that reads.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) connector: Connector,
    pub(super) config: Arc<SourceConfig>,
    pub(super) notes: Notes,
    pub(super) stop: CancellationToken,
    pub(super) session: Option<Session>,
    /// Where the session's process on the server is told.
    pub(super) process: Arc<AtomicI32>,
    pub(super) targets: Vec<Target>,
    pub(super) batches: Batches,
}

impl Target {
    /// A target that was not read yet.
    pub(super) fn new(relation: Relation, partition: Position, topic: String, progress: Progress) -> Self {
        Self {
            label: relation.label(),
            relation,
            partition: Arc::new(partition),
            topic: topic.into(),
            progress,
            shape: None,
            due: Instant::now(),
            pending: None,
            page_rows: None,
            has_rows: false,
            told: false,
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(30)),
            trouble: None,
            anew: false,
            told_reset: false,
        }
    }

    /// A batch that says that records of its topic are about to come.
    fn announcement(&self) -> SourceBatch {
        SourceBatch {
            topic: Arc::clone(&self.topic),
            key_schema: None,
            value_schema: self.shape.as_ref().map(|shape| Arc::clone(&shape.schema)),
            records: SourceRecords::Made(Vec::new()),
            source_partition: Arc::clone(&self.partition),
            source_offset: None,
        }
    }
}

impl Reader {
    /// Reads until stopped, or until an error that does not pass.
    pub(super) async fn run(mut self) {
        for target in self.targets.iter().filter(|target| target.has_rows) {
            if self.batches.send(target.announcement(), Size::default()).await.is_err() {
                return;
            }
        }
        while let Some(next) = self.targets.iter().enumerate().min_by_key(|(_, target)| target.due).map(|(at, _)| at) {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep_until(self.targets[next].due) => {}
            }
            let outcome = match self.round(next).await {
                Ok(done) => {
                    self.go_on(next, done);
                    Ok(())
                }
                Err(PageError::Closed) => return,
                Err(PageError::Failed(error)) => {
                    // A session may hang in the middle of a COPY.
                    self.session = None;
                    self.retry(next, error)
                }
                Err(PageError::Table(error)) => self.leave_out(next, error).await,
            };
            if let Err(error) = outcome {
                let _ = self.batches.fail(error).await;
                return;
            }
        }
        // No table: stay until stopped.
        self.stop.cancelled().await;
    }

    /// A round of a target went well.
    fn go_on(&mut self, at: usize, done: Round) {
        let target = &mut self.targets[at];
        let Round::Done = done else {
            if let Round::Waits(pause) = done {
                target.due = Instant::now() + pause;
                target.trouble = None;
            }
            return;
        };
        target.due = Instant::now() + self.config.poll_interval;
        (target.trouble, target.anew) = (None, false);
        if target.backoff.failed() > 0 {
            target.backoff.reset();
            tracing::info!(table = %target.label, "reading goes on");
            self.notes.clear(&target.label);
        }
    }

    /// After an outage: when to try again; an error that does not pass ends the task.
    fn retry(&mut self, at: usize, error: Error) -> Result<()> {
        let target = &mut self.targets[at];
        if error.kind() != ErrorKind::Retriable {
            return Err(error);
        }
        let error = trouble::name_lock(error, &target.label);
        target.trouble = None;
        target.due = Instant::now() + target.backoff.next_pause();
        let failed = target.backoff.failed();
        trouble::check_attempts(self.config.retry_attempts, failed, error).map(|error| {
            tracing::warn!(table = %target.label, error = %error, attempt = failed, "reading is retried");
            self.notes.set(&target.label, error.to_string(), failed);
        })
    }

    /// A target can't be read as it is: the others go on, as long as there are any that can.
    async fn leave_out(&mut self, at: usize, error: Error) -> Result<()> {
        let target = &mut self.targets[at];
        let described = target.shape.take().is_some();
        let missing = trouble::is_missing(&error);
        // A session may hang in the middle of a COPY, but not over a table that can't be locked or described.
        if (described && !missing) || !roll_back(&mut self.session).await {
            self.session = None;
        }
        if missing {
            let message = format!("{} does not exist any more", target.label);
            return self.retry(at, Error::retriable(message).caused_by(error));
        }
        let bulk = self.config.mode == Mode::Bulk;
        if described && !bulk && !std::mem::replace(&mut target.anew, true) {
            // It may have changed since it was described: a new look mends that, or says what is wrong.
            target.due = Instant::now();
            return Ok(());
        }
        let since = target.trouble.take().map_or_else(Instant::now, |(since, _)| since);
        let pause = target.backoff.next_pause();
        // In bulk mode what came before the trouble comes again: not more often than all of it.
        let least = if bulk && described { self.config.poll_interval } else { Duration::ZERO };
        target.due = Instant::now() + pause.max(least);
        let failed = target.backoff.failed();
        let error = trouble::check_attempts(self.config.retry_attempts, failed, error)?;
        let told = trouble::left_out(&target.label, &error);
        target.trouble = Some((since, error));
        self.give_up_where_none_is_left()?;
        let table = &self.targets[at].label;
        if failed == 1 {
            tracing::error!(%table, "{told}; it is tried again");
        } else {
            tracing::warn!(%table, attempt = failed, "{told}; it is tried again");
        }
        self.notes.set(table, told, failed);
        Ok(())
    }

    /// Ends the task with the first error where no table can be read.
    fn give_up_where_none_is_left(&mut self) -> Result<()> {
        if self.targets.iter().any(|target| target.trouble.is_none()) {
            return Ok(());
        }
        let count = self.targets.len();
        let since = |target: &&mut Target| target.trouble.as_ref().map(|(since, _)| *since);
        let first = self.targets.iter_mut().min_by_key(since);
        match first.and_then(|first| Some((&first.label, first.trouble.take()?.1))) {
            Some((label, error)) => Err(trouble::none_left(label, error, count)),
            None => Ok(()),
        }
    }

    /// Reads what is new of a target.
    async fn round(&mut self, at: usize) -> Result<Round, PageError> {
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                let mut session = self.connector.connect().await.map_err(PageError::Failed)?;
                self.process.store(session.process, Ordering::Relaxed);
                if self.targets.len() > 1 {
                    trouble::limit_locks(&mut session).await?;
                }
                none.insert(session)
            }
        };
        let config = &*self.config;
        let target = &mut self.targets[at];
        if target.shape.is_none() {
            prepare(session, target, config).await?;
        }
        let bound = match bound(session, target, config, &mut self.notes).await? {
            Ready::Now(bound) => bound,
            Ready::Nothing => return Ok(Round::Done),
            Ready::Waits(pause) => return Ok(Round::Waits(pause)),
        };
        let limits = Limits { rows: config.batch_rows.unwrap_or(BATCH_ROWS), bytes: BATCH_BYTES };
        loop {
            let paging = paging(session, target, config);
            let read = page::read(session, target, config, bound, paging, limits, &self.batches).await?;
            if let Some(average) = read.bytes.checked_div(read.rows) {
                target.page_rows = Some(rows_of_a_page(average));
            }
            let at_bound = bound.id.is_some() && target.progress.id >= bound.id;
            match paging {
                Paging::Keyset(rows) if read.rows >= rows && !at_bound && !self.stop.is_cancelled() => {}
                _ => return Ok(Round::Done),
            }
        }
    }
}

/// What a round came to.
enum Round {
    /// All there was is read.
    Done,
    /// Transactions in flight come first; look again after this time.
    Waits(Duration),
}

/// How far a round may read.
enum Ready {
    Now(Bound),
    /// There is nothing new.
    Nothing,
    /// Transactions in flight come first; look again after this time.
    Waits(Duration),
}

/// Describes a target in a transaction of its own.
pub(super) async fn prepare(
    session: &mut Session,
    target: &mut Target,
    config: &SourceConfig,
) -> Result<(), PageError> {
    session.run(format!("BEGIN; {}", super::sql::lock(&target.relation.clause()))).await?;
    let columns = shape::columns(session, &target.relation).await?;
    let shape = shape::plan(session, &target.relation, columns, config).await.map_err(PageError::of_table)?;
    // With a horizon of ids they are told with the first rows, when what they need is asked anyway.
    let later = config.mode == Mode::Incrementing && config.horizon;
    if !later && !std::mem::replace(&mut target.told, true) {
        let relations = shape::locked_relations(session).await?;
        for caution in horizon::cautions(session, config.mode, &relations).await? {
            tracing::warn!(table = %target.label, "{caution}");
        }
    }
    target.shape = Some(shape);
    session.run("COMMIT").await?;
    Ok(())
}

fn paging(session: &Session, target: &Target, config: &SourceConfig) -> Paging {
    let indexed = target.shape.as_ref().is_some_and(|shape| shape.indexed);
    let many = target.shape.as_ref().is_some_and(|shape| shape.statement.timestamps.len() > 1);
    // FETCH FIRST ... WITH TIES came with PostgreSQL 13; unsigned version 0 means unknown.
    let ties = session.version >= 130_000;
    if !indexed || many || !ties || !config.suffix.is_empty() {
        return Paging::Stream;
    }
    let width = || target.shape.as_ref().and_then(Shape::width);
    Paging::Keyset(target.page_rows.unwrap_or_else(|| width().map_or(FIRST_ROWS, rows_of_a_page)))
}

/// Rows of a page, of rows with so many bytes.
fn rows_of_a_page(bytes: usize) -> usize {
    (PAGE_BYTES / bytes.max(1)).clamp(500, PAGE_ROWS)
}

/// How far this round may read.
async fn bound(
    session: &mut Session,
    target: &mut Target,
    config: &SourceConfig,
    notes: &mut Notes,
) -> Result<Ready, PageError> {
    let mut waiting = Waiting { label: &target.label, notes, max_lag: config.horizon_max_lag };
    let Some(shape) = &target.shape else { return Ok(Ready::Nothing) };
    let mut pending = match target.pending.take() {
        Some(pending) => pending,
        None => match newest(session, shape, target.progress, config).await? {
            Newest::Below(guard, bound) => {
                if !std::mem::replace(&mut target.told, true) {
                    for caution in guard.cautions() {
                        tracing::warn!(table = %target.label, "{caution}");
                    }
                }
                Pending::behind(guard, bound)
            }
            Newest::Nothing => return Ok(Ready::Nothing),
            Newest::Reset(largest) => {
                if !std::mem::replace(&mut target.told_reset, true) {
                    tracing::warn!(
                        table = %target.label, largest, stored = target.progress.id,
                        "the largest id lies below the stored offset: rows were deleted, or the sequence restarted; rows up to \
                         the offset are never read, unless the connector's offsets are deleted"
                    );
                }
                return Ok(Ready::Nothing);
            }
            Newest::Free(bound) => return Ok(Ready::Now(bound)),
            Newest::Guarded(mut bound, relations) => {
                if let Some(end) = bound.micros {
                    // Before it is noted whose start is hidden: who prepares in between is seen either way.
                    bound.micros = Some(horizon::oldest_start(session, end, &mut waiting).await?);
                }
                Pending::begin(session, &relations, bound).await?
            }
        },
    };
    if !pending.is_over(session, &mut waiting).await? {
        let pause = pending.next_pause();
        target.pending = Some(pending);
        return Ok(Ready::Waits(pause));
    }
    Ok(Ready::Now(pending.bound))
}

/// How far what is visible goes.
enum Newest {
    Nothing,
    /// All ids, up to this one, are smaller than what was read already.
    Reset(i64),
    /// Rows below may still be to come, from who was found to write.
    Below(Guard, Bound),
    /// Whatever is visible may be read.
    Free(Bound),
    /// Rows below may still be to come, from writers of these relations.
    Guarded(Bound, Vec<u32>),
}

async fn newest(
    session: &mut Session,
    shape: &Shape,
    progress: Progress,
    config: &SourceConfig,
) -> Result<Newest, PageError> {
    match config.mode {
        Mode::Bulk => Ok(Newest::Free(Bound::default())),
        Mode::Incrementing => {
            let Some(sql) = shape.statement.largest_id().filter(|_| config.horizon) else {
                return Ok(Newest::Free(Bound::default()));
            };
            // In a transaction, whose locks say which tables were looked into.
            let asked = session.connection.fetch_all(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN; {sql}"))));
            let rows = within(session.patience, asked).await?;
            let Some(row) = rows.first() else { return Ok(Newest::Nothing) };
            let (largest, standby): (Option<i64>, bool) = (row.try_get(0)?, row.try_get(1)?);
            let read = progress.id.unwrap_or(-1);
            let bound = Bound { id: largest, micros: None };
            let newest = match largest {
                Some(largest) if largest > read && standby => {
                    Newest::Guarded(bound, shape::locked_relations(session).await?)
                }
                Some(largest) if largest > read => Newest::Below(Guard::ask(session).await?, bound),
                Some(largest) if largest < read => Newest::Reset(largest),
                _ => Newest::Nothing,
            };
            session.run("COMMIT").await?;
            Ok(newest)
        }
        Mode::Timestamp | Mode::TimestampIncrementing => {
            let now = clock(session).await?;
            let end = now.saturating_sub(config.delay_millis.saturating_mul(1000));
            let bound = Bound { id: None, micros: Some(end) };
            // Transactions that start from now on stamp their rows later than `now`; a bound beyond it (a negative
            // delay) is what the user asked for.
            if !config.horizon || end > now {
                return Ok(Newest::Free(bound));
            }
            if !horizon::is_standby(session).await? {
                return Ok(Newest::Guarded(bound, Vec::new()));
            }
            let sql = shape.statement.latest(progress, bound);
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
            let latest: Option<i64> = within(session.patience, query.fetch_one(&mut session.connection)).await?;
            let after = |latest| Some(shape.statement.instant_of_latest(latest).saturating_add(1));
            let bound = |latest| Bound { id: None, micros: after(latest) };
            Ok(latest.map_or(Newest::Nothing, |latest| Newest::Guarded(bound(latest), Vec::new())))
        }
    }
}

/// The database's clock in microseconds.
pub(super) async fn clock(session: &mut Session) -> Result<i64, sqlx::Error> {
    let sql = "SELECT (extract(epoch FROM CURRENT_TIMESTAMP) * 1000000)::int8";
    let patience = session.patience;
    within(patience, sqlx::query_scalar(sql).fetch_one(&mut session.connection)).await
}

async fn roll_back(session: &mut Option<Session>) -> bool {
    match session {
        Some(session) => session.run("ROLLBACK").await.is_ok(),
        None => false,
    }
}

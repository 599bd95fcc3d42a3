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
use crate::api::{Error, ErrorKind, Health, Position, Result, SourceBatch, SourceRecords};
use crate::jdbc::connection_keys::Connector;
use crate::jdbc::retry::Backoff;
use crate::postgres::connection::{Session, within};
use crate::postgres::failure;

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
    /// Whether the log says that its numbers have started anew.
    told_reset: bool,
}

/// The loop that reads.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) connector: Connector,
    pub(super) config: Arc<SourceConfig>,
    pub(super) health: Health,
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
            let outcome = self.round(next).await;
            let target = &mut self.targets[next];
            match outcome {
                Ok(pause) => {
                    target.due = Instant::now() + pause.unwrap_or(self.config.poll_interval);
                    if target.backoff.failed() > 0 {
                        target.backoff.reset();
                        tracing::info!(table = %target.label, "reading goes on");
                        // What the status says of another table stays.
                        if self.targets.iter().all(|target| target.backoff.failed() == 0) {
                            self.health.recovered();
                        }
                    }
                }
                Err(PageError::Closed) => return,
                Err(PageError::Failed(error)) => {
                    // A session may hang in the middle of a COPY, but not over a table that can't be locked.
                    let missing = is_missing(&error);
                    if !missing || !roll_back(&mut self.session).await {
                        self.session = None;
                    }
                    let error = if missing {
                        Error::retriable(format!("{} does not exist any more", target.label)).caused_by(error)
                    } else {
                        error
                    };
                    let pause = target.backoff.next_pause();
                    let failed = target.backoff.failed();
                    let spent = self.config.retry_attempts.is_some_and(|most| failed > most);
                    if error.kind() != ErrorKind::Retriable || spent {
                        let error = match error.kind() {
                            ErrorKind::Retriable => {
                                let message = format!("{error}; given up after {failed} attempts");
                                Error::new(ErrorKind::Fatal, error.class(), message).caused_by(error)
                            }
                            _ => error,
                        };
                        let _ = self.batches.fail(error).await;
                        return;
                    }
                    tracing::warn!(table = %target.label, error = %error, attempt = failed, "reading is retried");
                    self.health.degraded(format!("{error}; retried since attempt 1, now {failed}"));
                    target.due = Instant::now() + pause;
                }
            }
        }
        // No table: stay until stopped.
        self.stop.cancelled().await;
    }

    /// Reads what is new of a target; answers when to look again, if it is not the usual pause.
    async fn round(&mut self, at: usize) -> Result<Option<Duration>, PageError> {
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                let session = self.connector.connect().await.map_err(PageError::from)?;
                self.process.store(session.process, Ordering::Relaxed);
                none.insert(session)
            }
        };
        let config = &*self.config;
        let target = &mut self.targets[at];
        if target.shape.is_none() {
            prepare(session, target, config).await?;
        }
        let bound = match bound(session, target, config, &self.health).await? {
            Ready::Now(bound) => bound,
            Ready::Nothing => return Ok(None),
            Ready::Waits(pause) => return Ok(Some(pause)),
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
                _ => return Ok(None),
            }
        }
    }
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
    let shape = shape::plan(session, &target.relation, columns, config).await?;
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
    let many = target.shape.as_ref().is_some_and(|shape| shape.times.len() > 1);
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
    health: &Health,
) -> Result<Ready, PageError> {
    let waiting = Waiting { label: &target.label, health, max_lag: config.horizon_max_lag };
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
                    bound.micros = Some(horizon::oldest_start(session, end, &waiting).await?);
                }
                Pending::begin(session, &relations, bound).await?
            }
        },
    };
    if !pending.is_over(session, &waiting).await? {
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

/// A missing table may come back, and does not end the task: the plan is about to change.
fn is_missing(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<sqlx::Error>())
        .is_some_and(|source| failure::is(source, "42P01"))
}

async fn roll_back(session: &mut Option<Session>) -> bool {
    match session {
        Some(session) => session.run("ROLLBACK").await.is_ok(),
        None => false,
    }
}

//! The horizon: how far a round may read so that no row is skipped that a transaction still in flight will commit
//! behind it.
//!
//! **Ids.** The largest visible id is taken first. Whoever will still commit a smaller id has drawn it before, and holds
//! a writer's lock on the table (taken before the statement runs) or on the sequence (taken by `nextval`) until the end
//! of his transaction. So: list the transactions that hold such locks *after* the largest id was taken, wait until
//! exactly those have ended, and read up to that id with a newer snapshot. New writers don't matter, so writing never
//! starves reading; transactions that don't write to the table don't matter either. What no lock can show: ids that an
//! application draws in one transaction and uses in a later one.
//!
//! **Timestamps.** `now()` is the start of a transaction, and a transaction may write to the table long after. So the
//! upper bound is the start of the oldest transaction of the database that is open. Sessions of other users hide their
//! start from an ordinary role: those are waited for as above.
//!
//! A standby shows no locks of the primary: there the transactions in flight are those of the snapshot.

use std::time::Duration;

use sqlx::postgres::types::Oid;
use tokio::time::Instant;

use crate::api::Health;
use crate::postgres::connection::Session;

/// After this time of waiting the status says so.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// What a wait is for, for messages.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    pub(super) label: &'a str,
    pub(super) health: &'a Health,
    pub(super) max_lag: Option<Duration>,
}

const WRITERS: &str = "SELECT DISTINCT l.virtualtransaction, l.pid FROM pg_catalog.pg_locks l \
     WHERE l.locktype = 'relation' AND l.granted AND l.relation = ANY($1) \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
     AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
     AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()";

/// Transactions in flight on a standby, as numbers.
const IN_FLIGHT: &str =
    "SELECT x::text, NULL::int4 FROM pg_catalog.pg_snapshot_xip(pg_catalog.pg_current_snapshot()) x";

/// Open transactions of this database whose start is hidden from us, and prepared ones.
const HIDDEN: &str = "SELECT l.virtualtransaction, l.pid FROM pg_catalog.pg_locks l \
     LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
     WHERE l.mode = 'ExclusiveLock' AND ((l.locktype = 'virtualxid' AND a.xact_start IS NULL \
     AND a.query = '<insufficient privilege>' AND a.application_name <> 'Towline source' \
     AND a.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())) \
     OR (l.locktype = 'transactionid' AND l.pid IS NULL))";

/// The start of the oldest open transaction of this database, our own readers apart.
const OLDEST: &str = "SELECT (extract(epoch FROM xact_start) * 1000000)::int8, pid FROM pg_catalog.pg_stat_activity \
     WHERE datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
     AND xact_start IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() AND application_name <> 'Towline source' \
     AND coalesce(backend_type, '') NOT IN ('autovacuum worker', 'autovacuum launcher', 'walsender') \
     ORDER BY xact_start LIMIT 1";

type Holders = Vec<(String, Option<i32>)>;

/// Waits until every transaction that held a writer's lock on one of the relations has ended.
pub(super) async fn writers_gone(
    session: &mut Session,
    relations: &[u32],
    waiting: &Waiting<'_>,
) -> Result<(), sqlx::Error> {
    let standby: bool =
        sqlx::query_scalar("SELECT pg_catalog.pg_is_in_recovery()").fetch_one(&mut session.connection).await?;
    let relations: Vec<Oid> = relations.iter().map(|oid| Oid(*oid)).collect();
    wait_for(session, if standby { IN_FLIGHT } else { WRITERS }, &relations, !standby, waiting).await
}

/// The time before which no row can appear any more, in microseconds, at most `end`.
pub(super) async fn oldest_start(session: &mut Session, end: i64, waiting: &Waiting<'_>) -> Result<i64, sqlx::Error> {
    wait_for(session, HIDDEN, &[], false, waiting).await?;
    let oldest: Option<(i64, i32)> = sqlx::query_as(OLDEST).fetch_optional(&mut session.connection).await?;
    let Some((start, pid)) = oldest.filter(|(start, _)| *start < end) else { return Ok(end) };
    let lag = Duration::from_micros(end.abs_diff(start));
    if lag > TELL_AFTER {
        waiting.tell(&format!("the transaction of process {pid}, open for {} s", lag.as_secs()));
    }
    Ok(match waiting.max_lag {
        Some(most) if lag > most => end - i64::try_from(most.as_micros()).unwrap_or(0),
        _ => start,
    })
}

async fn wait_for(
    session: &mut Session,
    sql: &'static str,
    relations: &[Oid],
    bind: bool,
    waiting: &Waiting<'_>,
) -> Result<(), sqlx::Error> {
    let first = holders(session, sql, relations, bind).await?;
    let mut left = first;
    let since = Instant::now();
    let mut pause = Duration::from_millis(2);
    while !left.is_empty() {
        let waited = since.elapsed();
        if waiting.max_lag.is_some_and(|most| waited > most) {
            return Ok(());
        }
        if waited > TELL_AFTER {
            let who = left[0]
                .1
                .map_or_else(|| "a prepared transaction".to_owned(), |pid| format!("the transaction of process {pid}"));
            waiting.tell(&format!("{who}, waited for since {} s", waited.as_secs()));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
        let now = holders(session, sql, relations, bind).await?;
        left.retain(|(transaction, _)| now.iter().any(|(other, _)| other == transaction));
    }
    if since.elapsed() > TELL_AFTER {
        waiting.health.recovered();
    }
    Ok(())
}

async fn holders(
    session: &mut Session,
    sql: &'static str,
    relations: &[Oid],
    bind: bool,
) -> Result<Holders, sqlx::Error> {
    let query = sqlx::query_as(sql);
    let query = if bind { query.bind(relations) } else { query };
    query.fetch_all(&mut session.connection).await
}

impl Waiting<'_> {
    fn tell(&self, who: &str) {
        self.health.degraded(format!(
            "reading {} is held back by {who}: newer rows wait so that none that it commits is skipped \
             (read.horizon.max.lag.ms limits this, read.horizon=none turns it off)",
            self.label
        ));
    }
}

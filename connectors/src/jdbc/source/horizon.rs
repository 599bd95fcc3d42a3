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
//! A standby shows no locks and no sessions of the primary: there all transactions are waited for that the
//! snapshot has in flight, and there a bound of time too is taken from what is visible *before* that: else a row could
//! be replayed between the two, and be read without the earlier one that it overtook. That misses transactions that have not written yet, and what is not replayed yet, which [`cautions`] tells.

use std::time::Duration;

use sqlx::postgres::types::Oid;
use tokio::time::Instant;

use super::config::Mode;
use super::shape::LOCKED;
use super::sql::Bound;
use super::trouble::Notes;
use crate::postgres::connection::{Session, within};

/// After this time of waiting the status says so.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// What a wait is for, for messages.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    pub(super) label: &'a str,
    pub(super) notes: &'a mut Notes,
    pub(super) max_lag: Option<Duration>,
}

/// Transactions that a round waits for before it reads up to its bound. Other tables are read meanwhile.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) bound: Bound,
    left: Left,
    since: Instant,
    pause: Duration,
}

#[derive(Debug)]
enum Left {
    /// These writers of these relations.
    Writers(Holders, Vec<Oid>),
    /// These transactions, whose start is hidden.
    Hidden(Holders),
    /// On a standby, all below this one.
    Replayed(i64),
}

/// What a transaction that has looked into a relation has locked, as [`LOCKED`]; the CACHE of each sequence
/// among that; and who writes to any of it.
const GUARD: &str = "SELECT r.oid, s.seqcache, s.seqrelid::regclass::text, NULL::text, NULL::int4 \
     FROM relations r LEFT JOIN pg_catalog.pg_sequence s ON s.seqrelid = r.oid \
     UNION ALL SELECT DISTINCT NULL::oid, NULL::int8, NULL::text, l.virtualtransaction, l.pid FROM pg_catalog.pg_locks l \
     WHERE l.locktype = 'relation' AND l.granted AND l.relation IN (SELECT oid FROM relations) \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
     AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
     AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()";

const WRITERS: &str = "SELECT DISTINCT l.virtualtransaction, l.pid FROM pg_catalog.pg_locks l \
     WHERE l.locktype = 'relation' AND l.granted AND l.relation = ANY($1) \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
     AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
     AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()";

/// Where a standby's snapshot begins and ends. What is in flight between is hidden: a snapshot taken in recovery lists
/// its transactions where `pg_snapshot_xip` does not look.
const SNAPSHOT: &str = "SELECT pg_catalog.pg_snapshot_xmin(s)::text::int8, pg_catalog.pg_snapshot_xmax(s)::text::int8 \
     FROM pg_catalog.pg_current_snapshot() s";

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

/// The time before which no row can appear any more, in microseconds, at most `end`.
pub(super) async fn oldest_start(
    session: &mut Session,
    end: i64,
    waiting: &mut Waiting<'_>,
) -> Result<i64, sqlx::Error> {
    if is_standby(session).await? {
        return Ok(end);
    }
    let query = sqlx::query_as(OLDEST);
    let oldest: Option<(i64, i32)> = within(session.patience, query.fetch_optional(&mut session.connection)).await?;
    let Some((start, pid)) = oldest.filter(|(start, _)| *start < end) else {
        waiting.untell();
        return Ok(end);
    };
    let lag = Duration::from_micros(end.abs_diff(start));
    if lag > TELL_AFTER {
        waiting.tell(&format!("the transaction of process {pid}, open for {} s", lag.as_secs()));
    } else {
        waiting.untell();
    }
    Ok(match waiting.max_lag {
        Some(most) if lag > most => end - i64::try_from(most.as_micros()).unwrap_or(0),
        _ => start,
    })
}

/// Which relations stand for a read, and who writes to them.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) relations: Vec<u32>,
    writers: Holders,
    /// Names of sequences, with their CACHE.
    sequences: Vec<(String, i64)>,
}

type GuardRow = (Option<Oid>, Option<i64>, Option<String>, Option<String>, Option<i32>);

impl Guard {
    /// Asks in the transaction that has just learnt the largest id: its locks say which tables were looked into.
    pub(super) async fn ask(session: &mut Session) -> Result<Self, sqlx::Error> {
        let sql = format!("{LOCKED} {GUARD}");
        let patience = session.patience;
        let asked = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut session.connection);
        let rows: Vec<GuardRow> = within(patience, asked).await?;
        let mut guard = Self { relations: Vec::new(), writers: Vec::new(), sequences: Vec::new() };
        for (relation, cache, sequence, transaction, pid) in rows {
            guard.relations.extend(relation.map(|oid| oid.0));
            guard.sequences.extend(sequence.zip(cache));
            guard.writers.extend(transaction.map(|transaction| (transaction, pid)));
        }
        Ok(guard)
    }

    /// What a user should know before relying on the horizon of ids.
    pub(super) fn cautions(&self) -> Vec<String> {
        cautions_of_ids(&self.sequences)
    }
}

impl Pending {
    /// As [`Self::begin`], for a bound of ids on a server that is no standby, without asking again.
    pub(super) fn behind(guard: Guard, bound: Bound) -> Self {
        let relations = guard.relations.into_iter().map(Oid).collect();
        Self::new(bound, Left::Writers(guard.writers, relations))
    }

    fn new(bound: Bound, left: Left) -> Self {
        Self { bound, left, since: Instant::now(), pause: Duration::from_millis(2) }
    }

    /// Notes who is in flight now. Rows up to a bound of ids wait for writers of these relations; a bound of time waits
    /// for transactions whose start is hidden, the others' starts lower the bound itself.
    pub(super) async fn begin(session: &mut Session, relations: &[u32], bound: Bound) -> Result<Self, sqlx::Error> {
        let left = if is_standby(session).await? {
            let query = sqlx::query_as(SNAPSHOT);
            let (oldest, end): (i64, i64) = within(session.patience, query.fetch_one(&mut session.connection)).await?;
            if oldest < end { Left::Replayed(end) } else { Left::Hidden(Vec::new()) }
        } else if bound.id.is_some() {
            let relations: Vec<Oid> = relations.iter().map(|oid| Oid(*oid)).collect();
            Left::Writers(holders(session, WRITERS, Some(&relations)).await?, relations)
        } else {
            Left::Hidden(holders(session, HIDDEN, None).await?)
        };
        Ok(Self::new(bound, left))
    }

    /// When to look again.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(Duration::from_millis(250));
        pause
    }

    /// Whether all have ended, or were waited for as long as the user wants.
    pub(super) async fn is_over(
        &mut self,
        session: &mut Session,
        waiting: &mut Waiting<'_>,
    ) -> Result<bool, sqlx::Error> {
        let waited = self.since.elapsed();
        let who = match &mut self.left {
            Left::Writers(left, _) | Left::Hidden(left) if left.is_empty() => None,
            Left::Writers(left, relations) => still(left, holders(session, WRITERS, Some(relations)).await?),
            Left::Hidden(left) => still(left, holders(session, HIDDEN, None).await?),
            Left::Replayed(end) => {
                let query = sqlx::query_as(SNAPSHOT);
                let (oldest, _): (i64, i64) =
                    within(session.patience, query.fetch_one(&mut session.connection)).await?;
                (oldest < *end).then(|| format!("transaction {oldest} of the primary"))
            }
        };
        let Some(who) = who else {
            if waited > TELL_AFTER {
                waiting.untell();
            }
            return Ok(true);
        };
        if waited > TELL_AFTER {
            waiting.tell(&format!("{who}, waited for since {} s", waited.as_secs()));
        }
        let spent = waiting.max_lag.is_some_and(|most| waited > most);
        if spent {
            waiting.untell();
        }
        Ok(spent)
    }
}

/// Keeps of those that are left who is there still; one of them by name.
fn still(left: &mut Holders, now: Holders) -> Option<String> {
    left.retain(|(transaction, _)| now.iter().any(|(other, _)| other == transaction));
    let (_, pid) = left.first()?;
    Some(pid.map_or_else(|| "a prepared transaction".to_owned(), |pid| format!("the transaction of process {pid}")))
}

/// Whether the server replays another one's log.
pub(super) async fn is_standby(session: &mut Session) -> Result<bool, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT pg_catalog.pg_is_in_recovery()");
    within(session.patience, query.fetch_one(&mut session.connection)).await
}

/// What a user should know before relying on the horizon.
pub(super) async fn cautions(session: &mut Session, mode: Mode, relations: &[u32]) -> Result<Vec<String>, sqlx::Error> {
    let mut cautions = Vec::new();
    if mode.has_timestamp() && is_standby(session).await? {
        cautions.push(
            "this server is a standby, which can't tell when transactions of the primary began: rows of transactions \
             that have yet to write, or to be replayed, may be skipped; set timestamp.delay.interval.ms above the \
             longest transaction and the replication lag, or read from the primary"
                .to_owned(),
        );
    }
    if mode == Mode::Incrementing {
        let relations: Vec<Oid> = relations.iter().map(|oid| Oid(*oid)).collect();
        let query = sqlx::query_as(
            "SELECT seqrelid::regclass::text, seqcache FROM pg_catalog.pg_sequence WHERE seqrelid = ANY($1)",
        )
        .bind(&relations);
        let sequences: Vec<(String, i64)> = within(session.patience, query.fetch_all(&mut session.connection)).await?;
        cautions.extend(cautions_of_ids(&sequences));
    }
    Ok(cautions)
}

fn cautions_of_ids(sequences: &[(String, i64)]) -> Vec<String> {
    let mut cautions = Vec::new();
    if sequences.is_empty() {
        cautions.push(
            "no column's default draws from a sequence: a row whose id was chosen before its transaction locked the \
             table may appear after larger ids were read, and is skipped; give the id column a default of \
             nextval(...) or an identity, or use mode=timestamp+incrementing"
                .to_owned(),
        );
    }
    cautions.extend(sequences.iter().filter(|(_, cache)| *cache > 1).map(|(sequence, cache)| {
        format!(
            "sequence {sequence} has CACHE {cache}: each session keeps numbers to use later, so that rows with \
             smaller ids appear after larger ones were read, and are skipped; ALTER SEQUENCE {sequence} CACHE 1, or \
             use mode=timestamp+incrementing"
        )
    }));
    cautions
}

async fn holders(session: &mut Session, sql: &'static str, relations: Option<&[Oid]>) -> Result<Holders, sqlx::Error> {
    let query = sqlx::query_as(sql);
    let query = match relations {
        Some(relations) => query.bind(relations),
        None => query,
    };
    within(session.patience, query.fetch_all(&mut session.connection)).await
}

impl Waiting<'_> {
    /// Takes back what [`Self::tell`] said.
    fn untell(&mut self) {
        self.notes.clear(self.label);
    }

    fn tell(&mut self, who: &str) {
        let text = format!(
            "reading {} is held back by {who}: newer rows wait so that none that it commits is skipped \
             (read.horizon.max.lag.ms limits this, read.horizon=none turns it off)",
            self.label
        );
        self.notes.set(self.label, text, 0);
    }
}

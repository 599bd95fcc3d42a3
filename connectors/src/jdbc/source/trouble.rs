//! Tables that can't be read while the others go on: what the status says of each, and when the task has to end for them.
//! The original puts a table back into its queue after any error of the server, and ends only for what lies in rows.

use std::collections::BTreeMap;

use crate::api::{Error, ErrorKind, Health, Result};
use crate::postgres::connection::{Session, within};
use crate::postgres::failure;

/// So many tables are named in the status.
const NAMED: usize = 3;

/// What keeps tables from being read, by table, as the task's status shows it.
#[derive(Debug)]
pub(super) struct Notes {
    health: Health,
    /// What, and how often it was tried.
    lines: BTreeMap<String, (String, u32)>,
}

impl Notes {
    /// None so far.
    pub(super) fn new(health: Health) -> Self {
        Self { health, lines: BTreeMap::new() }
    }

    /// Says what a table waits for. Others may have spoken through the status meanwhile: it is said again each time.
    pub(super) fn set(&mut self, label: &str, what: String, attempts: u32) {
        self.lines.insert(label.to_owned(), (what, attempts));
        self.health.degraded(self.text());
    }

    /// Takes back what was said of a table, but nothing that others said.
    pub(super) fn clear(&mut self, label: &str) {
        if self.lines.remove(label).is_none() {
            return;
        }
        if self.lines.is_empty() {
            self.health.recovered();
        } else {
            self.health.degraded(self.text());
        }
    }

    fn text(&self) -> String {
        // Of an outage all tables say the same.
        let mut texts: Vec<(&str, u32)> = Vec::new();
        for (what, attempts) in self.lines.values() {
            match texts.iter_mut().find(|(known, _)| known == what) {
                Some((_, most)) => *most = (*most).max(*attempts),
                None => texts.push((what, *attempts)),
            }
        }
        let more = texts.len().saturating_sub(NAMED);
        texts.truncate(NAMED);
        let named: Vec<String> = texts
            .into_iter()
            .map(|(what, attempts)| match attempts {
                0 => what.to_owned(),
                _ => format!("{what}; tried again, {attempts} attempts failed so far"),
            })
            .collect();
        let named = named.join("; ");
        if more == 0 { named } else { format!("{named}; and {more} more, which the log names") }
    }
}

/// What the status says of a table that is not read while others are.
pub(super) fn left_out(label: &str, error: &Error) -> String {
    let mend = if has_state(error, "42501") {
        format!("GRANT SELECT ON {label} TO the connector's user")
    } else {
        "Mend it".to_owned()
    };
    format!("{label} is not read, the other tables are: {error}. {mend}, or leave it out with the table filters")
}

/// The same error if it may be retried after so many attempts in a row, else one that ends the task.
///
/// # Errors
/// If `query.retry.attempts` are used up.
pub(super) fn check_attempts(most: Option<u32>, failed: u32, error: Error) -> Result<Error> {
    if most.is_none_or(|most| failed <= most) {
        return Ok(error);
    }
    let message = format!("{error}; given up after {failed} attempts");
    let kind = if error.kind() == ErrorKind::Retriable { ErrorKind::Fatal } else { error.kind() };
    Err(Error::new(kind, error.class(), message).caused_by(error))
}

/// How long a table that someone has locked is waited for while there are others to read.
const LOCK_TIMEOUT: &str = "1s";

/// Sees to it that a table that someone has locked keeps no other from being read, unless the user has set a limit.
pub(super) async fn limit_locks(session: &mut Session) -> Result<(), sqlx::Error> {
    let set = "SELECT pg_catalog.set_config('lock_timeout', $1, false) WHERE pg_catalog.current_setting('lock_timeout') = '0'";
    let query = sqlx::query(set).bind(LOCK_TIMEOUT);
    within(session.patience, query.execute(&mut session.connection)).await.map(drop)
}

/// Whether a lock was not to be had in time.
pub(super) fn is_locked(error: &Error) -> bool {
    has_state(error, "55P03")
}

/// Whether the server does not know the table. It may come back: the plan is about to change.
pub(super) fn is_missing(error: &Error) -> bool {
    has_state(error, "42P01")
}

fn has_state(error: &Error, state: &str) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<sqlx::Error>())
        .is_some_and(|source| failure::is(source, state))
}

/// Says which table is locked, where that is the error.
pub(super) fn name_lock(error: Error, label: &str) -> Error {
    if !is_locked(&error) {
        return error;
    }
    Error::retriable(format!("{label} is locked by another session, such as an ALTER TABLE that is not committed"))
        .caused_by(error)
}

/// Which of the troubles found at the start of a task end it, by its place among them: the first one where no table can be
/// read, and, as in the original, that the first table does not fit the config, as long as nothing was read with it yet.
pub(super) fn decisive(troubles: &[(usize, Error)], tables: usize, fresh: bool) -> Option<usize> {
    // What the server refuses has the server's words as its cause.
    let misfit = |error: &Error| std::error::Error::source(error).is_none();
    match troubles {
        [] => None,
        all if all.len() == tables => Some(0),
        [(0, error), ..] if fresh && misfit(error) => Some(0),
        _ => None,
    }
}

/// The error of a task none of whose tables can be read.
pub(super) fn none_left(label: &str, error: Error, tables: usize) -> Error {
    if tables == 1 {
        return error;
    }
    let message = format!("none of the task's {tables} tables can be read; of {label}: {error}");
    Error::new(error.kind(), error.class(), message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_names_some_tables_and_counts_the_others() {
        let health = Health::default();
        let mut notes = Notes::new(health.clone());
        for table in ["a", "b", "c", "d"] {
            notes.set(table, format!("{table} waits"), 0);
        }
        assert_eq!(health.message().unwrap(), "a waits; b waits; c waits; and 1 more, which the log names");
        notes.set("d", "a waits".to_owned(), 2);
        notes.clear("b");
        assert_eq!(health.message().unwrap(), "a waits; tried again, 2 attempts failed so far; c waits");
        for table in ["a", "c", "d"] {
            notes.clear(table);
        }
        assert_eq!(health.message(), None);
        health.degraded("the registry is away");
        notes.clear("a");
        assert!(health.message().is_some(), "what others say stays");
    }

    #[test]
    fn a_task_ends_for_the_first_table_only_before_it_has_read() {
        let misfit = || Error::config("no such column");
        let refused = || Error::fatal("no privilege").caused_by("42501");
        assert_eq!(decisive(&[], 3, true), None);
        assert_eq!(decisive(&[(0, misfit())], 3, true), Some(0));
        assert_eq!(decisive(&[(0, misfit())], 3, false), None);
        assert_eq!(decisive(&[(0, refused())], 3, true), None);
        assert_eq!(decisive(&[(2, misfit())], 3, true), None);
        assert_eq!(decisive(&[(0, refused()), (1, misfit())], 2, false), Some(0));
    }
}

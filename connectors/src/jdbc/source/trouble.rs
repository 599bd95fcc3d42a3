//! Tables that can't be read while the others go on: what the status says of each, and when the task has to end for them.
//! The original puts a table back into its queue after any error of the server, and ends only for what lies in rows.

use std::collections::BTreeMap;

use crate::api::{Error, Health};

/// So many tables are named in the status.
const NAMED: usize = 3;

/// What keeps tables from being read, by table, as the task's status shows it.
#[derive(Debug)]
pub(super) struct Notes {
    health: Health,
    lines: BTreeMap<String, String>,
}

impl Notes {
    /// None so far.
    pub(super) fn new(health: Health) -> Self {
        Self { health, lines: BTreeMap::new() }
    }

    /// Says what a table waits for. Others may have spoken through the status meanwhile: it is said again each time.
    pub(super) fn set(&mut self, label: &str, text: String) {
        self.lines.insert(label.to_owned(), text);
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
        let mut texts: Vec<&str> = Vec::new();
        for text in self.lines.values().map(String::as_str) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let more = texts.len().saturating_sub(NAMED);
        texts.truncate(NAMED);
        let named = texts.join("; ");
        if more == 0 { named } else { format!("{named}; and {more} more, which the log names") }
    }
}

/// What the status says of a table that is not read while others are.
pub(super) fn left_out(label: &str, error: &Error, attempts: u32) -> String {
    format!(
        "{label} is not read, the other tables are: {error}. Mend it, or leave it out with the table filters; attempt \
         {attempts} failed, it is tried again"
    )
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
            notes.set(table, format!("{table} waits"));
        }
        assert_eq!(health.message().unwrap(), "a waits; b waits; c waits; and 1 more, which the log names");
        notes.set("d", "a waits".to_owned());
        notes.clear("b");
        assert_eq!(health.message().unwrap(), "a waits; c waits");
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

//! What a failure of the database means: an outage that passes, a row that is wrong, or a statement that can't work.
//! Judged by SQLSTATE. Texts made here never hold the content of a row.

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::api::Error;

/// What a failure means for policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server is away, overloaded, or asks to repeat the transaction.
    Outage,
    /// A value broke a type, a range or a constraint.
    Data,
    /// The statement cannot work as things stand (missing table, missing privilege).
    Statement,
}

/// What a driver's error means.
pub fn cause(error: &sqlx::Error) -> Cause {
    match error {
        sqlx::Error::Database(database) => database.code().map_or(Cause::Statement, |code| cause_of_state(&code)),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            Cause::Outage
        }
        _ => Cause::Statement,
    }
}

/// The classes of SQLSTATE that PostgreSQL itself uses for errors.
const CLASSES: &[&str] = &[
    "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "25", "26", "27", "28", "2B",
    "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57", "58", "F0", "HV", "P0",
    "XX",
];

/// What an SQLSTATE means.
pub fn cause_of_state(state: &str) -> Cause {
    match state.get(..2).unwrap_or_default() {
        "08" | "53" | "58" => Cause::Outage,
        "22" | "23" | "44" => Cause::Data,
        _ => match state {
            // Serialization, deadlock, lock not available, shut down or starting, read-only after a fail-over.
            "40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "57014" | "25006" => {
                Cause::Outage
            }
            // Type mismatch, two rows of one key in a statement, raised by a trigger, too large for an index.
            "42804" | "42846" | "21000" | "54000" | "54001" => Cause::Data,
            // What triggers raise: PL/pgSQL's own class, and codes that users make up.
            state if state.starts_with("P0") => Cause::Data,
            state if state.len() == 5 && !CLASSES.contains(&&state[..2]) => Cause::Data,
            _ => Cause::Statement,
        },
    }
}

/// The SQLSTATE, if the server answered.
pub fn state(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|database| database.code()).map(|code| code.into_owned())
}

/// Whether the error has this SQLSTATE.
pub fn is(error: &sqlx::Error, state: &str) -> bool {
    error.as_database_error().and_then(|database| database.code()).is_some_and(|code| code == state)
}

/// What the server said, without anything that could be the content of a row.
pub fn text(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error() else {
        return error.to_string();
    };
    let Some(postgres) = database.try_downcast_ref::<PgDatabaseError>() else {
        return database.to_string();
    };
    let code = postgres.code();
    let said = match code {
        "22P02" | "22P03" => "a value is not valid for the column's type",
        "22003" => "a number is out of the range of the column's type",
        "22007" | "22008" => "a date or time is not valid or out of range",
        "22021" => "a text holds a character that PostgreSQL cannot store (NUL)",
        // They name the type and lengths.
        "22001" | "22026" => postgres.message(),
        state if state.starts_with("22") => "a value cannot be stored in the column",
        _ => postgres.message(),
    };
    match (postgres.column(), postgres.constraint()) {
        (Some(column), _) if !said.contains(column) => format!("{said} (column {column}, SQLSTATE {code})"),
        (_, Some(constraint)) if !said.contains(constraint) => {
            format!("{said} (constraint {constraint}, SQLSTATE {code})")
        }
        _ => format!("{said} (SQLSTATE {code})"),
    }
}

/// What the server said about a value that it could not read: some types report that as an error of the statement, with
/// the value in the words.
pub fn text_of_value(error: &sqlx::Error) -> String {
    match state(error) {
        Some(state) if !state.starts_with("22") => {
            format!("a value is not valid for the column's type (SQLSTATE {state})")
        }
        _ => text(error),
    }
}

/// The character of the statement, from 1, that the server complains about.
pub fn position(error: &sqlx::Error) -> Option<usize> {
    match error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.position()? {
        PgErrorPosition::Original(position) => Some(position),
        PgErrorPosition::Internal { .. } => None,
    }
}

/// Whether a value itself was refused, not how it stands to other rows.
pub fn is_of_value(error: &sqlx::Error) -> bool {
    state(error).is_some_and(|state| state.starts_with("22") || state.starts_with("428"))
}

/// The line of a COPY that the server was reading, from 1.
pub fn copied_line(error: &sqlx::Error) -> Option<usize> {
    let (_, line) = copied(error)?.split_once(", line ")?;
    line.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The column of a COPY that the server was reading.
pub fn copied_column(error: &sqlx::Error) -> Option<&str> {
    // The text of a value may follow: nothing behind the name is taken.
    let (_, column) = copied(error)?.split_once(", column ")?;
    Some(column.split([':', ',']).next().unwrap_or(column))
}

/// Where the COPY was: the outermost line of the context. Types such as json have lines of their own inside of it.
fn copied(error: &sqlx::Error) -> Option<&str> {
    let postgres = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    postgres.r#where()?.lines().next_back()?.strip_prefix("COPY ")
}

/// The name of the violated constraint.
pub fn constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error()?.constraint()
}

/// An error of the contract: retriable in an outage, fatal otherwise. `attempt` says what was tried and where.
pub fn to_error(error: sqlx::Error, attempt: &str) -> Error {
    let message = format!("{attempt}: {}", text(&error));
    match cause(&error) {
        Cause::Outage => Error::retriable(message),
        // The source of a data error could show a row.
        Cause::Data => return Error::data(message),
        Cause::Statement => Error::fatal(message),
    }
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_by_sqlstate() {
        for state in ["08006", "53300", "57P01", "40001", "40P01"] {
            assert_eq!(cause_of_state(state), Cause::Outage, "{state}");
        }
        for state in ["22003", "23505", "42804", "54000", "P0001", "ABC01"] {
            assert_eq!(cause_of_state(state), Cause::Data, "{state}");
        }
        for state in ["42P01", "42501", ""] {
            assert_eq!(cause_of_state(state), Cause::Statement, "{state}");
        }
        assert_eq!(cause(&sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into())), Cause::Outage);
    }
}

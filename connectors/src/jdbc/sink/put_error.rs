//! Why a put failed: the server said so, or we did.

use crate::api::{Error, ErrorKind};
use crate::postgres::failure::{self, Cause};

/// Why a put failed.
#[derive(Debug)]
pub(super) enum PutError {
    Sql(sqlx::Error),
    Own(Error),
}

impl From<sqlx::Error> for PutError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for PutError {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

impl PutError {
    /// Whether the session is of no use any more.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Sql(error) => failure::cause(error) == Cause::Outage,
            Self::Own(error) => error.kind() == ErrorKind::Retriable,
        }
    }

    /// Whether another task made the same table or column at once: then it is there at the next attempt.
    pub(super) fn is_schema_race(&self) -> bool {
        match self {
            Self::Sql(error) => is_schema_race(error),
            Self::Own(error) => std::error::Error::source(error)
                .and_then(|source| source.downcast_ref::<sqlx::Error>())
                .is_some_and(is_schema_race),
        }
    }
}

/// Two tasks created the same table or column at once.
fn is_schema_race(error: &sqlx::Error) -> bool {
    ["42P07", "42701", "42710"].iter().any(|state| failure::is(error, state))
        || (failure::is(error, "23505") && failure::constraint(error).is_some_and(|name| name.starts_with("pg_")))
}

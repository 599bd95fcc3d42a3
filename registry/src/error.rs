//! The one error of the registry: Confluent's codes and texts (clients match on both).

use crate::log::LogError;

/// Why a request was refused or failed. `code()` is Confluent's error code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// 404, 405, 406, 413, 415 and other answers of the HTTP layer itself.
    #[error("{message}")]
    Http {
        /// The HTTP status, also the code.
        status: u16,
        /// The text.
        message: String,
    },
    /// 40401.
    #[error("Subject '{0}' not found.")]
    SubjectNotFound(String),
    /// 40402; -1 stands for the latest version.
    #[error("Version {0} not found.")]
    VersionNotFound(i32),
    /// 40403 without an id.
    #[error("Schema not found")]
    SchemaNotFound,
    /// 40403 with an id or GUID.
    #[error("Schema {0} not found")]
    SchemaIdNotFound(String),
    /// 40404.
    #[error("Subject '{0}' was soft deleted.Set permanent=true to delete permanently")]
    SubjectSoftDeleted(String),
    /// 40405.
    #[error("Subject '{0}' was not deleted first before being permanently deleted")]
    SubjectNotSoftDeleted(String),
    /// 40406.
    #[error("Subject '{0}' Version {1} was soft deleted.Set permanent=true to delete permanently")]
    VersionSoftDeleted(String, i32),
    /// 40407.
    #[error("Subject '{0}' Version {1} was not deleted first before being permanently deleted")]
    VersionNotSoftDeleted(String, i32),
    /// 40408.
    #[error("Subject '{0}' does not have subject-level compatibility configured")]
    NoSubjectConfig(String),
    /// 40409.
    #[error("Subject '{0}' does not have subject-level mode configured")]
    NoSubjectMode(String),
    /// 40901 (409 in the cp7 profile).
    #[error(
        "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{}]",
        details.join(", ")
    )]
    Incompatible {
        /// The subject.
        subject: String,
        /// What is incompatible.
        details: Vec<String>,
    },
    /// 42201.
    #[error("{0}")]
    InvalidSchema(String),
    /// 42202.
    #[error(
        "The specified version '{0}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
    )]
    InvalidVersion(String),
    /// 42203.
    #[error(
        "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive"
    )]
    InvalidLevel,
    /// 42204.
    #[error("Invalid mode. Valid values are READWRITE, READONLY, IMPORT and FORWARD.")]
    InvalidMode,
    /// 42204 for FORWARD on anything but the whole server.
    #[error("Forward mode only supported on global level")]
    ForwardModeOnlyGlobal,
    /// 42205.
    #[error("{0}")]
    NotPermitted(String),
    /// 42206.
    #[error("One or more references exist to the schema {{magic=1,keytype=SCHEMA,subject={0},version={1}}}.")]
    ReferenceExists(String, i32),
    /// 42207.
    #[error("Schema already registered with id {existing} instead of input id {requested}")]
    IdDoesNotMatch {
        /// The id that the version has.
        existing: i32,
        /// The id in the request.
        requested: i32,
    },
    /// 42208.
    #[error("The specified subject '{0}' is not a valid.")]
    InvalidSubject(String),
    /// 42209.
    #[error("Register operation failed because schema is too large")]
    SchemaTooLarge,
    /// 42210.
    #[error("{0}")]
    InvalidRuleSet(String),
    /// 42211.
    #[error("The specified context '{0}' is not empty.")]
    ContextNotEmpty(String),
    /// 422, a body that is JSON but not the right one.
    #[error("{0}")]
    UnprocessableBody(String),
    /// 50001 or 50002.
    #[error("{operation} operation failed while writing to the Kafka store")]
    Store {
        /// What was attempted, capitalized as in Confluent's texts.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: LogError,
    },
    /// 503 until the log has been replayed.
    #[error("registry is still reading the schemas topic")]
    NotReady,
}

impl Error {
    /// Confluent's error code, in the spelling of version 8.
    pub fn code(&self) -> u32 {
        match self {
            Error::BadRequest(_) => 400,
            Error::Http { status, .. } => u32::from(*status),
            Error::SubjectNotFound(_) => 40401,
            Error::VersionNotFound(_) => 40402,
            Error::SchemaNotFound | Error::SchemaIdNotFound(_) => 40403,
            Error::SubjectSoftDeleted(_) => 40404,
            Error::SubjectNotSoftDeleted(_) => 40405,
            Error::VersionSoftDeleted(..) => 40406,
            Error::VersionNotSoftDeleted(..) => 40407,
            Error::NoSubjectConfig(_) => 40408,
            Error::NoSubjectMode(_) => 40409,
            Error::Incompatible { .. } => 40901,
            Error::InvalidSchema(_) => 42201,
            Error::InvalidVersion(_) => 42202,
            Error::InvalidLevel => 42203,
            Error::InvalidMode | Error::ForwardModeOnlyGlobal => 42204,
            Error::NotPermitted(_) => 42205,
            Error::ReferenceExists(..) => 42206,
            Error::IdDoesNotMatch { .. } => 42207,
            Error::InvalidSubject(_) => 42208,
            Error::SchemaTooLarge => 42209,
            Error::InvalidRuleSet(_) => 42210,
            Error::ContextNotEmpty(_) => 42211,
            Error::UnprocessableBody(_) => 422,
            Error::Store { source: LogError::TimedOut, .. } => 50002,
            Error::Store { .. } => 50001,
            Error::NotReady => 503,
        }
    }

    /// The HTTP status: the first three digits of the code.
    pub fn status(&self) -> u16 {
        let code = self.code();
        let status = if code >= 10_000 { code / 100 } else { code };
        u16::try_from(status).unwrap_or(500)
    }

    /// Wraps a failure of the log; a record that is too large has its own code.
    pub(crate) fn store(operation: &'static str) -> impl FnOnce(LogError) -> Error {
        move |source| match source {
            LogError::TooLarge => Error::SchemaTooLarge,
            source => Error::Store { operation, source },
        }
    }
}

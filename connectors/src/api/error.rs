//! The one error of connectors, transforms and converters. Who raises it says of what kind it is; the worker's
//! tolerance policy decides what follows.

use std::error::Error as StdError;
use std::fmt::{self, Write};

/// What an error means for policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The config is wrong: the same config will fail again.
    Config,
    /// A record is wrong: others may be right.
    Data,
    /// Something outside is away for a while: the same call may succeed later.
    Retriable,
    /// The task cannot go on.
    Fatal,
}

/// An error with its kind, the Java class that operators search for, what happened, and its cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    class: &'static str,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result of the contract.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A wrong config (`ConfigException`).
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, "org.apache.kafka.common.config.ConfigException", message)
    }

    /// A wrong record (`DataException`).
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, "org.apache.kafka.connect.errors.DataException", message)
    }

    /// A passing failure (`RetriableException`).
    pub fn retriable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retriable, "org.apache.kafka.connect.errors.RetriableException", message)
    }

    /// A failure that ends the task (`ConnectException`).
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fatal, "org.apache.kafka.connect.errors.ConnectException", message)
    }

    /// An error of a kind, shown under a Java class name.
    pub fn new(kind: ErrorKind, class: &'static str, message: impl Into<String>) -> Self {
        Self { kind, class, message: message.into(), source: None }
    }

    /// The same error with its cause.
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error shown under another Java class name.
    pub fn with_class(mut self, class: &'static str) -> Self {
        self.class = class;
        self
    }

    /// What the error means for policy.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The Java class name that stands for it.
    pub fn class(&self) -> &'static str {
        self.class
    }

    /// The message and those of its causes on one line, each said once.
    pub fn with_causes(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(next) = cause {
            let part = next.to_string();
            if !text.contains(&part) {
                text = format!("{text}: {part}");
            }
            cause = next.source();
        }
        text
    }

    /// The text for a status: `class: message`, then a `Caused by:` line for each cause.
    pub fn trace(&self) -> String {
        let mut text = format!("{}: {}\n", self.class, self.message);
        let mut cause = self.source();
        while let Some(error) = cause {
            let _ = match error.downcast_ref::<Error>() {
                Some(own) => writeln!(text, "Caused by: {}: {}", own.class, own.message),
                None => writeln!(text, "Caused by: {error}"),
            };
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_shows_class_and_causes() {
        let error = Error::fatal("cannot go on").caused_by(Error::data("bad row").caused_by("io"));
        assert_eq!(
            error.trace(),
            "org.apache.kafka.connect.errors.ConnectException: cannot go on\n\
             Caused by: org.apache.kafka.connect.errors.DataException: bad row\nCaused by: io\n"
        );
    }
}

//! How a command ends when it does not end well: what is told, on which stream, with which exit code.
//!
//! Kafka's tools differ among themselves (kafka-topics reports errors on stdout), and scripts rely on it; so a failure
//! carries its stream. A reader that closed our stdout is not a failure worth a word.

use std::io::{self, Write};
use std::process::ExitCode;

use super::admin::AdminError;

/// Where commands print their results.
pub(super) type Out<'a> = &'a mut (dyn Write + Send);

/// What a command returns.
pub(super) type Outcome<T = ()> = Result<T, Failure>;

/// A stream of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

/// Why a command stops.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    stream: Stream,
    code: u8,
}

impl Failure {
    /// Told on stderr, exit code 1.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), stream: Stream::Err, code: 1 }
    }

    /// Told on stdout, as some of Kafka's tools do, exit code 1.
    pub(super) fn on_stdout(message: impl Into<String>) -> Self {
        Self { message: message.into(), stream: Stream::Out, code: 1 }
    }

    /// Ends without a word.
    pub(super) fn quiet(code: u8) -> Self {
        Self { message: String::new(), stream: Stream::Err, code }
    }

    /// The same failure with another exit code.
    pub(super) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The same failure told in other words, on stdout; one without words stays so.
    pub(super) fn told_as(mut self, tell: impl FnOnce(&str) -> String) -> Self {
        if !self.message.is_empty() {
            self.message = tell(&self.message);
            self.stream = Stream::Out;
        }
        self
    }

    /// What is told.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Tells the failure and gives the process its exit code.
    pub(super) fn tell(&self, out: Out<'_>) -> ExitCode {
        if !self.message.is_empty() {
            // There is nobody left to tell about a stream that is closed.
            let _ = match self.stream {
                Stream::Out => writeln!(out, "{}", self.message).and_then(|()| out.flush()),
                Stream::Err => out.flush().and_then(|()| writeln!(io::stderr(), "{}", self.message)),
            };
        }
        ExitCode::from(self.code)
    }
}

/// Writing results is the only I/O whose error is passed on as it is: other errors say what was attempted.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::quiet(0);
        }
        Self::new(format!("cannot write the output: {error}"))
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<towline_connectors::api::Error> for Failure {
    fn from(error: towline_connectors::api::Error) -> Self {
        Self::new(with_causes(&error))
    }
}

/// An error and its causes in one line, without repeating what a cause says that is told already.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

//! The only error policy (KIP-298): what follows when a record cannot be transformed, converted or written.

use towline_connectors::api::{Error, ErrorKind, Origin, Props, Result};

/// Where in a task a record failed, in Connect's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Transformation,
    KeyConverter,
    ValueConverter,
    HeaderConverter,
    TaskPut,
    KafkaProduce,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Transformation => "TRANSFORMATION",
            Self::KeyConverter => "KEY_CONVERTER",
            Self::ValueConverter => "VALUE_CONVERTER",
            Self::HeaderConverter => "HEADER_CONVERTER",
            Self::TaskPut => "TASK_PUT",
            Self::KafkaProduce => "KAFKA_PRODUCE",
        }
    }
}

/// A record that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) stage: Stage,
    /// The class that failed.
    pub(super) class: String,
    pub(super) error: Error,
}

/// The policy of one task.
#[derive(Debug)]
pub(super) struct Tolerance {
    connector: String,
    task: usize,
    all: bool,
    log: bool,
    include_messages: bool,
}

impl Tolerance {
    pub(super) fn new(connector: &str, task: usize, props: &Props) -> Self {
        let is = |key: &str, word: &str| props.get(key).is_some_and(|text| text.trim().eq_ignore_ascii_case(word));
        Self {
            connector: connector.to_owned(),
            task,
            all: is("errors.tolerance", "all"),
            log: is("errors.log.enable", "true"),
            include_messages: is("errors.log.include.messages", "true"),
        }
    }

    /// Whether failing records are skipped.
    pub(super) fn skips(&self) -> bool {
        self.all
    }

    /// Skips the record, or says what the task fails with.
    ///
    /// # Errors
    /// Under `errors.tolerance=none`: the failure, naming where the record stood.
    pub(super) fn judge(&self, failed: Failed, origin: Option<&Origin>) -> Result<()> {
        if failed.error.kind() == ErrorKind::Retriable {
            // Something outside is away; that is not the record's fault, and no reason to skip it.
            return Err(failed.error);
        }
        if self.log || self.all {
            self.write_log(&failed, origin);
        }
        if self.all {
            return Ok(());
        }
        let place =
            origin.map(|at| format!(" on record {}-{}@{}", at.topic, at.partition, at.offset)).unwrap_or_default();
        let class = failed.error.class();
        let message =
            format!("failed at stage {} in class {}{place}: {}", failed.stage.name(), failed.class, failed.error);
        let located = Error::data(message).with_class(class).caused_by(failed.error);
        Err(Error::fatal("Tolerance exceeded in error handler").caused_by(located))
    }

    fn write_log(&self, failed: &Failed, origin: Option<&Origin>) {
        let consumed = match origin {
            Some(at) if self.include_messages => format!(
                ", where consumed record is {{topic='{}', partition={}, offset={}}}",
                at.topic, at.partition, at.offset
            ),
            _ => String::new(),
        };
        tracing::error!(
            error = %failed.error.with_causes(),
            "Error encountered in task {}-{}. Executing stage '{}' with class '{}'{consumed}.",
            self.connector,
            self.task,
            failed.stage.name(),
            failed.class
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn none_fails_with_the_records_place_and_all_skips() {
        let failed = || Failed { stage: Stage::ValueConverter, class: "X".to_owned(), error: Error::data("bad bytes") };
        let origin = Origin { topic: Arc::from("t"), partition: 3, offset: 42 };
        let none = Tolerance::new("c", 0, &Props::new());
        let trace = none.judge(failed(), Some(&origin)).unwrap_err().trace();
        assert!(
            trace.starts_with("org.apache.kafka.connect.errors.ConnectException: Tolerance exceeded in error handler")
        );
        assert!(trace.contains("t-3@42") && trace.contains("bad bytes"), "{trace}");
        let all = Tolerance::new("c", 0, &Props::from_iter([("errors.tolerance".to_owned(), "all".to_owned())]));
        assert!(all.judge(failed(), Some(&origin)).is_ok());
    }
}

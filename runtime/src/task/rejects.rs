//! What becomes of a consumed record that cannot be converted, transformed or written: the error policy of a sink task
//! and its dead letter queue.

use towline_connectors::api::{ErrorKind, Origin, Result};

use super::TaskContext;
use super::dead_letters::DeadLetters;
use super::tolerance::{Failed, Tolerance};
use crate::kafka::Incoming;

/// The policy of one task, and the queue if there is one.
pub(super) struct Rejects {
    tolerance: Tolerance,
    dead_letters: Option<DeadLetters>,
}

impl Rejects {
    /// As the connector's config says.
    pub(super) fn new(context: &TaskContext, dead_letters: Option<DeadLetters>) -> Self {
        Self { tolerance: Tolerance::new(&context.connector, context.task, &context.connector_props), dead_letters }
    }

    /// Applies the error policy to one record, sending it to the dead letter queue if there is one.
    ///
    /// # Errors
    /// What the task ends with.
    pub(super) async fn reject(&mut self, context: &TaskContext, failed: Failed, raw: Incoming) -> Result<()> {
        if failed.error.kind() == ErrorKind::Retriable {
            return Err(failed.error);
        }
        if let Some(dead_letters) = &mut self.dead_letters {
            dead_letters.send(context, &raw, &failed).await?;
            if !self.tolerance.skips() {
                dead_letters.flush().await?;
            }
        }
        let origin = Origin { topic: raw.topic, partition: raw.partition, offset: raw.offset };
        self.tolerance.judge(failed, Some(&origin))
    }

    /// Waits until what was sent to the queue is safe there.
    ///
    /// # Errors
    /// The queue cannot be written.
    pub(super) async fn flush(&mut self) -> Result<()> {
        match &mut self.dead_letters {
            Some(dead_letters) => dead_letters.flush().await,
            None => Ok(()),
        }
    }
}

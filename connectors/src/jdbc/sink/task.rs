//! The sink task: one transaction a put (`attempt.rs`), and how it goes on after one that failed.

use std::time::Duration;

use async_trait::async_trait;

use super::config::{ExactlyOnce, SinkConfig};
use super::destination;
use super::known_plans::KnownPlans;
use super::offsets::OffsetStore;
use super::put_error::PutError;
use super::unwrap::Unwrapper;
use crate::api::{Error, ErrorKind, Rejected, Result, SinkContext, SinkRecords, SinkTask, TopicPartition};
use crate::jdbc::connection_keys::Connector;
use crate::jdbc::retry::Backoff;
use crate::postgres::connection::Session;
use crate::postgres::failure::{self, Cause};

/// A running sink task.
pub(super) struct JdbcSinkTask {
    pub(super) connector: Connector,
    pub(super) config: SinkConfig,
    context: SinkContext,
    pub(super) session: Option<Session>,
    pub(super) unwrapper: Unwrapper,
    pub(super) plans: KnownPlans,
    pub(super) offsets: Option<OffsetStore>,
    /// A transaction whose rejected records the worker has yet to deal with: it commits with the next call, so that a
    /// task that fails over them leaves nothing half written.
    pub(super) pending: bool,
    backoff: Backoff,
    pub(super) statement_failures: u32,
    /// What the status says while all is well: that records may come twice.
    standing: Option<String>,
    told_redelivered: bool,
    told_skipped: bool,
    pub(super) careful: bool,
    /// Puts that are not tried the straight way.
    pub(super) detour: u32,
    pub(super) buffer: Vec<u8>,
}

impl JdbcSinkTask {
    /// Connects and prepares the table of offsets.
    pub(super) async fn open(config: SinkConfig, connector: Connector, context: SinkContext) -> Result<Self> {
        let session = connector.open().await?;
        let offsets = (config.exactly_once != ExactlyOnce::Disabled)
            .then(|| OffsetStore::new(&config.offsets_table, context.group.clone()));
        let first = Duration::from_millis(100).min(config.retry_backoff);
        let mut task = Self {
            connector,
            backoff: Backoff::new(first, config.retry_backoff),
            config,
            context,
            session: Some(session),
            unwrapper: Unwrapper::default(),
            plans: KnownPlans::default(),
            offsets,
            pending: false,
            statement_failures: 0,
            standing: None,
            told_redelivered: false,
            told_skipped: false,
            careful: false,
            detour: 0,
            buffer: Vec::new(),
        };
        task.prepare_offsets().await?;
        Ok(task)
    }

    async fn prepare_offsets(&mut self) -> Result<()> {
        let (Some(store), Some(session)) = (&self.offsets, &mut self.session) else { return Ok(()) };
        let Err(error) = store.create(session).await else { return Ok(()) };
        let attempt = format!("could not create the offsets table {}", store.table());
        if failure::cause(&error) == Cause::Outage || self.config.exactly_once == ExactlyOnce::Required {
            return Err(failure::to_error(error, &attempt));
        }
        let message = format!(
            "records may be written twice after a failure: {attempt} ({}); grant CREATE, create it by hand, or set \
             sink.exactly.once=disabled to accept it",
            failure::text(&error)
        );
        tracing::warn!(connector = %self.context.connector, "{message}");
        self.context.health.degraded(message.clone());
        self.standing = Some(message);
        self.offsets = None;
        Ok(())
    }

    pub(super) async fn session(&mut self) -> Result<&mut Session> {
        match &mut self.session {
            Some(session) => Ok(session),
            none => Ok(none.insert(self.connector.connect().await?)),
        }
    }

    /// Commits what an earlier put left open.
    async fn finish_pending(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.pending) {
            return Ok(());
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        if let Err(error) = session.run("COMMIT").await {
            self.session = None;
            let away = failure::cause(&error) == Cause::Outage;
            let what = if away { "went away before it committed" } else { "refused to commit" };
            return Err(Error::fatal(format!(
                "the database {what} a batch with rejected records: restart the task, it resumes before that batch"
            ))
            .caused_by(error));
        }
        Ok(())
    }

    pub(super) fn tell_redelivered(&mut self, count: u64) {
        if count > 0 && !std::mem::replace(&mut self.told_redelivered, true) {
            tracing::info!(
                connector = %self.context.connector, task = self.context.task, count,
                "records whose rows the table has already, the same in every column, are taken as redelivered"
            );
        }
    }

    pub(super) fn tell_skipped(&mut self, count: u64) {
        if count > 0 && !std::mem::replace(&mut self.told_skipped, true) {
            tracing::warn!(
                connector = %self.context.connector, task = self.context.task, count, table = %self.config.offsets_table,
                "records below the offset that the target has stored are skipped; delete the group's rows from the \
                 table to read a topic again, or if it was created anew"
            );
        }
    }

    /// Decides how the worker goes on after a failed put.
    fn failed(&mut self, error: PutError) -> Error {
        let race = error.is_schema_race();
        let error = match error {
            PutError::Sql(error) => {
                let outage = failure::cause(&error) == Cause::Outage;
                let error =
                    failure::to_error(error, &format!("could not write to {}", self.connector.settings.place()));
                if outage { error } else { self.count(error) }
            }
            PutError::Own(error) if race || destination::is_unfit(&error) => self.count(error),
            PutError::Own(error) => error,
        };
        let pause = self.backoff.next_pause();
        if error.kind() == ErrorKind::Retriable {
            tracing::warn!(connector = %self.context.connector, error = %error, ?pause, "writing is retried");
            self.context.health.degraded(error.to_string());
        }
        error
    }

    fn count(&mut self, error: Error) -> Error {
        self.statement_failures += 1;
        if self.statement_failures <= self.config.max_retries {
            return Error::retriable(error.to_string()).caused_by(error);
        }
        let message = format!("{error}; given up after max.retries={} retries", self.config.max_retries);
        Error::new(ErrorKind::Fatal, error.class(), message).caused_by(error)
    }

    fn succeeded(&mut self) {
        self.statement_failures = 0;
        if self.backoff.failed() == 0 {
            return;
        }
        self.backoff.reset();
        tracing::info!(connector = %self.context.connector, "writing goes on");
        match &self.standing {
            Some(standing) => self.context.health.degraded(standing.clone()),
            None => self.context.health.recovered(),
        }
    }

    /// After a failure: wait a while before the next attempt.
    async fn wait(&mut self) -> Result<()> {
        if self.backoff.failed() == 0 {
            return Ok(());
        }
        let pause = self.backoff.clone().next_pause();
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.context.stop.cancelled() => Err(Error::retriable("the task is stopping")),
        }
    }
}

#[async_trait]
impl SinkTask for JdbcSinkTask {
    async fn assigned(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<Vec<(TopicPartition, i64)>> {
        self.finish_pending().await?;
        if self.offsets.is_none() || partitions.is_empty() {
            return Ok(Vec::new());
        }
        self.session().await?;
        let (Some(store), Some(session)) = (&mut self.offsets, &mut self.session) else { return Ok(Vec::new()) };
        match store.resume(session, partitions).await {
            Ok(stored) => Ok(stored),
            Err(error) => {
                let attempt = format!("could not read the offsets table {}", store.table());
                self.session = None;
                Err(failure::to_error(error, &attempt))
            }
        }
    }

    async fn put(&mut self, records: &mut dyn SinkRecords) -> Result<Vec<Rejected>> {
        self.finish_pending().await?;
        if records.ends().is_empty() {
            return Ok(Vec::new());
        }
        self.wait().await?;
        match self.put_all(records).await {
            Ok(rejected) => {
                self.succeeded();
                Ok(rejected)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn flush(&mut self) -> Result<()> {
        self.finish_pending().await
    }

    async fn close(self: Box<Self>) {
        if let Some(session) = self.session {
            // What is pending was not dealt with: it is rolled back and comes again.
            session.close().await;
        }
    }
}

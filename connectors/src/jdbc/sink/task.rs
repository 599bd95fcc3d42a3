//! The sink task: one transaction a put, with the consumed offsets in it; fast first, carefully if a row is wrong.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::batch;
use super::config::{ExactlyOnce, InsertMode, PkMode, SinkConfig};
use super::destination;
use super::fields;
use super::offsets::{NextOffsets, OffsetStore};
use super::plan::WritePlan;
use super::work::{self, Item, Run};
use super::write::{Writer, error_of};
use crate::api::{Error, ErrorKind, Rejected, Result, SinkContext, SinkRecord, SinkTask, TopicPartition};
use crate::data::Schema;
use crate::jdbc::connection_keys::Connector;
use crate::jdbc::retry::Backoff;
use crate::postgres::connection::Session;
use crate::postgres::failure::{self, Cause};

/// Plans that are kept; schemas that change for ever must not fill the memory.
const MOST_PLANS: usize = 512;

/// Why a put failed.
enum PutError {
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
    /// Whether another task made the same table or column at once: then it is there at the next attempt.
    fn is_schema_race(&self) -> bool {
        match self {
            Self::Sql(error) => batch::is_schema_race(error),
            Self::Own(error) => std::error::Error::source(error)
                .and_then(|source| source.downcast_ref::<sqlx::Error>())
                .is_some_and(batch::is_schema_race),
        }
    }
}

struct KnownPlan {
    topic: Arc<str>,
    key: Option<Arc<Schema>>,
    value: Option<Arc<Schema>>,
    plan: Arc<WritePlan>,
}

/// A running sink task.
pub(super) struct JdbcSinkTask {
    connector: Connector,
    config: SinkConfig,
    context: SinkContext,
    session: Option<Session>,
    plans: Vec<KnownPlan>,
    offsets: Option<OffsetStore>,
    /// A transaction whose rejected records the worker has yet to deal with: it commits with the next call, so that a
    /// task that fails over them leaves nothing half written.
    pending: bool,
    backoff: Backoff,
    statement_failures: u32,
    /// What the status says while all is well: that records may come twice.
    standing: Option<String>,
    told_redelivered: bool,
    told_skipped: bool,
    careful: bool,
    buffer: Vec<u8>,
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
            plans: Vec::new(),
            offsets,
            pending: false,
            statement_failures: 0,
            standing: None,
            told_redelivered: false,
            told_skipped: false,
            careful: false,
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

    async fn session(&mut self) -> Result<&mut Session> {
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
            return Err(Error::fatal(
                "the database went away before a batch with rejected records was committed: restart the task, it \
                 resumes before that batch",
            )
            .caused_by(error));
        }
        Ok(())
    }

    async fn put_all(&mut self, records: &[SinkRecord]) -> Result<Vec<Rejected>, PutError> {
        let mut careful = self.careful;
        let mut races = 0;
        loop {
            self.session().await?;
            let error = match self.transaction(records, careful).await {
                Ok(rejected) => return Ok(rejected),
                Err(error) => error,
            };
            self.roll_back(&error).await;
            match error {
                error if error.is_schema_race() && races < 3 => races += 1,
                PutError::Sql(error) if failure::cause(&error) == Cause::Data && !careful => {
                    tracing::debug!(error = %failure::text(&error), "a row was refused: the batch is written carefully");
                    careful = true;
                }
                error => return Err(error),
            }
        }
    }

    async fn roll_back(&mut self, error: &PutError) {
        let outage = match error {
            PutError::Sql(error) => failure::cause(error) == Cause::Outage,
            PutError::Own(error) => error.kind() == ErrorKind::Retriable,
        };
        if let Some(session) = &mut self.session
            && session.run("ROLLBACK").await.is_err()
        {
            self.session = None;
        }
        if outage {
            self.session = None;
        }
        // Tables and columns made in the transaction are gone, and the plans that count on them.
        self.plans.clear();
        if let Some(store) = &mut self.offsets {
            store.forget();
        }
    }

    async fn transaction(&mut self, records: &[SinkRecord], careful: bool) -> Result<Vec<Rejected>, PutError> {
        let mut next = batch::next_offsets(records);
        let stored = self.begin(&next).await?;
        // Another task may have gone further: what it wrote stays, and its offset too.
        next.retain(|partition, offset| stored.get(partition).is_none_or(|stored| stored < offset));
        let (runs, rejected) = self.plan_runs(records, &stored).await?;
        let Some(session) = &mut self.session else { return Err(Error::retriable("no connection").into()) };
        let mut writer = Writer {
            session,
            config: &self.config,
            records,
            used: Vec::new(),
            rejected,
            redelivered: 0,
            buffer: std::mem::take(&mut self.buffer),
        };
        for run in &runs {
            if careful {
                writer.write_carefully(run).await?;
            } else {
                writer.write(run).await?;
            }
        }
        let Writer { mut rejected, redelivered, buffer, .. } = writer;
        self.buffer = buffer;
        if let (Some(store), Some(session)) = (&self.offsets, &mut self.session) {
            store.store(session, &next).await?;
        }
        if rejected.is_empty()
            && let Some(session) = &mut self.session
        {
            session.run("COMMIT").await?;
        }
        self.pending = !rejected.is_empty();
        self.careful = redelivered > 0;
        self.tell_redelivered(redelivered);
        rejected.sort_by_key(|rejected| rejected.index);
        Ok(rejected)
    }

    /// Opens the transaction and locks the offsets.
    async fn begin(&mut self, next: &NextOffsets) -> Result<NextOffsets, PutError> {
        let Some(session) = &mut self.session else { return Err(Error::retriable("no connection").into()) };
        let Some(store) = &mut self.offsets else {
            session.run("BEGIN").await?;
            return Ok(NextOffsets::new());
        };
        let partitions: Vec<TopicPartition> = next.keys().cloned().collect();
        store.register(session, &partitions).await?;
        session.run("BEGIN").await?;
        Ok(store.stored(session, &partitions, true).await?)
    }

    /// Which statements write the records that the target has not consumed yet.
    async fn plan_runs(
        &mut self,
        records: &[SinkRecord],
        stored: &NextOffsets,
    ) -> Result<(Vec<Run>, Vec<Rejected>), PutError> {
        let mut rejected = Vec::new();
        let mut items: Vec<Item> = Vec::with_capacity(records.len());
        let mut skipped = 0_u64;
        let mut last: Option<(&SinkRecord, Arc<WritePlan>)> = None;
        let mut below: Option<(&SinkRecord, i64)> = None;
        for (index, record) in records.iter().enumerate() {
            let start = match below {
                Some((before, start)) if batch::same_partition(before, record) => start,
                _ => stored.get(&batch::partition_of(record)).copied().unwrap_or(-1),
            };
            below = Some((record, start));
            if record.origin.offset < start {
                skipped += 1;
                continue;
            }
            if let Err(why) = batch::admit(&self.config, record) {
                rejected.push(Rejected { index, error: error_of(record, "", &why) });
                continue;
            }
            let plan = match &last {
                Some((before, plan)) if batch::same_schemas(before, record) => Arc::clone(plan),
                _ => match self.plan_of(record).await {
                    Ok(plan) => plan,
                    Err(error) if error.kind() == ErrorKind::Data => {
                        rejected.push(Rejected { index, error: error_of(record, "", &error.to_string()) });
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            last = Some((record, Arc::clone(&plan)));
            items.push(Item { index, plan, delete: record.record.value.value.is_null() });
        }
        self.tell_skipped(skipped);
        Ok((work::arrange(items, self.config.insert_mode, records), rejected))
    }

    async fn plan_of(&mut self, record: &SinkRecord) -> Result<Arc<WritePlan>> {
        let delete = record.record.value.value.is_null();
        let key = record.record.key.schema.as_ref();
        let value = record.record.value.schema.as_ref().filter(|_| !delete);
        let topic = &record.record.topic;
        let key = key.filter(|_| self.config.pk_mode == PkMode::RecordKey);
        let same = |a: &Option<Arc<Schema>>, b: Option<&Arc<Schema>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let known = self.plans.iter().find(|k| k.topic == *topic && same(&k.key, key) && same(&k.value, value));
        if let Some(known) = known {
            return Ok(Arc::clone(&known.plan));
        }
        if self.plans.len() >= MOST_PLANS {
            self.plans.clear();
        }
        // Converters may build an equal schema anew.
        let equal = self.plans.iter().find(|k| k.topic == *topic && k.key.as_ref() == key && k.value.as_ref() == value);
        let plan = match equal {
            Some(equal) => Arc::clone(&equal.plan),
            None => self.new_plan(topic, key, value).await?,
        };
        let topic = Arc::clone(topic);
        self.plans.push(KnownPlan { topic, key: key.cloned(), value: value.cloned(), plan: Arc::clone(&plan) });
        Ok(plan)
    }

    async fn new_plan(
        &mut self,
        topic: &str,
        key: Option<&Arc<Schema>>,
        value: Option<&Arc<Schema>>,
    ) -> Result<Arc<WritePlan>> {
        let name = destination::table_for(&self.config, topic)?;
        let fields = fields::plan(&self.config, key, value)?;
        let Some(session) = &mut self.session else { return Err(Error::retriable("no connection")) };
        let table = destination::fitting_table(session, &self.config, &name, &fields).await?;
        let plan = WritePlan::new(&self.config, &table, &fields);
        if self.config.insert_mode == InsertMode::Upsert && value.is_some() {
            plan.check_conflict_target(&table)?;
        }
        Ok(Arc::new(plan))
    }

    fn tell_redelivered(&mut self, count: u64) {
        if count > 0 && !std::mem::replace(&mut self.told_redelivered, true) {
            tracing::info!(
                connector = %self.context.connector, task = self.context.task, count,
                "records whose rows the table has already, the same in every column, are taken as redelivered"
            );
        }
    }

    fn tell_skipped(&mut self, count: u64) {
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
            PutError::Own(error) if race || error.class().ends_with("TableAlterOrCreateException") => self.count(error),
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

    async fn put(&mut self, records: &[SinkRecord]) -> Result<Vec<Rejected>> {
        self.finish_pending().await?;
        if records.is_empty() {
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
